/* Messaging on memstore beyond the contract: its limits, and many workers at once. */
#include "backends/memstore/messaging.h"
#include "tests/contract/message_contract.h"

#include <stdlib.h>

enum { WORKERS = 3, BYTES = 1 << 26 };

struct limits_fixture {
    struct message_fixture messages; /* first: on worker 0 */
    struct message_fixture others[WORKERS - 1];
    struct pool *pool;
    struct memstore *store;
};

static struct limits_fixture *open_with(const struct memstore_config *config)
{
    struct limits_fixture *fixture = calloc(1, sizeof *fixture);
    struct pool_options options = {.workers = WORKERS, .intake_depth = 64};
    const struct backend_options names = {.namespace_name = "tested", .slot = "primary"};

    assert_non_null(fixture);
    kv_expect(pool_start(&fixture->pool, &options), ERR_OK, NULL);
    fixture->store = memstore_new(&names, config);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct message_fixture *m = i == 0 ? &fixture->messages : &fixture->others[i - 1];

        m->kv.worker = pool_worker(fixture->pool, i);
        m->kv.threaded = true;
        m->patience_ms = 30;
        kv_fixture_init(&m->kv);
        m->kv.backend = kv_open(&m->kv, &fixture->store->base);
    }
    return fixture;
}

static void close_fixture(struct limits_fixture *fixture)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        struct message_fixture *m = i == 0 ? &fixture->messages : &fixture->others[i - 1];

        kv_close(&m->kv, m->kv.backend);
        kv_fixture_clear(&m->kv);
    }
    memstore_destroy(fixture->store);
    pool_stop(fixture->pool);
    free(fixture);
}

static const struct message_sink *sink(void)
{
    return &memstore_stream.sink;
}

static struct probe *reader(struct message_fixture *m, const char *topic, const char *group)
{
    struct probe *probe = probe_stream(m, m->kv.backend, probe_want(topic, group));

    probe_grant(probe, 100000, BYTES);
    return probe;
}

static struct err publish_one(struct message_fixture *m, const char *topic)
{
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_str("7")};

    kv_expect(message_publish(m, sink(), &item, 1), ERR_OK, NULL);
    return item.err;
}

/* ---- limits ---- */

/* What a group has not settled is not dropped: the publisher waits. */
static void test_full_of_unread(void **state)
{
    const struct memstore_config config = {.messaging.stream_messages = 10};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct probe *probe = reader(m, "t", "g");
    struct err err;

    (void)state;
    message_publish_ok(m, sink(), "t", NULL, 0, 10);
    err = publish_one(m, "t");
    kv_expect(err, ERR_RESOURCE_EXHAUSTED, NULL);
    assert_true(err.retry_after_ms > 0);
    kv_expect(publish_one(m, "another"), ERR_OK, NULL); /* nobody else is starved */
    probe_wait(probe, 10);
    kv_expect(probe_settle(probe, 1, SETTLE_DONE, 0), ERR_OK, NULL);
    kv_expect(publish_one(m, "t"), ERR_RESOURCE_EXHAUSTED, NULL); /* the oldest is unsettled */
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    kv_expect(publish_one(m, "t"), ERR_OK, NULL);
    kv_expect(publish_one(m, "t"), ERR_OK, NULL);
    kv_expect(publish_one(m, "t"), ERR_RESOURCE_EXHAUSTED, NULL);
    probe_wait(probe, 12);
    probe_done(probe, 2, 12);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
    close_fixture(fixture);
}

/* Behind an item that was refused, items of its key are not stored, over a whole publish; others
 * are. */
static void nothing_overtakes(const struct message_sink *out)
{
    enum { N = 200, LARGE = 100000 };
    const struct memstore_config config = {.messaging = {.stream_bytes = LARGE}};
    struct limits_fixture *fixture = open_with(&config);
    static char large[LARGE];
    struct outgoing items[N];

    memset(items, 0, sizeof items);
    for (unsigned i = 0; i < N; i++) {
        items[i].topic = slice_str("t");
        items[i].payload = slice_str("7");
        if (i % 2 == 0)
            items[i].key = slice_str(i % 4 == 0 ? "a" : "b");
    }
    items[4].payload = slice_of(large, LARGE); /* of key a */
    items[7].payload = slice_of(large, LARGE); /* without a key */
    items[8].topic = slice_str("another");     /* a key belongs to its topic */
    kv_expect(message_publish(&fixture->messages, out, items, N), ERR_OK, NULL);
    for (unsigned i = 0; i < N; i++) {
        enum err_code code = i == 4 || i == 7      ? ERR_INVALID_ARGUMENT
                             : i % 4 == 0 && i > 8 ? ERR_ABORTED
                                                   : ERR_OK;

        assert_int_equal(items[i].err.code, code);
    }
    kv_expect(publish_one(&fixture->messages, "t"), ERR_OK, NULL);
    close_fixture(fixture);
}

static void test_stream_keeps_order_behind_a_refusal(void **state)
{
    (void)state;
    nothing_overtakes(&memstore_stream.sink);
}

static void test_queue_keeps_order_behind_a_refusal(void **state)
{
    (void)state;
    nothing_overtakes(&memstore_queue.sink);
}

/* Dropped where that is configured, and told. */
static void test_dropped_unread(void **state)
{
    const struct memstore_config config = {
        .messaging = {.stream_messages = 10, .drop_unread = true}};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct probe *probe = probe_stream(m, m->kv.backend, probe_want("t", "g"));

    (void)state;
    message_publish_ok(m, sink(), "t", NULL, 0, 35);
    probe_grant(probe, 100, BYTES);
    probe_wait(probe, 10);
    assert_int_equal(probe_number(probe, 0), 25);
    assert_int_equal(probe_gaps(probe), 1);
    assert_int_equal(probe->missed, 25);
    assert_int_equal(counter_read(&fixture->store->messaging->lost), 25);
    probe_free(probe);
    close_fixture(fixture);
}

/* One limit of bytes for keys, values and messages; what is settled by all makes room, and none of
 * it goes for what does not fit all the same. */
static void test_bytes_of_the_store(void **state)
{
    enum { SIZE = 10000, LIMIT = 20 * SIZE };
    const struct memstore_config config = {.max_bytes = LIMIT};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct probe *probe = reader(m, "t", "g");
    struct outgoing item = {.topic = slice_str("t")}, many[LIMIT / SIZE + 1];
    unsigned n = 0;
    uint32_t culprit;
    uint64_t before;

    (void)state;
    item.payload = slice_of(arena_zalloc(&m->kv.arena, SIZE), SIZE);
    for (;; n++) {
        kv_expect(message_publish(m, sink(), &item, 1), ERR_OK, NULL);
        if (item.err.code != ERR_OK)
            break;
    }
    kv_expect(item.err, ERR_RESOURCE_EXHAUSTED, "max_bytes");
    assert_true(item.err.retry_after_ms > 0);
    assert_int_equal(n, LIMIT / SIZE - 1);
    assert_true(memstore_totals(fixture->store).bytes <= LIMIT);
    probe_wait(probe, n);
    probe_done(probe, 0, n);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        many[i] = item;
    before = memstore_totals(fixture->store).bytes;
    kv_expect(message_publish_atomic(m, sink(), many, ARRAY_LEN(many), &culprit),
              ERR_RESOURCE_EXHAUSTED, "max_bytes");
    assert_true(memstore_totals(fixture->store).bytes == before);
    for (unsigned i = 0; i < n; i++) {
        kv_expect(message_publish(m, sink(), &item, 1), ERR_OK, NULL);
        kv_expect(item.err, ERR_OK, NULL);
    }
    probe_free(probe);
    close_fixture(fixture);
}

static void test_age(void **state)
{
    const struct memstore_config config = {.messaging = {.stream_age_ms = 50, .drop_unread = true}};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct stream_position position;

    (void)state;
    message_publish_ok(m, sink(), "t", NULL, 0, 5);
    KV_UNTIL(&m->kv, (position = message_position(m, "t", "g")).partitions[0].first == 5);
    assert_int_equal(position.partitions[0].end, 5);
    assert_int_equal(memstore_totals(fixture->store).bytes, 0);
    close_fixture(fixture);
}

static void test_names_are_bounded(void **state)
{
    const struct memstore_config config = {.messaging.max_names = 2};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct probe *probe;

    (void)state;
    kv_expect(publish_one(m, "one"), ERR_OK, NULL);
    probe = probe_topic(m, m->kv.backend, probe_want("listened", NULL));
    kv_expect(publish_one(m, "two"), ERR_RESOURCE_EXHAUSTED, "max_topics");
    probe_free(probe); /* nobody listens any more: the topic has gone */
    kv_expect(publish_one(m, "two"), ERR_OK, NULL);
    probe = probe_start(m, m->kv.backend, &memstore_stream.source, &memstore_stream.settling,
                        probe_want("three", "g"));
    KV_UNTIL(&m->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_RESOURCE_EXHAUSTED, "max_topics");
    probe_free(probe);
    close_fixture(fixture);
}

/* Retries that wait are bounded; what the bound refuses stays with its reader. */
static void test_parked_are_bounded(void **state)
{
    const struct memstore_config config = {.messaging.max_parked = 2};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct probe *probe = reader(m, "t", "g");

    (void)state;
    message_publish_ok(m, sink(), "t", NULL, 0, 3);
    probe_wait(probe, 3);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 60000), ERR_OK, NULL);
    kv_expect(probe_settle(probe, 1, SETTLE_RETRY, 60000), ERR_OK, NULL);
    kv_expect(probe_settle(probe, 2, SETTLE_RETRY, 60000), ERR_RESOURCE_EXHAUSTED, "max_parked");
    assert_int_equal(message_position(m, "t", "g").parked, 2);
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
    close_fixture(fixture);
}

/* A key that waits holds back what follows it, up to the bound; then the group stands, and goes on
 * when the key does. */
static void test_waiting_keys_are_bounded(void **state)
{
    const struct memstore_config config = {.messaging.max_parked = 5};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct subscription_want want = probe_want("t", "g");
    struct probe *probe;

    (void)state;
    want.ordered = true;
    probe = probe_stream(m, m->kv.backend, want);
    probe_grant(probe, 1, BYTES);
    message_publish_ok(m, sink(), "t", "slow", 0, 1);
    probe_wait(probe, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 400), ERR_OK, NULL);
    message_publish_ok(m, sink(), "t", "slow", 1, 10);
    message_publish_ok(m, sink(), "t", "fast", 100, 1);
    probe_grant(probe, 1000, BYTES);
    probe_wait(probe, 13);
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(probe_number(probe, 1 + i), i);
    probe_done(probe, 1, 13);
    probe_free(probe);
    close_fixture(fixture);
}

/* Order can be asked for by the next readers, and given up; the key's messages keep theirs. */
static void test_order_is_changed_between_readers(void **state)
{
    const struct memstore_config config = {.max_bytes = 0};
    struct limits_fixture *fixture = open_with(&config);
    struct message_fixture *m = &fixture->messages;
    struct subscription_want want = probe_want("t", "g");
    struct probe *probe, *refused;

    (void)state;
    message_publish_ok(m, sink(), "t", "k", 0, 6);
    for (unsigned round = 0; round < 4; round++) {
        want.ordered = round % 2 == 1;
        probe = probe_stream(m, m->kv.backend, want);
        probe_grant(probe, 1000, BYTES);
        probe_wait(probe, 6);
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(probe_number(probe, i), i);
        kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 20), ERR_OK, NULL);
        want.ordered = !want.ordered;
        refused =
            probe_start(m, m->kv.backend, &memstore_stream.source, &memstore_stream.settling, want);
        KV_UNTIL(&m->kv, probe_is_closed(refused));
        kv_expect(refused->closed_with, ERR_FAILED_PRECONDITION, "order");
        probe_free(refused);
        probe_wait(probe, 7);
        probe_free(probe);
    }
    close_fixture(fixture);
}

/* ---- many workers ---- */

enum { KEYS = 8, TOTAL = 40000, FRAME = 100 };

struct crowd {
    _Atomic unsigned got, wrong;
    _Atomic uint32_t last[KEYS]; /* number + 1 of the key's last message */
    _Atomic unsigned seen[TOTAL];
};

struct worker_reader {
    struct subscription subscription; /* first */
    struct backend *backend;
    struct crowd *crowd;
    struct op_group group;
    struct arena arena;
    struct settle settle;
    struct settlement items[BATCH_MESSAGES];
    struct incoming_batch *batch, *waiting[64];
    unsigned n_waiting;
    _Atomic bool opened, closed;
};

static void settle_next(struct worker_reader *r);

static void on_settled(struct op *op)
{
    struct worker_reader *r = CONTAINER_OF(op, struct worker_reader, settle.op);

    for (size_t i = 0; i < r->settle.n; i++) {
        if (r->items[i].err.code != ERR_OK)
            atomic_fetch_add(&r->crowd->wrong, 1);
    }
    memstore_stream.source.grant(r->backend, &r->subscription, r->batch->n, r->batch->bytes);
    incoming_drop(r->batch, r->batch->n);
    r->batch = NULL;
    settle_next(r);
}

static void settle_next(struct worker_reader *r)
{
    if (r->batch != NULL || r->n_waiting == 0)
        return;
    r->batch = r->waiting[0];
    memmove(r->waiting, r->waiting + 1, --r->n_waiting * sizeof r->waiting[0]);
    for (uint32_t i = 0; i < r->batch->n; i++)
        r->items[i] = (struct settlement){.token = r->batch->items[i].token, .how = SETTLE_DONE};
    r->settle =
        (struct settle){.subscription = &r->subscription, .items = r->items, .n = r->batch->n};
    op_start(&r->settle.op, &r->group, on_settled);
    memstore_stream.settling.settle(r->backend, &r->settle);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct worker_reader *r = CONTAINER_OF(subscription, struct worker_reader, subscription);
    struct crowd *crowd = r->crowd;

    for (uint32_t i = 0; i < batch->n; i++) {
        const struct incoming *m = &batch->items[i];
        uint32_t number;

        memcpy(&number, m->payload.data, sizeof number);

        unsigned key = number % KEYS;

        if (atomic_fetch_add(&crowd->seen[number], 1) != 0 ||
            atomic_exchange(&crowd->last[key], number + 1) > number)
            atomic_fetch_add(&crowd->wrong, 1);
        atomic_fetch_add(&crowd->got, 1);
    }
    r->waiting[r->n_waiting++] = batch;
    settle_next(r);
}

static void on_opened(struct subscription *subscription)
{
    atomic_store(&CONTAINER_OF(subscription, struct worker_reader, subscription)->opened, true);
}

static void on_closed(struct subscription *subscription, struct err err)
{
    (void)err;
    atomic_store(&CONTAINER_OF(subscription, struct worker_reader, subscription)->closed, true);
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .closed = on_closed};

static void open_reader(void *arg)
{
    struct worker_reader *r = arg;

    subscription_init(&r->subscription, r->backend->home, &events);
    r->subscription.want = probe_want("crowd", "g");
    r->subscription.want.ordered = true;
    op_group_init(&r->group, r->backend->home, &r->arena, 0);
    memstore_stream.source.open(r->backend, &r->subscription);
    memstore_stream.source.grant(r->backend, &r->subscription, 512, BYTES);
}

static void close_reader(void *arg)
{
    struct worker_reader *r = arg;

    memstore_stream.source.close(r->backend, &r->subscription);
}

/* One worker publishes, two read one group and settle: each message comes once, the messages of a
 * key in order, whoever gets them. */
static void test_many_workers(void **state)
{
    const struct memstore_config config = {.max_bytes = 0};
    struct limits_fixture *fixture = open_with(&config);
    struct crowd *crowd = calloc(1, sizeof *crowd);
    struct worker_reader *readers = calloc(WORKERS - 1, sizeof *readers);
    struct outgoing items[FRAME];
    uint32_t numbers[FRAME];
    char keys[KEYS];

    (void)state;
    assert_true(crowd != NULL && readers != NULL);
    for (unsigned i = 0; i < WORKERS - 1; i++) {
        readers[i].backend = fixture->others[i].kv.backend;
        readers[i].crowd = crowd;
        arena_init(&readers[i].arena, NULL);
        kv_on_worker(&fixture->others[i].kv, open_reader, &readers[i]);
    }
    for (unsigned i = 0; i < KEYS; i++)
        keys[i] = (char)('a' + i);
    for (unsigned n = 0; n < TOTAL; n += FRAME) {
        memset(items, 0, sizeof items);
        for (unsigned i = 0; i < FRAME; i++) {
            numbers[i] = n + i;
            items[i].topic = slice_str("crowd");
            items[i].key = slice_of(&keys[numbers[i] % KEYS], 1);
            items[i].payload = slice_of(&numbers[i], sizeof numbers[i]);
        }
        kv_expect(message_publish(&fixture->messages, sink(), items, FRAME), ERR_OK, NULL);
        for (unsigned i = 0; i < FRAME; i++)
            kv_expect(items[i].err, ERR_OK, NULL);
    }
    KV_UNTIL(&fixture->messages.kv, atomic_load(&crowd->got) == TOTAL);
    assert_int_equal(atomic_load(&crowd->wrong), 0);
    for (unsigned i = 0; i < WORKERS - 1; i++) {
        kv_on_worker(&fixture->others[i].kv, close_reader, &readers[i]);
        KV_UNTIL(&fixture->messages.kv, atomic_load(&readers[i].closed));
        arena_clear(&readers[i].arena);
    }
    free(readers);
    free(crowd);
    close_fixture(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_of_unread),
        cmocka_unit_test(test_stream_keeps_order_behind_a_refusal),
        cmocka_unit_test(test_queue_keeps_order_behind_a_refusal),
        cmocka_unit_test(test_dropped_unread),
        cmocka_unit_test(test_bytes_of_the_store),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_names_are_bounded),
        cmocka_unit_test(test_parked_are_bounded),
        cmocka_unit_test(test_waiting_keys_are_bounded),
        cmocka_unit_test(test_order_is_changed_between_readers),
        cmocka_unit_test(test_many_workers),
    };

    return cmocka_run_group_tests_name("memstore, messaging", tests, NULL, NULL);
}
