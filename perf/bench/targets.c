/* See targets.h. */
#include "perf/bench/targets.h"

#include "perf/bench/probes.h"

enum { MEMORY_KEYS = 1000000, REDIS_KEYS = 200000 };

static const struct subject_setup setups[SUBJECTS] = {
    [SUBJECT_PRISM] = {"prism", SERVER_PRISM, .keys = MEMORY_KEYS},
    [SUBJECT_RING] = {"prism-ring", SERVER_PRISM_RING, .keys = MEMORY_KEYS},
    [SUBJECT_BARE] = {.name = "bare", .kind = SERVER_BARE},
    [SUBJECT_CALLBACK] = {.name = "cpp-callback", .kind = SERVER_CPP_CALLBACK},
    /* Batches: Redis costs several times what prismd costs, so it gets a core for itself, as in the
     * native run; prismd shares the other core with the client. */
    [SUBJECT_REDIS_BATCH] = {"prism-redis", SERVER_PRISM_REDIS, .on_client_cpu = true,
                             .redis_on_server_cpu = true, .keys = REDIS_KEYS},
    /* Single calls: prismd costs the most, so it gets the core, as it does against memstore. */
    [SUBJECT_REDIS_UNARY] = {"prism-redis-unary", SERVER_PRISM_REDIS, .keys = REDIS_KEYS},
    [SUBJECT_HIREDIS] = {"hiredis", SERVER_REDIS, .keys = REDIS_KEYS},
};

const struct subject_setup *subject_setup(enum subject subject)
{
    return &setups[subject];
}

#define CLOSED(id, of, what, n, calls)                                                             \
    [id] = {.subject = of, .operation = what, .connections = n, .in_flight = calls, .half_of = id}
#define STOCK(id, of, what)                                                                        \
    [id] = {.subject = of,                                                                         \
            .operation = what,                                                                     \
            .stock = true,                                                                         \
            .connections = 4,                                                                      \
            .in_flight = 64,                                                                       \
            .half_of = id}
#define HALF(id, of, what, full)                                                                   \
    [id] = {.subject = of, .operation = what, .connections = 4, .in_flight = 4096, .half_of = full}

static const struct shape shapes[SHAPES] = {
    CLOSED(PRISM_STORE, SUBJECT_PRISM, "store", 4, 64),
    CLOSED(PRISM_RETRIEVE, SUBJECT_PRISM, "retrieve", 4, 64),
    STOCK(PRISM_STORE_STOCK, SUBJECT_PRISM, "store"),
    STOCK(PRISM_RETRIEVE_STOCK, SUBJECT_PRISM, "retrieve"),
    CLOSED(PRISM_STORE_ALONE, SUBJECT_PRISM, "store", 1, 1),
    HALF(PRISM_STORE_HALF, SUBJECT_PRISM, "store", PRISM_STORE),
    CLOSED(PRISM_STORE_BATCH, SUBJECT_PRISM, "store-batch", 4, 16),
    CLOSED(PRISM_CAPABILITIES, SUBJECT_PRISM, "capabilities", 4, 64),
    CLOSED(PRISM_RETRIEVE_256, SUBJECT_PRISM, "retrieve", 4, 256),
    CLOSED(RING_STORE, SUBJECT_RING, "store", 4, 64),
    CLOSED(RING_RETRIEVE, SUBJECT_RING, "retrieve", 4, 64),
    CLOSED(BARE_ECHO, SUBJECT_BARE, "echo", 4, 64),
    STOCK(BARE_ECHO_STOCK, SUBJECT_BARE, "echo"),
    CLOSED(BARE_ECHO_ALONE, SUBJECT_BARE, "echo", 1, 1),
    HALF(BARE_ECHO_HALF, SUBJECT_BARE, "echo", BARE_ECHO),
    CLOSED(CALLBACK_STORE, SUBJECT_CALLBACK, "store", 4, 64),
    CLOSED(CALLBACK_RETRIEVE, SUBJECT_CALLBACK, "retrieve", 4, 64),
    CLOSED(CALLBACK_STORE_BATCH, SUBJECT_CALLBACK, "store-batch", 4, 16),
    CLOSED(REDIS_RETRIEVE_BATCH, SUBJECT_REDIS_BATCH, "retrieve-batch", 4, 16),
    CLOSED(REDIS_STORE_BATCH, SUBJECT_REDIS_BATCH, "store-batch", 4, 16),
    CLOSED(REDIS_RETRIEVE_256, SUBJECT_REDIS_UNARY, "retrieve", 4, 256),
    CLOSED(HIREDIS_GET, SUBJECT_HIREDIS, "get", 1, 256),
    CLOSED(HIREDIS_SET, SUBJECT_HIREDIS, "set", 1, 256),
    CLOSED(HIREDIS_MGET, SUBJECT_HIREDIS, "mget", 1, 16),
    CLOSED(HIREDIS_MSET, SUBJECT_HIREDIS, "mset", 1, 16),
};

const struct shape *shape_of(enum shape_id id)
{
    return &shapes[id];
}

/* ---- metrics ---- */

static double cpu_per_call(const struct run_result *r)
{
    return r->server_cpu_ns / 1e3 / (double)r->calls;
}

static double cpu_per_item(const struct run_result *r)
{
    return r->server_cpu_ns / 1e3 / (double)r->items;
}

static double calls_per_second(const struct run_result *r)
{
    return (double)r->calls / r->seconds;
}

static double items_per_second(const struct run_result *r)
{
    return (double)r->items / r->seconds;
}

static double median_latency(const struct run_result *r)
{
    return (double)r->p50_ns / 1e3;
}

static double tail(const struct run_result *r)
{
    return (double)r->p99_ns / (double)r->p50_ns;
}

/* ---- targets ---- */

#define MOST(bound)  .limit = bound
#define LEAST(bound) .limit = bound, .at_least = true
#define US_CALL      .unit = "us/call", .metric = cpu_per_call
#define CALLS_S      .unit = "calls/s", .metric = calls_per_second
#define ITEMS_S      .unit = "items/s", .metric = items_per_second

static const struct target targets[] = {
    {"unary-cpu", "store", US_CALL, MOST(0.60), .ours = PRISM_STORE, .baseline = BARE_ECHO,
     .note = "64 calls in flight on 4 connections"},
    {"unary-cpu", "retrieve", US_CALL, MOST(0.60), .ours = PRISM_RETRIEVE, .baseline = BARE_ECHO,
     .note = "64 calls in flight on 4 connections"},
    {"unary-cpu-cpp", "store", US_CALL, MOST(0.40), .ours = PRISM_STORE, .baseline = CALLBACK_STORE,
     .note = "libgrpc++ callback server that stores nothing"},
    {"unary-cpu-cpp", "retrieve", US_CALL, MOST(0.40), .ours = PRISM_RETRIEVE,
     .baseline = CALLBACK_RETRIEVE, .note = "libgrpc++ callback server that stores nothing"},
    {"unary-throughput", "store", CALLS_S, LEAST(1.6), .ours = PRISM_STORE, .baseline = BARE_ECHO,
     .note = "64 calls in flight on 4 connections"},
    {"unary-throughput", "retrieve", CALLS_S, LEAST(1.6), .ours = PRISM_RETRIEVE,
     .baseline = BARE_ECHO, .note = "64 calls in flight on 4 connections"},
    {"unary-stock-client", "store", US_CALL, MOST(1.05), .ours = PRISM_STORE_STOCK,
     .baseline = BARE_ECHO_STOCK, .note = "the client saturates its core before the server does"},
    {"unary-stock-client", "retrieve", US_CALL, MOST(1.05), .ours = PRISM_RETRIEVE_STOCK,
     .baseline = BARE_ECHO_STOCK, .note = "the client saturates its core before the server does"},
    {"unary-latency", "", "us", MOST(1.10), .metric = median_latency, .ours = PRISM_STORE_ALONE,
     .baseline = BARE_ECHO_ALONE, .note = "p50 of Store, one call in flight"},
    {"unary-instructions", "cpp-async", "instructions/call", MOST(0.72),
     .probe = probe_instructions_cpp},
    {"unary-instructions", "bare", "instructions/call", MOST(1.10),
     .probe = probe_instructions_bare},
    {"unary-ring", "store", US_CALL, MOST(0.65), .ours = RING_STORE, .baseline = BARE_ECHO,
     .note = "dispatch: ring"},
    {"unary-ring", "retrieve", US_CALL, MOST(0.65), .ours = RING_RETRIEVE, .baseline = BARE_ECHO,
     .note = "dispatch: ring"},
    {"idle", "cpu", "ticks in 5 s", MOST(0), .absolute = true, .probe = probe_idle_cpu},
    {"idle", "threads", "threads", MOST(1), .probe = probe_idle_threads},
    {"idle", "memory", "MB", MOST(20), .absolute = true, .probe = probe_idle_memory},
    {"unary-tail", "", "p99/p50", MOST(1.2), .metric = tail, .ours = PRISM_STORE_HALF,
     .baseline = BARE_ECHO_HALF, .note = "open loop, each at half of its own saturation rate"},
    {"batch-item-cpu", "", "us/item", MOST(0.50), .metric = cpu_per_item, .ours = PRISM_STORE_BATCH,
     .baseline = CALLBACK_STORE_BATCH,
     .note = "StoreBatch(100), 16 calls in flight; the libgrpc++ server only parses"},
    {"redis-batch", "retrieve", ITEMS_S, LEAST(0.80), .ours = REDIS_RETRIEVE_BATCH,
     .baseline = HIREDIS_GET, .note = "RetrieveBatch(100), 16 in flight; hiredis: 256 GETs"},
    {"redis-batch", "store", ITEMS_S, LEAST(0.80), .ours = REDIS_STORE_BATCH,
     .baseline = HIREDIS_SET, .note = "StoreBatch(100), 16 in flight; hiredis: 256 SETs"},
    {"redis-batch", "mget", ITEMS_S, LEAST(0.80), .ours = REDIS_RETRIEVE_BATCH,
     .baseline = HIREDIS_MGET, .note = "the same; hiredis: 16 MGETs of 100 keys"},
    {"redis-batch", "mset", ITEMS_S, LEAST(0.80), .ours = REDIS_STORE_BATCH,
     .baseline = HIREDIS_MSET, .note = "the same; hiredis: 16 MSETs of 100 keys"},
    {"redis-unary", "", CALLS_S, LEAST(0.80), .ours = REDIS_RETRIEVE_256,
     .baseline = PRISM_RETRIEVE_256, .note = "Retrieve, 256 in flight; baseline: on memstore"},
    {"memory-per-key", "", "bytes/key", MOST(0.75), .probe = probe_memory_per_key},
    {"ttl", "table", "us/key", MOST(1.5), .probe = probe_ttl_table},
    {"ttl", "server", "us/key", MOST(1.5), .probe = probe_ttl_server},
    {"consolidated-overhead", "", "instructions/call", MOST(1.05), .probe = probe_consolidated},
    {"capabilities", "", US_CALL, MOST(0.70), .ours = PRISM_CAPABILITIES, .baseline = BARE_ECHO,
     .note = "64 calls in flight on 4 connections"},
};

const struct target *targets_all(size_t *count)
{
    *count = sizeof targets / sizeof targets[0];
    return targets;
}

bool target_is_judged(const struct record *r)
{
    return r->client_share <= 0.5;
}

bool target_holds(const struct target *t, const struct record *r)
{
    double value = t->absolute ? r->ours : r->ratio;

    return t->at_least ? value >= t->limit : value <= t->limit;
}
