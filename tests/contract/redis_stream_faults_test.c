/* What can happen to a server and to a stream while they are used: each message that was stored is
 * delivered, readers go on by themselves, and what was lost is told. */
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct redis_server server;
static char address[128];

static const char user[] = STREAM_USER "+client|id +client|unblock +config|get +info";

static int open_fixture(void **state)
{
    redis_server_say(&server, "FLUSHALL");
    redis_server_say(&server, user);
    *state = stream_fixture_open(
        &server, (redis_settings){"address", address, "username", "prism", "password", "secret",
                                  "command_timeout_ms", "2000", "claim_idle_ms", "2000", NULL});
    return 0;
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

static void until_connected(struct stream_fixture *fixture)
{
    redis_until(&fixture->redis, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
}

/* Users are not in the server's file. */
static void restart(struct stream_fixture *fixture)
{
    redis_server_restart(&server);
    redis_server_say(&server, user);
    until_connected(fixture);
}

/* ---- items that fail alone ---- */

static void hopeless_items_fail_alone(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages), *typed = message_topic(messages);
    const char *const topics[] = {topic, typed, "denied", "prism:wake", topic};
    static const enum err_code codes[] = {ERR_OK, ERR_FAILED_PRECONDITION, ERR_PERMISSION_DENIED,
                                          ERR_INVALID_ARGUMENT, ERR_OK};

    stream_say(fixture, "SET %s text", typed);
    for (unsigned keyed = 0; keyed < 2; keyed++) {
        struct outgoing items[2 * ARRAY_LEN(topics)] = {0};

        for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
            items[i].topic = slice_str(topics[i / 2]);
            items[i].payload = slice_str("0");
            if (keyed > 0)
                items[i].key = slice_str("k");
        }
        kv_expect(message_publish(messages, stream_sink(fixture), items, ARRAY_LEN(items)), ERR_OK,
                  NULL);
        for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
            if (keyed > 0 && i % 2 == 1 && codes[i / 2] == ERR_INVALID_ARGUMENT) /* not asked for */
                kv_expect(items[i].err, ERR_ABORTED, NULL);
            else
                kv_expect(items[i].err, codes[i / 2], codes[i / 2] != ERR_OK ? "topic" : NULL);
        }
    }
    assert_string_equal(stream_say(fixture, "XLEN %s", topic), "8");
}

/* B8: a full server is RESOURCE_EXHAUSTED. Messages with keys are refused together, so that none
 * overtakes. */
static void a_full_server_refuses_all(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct outgoing items[10] = {0};

    for (unsigned i = 0; i < ARRAY_LEN(items); i++)
        items[i] = (struct outgoing){
            .topic = slice_str(topic), .payload = slice_str("0"), .key = slice_str("k")};
    stream_say(fixture, "CONFIG SET maxmemory 1");
    kv_expect(message_publish(messages, stream_sink(fixture), items, ARRAY_LEN(items)), ERR_OK,
              NULL);
    stream_say(fixture, "CONFIG SET maxmemory 0");
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        kv_expect(items[i].err, ERR_RESOURCE_EXHAUSTED, "maxmemory");
        assert_int_equal(items[i].err.effect, EFFECT_NONE);
    }
    assert_string_equal(stream_say(fixture, "XLEN %s", topic), "0");
}

/* ---- topics that change under their readers ---- */

static void a_topic_of_another_type_ends_its_readers(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages),
               *good = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic), *other;

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 1);
    probe_wait(probe, 1);
    stream_say(fixture, "DEL %s", topic);
    stream_say(fixture, "SET %s text", topic);
    other = stream_reader(fixture, good); /* waits on the same connection */
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_FAILED_PRECONDITION, "topic");
    message_publish_ok(&fixture->messages, stream_sink(fixture), good, NULL, 0, 1);
    probe_wait(other, 1);
    probe_done(other, 0, 1);
    probe_free(other);
    probe_free(probe);
}

static void denied_topics_end_subscriptions(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct stream *stream = messages->kv.backend->has.stream;
    struct probe *probe = probe_start(messages, messages->kv.backend, &stream->source,
                                      &stream->settling, probe_want("denied", "g"));

    KV_UNTIL(&messages->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_PERMISSION_DENIED, "topic");
    probe_free(probe);
}

/* The stream and its groups have gone: told, and begun anew. */
static void a_deleted_stream_is_a_gap(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 3);
    probe_wait(probe, 3);
    stream_say(fixture, "DEL %s", topic);
    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 3, 2);
    probe_wait(probe, 5);
    assert_int_equal(probe_gaps(probe), 1);
    assert_int_equal(probe->gap.count, 0);
    assert_int_equal(probe_moves(probe).lost, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED,
              NULL); /* it went with the stream */
    probe_done(probe, 3, 5);
    probe_free(probe);
}

static void a_deleted_stream_may_end_it(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.on_gap = GAP_FAIL;
    probe = probe_stream(messages, messages->kv.backend, want);
    probe_grant(probe, CREDIT, BYTES);
    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 0, 1);
    probe_wait(probe, 1);
    stream_say(fixture, "DEL %s", topic);
    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 1, 1);
    KV_UNTIL(&messages->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_DATA_LOSS, NULL);
    probe_free(probe);
}

/* ---- servers that go and come back ---- */

/* With its file nothing is lost; what is held stays held. */
static void a_killed_server_comes_back(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 5);
    probe_wait(probe, 5);
    probe_done(probe, 0, 2);
    redis_server_kill(&server);
    redis_until(&fixture->redis, BACKEND_DOWN);
    kv_expect(stream_publish(fixture, topic, 9), ERR_UNAVAILABLE, NULL);
    restart(fixture);
    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 5, 1);
    probe_wait(probe, 6);
    assert_int_equal(probe_number(probe, 5), 5);
    probe_done(probe, 2, 4);
    probe_quiet(probe, 6);
    probe_free(probe);
    probe = stream_other_reader(fixture, topic);
    probe_wait(probe, 2);
    assert_int_equal(probe_number(probe, 0), 4);
    assert_int_equal(probe_number(probe, 1), 5);
    probe_done(probe, 0, 2);
    probe_free(probe);
}

/* A subscription that is opened without a server waits for it. */
static void opened_without_a_server(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct stream *stream = messages->kv.backend->has.stream;
    const char *topic = message_topic(messages);
    struct probe *probe, *closed;

    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 0, 1);
    redis_server_kill(&server);
    redis_until(&fixture->redis, BACKEND_DOWN);
    probe = probe_start(messages, messages->kv.backend, &stream->source, &stream->settling,
                        probe_want(topic, "g"));
    closed = probe_start(messages, messages->kv.backend, &stream->source, &stream->settling,
                         probe_want(topic, "h"));
    probe_free(closed);
    probe_grant(probe, CREDIT, BYTES);
    restart(fixture);
    probe_wait(probe, 1);
    probe_done(probe, 0, 1);
    probe_free(probe);
}

/* A publish whose answer does not come is unknown, and readers go on. */
static void a_silent_server_is_left(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);
    struct err err;

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 1);
    probe_wait(probe, 1);
    redis_server_pause(&server);
    err = stream_publish(fixture, topic, 1);
    assert_true(err.code == ERR_UNAVAILABLE || err.code == ERR_DEADLINE_EXCEEDED);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    redis_until(&fixture->redis, BACKEND_DOWN);
    redis_server_resume(&server);
    until_connected(fixture);
    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 2, 1);
    KV_UNTIL(&fixture->messages.kv,
             probe_count(probe) > 1 && probe_number(probe, probe_count(probe) - 1) == 2);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

static struct err settle_once(struct probe *probe, size_t i, enum settle_how how)
{
    struct err op_err, err = probe_try_settle(probe, i, how, 0, &op_err);

    return op_err.code != ERR_OK ? op_err : err;
}

/* Unknown, and can be repeated: by then redis has done it, or not. */
static void settlements_without_an_answer(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);
    struct err err;

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 4);
    probe_wait(probe, 4);
    redis_server_pause(&server);
    err = settle_once(probe, 0, SETTLE_DONE);
    assert_true(err.code == ERR_UNAVAILABLE || err.code == ERR_DEADLINE_EXCEEDED);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    redis_until(&fixture->redis, BACKEND_DOWN);
    err = settle_once(probe, 1, SETTLE_DONE);
    kv_expect(err, ERR_UNAVAILABLE, NULL);
    assert_int_equal(err.effect, EFFECT_NONE);
    redis_server_resume(&server);
    until_connected(fixture);
    err = settle_once(probe, 0, SETTLE_DONE);
    assert_true(err.code == ERR_OK || err.code == ERR_ABORTED);
    kv_expect(settle_once(probe, 1, SETTLE_DONE), ERR_OK, NULL);
    assert_int_equal(strncmp(stream_say(fixture, "XPENDING %s g", topic), "2 ", 2), 0);
    stream_say(fixture, "XGROUP DESTROY %s g", topic);
    kv_expect(settle_once(probe, 2, SETTLE_RELEASE), ERR_ABORTED, NULL); /* all has gone */
    kv_expect(settle_once(probe, 3, SETTLE_DONE), ERR_ABORTED, NULL);
    probe_free(probe);
}

/* What is given back and removed meanwhile is a gap; an owner that is replaced is told. */
static void order_that_is_disturbed(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.ordered = true;
    want.lease_ms = 100;
    probe = probe_stream(messages, messages->kv.backend, want);
    probe_grant(probe, 3, BYTES);
    message_publish_ok(messages, stream_sink(fixture), topic, "a", 0, 3);
    probe_wait(probe, 3);
    KV_UNTIL(&messages->kv, probe_moves(probe).by_lease == 1);
    stream_say(fixture, "XDEL %s %.*s", topic, (int)probe_got(probe, 1)->m.position.len,
               (const char *)probe_got(probe, 1)->m.position.data);
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, 5);
    assert_int_equal(probe_number(probe, 3), 0);
    assert_int_equal(probe_number(probe, 4), 2);
    assert_int_equal(probe_got(probe, 3)->m.attempt, 2);
    KV_UNTIL(&messages->kv, probe_gaps(probe) == 1);
    assert_int_equal(probe->missed, 1);
    stream_say(fixture, "SET prism:order:%s:g another PX 1000", topic);
    KV_UNTIL(&messages->kv, probe_moves(probe).lost > probe_moves(probe).by_lease);
    KV_UNTIL(&messages->kv, probe_count(probe) >= 7); /* once the other has gone */
    probe_free(probe);
}

/* A replica refuses; once it is a primary again, all goes on. */
static void a_read_only_server(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);

    message_publish_ok(&fixture->messages, stream_sink(fixture), topic, NULL, 0, 1);
    probe_wait(probe, 1);
    stream_say(fixture, "REPLICAOF 127.0.0.1 1");
    kv_expect(stream_publish(fixture, topic, 1), ERR_UNAVAILABLE, NULL);
    stream_say(fixture, "REPLICAOF NO ONE");
    KV_UNTIL(&fixture->messages.kv, stream_publish(fixture, topic, 2).code == ERR_OK);
    probe_wait(probe, 2);
    assert_int_equal(probe_number(probe, 1), 2);
    KV_UNTIL(&fixture->messages.kv, probe_settle(probe, 0, SETTLE_DONE, 0).code == ERR_OK);
    probe_done(probe, 1, 2);
    probe_free(probe);
}

/* ---- connections that are cut again and again ---- */

enum { N = 3000, FRAME = 50 };

/* Publishes each number until it is stored; how often it may be there at most. */
static void publish_all(struct stream_fixture *fixture, const char *topic)
{
    struct message_fixture *messages = &fixture->messages;

    for (unsigned from = 0; from < N; from += FRAME) {
        struct outgoing items[FRAME] = {0};
        bool stored = false;

        for (unsigned i = 0; i < FRAME; i++)
            items[i] = (struct outgoing){
                .topic = slice_str(topic),
                .key = slice_str(i % 2 == 0 ? "even" : "odd"),
                .payload = slice_str(arena_printf(&messages->kv.arena, "%u", from + i))};
        if (from % (4 * FRAME) == 0)
            stream_say(fixture, "CLIENT KILL TYPE normal SKIPME yes");
        while (!stored) {
            struct err err = message_publish(messages, stream_sink(fixture), items, FRAME);

            stored = err.code == ERR_OK;
            for (unsigned i = 0; stored && i < FRAME; i++)
                stored = items[i].err.code == ERR_OK;
            if (!stored)
                kv_pass(&messages->kv, 5);
        }
    }
}

/* How many had not come before. A settlement whose answer was lost may be too late when it is
 * repeated: whether all are settled is for redis to say. */
static unsigned settle_new(struct probe *probe, size_t *settled, bool *done)
{
    unsigned fresh = 0;

    for (; *settled < probe_count(probe); ++*settled) {
        unsigned number = probe_number(probe, *settled);
        struct err op_err, err = probe_try_settle(probe, *settled, SETTLE_DONE, 0, &op_err);

        if (op_err.code == ERR_UNAVAILABLE || err.code == ERR_UNAVAILABLE)
            return fresh; /* once more, later */
        fresh += !done[number];
        done[number] = true;
    }
    return fresh;
}

static bool all_settled(struct stream_fixture *fixture, const char *topic)
{
    return strcmp(stream_say(fixture, "XPENDING %s g", topic), "0 (nil) (nil) (nil)") == 0;
}

static void nothing_is_lost_over_cuts(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probes[] = {stream_reader(fixture, topic), stream_other_reader(fixture, topic)};
    bool *done = arena_zalloc(&fixture->messages.kv.arena, N);
    size_t settled[2] = {0};
    unsigned left = N;
    uint64_t give_up_ms;

    for (unsigned i = 0; i < 2; i++)
        probe_grant(probes[i], 10 * N, 100 << 20);
    publish_all(fixture, topic);
    give_up_ms = kv_clock_ms() + 3 * KV_PATIENCE_MS;
    while ((left > 0 || !all_settled(fixture, topic)) && kv_clock_ms() < give_up_ms) {
        for (unsigned i = 0; i < 2; i++)
            left -= settle_new(probes[i], &settled[i], done);
        kv_pass(&fixture->messages.kv, 5);
    }
    assert_int_equal(left, 0);
    assert_true(all_settled(fixture, topic));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(probe_gaps(probes[i]), 0);
        probe_free(probes[i]);
    }
}

int main(void)
{
    const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    const struct CMUnitTest tests[] = {
        KV_TEST(hopeless_items_fail_alone),
        KV_TEST(a_full_server_refuses_all),
        KV_TEST(a_topic_of_another_type_ends_its_readers),
        KV_TEST(denied_topics_end_subscriptions),
        KV_TEST(a_deleted_stream_is_a_gap),
        KV_TEST(a_deleted_stream_may_end_it),
        KV_TEST(a_killed_server_comes_back),
        KV_TEST(opened_without_a_server),
        KV_TEST(a_silent_server_is_left),
        KV_TEST(settlements_without_an_answer),
        KV_TEST(order_that_is_disturbed),
        KV_TEST(a_read_only_server),
        KV_TEST(nothing_is_lost_over_cuts),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, args);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed =
        kv_group("redis-stream", "faults", tests, ARRAY_LEN(tests), open_fixture, close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
