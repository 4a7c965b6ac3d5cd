/* M6: what one queue may hold. A bound that is reached refuses what is new and keeps what is there;
 * other queues go on. The fixture says which bounds its instance has; those of messages and bytes
 * and that of age have fixtures of their own, so that a slow machine reaches none by accident. */
#include "tests/contract/message_contract.h"

enum { CREDIT = 1000, BYTES = 1 << 20, PAYLOAD = 1000 };

static const struct queue *need_bound(struct message_fixture *fixture, uint64_t bound)
{
    const struct queue *queue = message_need_queue(fixture);

    if (bound == 0)
        skip();
    return queue;
}

static struct probe *taker(struct message_fixture *fixture, const char *queue)
{
    struct probe *probe = probe_queue(fixture, fixture->kv.backend, probe_want(queue, NULL));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* Nobody tries again soon: a queue has room only once somebody receives from it. */
static void expect_refused(struct err err)
{
    kv_expect(err, ERR_RESOURCE_EXHAUSTED, NULL);
    assert_int_equal(err.effect, EFFECT_NONE);
    assert_int_equal(err.retry_after_ms, 0);
}

static struct err push(struct message_fixture *fixture, const char *queue, struct slice payload)
{
    const struct queue *has = message_need_queue(fixture);
    struct outgoing item = {.topic = slice_str(queue), .payload = payload};

    kv_expect(message_publish(fixture, &has->sink, &item, 1), ERR_OK, NULL);
    return item.err;
}

static struct err push_number(struct message_fixture *fixture, const char *queue, unsigned number)
{
    return push(fixture, queue, slice_str(arena_printf(&fixture->kv.arena, "%u", number)));
}

static void fill(struct message_fixture *fixture, const char *queue, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        kv_expect(push_number(fixture, queue, i), ERR_OK, NULL);
}

static void test_m6_messages(void **state)
{
    struct message_fixture *fixture = *state;
    const char *other = message_topic(fixture), *name = message_topic(fixture);
    unsigned most = fixture->bounds.messages;
    struct probe *probe;

    need_bound(fixture, most);
    fill(fixture, name, most);
    for (unsigned i = 0; i < 3; i++)
        expect_refused(push_number(fixture, name, 100 + i));
    kv_expect(push_number(fixture, other, 0), ERR_OK, NULL);
    probe = taker(fixture, name);
    probe_wait(probe, most);
    probe_quiet(probe, most);
    for (unsigned i = 0; i < most; i++)
        assert_int_equal(probe_number(probe, i), i);
    expect_refused(push_number(fixture, name, 200)); /* it is in hand, and not gone */
    probe_done(probe, 0, 2);
    kv_expect(push_number(fixture, name, 201), ERR_OK, NULL);
    kv_expect(push_number(fixture, name, 202), ERR_OK, NULL);
    expect_refused(push_number(fixture, name, 203));
    probe_wait(probe, most + 2);
    probe_done(probe, 2, most + 2);
    fill(fixture, name, most);
    probe_free(probe);
}

static void test_m6_bytes(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct slice payload = slice_of(arena_zalloc(&fixture->kv.arena, BYTES), PAYLOAD);
    unsigned n = 0;
    struct probe *probe;

    need_bound(fixture, fixture->bounds.bytes);
    while (push(fixture, name, payload).code == ERR_OK)
        assert_true(++n <= fixture->bounds.bytes / PAYLOAD);
    assert_true(n >= 2 && n < fixture->bounds.messages);
    expect_refused(push(fixture, name, payload));
    probe = taker(fixture, name);
    probe_wait(probe, n);
    for (unsigned i = 0; i < 3; i++) { /* what is settled is room, neither more nor less */
        probe_done(probe, i, i + 1);
        kv_expect(push(fixture, name, payload), ERR_OK, NULL);
        expect_refused(push(fixture, name, payload));
        probe_wait(probe, n + i + 1);
    }
    probe_done(probe, 3, n + 3);
    for (unsigned i = 0; i < n; i++)
        kv_expect(push(fixture, name, payload), ERR_OK, NULL);
    probe_free(probe);
}

/* What would not fit into an empty queue is not worth a second attempt, be the queue empty or full,
 * and its neighbours fare as without it. */
static void test_m6_larger_than_any_queue(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_bound(fixture, fixture->bounds.bytes);
    const char *name = message_topic(fixture);
    struct slice too_long =
        slice_of(arena_zalloc(&fixture->kv.arena, BYTES), fixture->bounds.bytes + 1);
    struct outgoing items[] = {
        {.topic = slice_str(name), .payload = slice_str("0")},
        {.topic = slice_str(name), .payload = too_long},
        {.topic = slice_str(name), .payload = slice_str("1")},
    };
    struct probe *probe;

    for (unsigned i = 0; i < 2; i++) {
        kv_expect(message_publish(fixture, &queue->sink, items, 3), ERR_OK, NULL);
        kv_expect(items[0].err, ERR_OK, NULL);
        kv_expect(items[1].err, ERR_INVALID_ARGUMENT, "payload");
        assert_int_equal(items[1].err.effect, EFFECT_NONE);
        kv_expect(items[2].err, ERR_OK, NULL);
    }
    probe = taker(fixture, name);
    probe_wait(probe, 4);
    probe_quiet(probe, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(probe_number(probe, i), i % 2);
    probe_done(probe, 0, 4);
    fill(fixture, name, fixture->bounds.messages);
    kv_expect(push(fixture, name, too_long), ERR_INVALID_ARGUMENT, "payload");
    probe_free(probe);
}

/* What is refused takes no neighbour of another queue with it, and is not overtaken. */
static void test_m6_frame(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_bound(fixture, fixture->bounds.messages);
    const char *full = message_topic(fixture), *other = message_topic(fixture);
    unsigned most = fixture->bounds.messages, n = 2 * (most + 2);
    struct outgoing *items = arena_array(&fixture->kv.arena, n, sizeof *items);
    struct probe *probe;

    fill(fixture, full, 2);
    for (unsigned i = 0; i < n; i++) /* both queues in turn: `other` gets more than it holds, too */
        items[i] = (struct outgoing){.topic = slice_str(i % 2 == 0 ? full : other),
                                     .key = queue->sink.keyed ? slice_str("k") : message_null(),
                                     .payload = slice_str("x")};
    kv_expect(message_publish(fixture, &queue->sink, items, n), ERR_OK, NULL);
    for (unsigned i = 0; i < n; i++) {
        unsigned place = i / 2 + (i % 2 == 0 ? 2 : 0);

        if (place < most)
            kv_expect(items[i].err, ERR_OK, NULL);
        else if (items[i].err.code != ERR_ABORTED) /* behind one of its key that was refused */
            expect_refused(items[i].err);
    }
    probe = taker(fixture, other);
    probe_wait(probe, most);
    probe_quiet(probe, most);
    probe_free(probe);
}

/* n items, of which the one at `too_long` would not fit into an empty queue; n or more: none is. */
static struct outgoing *items_of(struct message_fixture *fixture, const char *name, unsigned n,
                                 unsigned too_long)
{
    struct outgoing *items = arena_array(&fixture->kv.arena, n, sizeof *items);
    uint8_t *bytes = arena_zalloc(&fixture->kv.arena, BYTES);

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct outgoing){
            .topic = slice_str(name),
            .payload = i == too_long ? slice_of(bytes, fixture->bounds.bytes + 1) : slice_str("0")};
    return items;
}

/* All or none: nothing of a batch is there that does not fit as a whole. */
static void test_m6_atomic(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_bound(fixture, fixture->bounds.messages);
    const char *name = message_topic(fixture);
    unsigned most = fixture->bounds.messages, all = most + 1;
    uint32_t culprit;

    if (queue->sink.atomic_items < most + 1)
        skip();
    fill(fixture, name, most - 2);
    expect_refused(message_publish_atomic(fixture, &queue->sink, items_of(fixture, name, 3, all), 3,
                                          &culprit));
    assert_int_equal(culprit, PUBLISH_ALL);
    kv_expect(
        message_publish_atomic(fixture, &queue->sink, items_of(fixture, name, 2, all), 2, &culprit),
        ERR_OK, NULL);
    expect_refused(push_number(fixture, name, 0));
    name = message_topic(fixture);
    kv_expect(message_publish_atomic(fixture, &queue->sink, items_of(fixture, name, all, all), all,
                                     &culprit),
              ERR_INVALID_ARGUMENT, "messages");
    assert_int_equal(culprit, PUBLISH_ALL);
    fill(fixture, name, most); /* it was empty */
}

static void test_m6_atomic_bytes(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_bound(fixture, fixture->bounds.bytes);
    const char *name = message_topic(fixture);
    unsigned n = (unsigned)(fixture->bounds.bytes / PAYLOAD) + 1;
    struct outgoing *items = items_of(fixture, name, 3, 1);
    uint32_t culprit;

    if (queue->sink.atomic_items < n)
        skip();
    kv_expect(message_publish_atomic(fixture, &queue->sink, items, 3, &culprit),
              ERR_INVALID_ARGUMENT, "payload");
    assert_int_equal(culprit, 1);
    items = items_of(fixture, name, n, n);
    for (unsigned i = 0; i < n; i++)
        items[i].payload = slice_of(arena_zalloc(&fixture->kv.arena, PAYLOAD), PAYLOAD);
    kv_expect(message_publish_atomic(fixture, &queue->sink, items, n, &culprit),
              ERR_INVALID_ARGUMENT, "messages");
    assert_int_equal(culprit, PUBLISH_ALL);
    n /= 2;
    kv_expect(message_publish_atomic(fixture, &queue->sink, items, n, &culprit), ERR_OK, NULL);
    expect_refused(message_publish_atomic(fixture, &queue->sink, items, n + 1, &culprit));
    for (unsigned i = 0; i < fixture->bounds.messages - n; i++) /* they have the room still */
        kv_expect(push_number(fixture, name, i), ERR_OK, NULL);
}

static void test_m6_dead_letters_take_no_room(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = need_bound(fixture, fixture->bounds.messages);
    const char *name = message_topic(fixture);
    struct probe *probe;

    if (queue->dead_list == NULL)
        skip();
    fill(fixture, name, fixture->bounds.messages);
    probe = taker(fixture, name);
    probe_wait(probe, fixture->bounds.messages);
    kv_expect(probe_settle(probe, 0, SETTLE_DEAD, 0), ERR_OK, NULL);
    kv_expect(push_number(fixture, name, 1), ERR_OK, NULL);
    expect_refused(push_number(fixture, name, 2));
    probe_free(probe);
}

/* The oldest of what waits is too old: nobody receives here. */
static void test_m6_age(void **state)
{
    struct message_fixture *fixture = *state;
    const char *other = message_topic(fixture), *name = message_topic(fixture);
    uint64_t age_ms = fixture->bounds.age_ms, first_ms = kv_clock_ms();
    struct probe *probe;
    struct err err;
    unsigned n = 1;

    need_bound(fixture, age_ms);
    kv_expect(push_number(fixture, name, 0), ERR_OK, NULL);
    while ((err = push_number(fixture, name, n)).code == ERR_OK) {
        assert_true(kv_clock_ms() - first_ms < KV_PATIENCE_MS);
        kv_pass(&fixture->kv, 5);
        n++;
    }
    if (fixture->kv.pass_ms == NULL)
        assert_true(kv_clock_ms() - first_ms >= age_ms - 5);
    expect_refused(err);
    kv_expect(push_number(fixture, other, 0), ERR_OK, NULL);
    probe = taker(fixture, name);
    probe_wait(probe, n);
    probe_quiet(probe, n);
    probe_done(probe, 0, n);
    kv_expect(push_number(fixture, name, n), ERR_OK, NULL);
    probe_free(probe);
}

int queue_bounds_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_m6_messages),
        KV_TEST(test_m6_bytes),
        KV_TEST(test_m6_larger_than_any_queue),
        KV_TEST(test_m6_frame),
        KV_TEST(test_m6_atomic),
        KV_TEST(test_m6_atomic_bytes),
        KV_TEST(test_m6_dead_letters_take_no_room),
        KV_TEST(test_m6_age),
    };

    return kv_group(name, "queue, bounds", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
