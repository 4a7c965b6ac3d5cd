/* prism-bench run: one server, any operations, one after the other. */
#include "perf/bench/commands.h"
#include "perf/bench/measure.h"
#include "perf/bench/report.h"
#include "perf/bench/servers.h"
#include "perf/load/client.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: prism-bench run [OPTION]...\n"
    "\n"
    "  --server S        prism (default), prism-ring, prism-redis, bare, cpp-async, cpp-callback:\n"
    "                    started and stopped here; or ADDRESS:PORT of one that runs\n"
    "  --pid N           with ADDRESS:PORT: its process, to meter its CPU\n"
    "  --operation A,B   which operations (default: every KeyValue operation; bare: echo)\n"
    "  --client C        lean (default) or stock (gRPC C-core)\n"
    "  --connections N   (4)      --in-flight N  calls at once over all connections (64)\n"
    "  --rate N          open loop at N calls/s; in-flight is then only a bound (default 65536)\n"
    "  --seconds S       measured (2)   --warmup S  before (0.5)\n"
    "  --keys N          (100000) --key-bytes N (16)  --value-bytes N (128)\n"
    "  --batch N         items of a batch (100)       --ttl N  seconds, of stores (none)\n"
    "  --scan-limit N    (100)    --scan-values\n"
    "  --sequential      keys in order, not at random --seed N (1)\n"
    "  --session-ids F   a file: identifiers of sessions, one a line, for session-get\n"
    "  --no-preload      do not store the keys before an operation that needs them\n"
    "  --output F        table (default) or json\n";

enum { OPEN_IN_FLIGHT = 65536, ADDRESS_BYTES = 64 };

struct options {
    enum server_kind kind; /* SERVER_KINDS = one that runs */
    char address[ADDRESS_BYTES];
    const char *server;
    const char *operations;
    bool no_preload, as_json;
    struct run_plan plan;
};

enum option_id {
    OPT_SERVER = 256,
    OPT_PID,
    OPT_OPERATION,
    OPT_CLIENT,
    OPT_CONNECTIONS,
    OPT_IN_FLIGHT,
    OPT_RATE,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_KEYS,
    OPT_KEY_BYTES,
    OPT_VALUE_BYTES,
    OPT_BATCH,
    OPT_TTL,
    OPT_SCAN_LIMIT,
    OPT_SCAN_VALUES,
    OPT_SEQUENTIAL,
    OPT_SEED,
    OPT_SESSION_IDS,
    OPT_NO_PRELOAD,
    OPT_OUTPUT,
    OPT_HELP
};

static const struct option long_options[] = {
    {"server", required_argument, NULL, OPT_SERVER},
    {"pid", required_argument, NULL, OPT_PID},
    {"operation", required_argument, NULL, OPT_OPERATION},
    {"client", required_argument, NULL, OPT_CLIENT},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"in-flight", required_argument, NULL, OPT_IN_FLIGHT},
    {"rate", required_argument, NULL, OPT_RATE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"key-bytes", required_argument, NULL, OPT_KEY_BYTES},
    {"value-bytes", required_argument, NULL, OPT_VALUE_BYTES},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"ttl", required_argument, NULL, OPT_TTL},
    {"scan-limit", required_argument, NULL, OPT_SCAN_LIMIT},
    {"scan-values", no_argument, NULL, OPT_SCAN_VALUES},
    {"sequential", no_argument, NULL, OPT_SEQUENTIAL},
    {"seed", required_argument, NULL, OPT_SEED},
    {"session-ids", required_argument, NULL, OPT_SESSION_IDS},
    {"no-preload", no_argument, NULL, OPT_NO_PRELOAD},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool read_server(struct options *o, const char *text)
{
    const char *colon = strrchr(text, ':');
    struct in_addr numeric;
    uint64_t port = 0;

    o->server = text;
    o->kind = server_find(text);
    if (o->kind == SERVER_REDIS || (o->kind == SERVER_KINDS && colon == NULL)) {
        fprintf(stderr, "prism-bench: --server %s: no such server\n", text);
        return false;
    }
    if (o->kind != SERVER_KINDS)
        return true;
    if ((size_t)(colon - text) >= sizeof o->address)
        return false;
    memcpy(o->address, text, (size_t)(colon - text));
    o->address[colon - text] = '\0';
    if (inet_pton(AF_INET, o->address, &numeric) != 1) {
        fprintf(stderr, "prism-bench: --server %s: a numeric IPv4 address is expected\n", text);
        return false;
    }
    o->plan.host = o->address;
    if (!option_number("server", colon + 1, UINT16_MAX, &port))
        return false;
    o->plan.port = (uint16_t)port;
    return true;
}

static bool read_client(struct options *o, const char *text)
{
    o->plan.client = strcmp(text, "stock") == 0 ? &client_stock : &client_lean;
    if (o->plan.client == &client_stock || strcmp(text, "lean") == 0)
        return true;
    fprintf(stderr, "prism-bench: --client %s is neither lean nor stock\n", text);
    return false;
}

/* The member that a numeric option sets; NULL when the option has no such member. */
static uint32_t *number_of(struct options *o, int id)
{
    struct run_plan *p = &o->plan;

    switch (id) {
    case OPT_CONNECTIONS:
        return &p->connections;
    case OPT_IN_FLIGHT:
        return &p->in_flight;
    case OPT_KEYS:
        return &p->workload.keys;
    case OPT_KEY_BYTES:
        return &p->workload.key_bytes;
    case OPT_VALUE_BYTES:
        return &p->workload.value_bytes;
    case OPT_BATCH:
        return &p->workload.batch;
    case OPT_SCAN_LIMIT:
        return &p->workload.scan_limit;
    default:
        return NULL;
    }
}

static bool read_number(struct options *o, int id, const char *name)
{
    uint32_t *place = number_of(o, id);
    uint64_t value = 0;

    if (!option_number(name, optarg, place != NULL || id == OPT_PID ? INT32_MAX : INT64_MAX,
                       &value))
        return false;
    if (place != NULL)
        *place = (uint32_t)value;
    else if (id == OPT_PID)
        o->plan.server_pid = (pid_t)value;
    else if (id == OPT_TTL)
        o->plan.workload.ttl_seconds = (int64_t)value;
    else
        o->plan.seed = value;
    return true;
}

static bool read_option(struct options *o, int id, const char *name)
{
    switch (id) {
    case OPT_SERVER:
        return read_server(o, optarg);
    case OPT_OPERATION:
        o->operations = optarg;
        return true;
    case OPT_CLIENT:
        return read_client(o, optarg);
    case OPT_RATE:
        return option_seconds(name, optarg, &o->plan.rate);
    case OPT_SECONDS:
        return option_seconds(name, optarg, &o->plan.seconds);
    case OPT_WARMUP:
        return option_seconds(name, optarg, &o->plan.warmup_seconds);
    case OPT_SCAN_VALUES:
        o->plan.workload.scan_values = true;
        return true;
    case OPT_SEQUENTIAL:
        o->plan.workload.sequential = true;
        return true;
    case OPT_SESSION_IDS:
        return option_ids(name, optarg, &o->plan.workload);
    case OPT_NO_PRELOAD:
        o->no_preload = true;
        return true;
    case OPT_OUTPUT:
        return option_output(optarg, &o->as_json);
    default:
        return read_number(o, id, name);
    }
}

/* The operations that are run: those that were named, else those that the server has. */
static bool is_chosen(const struct options *o, const struct operation *operation)
{
    if (o->operations != NULL)
        return list_has(o->operations, operation->name);
    if (operation->session)
        return false; /* of another pattern */
    if (o->plan.client == &client_stock && operation->streams)
        return false;
    return operation->keyvalue == (o->kind != SERVER_BARE);
}

static bool names_are_known(const char *list)
{
    char word[64];

    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t bytes = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)bytes, at);
        if (operation_find(word) == NULL) {
            fprintf(stderr, "prism-bench: --operation %s: no such operation\n", word);
            return false;
        }
        at += bytes;
        at += *at == ',';
    }
    return true;
}

static bool options_fit(struct options *o)
{
    size_t count;
    const struct operation *all = operation_all(&count);

    if (o->plan.in_flight == 0)
        o->plan.in_flight = o->plan.rate > 0 ? OPEN_IN_FLIGHT : 64;
    if (!names_are_known(o->operations))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!is_chosen(o, &all[i]))
            continue;
        o->plan.operation = &all[i];
        const char *bad = run_check(&o->plan);
        if (o->kind == SERVER_BARE && all[i].keyvalue)
            bad = "--server bare serves echo only";
        if (bad != NULL) {
            fprintf(stderr, "prism-bench: %s\n", bad);
            return false;
        }
    }
    return true;
}

/* 0 = go on, else the exit status + 1. */
static int read_options(struct options *o, int argc, char **argv)
{
    int id, index = 0;

    while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (id == OPT_HELP) {
            fputs(usage, stdout);
            return STATUS_DONE + 1;
        }
        if (id == '?' || !read_option(o, id, long_options[index].name))
            return STATUS_USAGE + 1;
    }
    if (optind != argc) {
        fprintf(stderr, "prism-bench: what is %s?\n", argv[optind]);
        return STATUS_USAGE + 1;
    }
    return options_fit(o) ? 0 : STATUS_USAGE + 1;
}

static bool run_one(struct lab *lab, const struct options *o, struct run_plan *plan,
                    struct report *report)
{
    struct run_result result;
    bool preload = plan->operation->needs_keys && plan->operation->keyvalue && !o->no_preload &&
                   (o->kind == SERVER_KINDS || server_is_prism(o->kind));

    if (plan->operation->uses_up_keys)
        plan->workload.sequential = true;
    if (preload && !measure(lab, run_preload, plan, &result))
        return false;
    if (!measure(lab, run_load, plan, &result))
        return false;
    if (result.calls == 0)
        return lab_fail(lab, NULL, "%s: no call ended while measuring", plan->operation->name);
    if (plan->server_pid != 0 && result.server_cpu_ns <= 0)
        return lab_fail(lab, NULL, "process %d has used no CPU: it is not the server",
                        (int)plan->server_pid);
    report_add(report, plan, &result);
    return true;
}

static bool run_all(struct lab *lab, const struct options *o, struct report *report)
{
    size_t count;
    const struct operation *all = operation_all(&count);

    for (size_t i = 0; i < count; i++) {
        struct run_plan plan = o->plan;
        plan.operation = &all[i];
        if (is_chosen(o, &all[i]) && !run_one(lab, o, &plan, report))
            return false;
    }
    return true;
}

static bool start_and_run(struct lab *lab, struct options *o)
{
    struct server_options wanted = {
        .kind = o->kind,
        .cpu = lab->cpu_server,
        .redis_cpu = lab->cpu_client,
    };
    struct server server = {0};
    struct report report;

    if (o->kind != SERVER_KINDS) {
        if (!server_start(lab, &wanted, &server))
            return false;
        o->plan.port = server.port;
        o->plan.server_pid = server.child->pid;
        o->plan.beside_pid = server.redis != NULL ? server.redis->pid : 0;
    }
    report_open(&report, o->as_json, o->server, &o->plan);
    bool fine = run_all(lab, o, &report);
    report_close(&report);
    if (o->kind == SERVER_KINDS || !fine)
        return fine;
    return server_stop(lab, &server);
}

int command_run(int argc, char **argv)
{
    static struct lab lab;
    struct options o = {
        .kind = SERVER_PRISM,
        .server = "prism",
        .plan = {.workload = workload_defaults(),
                 .seed = 1,
                 .host = "127.0.0.1",
                 .client = &client_lean,
                 .connections = 4,
                 .warmup_seconds = 0.5,
                 .seconds = 2},
    };
    int stop = read_options(&o, argc, argv);

    if (stop != 0)
        return stop - 1;
    bool fine = lab_open(&lab) && start_and_run(&lab, &o);
    lab_close(&lab);
    if (!fine)
        fprintf(stderr, "prism-bench: %s\n", lab.error);
    return fine ? STATUS_DONE : STATUS_FAILED;
}
