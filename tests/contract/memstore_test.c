/* The contracts of key-value, of the registry and of sessions on memstore: driven by the test's
 * thread, as the poller drives it, on virtual time; and on a worker of a pool, on real time. */
#include "backends/memstore/instance.h"
#include "tests/contract/registry_contract.h"
#include "tests/contract/session_contract.h"

#include <stdlib.h>

struct memstore_fixture {
    struct kv_fixture kv; /* first */
    struct worker worker; /* driven by the test */
    struct pool *pool;    /* or this */
    struct memstore *store, *other;
    struct backend *peer;    /* a second instance on the store */
    _Atomic uint64_t now_ns; /* virtual */
};

static uint64_t virtual_now(void *arg)
{
    struct memstore_fixture *fixture = arg;

    return atomic_load(&fixture->now_ns);
}

static uint64_t fixed_hash(void *arg, struct slice key)
{
    struct hash_key secret = {1, 2};

    (void)arg;
    return hash_bytes(&secret, key);
}

static void pass_virtual_ms(struct kv_fixture *kv, unsigned ms)
{
    struct memstore_fixture *fixture = (struct memstore_fixture *)kv;

    atomic_fetch_add(&fixture->now_ns, ms * NS_PER_MS);
}

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static void open_stores(struct memstore_fixture *fixture, const struct memstore_sources *sources)
{
    const struct memstore_config config = {.sources = sources};
    const struct backend_options names = {.namespace_name = "tested", .slot = "primary"};
    const struct backend_options others = {.namespace_name = "other", .slot = "primary"};

    fixture->store = memstore_new(&names, &config);
    fixture->other = memstore_new(&others, &config);
    kv_fixture_init(&fixture->kv);
    fixture->kv.backend = kv_open(&fixture->kv, &fixture->store->base);
    fixture->kv.elsewhere = kv_open(&fixture->kv, &fixture->other->base);
    fixture->peer = kv_open(&fixture->kv, &fixture->store->base);
}

static struct backend *peer(struct kv_fixture *kv)
{
    return ((struct memstore_fixture *)kv)->peer;
}

static int open_driven(void **state)
{
    struct memstore_fixture *fixture = calloc(1, sizeof *fixture);
    struct memstore_sources sources = {.now_ns = virtual_now, .hash = fixed_hash, .arg = fixture};

    assert_non_null(fixture);
    fixture->now_ns = 12345678901;
    worker_init(&fixture->worker, 0, no_wake);
    fixture->kv.worker = &fixture->worker;
    fixture->kv.pass_ms = pass_virtual_ms;
    open_stores(fixture, &sources);
    *state = &fixture->kv;
    return 0;
}

static int open_pooled(void **state)
{
    struct memstore_fixture *fixture = calloc(1, sizeof *fixture);
    struct pool_options options = {.workers = 1, .intake_depth = 64};

    assert_non_null(fixture);
    kv_expect(pool_start(&fixture->pool, &options), ERR_OK, NULL);
    fixture->kv.worker = pool_worker(fixture->pool, 0);
    fixture->kv.threaded = true;
    open_stores(fixture, NULL);
    *state = &fixture->kv;
    return 0;
}

static int close_fixture(void **state)
{
    struct memstore_fixture *fixture = *state;

    kv_close(&fixture->kv, fixture->kv.backend);
    kv_close(&fixture->kv, fixture->kv.elsewhere);
    kv_close(&fixture->kv, fixture->peer);
    kv_fixture_clear(&fixture->kv);
    memstore_destroy(fixture->store);
    memstore_destroy(fixture->other);
    if (fixture->pool != NULL)
        pool_stop(fixture->pool);
    else
        worker_clear(&fixture->worker);
    free(fixture);
    return 0;
}

int main(void)
{
    int failed = kv_contract("memstore, driven", open_driven, close_fixture) +
                 kv_contract("memstore, pooled", open_pooled, close_fixture) +
                 registry_contract("memstore, driven", open_driven, close_fixture, peer) +
                 registry_contract("memstore, pooled", open_pooled, close_fixture, peer) +
                 session_contract("memstore, driven", open_driven, close_fixture, peer) +
                 session_contract("memstore, pooled", open_pooled, close_fixture, peer);

    return failed != 0;
}
