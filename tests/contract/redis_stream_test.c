/* Streams and queues on a real redis: the contract, other clients, names, and what is removed. */
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define NOBODY "prism:nobody" /* whose the entries are that were given back */

extern const char redis_script_sweep[]; /* redis_script.h */

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct redis_server server;
static char address[128];

static int open_as(void **state, const char *permissions, const char *max_length,
                   const char *claim_idle_ms)
{
    static char command[1024];

    redis_server_say(&server, "FLUSHALL");
    snprintf(command, sizeof command, "%s %s", STREAM_USER, permissions);
    redis_server_say(&server, command);
    *state = stream_fixture_open(
        &server, (redis_settings){"address", address, "username", "prism", "password", "secret",
                                  "command_timeout_ms", "10000", "claim_idle_ms", claim_idle_ms,
                                  "max_length", max_length, NULL});
    return 0;
}

static int open_with(void **state, const char *permissions, const char *max_length)
{
    return open_as(state, permissions, max_length, "1000");
}

/* Nothing is claimed but what was given back. */
static int open_patient(void **state)
{
    return open_as(state, "+client|id +client|unblock", "0", "3600000");
}

static int open_fixture(void **state)
{
    return open_with(state, "+client|id +client|unblock +config|get +info", "0");
}

static int open_bounded(void **state)
{
    return open_with(state, "+client|id +client|unblock", "1000");
}

/* Waits cannot be ended, and nothing is known of the server. */
static int open_restricted(void **state)
{
    return open_with(state, "", "0");
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

/* ---- other clients ---- */

/* What Prism writes are fields by their names; what others write comes as it is. */
static void other_clients_write_and_read(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    const struct header headers[] = {{slice_str("trace"), slice_str("t")},
                                     {slice_str("key"), slice_str("of-a-header")}};
    struct outgoing item = {.topic = slice_str(topic),
                            .payload = slice_str("p"),
                            .key = slice_str("k"),
                            .id = slice_str("i"),
                            .headers = headers,
                            .n_headers = 2};
    struct probe *probe;
    const struct got *got;

    kv_expect(message_publish(messages, &messages->kv.backend->has.stream->sink, &item, 1), ERR_OK,
              NULL);
    assert_string_equal(strchr(stream_say(fixture, "XRANGE %s - +", topic), ' '),
                        " payload p key k id i trace t header:key of-a-header");
    stream_say(fixture, "XADD %s 9999999999999-7 temperature 20 key k1 key k2", topic);
    probe = stream_reader(fixture, topic);
    probe_wait(probe, 2);
    got = probe_got(probe, 0);
    assert_true(slice_equal(got->m.id, slice_str("i")));
    assert_true(slice_equal(got->m.headers[1].name, slice_str("key")));
    got = probe_got(probe, 1);
    assert_true(message_is_null(got->m.payload));
    assert_true(slice_equal(got->m.key, slice_str("k1")));
    assert_int_equal(got->m.n_headers, 2);
    assert_true(slice_equal(got->m.headers[0].value, slice_str("20")));
    assert_true(slice_equal(got->m.headers[1].value, slice_str("k2")));
    assert_true(slice_equal(got->m.position, slice_str("9999999999999-7")));
    assert_int_equal(got->m.timestamp_ms, 9999999999999);
    probe_done(probe, 0, 2);
    assert_string_equal(stream_say(fixture, "XPENDING %s g", topic), "0 (nil) (nil) (nil)");
    probe_free(probe);
}

/* What a consumer that has gone had taken is claimed, as the next attempt. */
static void the_dead_give_up_what_they_took(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    message_publish_ok(&fixture->messages, &fixture->messages.kv.backend->has.stream->sink, topic,
                       NULL, 0, 3);
    stream_say(fixture, "XGROUP CREATE %s g 0", topic);
    stream_say(fixture, "XREADGROUP GROUP g dead COUNT 2 STREAMS %s >", topic);
    probe = stream_reader(fixture, topic);
    probe_wait(probe, 1);
    assert_int_equal(probe_number(probe, 0), 2);
    probe_wait(probe, 3);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(probe_number(probe, i), i - 1);
        assert_int_equal(probe_got(probe, i)->m.attempt, 2);
    }
    probe_done(probe, 0, 3);
    probe_free(probe);
}

/* B7: entries that were removed while they were pending: told, and counted. */
static void what_was_trimmed_while_pending_is_told(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    message_publish_ok(&fixture->messages, &fixture->messages.kv.backend->has.stream->sink, topic,
                       NULL, 0, 5);
    stream_say(fixture, "XGROUP CREATE %s g 0", topic);
    stream_say(fixture, "XREADGROUP GROUP g dead COUNT 4 STREAMS %s >", topic);
    stream_say(fixture, "XTRIM %s MAXLEN 2", topic);
    probe = stream_reader(fixture, topic);
    probe_wait(probe, 2);
    KV_UNTIL(&fixture->messages.kv, probe_gaps(probe) == 1);
    assert_int_equal(probe->missed, 3);
    assert_int_equal(probe_number(probe, 0), 4);
    assert_int_equal(probe_number(probe, 1), 3);
    probe_free(probe);
}

/* ---- names ---- */

static unsigned consumers(struct stream_fixture *fixture, const char *topic)
{
    const char *text = stream_say(fixture, "XINFO CONSUMERS %s g", topic);
    unsigned n = 0;

    for (; (text = strstr(text, "name ")) != NULL; text++)
        n++;
    return n;
}

/* C10: with messages in hand, which stay. */
static void names_go_with_their_readers(void **state)
{
    enum { CYCLES = 100 };
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    message_publish_ok(&fixture->messages, &fixture->messages.kv.backend->has.stream->sink, topic,
                       NULL, 0, 1);
    for (unsigned i = 0; i < CYCLES; i++) {
        probe = stream_reader(fixture, topic);
        probe_wait(probe, 1);
        probe_free(probe);
        assert_true(consumers(fixture, topic) <= 1); /* nobody */
    }
    probe = stream_reader(fixture, topic);
    probe_wait(probe, 1);
    assert_int_equal(probe_got(probe, 0)->m.attempt, 1);
    probe_done(probe, 0, 1);
    probe_free(probe);
}

/* A reader without a group leaves nothing. */
static void readers_alone_leave_nothing(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct subscription_want want = probe_want(topic, NULL);
    struct probe *probe;

    want.start = START_EARLIEST;
    message_publish_ok(messages, &messages->kv.backend->has.stream->sink, topic, NULL, 0, 3);
    probe = probe_stream(messages, messages->kv.backend, want);
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, 3);
    probe_free(probe);
    assert_string_equal(stream_say(fixture, "XINFO GROUPS %s", topic), "");
}

/* C10: what is swept has nothing pending, and is Prism's. */
static void only_idle_names_are_swept(void **state)
{
    static const char *const commands[] = {
        "XADD %s * payload 0",
        "XGROUP CREATE %s g 0",
        "XGROUP CREATE %s prism:alone:old 0",
        "XREADGROUP GROUP prism:alone:old prism::old:1 COUNT 1 STREAMS %s >",
        "XREADGROUP GROUP g prism:holds:1 COUNT 1 STREAMS %s >",
        "XGROUP CREATECONSUMER %s g prism:idle:1",
        ("XGROUP CREATECONSUMER %s g " NOBODY),
        "XGROUP CREATECONSUMER %s g another",
    };
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    const char *sweep[] = {"EVAL", redis_script_sweep, "1", topic, "g", NOBODY, "-1"};
    const char *left;

    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        char command[256];

        snprintf(command, sizeof command, commands[i], topic);
        redis_server_say(&server, command);
    }
    assert_string_equal(redis_server_say_words(&server, ARRAY_LEN(sweep), sweep), "2");
    assert_int_equal(consumers(fixture, topic), 3);
    left = stream_say(fixture, "XINFO CONSUMERS %s g", topic);
    assert_null(strstr(left, "prism:idle:1"));
    assert_non_null(strstr(left, "prism:holds:1"));
    assert_null(strstr(stream_say(fixture, "XINFO GROUPS %s", topic), "alone"));
}

/* ---- seek ---- */

static void start_seek(struct backend *backend, struct op *op)
{
    backend->has.stream->seek(backend, CONTAINER_OF(op, struct stream_seek, op));
}

/* The reader of another process begins again, and is told. */
static void seek_moves_other_processes(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct stream_seek back = {.topic = slice_str(topic),
                               .group = slice_str("g"),
                               .partition = -1,
                               .start = START_EARLIEST};
    struct probe *probe = stream_other_reader(fixture, topic);

    message_publish_ok(messages, &messages->kv.backend->has.stream->sink, topic, NULL, 0, 3);
    probe_wait(probe, 3);
    kv_expect(kv_do(&messages->kv, start_seek, &back.op), ERR_OK, NULL);
    probe_wait(probe, 6);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(probe_number(probe, 3 + i), i);
    KV_UNTIL(&messages->kv, probe_moves(probe).by_seek == 1);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL); /* moves nothing */
    probe_done(probe, 3, 6);
    probe_quiet(probe, 6);
    probe_free(probe);
}

/* ---- order by key ---- */

static struct probe *ordered(struct stream_fixture *fixture, struct backend *backend,
                             const char *topic)
{
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.ordered = true;
    probe = probe_stream(&fixture->messages, backend, want);
    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* One reads, the other stands by and goes on where it stopped: without a message in between, and
 * without waiting for one that was to be tried again. */
static void order_has_one_reader(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct message_sink *sink = &messages->kv.backend->has.stream->sink;
    const char *topic = message_topic(messages);
    struct probe *first = ordered(fixture, messages->kv.backend, topic), *second;

    message_publish_ok(messages, sink, topic, "a", 0, 4);
    probe_wait(first, 4);
    second = ordered(fixture, messages->second, topic);
    probe_quiet(second, 0);
    kv_expect(probe_settle(first, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    kv_expect(probe_settle(first, 1, SETTLE_RETRY, 3600000), ERR_OK, NULL);
    kv_expect(probe_settle(first, 2, SETTLE_RELEASE, 0), ERR_OK, NULL);
    message_publish_ok(messages, sink, topic, "a", 4, 3);
    probe_quiet(first, 4);
    probe_free(first);
    probe_wait(second, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(probe_number(second, i), 1 + i);
    assert_int_equal(probe_got(second, 0)->m.attempt, 2);
    assert_int_equal(probe_got(second, 1)->m.attempt, 1);
    probe_done(second, 0, 6);
    probe_free(second);
    assert_string_equal(stream_say(fixture, "KEYS prism:order:*"), "");
}

/* An owner that has gone without a word is followed once its time is over. */
static void order_outlives_its_reader(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    message_publish_ok(&fixture->messages, &fixture->messages.kv.backend->has.stream->sink, topic,
                       "a", 0, 3);
    stream_say(fixture, "XGROUP CREATE %s g 0", topic);
    stream_say(fixture, "XREADGROUP GROUP g dead COUNT 2 STREAMS %s >", topic);
    stream_say(fixture, "SET prism:order:%s:g dead PX 500", topic);
    probe = ordered(fixture, fixture->messages.kv.backend, topic);
    probe_quiet(probe, 0);
    probe_wait(probe, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(probe_number(probe, i), i);
    assert_int_equal(probe_got(probe, 0)->m.attempt, 2);
    probe_done(probe, 0, 3);
    probe_free(probe);
}

/* ---- bounds ---- */

/* Answers that are larger than expected: what cannot be kept goes back, and comes later. */
static void large_entries_behind_small_ones(void **state)
{
    enum { SMALL = 600, LARGE = 20, SIZE = 1 << 20 };
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct message_sink *sink = &messages->kv.backend->has.stream->sink;
    const char *topic = message_topic(messages);
    struct outgoing items[LARGE] = {0};
    struct probe *probe = probe_stream(messages, messages->kv.backend, probe_want(topic, "g"));
    void *payload = test_calloc(1, SIZE);

    message_publish_ok(messages, sink, topic, NULL, 0, SMALL);
    for (unsigned i = 0; i < LARGE; i++)
        items[i] = (struct outgoing){.topic = slice_str(topic), .payload = slice_of(payload, SIZE)};
    kv_expect(message_publish(messages, sink, items, LARGE), ERR_OK, NULL);
    kv_expect(items[LARGE - 1].err, ERR_OK, NULL);
    probe_grant(probe, SMALL + LARGE, 100 * SMALL);
    probe_wait(probe, SMALL);
    for (unsigned i = 0; i < LARGE; i++) {
        probe_grant(probe, 1, SIZE);
        probe_wait(probe, SMALL + 1 + i);
        assert_true(probe_count(probe) <= SMALL + 2 + i);
    }
    for (size_t i = SMALL; i < SMALL + LARGE; i++)
        assert_int_equal(probe_got(probe, i)->m.attempt, 1);
    probe_done(probe, 0, SMALL + LARGE);
    probe_free(probe);
    test_free(payload);
}

static long length_of(struct stream_fixture *fixture, const char *topic)
{
    return strtol(stream_say(fixture, "XLEN %s", topic), NULL, 10);
}

/* B7: to about max_length, 1000; but never what a group has not settled. */
static void trimming_waits_for_readers(void **state)
{
    enum { N = 5000, SOME = 200 };
    unsigned n = 1 + N;
    struct stream_fixture *fixture = *state;
    const struct message_sink *sink = &fixture->messages.kv.backend->has.stream->sink;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = stream_reader(fixture, topic);

    message_publish_ok(&fixture->messages, sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    message_publish_ok(&fixture->messages, sink, topic, NULL, 1, N);
    assert_int_equal(length_of(fixture, topic), n);
    probe_grant(probe, 2 * N, BYTES);
    probe_wait(probe, n);
    probe_done(probe, 0, n);
    for (unsigned i = 0; i < 20 && length_of(fixture, topic) > 2000; i++, n += SOME) {
        message_publish_ok(&fixture->messages, sink, topic, NULL, 0, SOME);
        probe_wait(probe, n + SOME);
        probe_done(probe, n, n + SOME);
    }
    assert_in_range(length_of(fixture, topic), 1000, 2000);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
}

/* ---- giving back ---- */

/* To a reader of the same instance, and of another one, at once. */
static void what_is_given_back_is_had_at_once(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct message_sink *sink = &messages->kv.backend->has.stream->sink;

    for (unsigned other = 0; other < 2; other++) {
        for (unsigned order = 0; order < 2; order++) {
            const char *topic = message_topic(messages);
            struct backend *backend = other ? messages->second : messages->kv.backend;
            struct probe *first, *second;

            message_publish_ok(messages, sink, topic, "a", 0, 3);
            first = order ? ordered(fixture, messages->kv.backend, topic)
                          : stream_reader(fixture, topic);
            probe_wait(first, 3);
            second = order                             ? ordered(fixture, backend, topic)
                     : backend == messages->kv.backend ? stream_reader(fixture, topic)
                                                       : stream_other_reader(fixture, topic);
            probe_quiet(second, 0);
            probe_free(first);
            probe_wait(second, 3);
            assert_int_equal(probe_got(second, 2)->m.attempt, 1);
            probe_done(second, 0, 3);
            probe_free(second);
        }
    }
}

int main(void)
{
    const struct CMUnitTest patient[] = {KV_TEST(what_is_given_back_is_had_at_once)};
    const struct CMUnitTest tests[] = {
        KV_TEST(other_clients_write_and_read),
        KV_TEST(the_dead_give_up_what_they_took),
        KV_TEST(what_was_trimmed_while_pending_is_told),
        KV_TEST(names_go_with_their_readers),
        KV_TEST(readers_alone_leave_nothing),
        KV_TEST(only_idle_names_are_swept),
        KV_TEST(seek_moves_other_processes),
        KV_TEST(order_has_one_reader),
        KV_TEST(order_outlives_its_reader),
        KV_TEST(large_entries_behind_small_ones),
        KV_TEST(trimming_waits_for_readers),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed = message_contract("redis-stream", open_fixture, close_fixture) +
             stream_contract("redis-stream, restricted", open_restricted, close_fixture) +
             kv_group("redis-stream", "in particular", tests, ARRAY_LEN(tests), open_bounded,
                      close_fixture) +
             kv_group("redis-stream", "giving back", patient, ARRAY_LEN(patient), open_patient,
                      close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
