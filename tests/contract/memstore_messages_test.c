/* The messaging contracts on memstore: driven by the test's thread, as the poller drives it; and on
 * a worker of a pool. */
#include "backends/memstore/messaging.h"
#include "tests/contract/message_contract.h"

#include <stdlib.h>

struct memstore_fixture {
    struct message_fixture messages; /* first */
    struct worker worker;            /* driven by the test */
    struct pool *pool;               /* or this */
    struct memstore *store;
};

static void no_wake(struct worker *worker)
{
    (void)worker;
}

/* As retention does. */
static void drop_before(struct message_fixture *messages, const char *topic, int64_t offset)
{
    struct memstore_fixture *fixture = (struct memstore_fixture *)messages;
    struct messaging *m = fixture->store->messaging;
    bool full;
    struct named *named = names_get(m, &named_stream, slice_str(topic), false, &full);
    struct channel *channel = CONTAINER_OF(named, struct channel, named);

    assert_non_null(named);
    pthread_mutex_lock(&channel->lock);
    while (channel->log.first < offset)
        channel_remove(channel, channel->log.first);
    pthread_mutex_unlock(&channel->lock);
    names_put(m, named);
}

static void open_store_with(struct memstore_fixture *fixture, struct memstore_config config)
{
    const struct backend_options names = {.namespace_name = "tested", .slot = "primary"};

    fixture->store = memstore_new(&names, &config);
    kv_fixture_init(&fixture->messages.kv);
    fixture->messages.kv.backend = kv_open(&fixture->messages.kv, &fixture->store->base);
    fixture->messages.second = kv_open(&fixture->messages.kv, &fixture->store->base);
    fixture->messages.drop_before = drop_before;
    fixture->messages.lease_ms = 100;
    fixture->messages.patience_ms = 30;
}

static void open_store(struct memstore_fixture *fixture)
{
    open_store_with(fixture,
                    (struct memstore_config){.messaging = {.tail_bytes = MESSAGING_TAIL_BYTES}});
}

static struct memstore_fixture *new_driven(void)
{
    struct memstore_fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    worker_init(&fixture->worker, 0, no_wake);
    fixture->messages.kv.worker = &fixture->worker;
    return fixture;
}

static int open_driven(void **state)
{
    struct memstore_fixture *fixture = new_driven();

    open_store(fixture);
    *state = fixture;
    return 0;
}

static int open_bounded(void **state)
{
    struct memstore_fixture *fixture = new_driven();

    fixture->messages.bounds.messages = 10;
    fixture->messages.bounds.bytes = 7000;
    open_store_with(fixture, (struct memstore_config){
                                 .messaging = {.stream_messages = 10, .stream_bytes = 7000}});
    *state = fixture;
    return 0;
}

static int open_aging(void **state)
{
    struct memstore_fixture *fixture = new_driven();

    fixture->messages.bounds.age_ms = 200;
    open_store_with(fixture, (struct memstore_config){.messaging = {.queue_age_ms = 200}});
    *state = fixture;
    return 0;
}

static int open_pooled(void **state)
{
    struct memstore_fixture *fixture = calloc(1, sizeof *fixture);
    struct pool_options options = {.workers = 1, .intake_depth = 64};

    assert_non_null(fixture);
    kv_expect(pool_start(&fixture->pool, &options), ERR_OK, NULL);
    fixture->messages.kv.worker = pool_worker(fixture->pool, 0);
    fixture->messages.kv.threaded = true;
    open_store(fixture);
    *state = fixture;
    return 0;
}

/* All bytes come back with what held them. */
static int close_fixture(void **state)
{
    struct memstore_fixture *fixture = *state;

    kv_close(&fixture->messages.kv, fixture->messages.kv.backend);
    kv_close(&fixture->messages.kv, fixture->messages.second);
    kv_fixture_clear(&fixture->messages.kv);
    messaging_destroy(fixture->store->messaging);
    assert_int_equal(memstore_totals(fixture->store).bytes, 0);
    fixture->store->messaging = messaging_new(fixture->store, &(struct memstore_messaging){0});
    memstore_destroy(fixture->store);
    if (fixture->pool != NULL)
        pool_stop(fixture->pool);
    else
        worker_clear(&fixture->worker);
    free(fixture);
    return 0;
}

int main(void)
{
    int failed = message_contract("memstore, driven", open_driven, close_fixture) +
                 message_contract("memstore, pooled", open_pooled, close_fixture) +
                 queue_bounds_contract("memstore", open_bounded, close_fixture) +
                 queue_bounds_contract("memstore, age", open_aging, close_fixture);

    return failed != 0;
}
