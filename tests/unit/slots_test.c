/* Namespaces at run time with a pattern and a backend that only write down what they are asked: the
 * order of life, and that each step of the end begins everywhere before any of it is waited for. */
#include "src/slots.h"

#include "backends/backend.h"
#include "patterns/pattern.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/rpc/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- what happened ---- */

enum { WORKERS = 2, INSTANCES = WORKERS + 1 /* the poller */, SLOTS = 2 };

static struct trace {
    _Atomic unsigned shared_open, bound, stores_stopped, unbound, closing, closed, shared_closed;
    _Atomic bool in_order;
    uint64_t deadline_ns;
} trace;

static void must(bool fact)
{
    if (!fact)
        atomic_store(&trace.in_order, false);
}

/* Ends when `fn` was begun everywhere: the last to begin ends all. So a caller that waits for one
 * before it begins the next waits for ever. */
struct party {
    void (*over[INSTANCES * SLOTS])(void *);
    void *arg[INSTANCES * SLOTS];
    _Atomic unsigned begun;
};

static void party_join(struct party *party, unsigned guests, void (*over)(void *), void *arg)
{
    unsigned seat = atomic_fetch_add(&party->begun, 1);

    party->over[seat] = over;
    party->arg[seat] = arg;
    if (seat + 1 < guests)
        return;
    for (unsigned i = 0; i < guests; i++)
        party->over[i](party->arg[i]);
}

static struct party stops, closes;

/* ---- the pattern ---- */

static struct pattern_shared shared;
static const struct pattern_type type;

static struct pattern_shared *open_shared(const struct pattern_sharing *sharing)
{
    must(trace.bound == 0 && sharing->workers == INSTANCES);
    must(sharing->stores[0] != NULL && sharing->stores[1] != NULL);
    trace.shared_open++;
    shared.type = &type;
    return &shared;
}

static void close_shared(struct pattern_shared *closed)
{
    must(closed == &shared && trace.closed == INSTANCES * SLOTS);
    trace.shared_closed++;
}

static struct pattern *bind_pattern(const struct pattern_binding *binding)
{
    struct pattern *pattern = calloc(1, sizeof *pattern);
    uint32_t before = pattern_facts(binding);

    must(binding->shared == &shared && trace.shared_open == 1);
    atomic_fetch_add(&binding->slots[1]->store->facts_version, 1);
    must(pattern_facts(binding) != before);
    pattern->type = &type;
    atomic_fetch_add(&trace.bound, 1);
    return pattern;
}

static void stop_pattern(struct pattern *pattern, void (*stopped)(void *arg), void *arg)
{
    (void)pattern;
    party_join(&stops, INSTANCES, stopped, arg);
}

static void unbind_pattern(struct pattern *pattern)
{
    must(trace.stores_stopped == SLOTS);
    atomic_fetch_add(&trace.unbound, 1);
    free(pattern);
}

static const uint32_t *inline_bytes(const struct pattern *pattern, size_t service)
{
    (void)pattern;
    (void)service;
    return NULL;
}

static const struct slot_schema schemas[SLOTS] = {{.name = "first"}, {.name = "second"}};
static const struct service *const services[] = {NULL};

static const struct pattern_type type = {
    .name = "traced",
    .service = "test.Traced",
    .slots = schemas,
    .slot_count = SLOTS,
    .services = services,
    .open_shared = open_shared,
    .close_shared = close_shared,
    .bind = bind_pattern,
    .stop = stop_pattern,
    .unbind = unbind_pattern,
    .inline_bytes = inline_bytes,
};

/* ---- the backend ---- */

static const struct backend_type traced_backend;

static struct err store_open(struct backend_store **out, const struct backend_options *options)
{
    struct backend_store *store = calloc(1, sizeof *store);

    backend_store_init(store, &traced_backend, options);
    atomic_store(&store->state, BACKEND_READY);
    *out = store;
    return ERR_NONE;
}

/* The first store has sent everything, the second gives three up. */
static void store_stop(struct backend_store *store, uint64_t deadline_ns,
                       backend_stopped_fn *stopped, void *arg)
{
    must(stops.begun == INSTANCES && trace.closing == 0 && trace.unbound == 0);
    must(deadline_ns == trace.deadline_ns);
    atomic_fetch_add(&trace.stores_stopped, 1);
    stopped(arg, strcmp(store->slot, "second") == 0 ? 3 : 0);
}

static void store_close(struct backend_store *store)
{
    must(trace.shared_closed == 1);
    backend_store_clear(store);
    free(store);
}

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct backend *backend = calloc(1, sizeof *backend);

    *backend = (struct backend){.type = &traced_backend, .store = store, .home = worker};
    return backend;
}

static void close_instance(struct backend *backend, void (*closed)(void *arg), void *arg)
{
    worker_assert_home(backend->home);
    free(backend);
    atomic_fetch_add(&trace.closing, 1);
    atomic_fetch_add(&trace.closed, 1);
    party_join(&closes, INSTANCES * SLOTS, closed, arg);
}

static const struct backend_type traced_backend = {
    .name = "traced",
    .inline_ok = true,
    .store_open = store_open,
    .store_stop = store_stop,
    .store_close = store_close,
    .open = open_instance,
    .close = close_instance,
};

/* ---- tests ---- */

static void test_life_in_order_and_side_by_side(void **state)
{
    struct config_namespace space = {
        .name = "default",
        .pattern = &type,
        .slots = {{.backend = &traced_backend}, {.backend = &traced_backend}}};
    struct config config = {.namespaces = &space, .namespace_count = 1};
    struct pool_options pool_options = {.workers = WORKERS, .intake_depth = 16};
    struct rpc_options rpc_options = {.listen = "127.0.0.1:0"};
    struct rpc_server *server = NULL;
    struct slots *slots = NULL;
    struct pool *pool = NULL;

    (void)state;
    trace.in_order = true;
    assert_int_equal(pool_start(&pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&server, &rpc_options, pool, services, 0).code, ERR_OK);
    assert_int_equal(slots_open(&slots, &config, pool, server).code, ERR_OK);
    assert_int_equal(trace.bound, INSTANCES);

    trace.deadline_ns = clock_now_ns() + NS_PER_S;
    assert_int_equal(slots_close(slots, trace.deadline_ns), 3);
    assert_int_equal(trace.unbound, INSTANCES);
    assert_int_equal(trace.closed, INSTANCES * SLOTS);
    assert_int_equal(trace.shared_closed, 1);
    assert_int_equal(slots_close(slots, trace.deadline_ns), 0); /* once is enough */
    rpc_server_stop(server);
    pool_stop(pool);
    rpc_server_destroy(server);
    slots_destroy(slots);
    assert_true(trace.in_order);
}

static struct err store_fails(struct backend_store **out, const struct backend_options *options)
{
    (void)out;
    (void)options;
    return err_make(ERR_UNAVAILABLE, "no store");
}

/* The namespaces behind the one that fails were never begun. */
static void test_a_store_that_does_not_open_ends_the_start(void **state)
{
    static const struct backend_type failing = {.name = "failing", .store_open = store_fails};
    struct config_namespace spaces[] = {
        {.name = "a",
         .pattern = &type,
         .slots = {{.backend = &traced_backend}, {.backend = &failing}}},
        {.name = "b",
         .pattern = &type,
         .slots = {{.backend = &traced_backend}, {.backend = &traced_backend}}}};
    struct config config = {.namespaces = spaces, .namespace_count = 2};
    struct pool_options pool_options = {.workers = WORKERS, .intake_depth = 16};
    struct rpc_options rpc_options = {.listen = "127.0.0.1:0"};
    struct rpc_server *server = NULL;
    struct slots *slots = NULL;
    struct pool *pool = NULL;

    (void)state;
    trace = (struct trace){.in_order = true};
    assert_int_equal(pool_start(&pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&server, &rpc_options, pool, services, 0).code, ERR_OK);
    stops.begun = INSTANCES; /* no pattern stops here: none was bound */
    assert_int_equal(slots_open(&slots, &config, pool, server).code, ERR_UNAVAILABLE);
    trace.deadline_ns = clock_now_ns() + NS_PER_S;
    trace.shared_closed = 1; /* nor was anything shared */
    assert_int_equal(slots_close(slots, trace.deadline_ns), 0);
    assert_int_equal(trace.stores_stopped, 1);
    assert_int_equal(trace.bound + trace.closed, 0);
    rpc_server_stop(server);
    pool_stop(pool);
    rpc_server_destroy(server);
    slots_destroy(slots);
    assert_true(trace.in_order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_in_order_and_side_by_side),
        cmocka_unit_test(test_a_store_that_does_not_open_ends_the_start),
    };

    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
