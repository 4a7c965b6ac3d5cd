/* prismctl caps: which patterns are served, and what each of them can do with its backends. */
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

static void print_operations_json(struct json *json, const struct prism_operation *operations,
                                  size_t n)
{
    json_open(json, "operations", '[');
    for (size_t i = 0; i < n; i++)
        print_operation_json(json, &operations[i]);
    json_close(json, ']');
}

static void print_pattern_json(struct json *json, const struct served *served)
{
    json_open(json, NULL, '{');
    json_text(json, "pattern", served->pattern);
    json_bool(json, "served", served->served);
    json_text(json, "backend", or_null(served->backend));
    json_text(json, "reason", served->served ? NULL : served->error.message);
    for (const struct served_fact *fact = served->facts; fact->name != NULL; fact++) {
        if (fact->text != NULL)
            json_text(json, fact->name, or_null(fact->text));
        else
            json_limit(json, fact->name, fact->number);
    }
    if (served->served)
        print_operations_json(json, served->operations, served->operation_count);
    json_close(json, '}');
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
    print_operations_json(json, c->operations, c->operation_count);
}

static void print_json(const struct served *served)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    if (served[0].served)
        print_keyvalue_json(&json, prism_keyvalue_capabilities(served[0].client));
    json_open(&json, "patterns", '[');
    for (int i = 0; i < SERVED_PATTERNS; i++)
        print_pattern_json(&json, &served[i]);
    json_close(&json, ']');
    json_close(&json, '}');
}

static void print_limit(const char *name, int64_t limit)
{
    if (limit > 0)
        printf("%-12s %lld bytes\n", name, (long long)limit);
    else
        printf("%-12s bounded by the size of messages only\n", name);
}

static int name_of(const struct prism_operation *o, char *name, size_t room)
{
    return snprintf(name, room, "%s%s%s", o->name, *o->variant != '\0' ? " " : "", o->variant);
}

struct widths {
    int name, calls;
};

static void print_operation(const struct prism_operation *o, struct widths width)
{
    char name[128];

    name_of(o, name, sizeof name);
    printf("%-*s %-12s ", width.name, name, prism_performance_name(o->how));
    if (!o->available) {
        printf("%s\n", o->reason);
        return;
    }
    printf("%-*s %-15s %-14s %s\n", width.calls, o->backend_calls,
           *o->atomicity != '\0' ? o->atomicity : "-", *o->ordering != '\0' ? o->ordering : "-",
           *o->acknowledgement != '\0' ? o->acknowledgement : "-");
}

static void print_operations(const struct prism_operation *operations, size_t n)
{
    struct widths width = {.name = 22, .calls = 16};

    for (size_t i = 0; i < n; i++) {
        int name = name_of(&operations[i], NULL, 0),
            calls = (int)strlen(operations[i].backend_calls);

        width.name = name > width.name ? name : width.name;
        width.calls = calls > width.calls ? calls : width.calls;
    }
    printf("\n%-*s %-12s %-*s %-15s %-14s %s\n", width.name, "OPERATION", "HOW", width.calls,
           "BACKEND CALLS", "ATOMICITY", "ORDERING", "WRITTEN TO");
    for (size_t i = 0; i < n; i++)
        print_operation(&operations[i], width);
}

static void print_keyvalue(const struct prism_keyvalue_capabilities *c)
{
    printf("%-12s ", "interfaces");
    for (size_t i = 0; i < c->interface_count; i++)
        printf("%s%s", i > 0 ? ", " : "", c->interfaces[i]);
    putchar('\n');
    print_limit("key", c->max_key_bytes);
    print_limit("value", c->max_value_bytes);
    printf("%-12s %s\n%-12s %s\n", "scan", prism_performance_name(c->scan_performance), "batch",
           prism_performance_name(c->batch_performance));
}

static void print_fact(const struct served_fact *fact)
{
    if (fact->text != NULL)
        printf("%-18s %s\n", fact->name, *fact->text != '\0' ? fact->text : "-");
    else if (fact->number > 0)
        printf("%-18s %lld\n", fact->name, (long long)fact->number);
    else
        printf("%-18s not bounded\n", fact->name);
}

static void print_pattern(const struct served *served)
{
    int width = served->facts[0].name != NULL ? 18 : 12;

    printf("\n%-*s %s\n%-*s %s\n", width, "pattern", served->pattern, width, "backend",
           *served->backend != '\0' ? served->backend : "-");
    for (const struct served_fact *fact = served->facts; fact->name != NULL; fact++)
        print_fact(fact);
}

static void print_text(const struct served *served)
{
    printf("%-20s %-10s %s\n", "PATTERN", "SERVED", "BACKEND");
    for (int i = 0; i < SERVED_PATTERNS; i++)
        printf("%-20s %-10s %s\n", served[i].pattern, served[i].served ? "yes" : "no",
               *served[i].backend != '\0' ? served[i].backend : "-");
    for (int i = 0; i < SERVED_PATTERNS; i++) {
        if (!served[i].served)
            continue;
        print_pattern(&served[i]);
        if (i == 0)
            print_keyvalue(prism_keyvalue_capabilities(served[i].client));
        if (served[i].operation_count > 0)
            print_operations(served[i].operations, served[i].operation_count);
    }
}

int command_caps(const struct invocation *in)
{
    struct served served[SERVED_PATTERNS] = {{0}};
    struct session session;
    struct prism_error error;
    int code = session_connect(&session, in->options);
    int n = code == EXIT_DONE ? served_ask(session.channel, served, &error) : 0;

    if (n == 0 && code == EXIT_DONE)
        error = served[0].error;
    if (n <= 0 && code == EXIT_DONE)
        code = fail(in->options, &error);
    else if (code == EXIT_DONE && in->options->json)
        print_json(served);
    else if (code == EXIT_DONE)
        print_text(served);
    served_clear(served);
    session_close(&session);
    return code;
}
