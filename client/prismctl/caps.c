/* prismctl caps: the capabilities of the bound backend. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "client/prismctl/served.h"
#include "prism/keyvalue.h"

#include <stdio.h>
#include <string.h>

static void json_limit(struct json *json, const char *name, int64_t limit)
{
    if (limit > 0)
        json_int(json, name, limit);
    else
        json_null(json, name);
}

static const char *or_null(const char *text)
{
    return *text != '\0' ? text : NULL;
}

static void print_operation_json(struct json *json, const struct prism_operation *o)
{
    json_open(json, NULL, '{');
    json_text(json, "operation", o->name);
    json_text(json, "variant", or_null(o->variant));
    json_bool(json, "available", o->available);
    json_text(json, "how", prism_performance_name(o->how));
    json_text(json, "backend_calls", or_null(o->backend_calls));
    json_text(json, "atomicity", or_null(o->atomicity));
    json_text(json, "ordering", or_null(o->ordering));
    json_text(json, "acknowledgement", or_null(o->acknowledgement));
    json_limit(json, "max_items", o->max_items);
    json_limit(json, "max_page", o->max_page);
    json_text(json, "reason", or_null(o->reason));
    json_close(json, '}');
}

static void print_served_json(struct json *json, const struct served *served)
{
    json_open(json, "patterns", '[');
    for (int i = 0; i < SERVED_PATTERNS; i++) {
        json_open(json, NULL, '{');
        json_text(json, "pattern", served[i].pattern);
        json_bool(json, "served", served[i].served);
        json_text(json, "backend", or_null(served[i].backend));
        json_text(json, "reason", served[i].served ? NULL : served[i].error.message);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void print_keyvalue_json(struct json *json, const struct prism_keyvalue_capabilities *c)
{
    json_text(json, "pattern", "keyvalue");
    json_text(json, "backend", c->backend_type);
    json_open(json, "interfaces", '[');
    for (size_t i = 0; i < c->interface_count; i++)
        json_text(json, NULL, c->interfaces[i]);
    json_close(json, ']');
    json_open(json, "supports", '{');
    json_bool(json, "batch", c->supports_batch);
    json_bool(json, "scan", c->supports_scan);
    json_bool(json, "expiration", c->supports_expiration);
    json_bool(json, "transactions", c->supports_transactions);
    json_bool(json, "preconditions", c->supports_preconditions);
    json_close(json, '}');
    json_text(json, "scan_performance", prism_performance_name(c->scan_performance));
    json_text(json, "batch_performance", prism_performance_name(c->batch_performance));
    json_limit(json, "max_key_bytes", c->max_key_bytes);
    json_limit(json, "max_value_bytes", c->max_value_bytes);
    json_open(json, "operations", '[');
    for (size_t i = 0; i < c->operation_count; i++)
        print_operation_json(json, &c->operations[i]);
    json_close(json, ']');
}

static void print_json(const struct served *served, const struct prism_keyvalue *keyvalue)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    if (keyvalue != NULL)
        print_keyvalue_json(&json, prism_keyvalue_capabilities(keyvalue));
    print_served_json(&json, served);
    json_close(&json, '}');
}

static void print_limit(const char *name, int64_t limit)
{
    if (limit > 0)
        printf("%-12s %lld bytes\n", name, (long long)limit);
    else
        printf("%-12s bounded by the size of messages only\n", name);
}

static void print_operation(const struct prism_operation *o)
{
    char name[64];

    snprintf(name, sizeof name, "%s%s%s", o->name, *o->variant != '\0' ? " " : "", o->variant);
    printf("%-22s %-12s ", name, prism_performance_name(o->how));
    if (!o->available) {
        printf("%s\n", o->reason);
        return;
    }
    printf("%-16s %-15s %-14s %s\n", o->backend_calls, *o->atomicity != '\0' ? o->atomicity : "-",
           *o->ordering != '\0' ? o->ordering : "-",
           *o->acknowledgement != '\0' ? o->acknowledgement : "-");
}

static void print_table(const struct prism_keyvalue_capabilities *c)
{
    printf("%-12s %s\n%-12s %s\n%-12s ", "pattern", "keyvalue", "backend", c->backend_type,
           "interfaces");
    for (size_t i = 0; i < c->interface_count; i++)
        printf("%s%s", i > 0 ? ", " : "", c->interfaces[i]);
    putchar('\n');
    print_limit("key", c->max_key_bytes);
    print_limit("value", c->max_value_bytes);
    printf("%-12s %s\n%-12s %s\n", "scan", prism_performance_name(c->scan_performance), "batch",
           prism_performance_name(c->batch_performance));
    if (c->operation_count == 0)
        return;
    printf("\n%-22s %-12s %-16s %-15s %-14s %s\n", "OPERATION", "HOW", "BACKEND CALLS", "ATOMICITY",
           "ORDERING", "WRITTEN TO");
    for (size_t i = 0; i < c->operation_count; i++)
        print_operation(&c->operations[i]);
}

static void print_served(const struct served *served)
{
    printf("%-20s %-10s %s\n", "PATTERN", "SERVED", "BACKEND");
    for (int i = 0; i < SERVED_PATTERNS; i++)
        printf("%-20s %-10s %s\n", served[i].pattern, served[i].served ? "yes" : "no",
               *served[i].backend != '\0' ? served[i].backend : "-");
}

static void print_text(const struct served *served, const struct prism_keyvalue *keyvalue)
{
    print_served(served);
    if (keyvalue == NULL)
        return;
    putchar('\n');
    print_table(prism_keyvalue_capabilities(keyvalue));
}

int command_caps(const struct invocation *in)
{
    struct served served[SERVED_PATTERNS];
    struct session session;
    struct prism_error error;
    int code = session_connect(&session, in->options);
    int n = code == EXIT_DONE ? served_ask(session.channel, served, &error) : 0;

    if (n == 0 && code == EXIT_DONE)
        error = served[0].error;
    if (n <= 0 && code == EXIT_DONE)
        code = fail(in->options, &error);
    if (code == EXIT_DONE && served[0].served &&
        prism_keyvalue_open(session.channel, &session.keyvalue, &error) != PRISM_OK)
        code = fail(in->options, &error);
    if (code == EXIT_DONE && in->options->json)
        print_json(served, session.keyvalue);
    else if (code == EXIT_DONE)
        print_text(served, session.keyvalue);
    session_close(&session);
    return code;
}
