/* Queues: taken by one, gone once settled; delays, leases, dead letters. */
#include "tests/contract/message_contract.h"

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct probe *taker(struct message_fixture *fixture, struct backend *backend,
                           const char *queue)
{
    struct probe *probe = probe_queue(fixture, backend, probe_want(queue, NULL));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static void start_count(struct backend *backend, struct op *op)
{
    backend->has.queue->count(backend, (struct queue_count *)(void *)op);
}

static struct queue_count count(struct message_fixture *fixture, const char *queue)
{
    struct queue_count out = {.queue = slice_str(queue)};

    kv_expect(kv_do(&fixture->kv, start_count, &out.op), ERR_OK, NULL);
    return out;
}

static void expect_count(struct message_fixture *fixture, const char *queue, int64_t ready,
                         int64_t taken)
{
    struct queue_count now = count(fixture, queue);

    if (now.ready >= 0)
        assert_int_equal(now.ready, ready);
    if (now.taken >= 0)
        assert_int_equal(now.taken, taken);
}

static void test_settled_is_gone(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    struct probe *probe;

    message_publish_ok(fixture, &queue->sink, name, "k", 0, 6);
    expect_count(fixture, name, 6, 0);
    probe = taker(fixture, fixture->kv.backend, name);
    probe_wait(probe, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(probe_number(probe, i), i);
        assert_true(slice_equal(probe_got(probe, i)->m.key, slice_str("k")));
    }
    expect_count(fixture, name, 0, 6);
    probe_done(probe, 1, 4);
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    probe_free(probe);
    expect_count(fixture, name, 3, 0);
    probe = taker(fixture, fixture->kv.backend, name);
    probe_wait(probe, 3);
    probe_quiet(probe, 3);
    probe_done(probe, 0, 3);
    expect_count(fixture, name, 0, 0);
    probe_free(probe);
}

/* From where it was told to be its identifier is made up, if it brought none. */
static void test_it_comes_from_where_it_went(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    struct probe *probe;
    struct outgoing item = {.topic = slice_str(name),
                            .key = message_null(),
                            .id = message_null(),
                            .payload = slice_str("0"),
                            .partition = -1,
                            .offset = -1};
    const struct incoming *got;

    kv_expect(message_publish(fixture, &queue->sink, &item, 1), ERR_OK, NULL);
    kv_expect(item.err, ERR_OK, NULL);
    probe = taker(fixture, fixture->kv.backend, name);
    probe_wait(probe, 1);
    got = &probe_got(probe, 0)->m;
    assert_true(!message_is_null(got->position) || got->offset >= 0);
    if (!message_is_null(item.position))
        assert_true(slice_equal(got->position, item.position));
    if (item.offset >= 0)
        assert_int_equal(got->offset, item.offset);
    probe_done(probe, 0, 1);
    probe_free(probe);
}

/* B5: two instances take side by side, and none waits for the other. */
static void test_each_is_taken_by_one(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    enum { N = 100 };
    struct probe *a, *b;
    bool seen[N] = {false};

    if (fixture->second == NULL)
        skip();
    message_publish_ok(fixture, &queue->sink, name, NULL, 0, N);
    a = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    b = probe_queue(fixture, fixture->second, probe_want(name, NULL));
    probe_grant(a, 30, BYTES);
    probe_grant(b, 70, BYTES);
    probe_wait(a, 30);
    probe_wait(b, 70);
    for (unsigned i = 0; i < N; i++) {
        unsigned number = i < 30 ? probe_number(a, i) : probe_number(b, i - 30);

        assert_true(number < N && !seen[number]);
        seen[number] = true;
    }
    probe_done(b, 0, 70);
    probe_grant(b, 30, BYTES);
    probe_quiet(b, 70);
    probe_free(a);
    probe_wait(b, 100);
    probe_done(b, 70, 100);
    probe_free(b);
}

static void test_attempts(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    struct probe *probe = taker(fixture, fixture->kv.backend, name);

    message_publish_ok(fixture, &queue->sink, name, NULL, 0, 1);
    probe_wait(probe, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    probe_wait(probe, 2);
    assert_int_equal(probe_got(probe, 1)->m.attempt, 2);
    kv_expect(probe_settle(probe, 1, SETTLE_RELEASE, 0), ERR_OK, NULL);
    probe_wait(probe, 3);
    if (queue->settling.release_is_free)
        assert_int_equal(probe_got(probe, 2)->m.attempt, 2);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

/* Nothing is early; what is not delayed passes. */
static void test_delayed_push(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    enum { DELAY_MS = 300 };
    struct outgoing items[] = {
        {.topic = slice_str(name), .payload = slice_str("0"), .delay_ms = DELAY_MS},
        {.topic = slice_str(name), .payload = slice_str("1")},
    };
    struct probe *probe;
    uint64_t pushed_ms = kv_clock_ms();

    if (!queue->delays)
        skip();
    kv_expect(message_publish(fixture, &queue->sink, items, 2), ERR_OK, NULL);
    probe = taker(fixture, fixture->kv.backend, name);
    probe_wait(probe, 1);
    assert_int_equal(probe_number(probe, 0), 1);
    probe_wait(probe, 2);
    assert_int_equal(probe_number(probe, 1), 0);
    assert_int_equal(probe_got(probe, 1)->m.attempt, 1);
    if (fixture->kv.pass_ms == NULL)
        assert_true(probe_got(probe, 1)->at_ms - pushed_ms >= DELAY_MS - 5);
    probe_done(probe, 0, 2);
    probe_free(probe);
}

/* Only the slow one's lease is short: the other has the time that it needs. */
static void test_visibility(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = message_need_queue(fixture);
    const char *name = message_topic(fixture);
    struct subscription_want want = probe_want(name, NULL);
    struct probe *slow, *other;

    if (queue->settling.extend == NULL || fixture->lease_ms == 0 || fixture->second == NULL)
        skip();
    want.lease_ms = fixture->lease_ms;
    slow = probe_queue(fixture, fixture->kv.backend, want);
    other = probe_queue(fixture, fixture->second, probe_want(name, NULL));
    message_publish_ok(fixture, &queue->sink, name, NULL, 0, 1);
    probe_grant(slow, 1, BYTES);
    probe_wait(slow, 1);
    probe_grant(other, 1, BYTES);
    probe_wait(other, 1);
    assert_int_equal(probe_got(other, 0)->m.attempt, 2);
    if (queue->settling.fences)
        kv_expect(probe_settle(slow, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(probe_settle(other, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(slow);
    probe_free(other);
}

/* ---- dead letters ---- */

static void start_list(struct backend *backend, struct op *op)
{
    backend->has.queue->dead_list(backend, (struct dead_list *)(void *)op);
}

static void start_move(struct backend *backend, struct op *op)
{
    backend->has.queue->dead_move(backend, (struct dead_move *)(void *)op);
}

static struct dead_list list(struct message_fixture *fixture, const char *queue,
                             struct slice cursor, uint32_t max_items)
{
    struct dead_list page = {
        .queue = slice_str(queue), .cursor = cursor, .max_items = max_items, .max_bytes = BYTES};

    kv_expect(kv_do(&fixture->kv, start_list, &page.op), ERR_OK, NULL);
    return page;
}

static uint64_t move(struct message_fixture *fixture, const char *queue,
                     const struct slice *handles, size_t n, bool purge)
{
    struct dead_move request = {
        .queue = slice_str(queue), .handles = handles, .n = n, .purge = purge};

    kv_expect(kv_do(&fixture->kv, start_move, &request.op), ERR_OK, NULL);
    return request.moved;
}

static const struct queue *need_dead(struct message_fixture *fixture)
{
    const struct queue *queue = message_need_queue(fixture);

    if (queue->dead_list == NULL)
        skip();
    return queue;
}

/* Five dead letters, 0 to 4. */
static const char *with_dead(struct message_fixture *fixture, const struct queue *queue)
{
    const char *name = message_topic(fixture);
    struct probe *probe = taker(fixture, fixture->kv.backend, name);

    message_publish_ok(fixture, &queue->sink, name, "k", 0, 5);
    probe_wait(probe, 5);
    for (unsigned i = 0; i < 5; i++)
        kv_expect(probe_settle(probe, i, SETTLE_DEAD, 0), ERR_OK, NULL);
    probe_quiet(probe, 5);
    probe_free(probe);
    return name;
}

static void test_dead_letters_are_kept(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_dead(fixture);
    const char *name = with_dead(fixture, queue);
    struct slice cursor = message_null();
    unsigned n = 0;

    assert_int_equal(count(fixture, name).dead, 5);
    for (bool more = true; more;) {
        struct dead_list page = list(fixture, name, cursor, 2);

        assert_true(page.n <= 2);
        for (size_t i = 0; i < page.n; i++, n++) {
            const struct dead_letter *dead = &page.items[i];

            assert_int_equal(dead->message.payload.data[0], '0' + (int)n);
            assert_true(slice_equal(dead->message.key, slice_str("k")));
            assert_true(slice_equal(dead->reason, slice_str("the test wants it dead")));
            assert_true(dead->died_ms > 0);
        }
        more = page.more;
        cursor = page.next_cursor;
    }
    assert_int_equal(n, 5);
}

static void test_redrive_and_purge(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_dead(fixture);
    const char *name = with_dead(fixture, queue);
    struct dead_list page = list(fixture, name, message_null(), 10);
    struct slice handles[2];
    struct probe *probe;

    assert_int_equal(page.n, 5);
    handles[0] = page.items[1].handle;
    handles[1] = page.items[3].handle;
    assert_int_equal(move(fixture, name, handles, 2, false), 2);
    assert_int_equal(move(fixture, name, handles, 2, false), 0); /* they are no longer there */
    probe = taker(fixture, fixture->kv.backend, name);
    probe_wait(probe, 2);
    assert_int_equal(probe_number(probe, 0), 1);
    assert_int_equal(probe_number(probe, 1), 3);
    assert_int_equal(probe_got(probe, 0)->m.attempt, 1);
    probe_done(probe, 0, 2);
    assert_int_equal(move(fixture, name, &page.items[0].handle, 1, true), 1);
    assert_int_equal(count(fixture, name).dead, 2);
    assert_int_equal(move(fixture, name, NULL, 0, false), 2);
    probe_wait(probe, 4);
    probe_done(probe, 2, 4);
    assert_int_equal(count(fixture, name).dead, 0);
    probe_free(probe);
}

static void test_forged_cursor(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_dead(fixture);
    struct dead_list page = {.queue = slice_str(with_dead(fixture, queue)),
                             .cursor = slice_str("not ours at all"),
                             .max_items = 1,
                             .max_bytes = BYTES};

    kv_expect(kv_do(&fixture->kv, start_list, &page.op), ERR_INVALID_ARGUMENT, "cursor");
}

static void test_absent_queue_is_empty(void **state)
{
    struct message_fixture *fixture = *state;

    message_need_queue(fixture);
    if (fixture->make_topic != NULL)
        skip();
    expect_count(fixture, "contract-no-such-queue", 0, 0);
}

int queue_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_settled_is_gone),       KV_TEST(test_it_comes_from_where_it_went),
        KV_TEST(test_each_is_taken_by_one),  KV_TEST(test_attempts),
        KV_TEST(test_delayed_push),          KV_TEST(test_visibility),
        KV_TEST(test_dead_letters_are_kept), KV_TEST(test_redrive_and_purge),
        KV_TEST(test_forged_cursor),         KV_TEST(test_absent_queue_is_empty),
    };

    return kv_group(name, "queue", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
