/* prismctl check: what prismd would say to a configuration, all of it at once, without starting. */
#include "backends/backend.h"
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "client/prismctl/probe.h"
#include "patterns/pattern.h"
#include "prism/keyvalue.h"
#include "src/config/config.h"
#include "src/rpc/tls_set.h"

#include <stdio.h>

enum { PROBE_TIMEOUT_MS = 3000, MAX_OPERATIONS = 64 };

static const struct config_catalog catalog = {.find_backend = backend_find,
                                              .all_backends = backend_all,
                                              .find_pattern = pattern_find,
                                              .all_patterns = pattern_all,
                                              .interface_name = backend_interface_name,
                                              .interface_key = backend_interface_key,
                                              .offers = backend_offers,
                                              .try_tls = tls_set_try,
                                              .pem_fault = tls_set_fault};

static void print_fault(const char *file, const struct fault *fault)
{
    printf("%s:", file);
    if (fault->line > 0)
        printf("%u:", fault->line);
    if (fault->path != NULL && *fault->path != '\0')
        printf(" %s:", fault->path);
    printf(" %s", fault->message);
    if (fault->fix != NULL)
        printf("; %s", fault->fix);
    putchar('\n');
}

static void print_fault_json(struct json *json, const struct fault *fault)
{
    json_open(json, NULL, '{');
    json_text(json, "path", fault->path);
    if (fault->line > 0)
        json_int(json, "line", fault->line);
    else
        json_null(json, "line");
    json_text(json, "message", fault->message);
    json_text(json, "fix", fault->fix);
    json_text(json, "slot", fault->slot);
    json_text(json, "backend", fault->backend);
    json_text(json, "interface", fault->interface);
    json_close(json, '}');
}

/* The plan for a namespace, made from the descriptors of its backends; fills `out`, which holds
 * MAX_OPERATIONS, and returns the number. */
static size_t plan(const struct config_namespace *space, struct pattern_operation *out)
{
    const struct backend_type *backends[PATTERN_MAX_SLOTS];
    uint32_t emulate[PATTERN_MAX_SLOTS];

    for (size_t i = 0; i < PATTERN_MAX_SLOTS; i++) {
        backends[i] = space->slots[i].backend;
        emulate[i] = space->slots[i].emulate;
    }
    return space->pattern->operations(backends, emulate, out, MAX_OPERATIONS);
}

/* The words of `prismctl caps`. */
static const char *how_name(enum pattern_how how)
{
    static const enum prism_performance names[] = {
        [PATTERN_UNAVAILABLE] = PRISM_UNAVAILABLE_OPERATION,
        [PATTERN_NATIVE] = PRISM_NATIVE,
        [PATTERN_PIPELINED] = PRISM_PIPELINED,
        [PATTERN_EMULATED] = PRISM_EMULATED,
    };

    return prism_performance_name(names[how]);
}

static void print_plan(const struct config_namespace *space)
{
    struct pattern_operation operations[MAX_OPERATIONS];
    size_t n = plan(space, operations);
    char title[64];

    printf("\nnamespace %s, pattern %s\n", space->name, space->pattern->name);
    for (size_t i = 0; i < n; i++) {
        const struct pattern_operation *o = &operations[i];

        snprintf(title, sizeof title, "%s%s%s%s", o->name, o->variant != NULL ? " (" : "",
                 o->variant != NULL ? o->variant : "", o->variant != NULL ? ")" : "");
        printf("  %-28s %s%s%s\n", title, how_name(o->how), o->why != NULL ? ": " : "",
               o->why != NULL ? o->why : "");
    }
}

static void print_plan_json(struct json *json, const struct config_namespace *space)
{
    struct pattern_operation operations[MAX_OPERATIONS];
    size_t n = plan(space, operations);

    json_open(json, NULL, '{');
    json_text(json, "name", space->name);
    json_text(json, "pattern", space->pattern->name);
    json_open(json, "operations", '[');
    for (size_t i = 0; i < n; i++) {
        json_open(json, NULL, '{');
        json_text(json, "operation", operations[i].name);
        json_text(json, "variant", operations[i].variant);
        json_bool(json, "available", operations[i].how != PATTERN_UNAVAILABLE);
        json_text(json, "how", how_name(operations[i].how));
        json_text(json, "reason", operations[i].why);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_close(json, '}');
}

/* A configuration with faults has no plan: an empty list. */
static void print_json(const char *file, const struct config *config, const struct faults *faults)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    json_text(&json, "file", file);
    json_bool(&json, "valid", faults->count == 0);
    json_open(&json, "faults", '[');
    for (size_t i = 0; i < faults->count; i++)
        print_fault_json(&json, &faults->items[i]);
    json_close(&json, ']');
    json_int(&json, "omitted", (int64_t)faults->omitted);
    json_open(&json, "namespaces", '[');
    for (size_t i = 0; faults->count == 0 && i < config->namespace_count; i++)
        print_plan_json(&json, &config->namespaces[i]);
    json_close(&json, ']');
    json_close(&json, '}');
}

static void print_text(const char *file, const struct config *config, const struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++)
        print_fault(file, &faults->items[i]);
    if (faults->omitted > 0)
        printf("%s: %zu further faults\n", file, faults->omitted);
    if (faults->count > 0)
        return;
    printf("%s: good\n", file);
    for (size_t i = 0; i < config->namespace_count; i++)
        print_plan(&config->namespaces[i]);
}

int command_check(const struct invocation *in)
{
    const char *file = in->arguments[0];
    uint32_t timeout_ms = in->options->timeout_ms;
    struct config config = {0};
    struct faults faults;
    int code = EXIT_REFUSED;

    faults_init(&faults);

    struct err err = config_load(&config, file, &catalog, &faults);

    if (err.code == ERR_OK && in->options->probe)
        probe_backends(&config, timeout_ms > 0 ? timeout_ms : PROBE_TIMEOUT_MS, &faults);
    if (in->options->json)
        print_json(file, &config, &faults);
    else
        print_text(file, &config, &faults);
    if (err.code == ERR_OK)
        code = faults.count == 0 ? EXIT_DONE : EXIT_UNAVAILABLE;
    else if (err.code != ERR_OK && err.code != ERR_INVALID_ARGUMENT)
        code = EXIT_USAGE; /* the file cannot be read */
    config_clear(&config);
    faults_clear(&faults);
    return code;
}
