/* Atomic publishes, of streams and queues that have them: all items are there, in their order, or
 * none is. Bounds of queues have theirs in queue_bounds_contract.c. */
#include "tests/contract/message_contract.h"

enum { SOME = 12, ROUNDS = 5 };

/* Both kinds behave alike here; a fixture may offer either. */
struct kind {
    const struct message_sink *sink;
    bool queue;
};

static struct kind kind_of(struct message_fixture *fixture, bool queue)
{
    struct kind kind = {.queue = queue};

    kind.sink = queue ? &message_need_queue(fixture)->sink : &message_need_stream(fixture)->sink;
    if (kind.sink->atomic_items == 0)
        skip();
    assert_true(kind.sink->atomic_items <= kind.sink->max_items);
    return kind;
}

static struct probe *reader(struct message_fixture *fixture, struct kind kind, const char *topic)
{
    struct subscription_want want = probe_want(topic, kind.queue ? NULL : "g");
    struct probe *probe = kind.queue ? probe_queue(fixture, fixture->kv.backend, want)
                                     : probe_stream(fixture, fixture->kv.backend, want);

    probe_grant(probe, 5000, 8 << 20);
    return probe;
}

/* Payloads "0", "1", .. from `from` on; keys of three kinds, and none. */
static struct outgoing *items_of(struct message_fixture *fixture, const char *topic, unsigned from,
                                 unsigned n)
{
    static const char *const keys[] = {"a", "b", "a", NULL};
    struct outgoing *items = arena_array(&fixture->kv.arena, n, sizeof *items);

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct outgoing){
            .topic = slice_str(topic),
            .key = slice_str(keys[i % 4]),
            .payload = slice_str(arena_printf(&fixture->kv.arena, "%u", from + i))};
    return items;
}

static void publish_ok(struct message_fixture *fixture, struct kind kind, struct outgoing *items,
                       unsigned n)
{
    uint32_t culprit;

    kv_expect(message_publish_atomic(fixture, kind.sink, items, n, &culprit), ERR_OK, NULL);
    assert_int_equal(culprit, PUBLISH_ALL);
}

static void all_in_order(struct message_fixture *fixture, struct kind kind)
{
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, kind, topic);

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct outgoing *items = items_of(fixture, topic, round * SOME, SOME);

        publish_ok(fixture, kind, items, SOME);
        probe_wait(probe, (round + 1) * SOME);
        for (unsigned i = 0; i < SOME; i++) {
            const struct incoming *m = &probe_got(probe, round * SOME + i)->m;

            assert_int_equal(probe_number(probe, round * SOME + i), round * SOME + i);
            assert_true(slice_equal(m->key, items[i].key));
            if (!kind.queue) { /* each is told its own place */
                assert_int_equal(m->offset, items[i].offset);
                assert_true(slice_equal(m->position, items[i].position));
            }
        }
    }
    probe_quiet(probe, ROUNDS * SOME);
    probe_free(probe);
}

static void test_stream_in_order(void **state)
{
    all_in_order(*state, kind_of(*state, false));
}

static void test_queue_in_order(void **state)
{
    all_in_order(*state, kind_of(*state, true));
}

static void as_many_as_it_says(struct message_fixture *fixture, struct kind kind)
{
    const char *topic = message_topic(fixture);
    unsigned n = kind.sink->atomic_items;
    struct probe *probe = reader(fixture, kind, topic);

    publish_ok(fixture, kind, items_of(fixture, topic, 0, n), n);
    publish_ok(fixture, kind, items_of(fixture, topic, n, 1), 1);
    probe_wait(probe, n + 1);
    for (unsigned i = 0; i <= n; i++)
        assert_int_equal(probe_number(probe, i), i);
    probe_free(probe);
}

static void test_stream_takes_as_many_as_it_says(void **state)
{
    as_many_as_it_says(*state, kind_of(*state, false));
}

static void test_queue_takes_as_many_as_it_says(void **state)
{
    as_many_as_it_says(*state, kind_of(*state, true));
}

/* The hopeless one is named, wherever it stands, and its neighbours are not there. */
static void test_one_hopeless_refuses_all(void **state)
{
    struct message_fixture *fixture = *state;
    struct kind kind = kind_of(fixture, false);
    const char *topic = message_topic(fixture);
    uint64_t most = kind.sink->max_message_bytes != 0 ? kind.sink->max_message_bytes
                                                      : kind.sink->max_frame_bytes;
    struct slice large = slice_of(arena_zalloc(&fixture->kv.arena, most + 1), most + 1);
    struct probe *probe = reader(fixture, kind, topic);

    for (unsigned at = 0; at < 3; at++) {
        struct outgoing *items = items_of(fixture, topic, 100, 3);
        uint32_t culprit;
        struct err err;

        items[at].payload = large;
        err = message_publish_atomic(fixture, kind.sink, items, 3, &culprit);
        kv_expect(err, ERR_INVALID_ARGUMENT, "payload");
        assert_int_equal(err.effect, EFFECT_NONE);
        assert_int_equal(culprit, at);
    }
    publish_ok(fixture, kind, items_of(fixture, topic, 0, 2), 2);
    probe_wait(probe, 2);
    probe_quiet(probe, 2);
    assert_int_equal(probe_number(probe, 0), 0);
    probe_free(probe);
}

int atomic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_stream_in_order),
        KV_TEST(test_queue_in_order),
        KV_TEST(test_stream_takes_as_many_as_it_says),
        KV_TEST(test_queue_takes_as_many_as_it_says),
        KV_TEST(test_one_hopeless_refuses_all),
    };

    return kv_group(name, "atomic", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
