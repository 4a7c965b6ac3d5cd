/* The messaging contracts on the fake world, and its faults: as it is; with one position for each
 * group instead of single settlements; and with operations that finish on another thread. */
#include "tests/contract/message_contract.h"
#include "tests/fake/fake_backend.h"

#include <stdlib.h>

struct fake_fixture {
    struct message_fixture messages; /* first */
    struct worker worker;
    struct fake_world world;
};

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static struct fake_fixture *fixture_of(void **state)
{
    return *state;
}

static void pass_ms(struct kv_fixture *kv, unsigned ms)
{
    struct fake_fixture *fixture = (struct fake_fixture *)(void *)kv;

    fixture->world.now_ms += ms;
    fake_messages_look(&fixture->world);
}

static void drop_before(struct message_fixture *messages, const char *topic, int64_t offset)
{
    fake_lose(&((struct fake_fixture *)messages)->world, topic, offset);
}

static int open_world(void **state)
{
    struct fake_fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    worker_init(&fixture->worker, 0, no_wake);
    fake_world_init(&fixture->world, FAKE_TOPIC | FAKE_STREAM | FAKE_QUEUE);
    fixture->world.now_ms = 1000;
    fixture->messages.kv.worker = &fixture->worker;
    fixture->messages.kv.pass_ms = pass_ms;
    fixture->messages.drop_before = drop_before;
    fixture->messages.lease_ms = 100;
    fixture->messages.patience_ms = 30;
    kv_fixture_init(&fixture->messages.kv);
    fixture->messages.kv.backend = fake_open(&fixture->world, &fixture->worker);
    fixture->messages.second = fixture->messages.kv.backend;
    *state = fixture;
    return 0;
}

static int open_one_position(void **state)
{
    open_world(state);
    fixture_of(state)->world.messages.stream.settling.single = false;
    return 0;
}

static int open_bounded(void **state)
{
    struct fake_world *world;
    struct message_fixture *messages;

    open_world(state);
    world = &fixture_of(state)->world;
    messages = &fixture_of(state)->messages;
    world->messages.bounds.messages = messages->bounds.messages = 10;
    world->messages.bounds.bytes = messages->bounds.bytes = 6000;
    return 0;
}

static int open_aging(void **state)
{
    open_world(state);
    fixture_of(state)->world.messages.bounds.age_ms = 200;
    fixture_of(state)->messages.bounds.age_ms = 200;
    return 0;
}

static int open_threaded(void **state)
{
    open_world(state);
    fixture_of(state)->world.mode = FAKE_THREAD;
    return 0;
}

static int close_world(void **state)
{
    struct fake_fixture *fixture = *state;

    kv_fixture_clear(&fixture->messages.kv);
    fake_world_clear(&fixture->world);
    worker_clear(&fixture->worker);
    free(fixture);
    return 0;
}

/* ---- faults ---- */

enum { BYTES = 1 << 20 };

static struct probe *reader(struct fake_fixture *fixture, const char *topic)
{
    struct probe *probe =
        probe_stream(&fixture->messages, fixture->messages.kv.backend, probe_want(topic, "g"));

    probe_grant(probe, 1000, BYTES);
    return probe;
}

/* The answer is lost, the message is there. */
static void test_lost_answer(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    struct outgoing item = {.topic = slice_str("lost"), .payload = slice_str("0")};
    struct err err;

    world->messages.faults.lose_at = world->ops + 1;
    err = message_publish(&fixture->messages, &world->messages.stream.sink, &item, 1);
    kv_expect(err, ERR_UNAVAILABLE, NULL);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    assert_int_equal(fake_published(world, "lost"), 1);
}

static void test_poison_fails_alone(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    struct outgoing items[] = {{.topic = slice_str("poison"), .key = slice_str("bad")},
                               {.topic = slice_str("poison"), .key = slice_str("good")}};

    world->poison = slice_str("bad");
    kv_expect(message_publish(&fixture->messages, &world->messages.stream.sink, items, 2), ERR_OK,
              NULL);
    kv_expect(items[0].err, ERR_UNAVAILABLE, NULL);
    kv_expect(items[1].err, ERR_OK, NULL);
    world->poison = slice_of(NULL, 0);
}

static void test_revoked(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    struct probe *probe = reader(fixture, "revoked");

    message_publish_ok(&fixture->messages, &world->messages.stream.sink, "revoked", NULL, 0, 3);
    probe_wait(probe, 3);
    fake_revoke(world, "revoked", "g");
    probe_wait(probe, 6);
    assert_int_equal(probe_moves(probe).lost, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    assert_int_equal(fake_unsettled(world, "revoked", "g"), 3);
    probe_done(probe, 3, 6);
    assert_int_equal(fake_unsettled(world, "revoked", "g"), 0);
    probe_free(probe);
}

static void test_stalled_duplicated_disordered(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    struct fake_faults *faults = &world->messages.faults;
    struct probe *probe = reader(fixture, "wild");
    unsigned displaced = 0;

    faults->stalled = true;
    for (unsigned i = 0; i < 20; i++)
        message_publish_ok(&fixture->messages, &world->messages.stream.sink, "wild",
                           i % 2 == 0 ? "a" : "b", i, 1);
    probe_quiet(probe, 0);
    faults->stalled = false;
    faults->reorder = true;
    faults->duplicate_at = world->messages.handed_over + 5;
    fake_messages_look(world);
    probe_wait(probe, 21);
    probe_quiet(probe, 21);
    for (unsigned i = 1; i < 21; i++)
        displaced += probe_number(probe, i) < probe_number(probe, i - 1);
    assert_true(displaced > 0);
    *faults = (struct fake_faults){0};
    probe_free(probe);
}

static void test_ends(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    const struct stream *stream = &world->messages.stream;
    struct probe *probe = reader(fixture, "ends");

    fake_close(world, "ends", err_about(ERR_NOT_FOUND, "topic", "the topic was removed"));
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_NOT_FOUND, "topic");
    probe_free(probe);
    world->messages.faults.open_error = err_make(ERR_PERMISSION_DENIED, "not for you");
    probe = probe_start(&fixture->messages, fixture->messages.kv.backend, &stream->source,
                        &stream->settling, probe_want("ends", "g"));
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    assert_int_equal(probe_opened(probe), 0);
    kv_expect(probe->closed_with, ERR_PERMISSION_DENIED, NULL);
    probe_free(probe);
    world->messages.faults.open_error = ERR_NONE;
}

static void test_partitions(void **state)
{
    struct fake_fixture *fixture = *state;
    struct fake_world *world = &fixture->world;
    struct probe *probe = reader(fixture, "parts");

    world->messages.partitions = 4;
    message_publish_ok(&fixture->messages, &world->messages.stream.sink, "parts", "a", 0, 2);
    probe_wait(probe, 2);
    assert_true(probe_got(probe, 0)->m.partition >= 0);
    assert_int_equal(probe_got(probe, 0)->m.partition, probe_got(probe, 1)->m.partition);
    world->messages.partitions = 0;
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest faults[] = {
        KV_TEST(test_lost_answer), KV_TEST(test_poison_fails_alone),
        KV_TEST(test_revoked),     KV_TEST(test_stalled_duplicated_disordered),
        KV_TEST(test_ends),        KV_TEST(test_partitions),
    };
    int failed = message_contract("fake", open_world, close_world) +
                 message_contract("fake, one position", open_one_position, close_world) +
                 message_contract("fake, threaded", open_threaded, close_world) +
                 queue_bounds_contract("fake", open_bounded, close_world) +
                 queue_bounds_contract("fake, age", open_aging, close_world) +
                 kv_group("fake", "faults", faults, sizeof faults / sizeof faults[0], open_world,
                          close_world);

    return failed != 0;
}
