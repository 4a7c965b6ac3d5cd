/* See instructions.h. */
#include "perf/bench/instructions.h"

#include "perf/bench/commands.h"
#include "perf/bench/json.h"
#include "perf/bench/measure.h"
#include "perf/load/client.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The difference of two runs leaves out what starting and ending cost. */
enum { FEW_CALLS = 2000, MANY_CALLS = 8000, CALLS_OF_A_BATCH = 20, KEYS = 1000, OUT_BYTES = 300 };

/* The last "totals:" or "summary:" line of callgrind's output. */
static bool read_total(struct lab *lab, const char *path, double *total)
{
    char line[256];
    uint64_t number = 0;
    FILE *f = fopen(path, "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        uint64_t found;
        if (sscanf(line, "totals: %" SCNu64, &found) == 1)
            number = found;
    }
    if (f != NULL)
        fclose(f);
    unlink(path);
    *total = (double)number;
    return number != 0 ? true : lab_fail(lab, NULL, "callgrind has counted nothing");
}

static bool count(struct lab *lab, enum server_kind kind, const char *operation, uint64_t calls,
                  double *total)
{
    char out[OUT_BYTES];
    struct server_options options = {.kind = kind, .cpu = lab->cpu_server, .callgrind_out = out};
    struct run_plan plan = {
        .operation = operation_find(operation),
        .workload = workload_defaults(),
        .seed = 1,
        .host = "127.0.0.1",
        .client = &client_lean,
        .connections = 4,
        .in_flight = 64,
        .calls = calls,
    };
    struct server server;
    struct run_result result;

    snprintf(out, sizeof out, "%s/callgrind.out", lab->folder);
    plan.workload.keys = KEYS;
    if (!server_start(lab, &options, &server))
        return false;
    plan.port = server.port;
    bool fine = true;
    if (server_is_prism(kind) && plan.operation->needs_keys)
        fine = measure(lab, run_preload, &plan, &result);
    fine = fine && measure(lab, run_load, &plan, &result);
    /* callgrind writes when its program ends, so the server must end by itself. */
    return server_stop(lab, &server) && fine && read_total(lab, out, total);
}

bool instructions_per_call(struct lab *lab, enum server_kind kind, const char *operation,
                           double *result)
{
    bool batch = strstr(operation, "-batch") != NULL;
    uint64_t less = batch ? FEW_CALLS / CALLS_OF_A_BATCH : FEW_CALLS;
    uint64_t more = batch ? MANY_CALLS / CALLS_OF_A_BATCH : MANY_CALLS;
    double few, many;

    if (!count(lab, kind, operation, less, &few) || !count(lab, kind, operation, more, &many))
        return false;
    *result = (many - few) / (double)(more - less);
    return true;
}

/* ---- the command ---- */

static const char usage[] =
    "usage: prism-bench instructions [--only SERVER,...] [--output table|json]\n"
    "\n"
    "Instructions per call at user level, by callgrind (Debian: valgrind). A batch has 100 items.\n"
    "Servers: prism, bare, cpp-async.\n";

static const struct {
    enum server_kind kind;
    const char *operation;
} counted[] = {
    {SERVER_PRISM, "store"},          {SERVER_PRISM, "retrieve"},
    {SERVER_PRISM, "deprecated-set"}, {SERVER_PRISM, "store-batch"},
    {SERVER_PRISM, "retrieve-batch"}, {SERVER_BARE, "echo"},
    {SERVER_CPP_ASYNC, "store"},
};

static bool count_all(struct lab *lab, const char *only, bool as_json)
{
    struct json json;
    double value;

    json_init(&json, stdout);
    if (as_json)
        json_open(&json, NULL, '[');
    for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
        const char *name = server_name(counted[i].kind);
        if (!list_has(only, name))
            continue;
        if (!instructions_per_call(lab, counted[i].kind, counted[i].operation, &value))
            return false;
        if (!as_json) {
            printf("%-10s %-15s %9.0f instructions/call\n", name, counted[i].operation, value);
            fflush(stdout);
            continue;
        }
        json_open(&json, NULL, '{');
        json_text(&json, "server", name);
        json_text(&json, "operation", counted[i].operation);
        json_number(&json, "instructions_per_call", value);
        json_close(&json, '}');
    }
    if (as_json)
        json_close(&json, ']');
    return true;
}

int command_instructions(int argc, char **argv)
{
    static const struct option options[] = {
        {"only", required_argument, NULL, 'n'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static struct lab lab;
    const char *only = NULL;
    bool as_json = false;
    int id;

    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (id == 'h') {
            fputs(usage, stdout);
            return STATUS_DONE;
        }
        if (id == 'n')
            only = optarg;
        else if (id != 'o' || !option_output(optarg, &as_json))
            return STATUS_USAGE;
    }
    bool fine = lab_open(&lab) && count_all(&lab, only, as_json);
    lab_close(&lab);
    if (!fine)
        fprintf(stderr, "prism-bench: %s\n", lab.error);
    return fine ? STATUS_DONE : STATUS_FAILED;
}
