/* Queues with bounds on a real redis: the contract by their code, what is counted, a full server.
 */
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <stdio.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct redis_server server;
static char address[128];

static struct message_fixture *open_with(const char *messages, const char *bytes,
                                         const char *age_ms)
{
    redis_server_say(&server, "FLUSHALL");
    redis_server_say(&server, STREAM_USER " ~prism:bytes +hget +hset +hincrby +hdel");
    return &stream_fixture_open(&server,
                                (redis_settings){"address", address, "username", "prism",
                                                 "password", "secret", "queue_max_messages",
                                                 messages, "queue_max_bytes", bytes,
                                                 "queue_max_age_ms", age_ms, NULL})
                ->messages;
}

static int open_bounded(void **state)
{
    struct message_fixture *fixture = open_with("10", "6000", "0");

    fixture->bounds.messages = 10;
    fixture->bounds.bytes = 6000;
    *state = fixture;
    return 0;
}

/* The whole contract by the code of bounds. */
static int open_wide(void **state)
{
    *state = open_with("1000000", "1000000000", "1000000000");
    return 0;
}

static int open_aging(void **state)
{
    struct message_fixture *fixture = open_with("0", "0", "200");

    fixture->bounds.age_ms = 200;
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

static struct probe *taker(struct message_fixture *messages, const char *queue)
{
    struct probe *probe =
        probe_queue(messages, messages->kv.backend, probe_want(queue, NULL)); /* it is opened */

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* M6: where redis is full, who attaches for the first time gets what waits; without any, what comes
 * once there is room. */
static void a_full_server_has_those_who_attach(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct message_sink *sink = &messages->kv.backend->has.queue->sink;
    const char *absent = message_topic(messages), *new = message_topic(messages);
    struct outgoing refused = {.topic = slice_str(new), .payload = slice_str("0")};
    struct probe *probe, *other;

    message_publish_ok(messages, sink, absent, NULL, 0, 3);
    stream_say(fixture, "CONFIG SET maxmemory 1");
    kv_expect(message_publish(messages, sink, &refused, 1), ERR_OK, NULL);
    kv_expect(refused.err, ERR_RESOURCE_EXHAUSTED, "maxmemory");
    probe = taker(messages, absent);
    probe_wait(probe, 3);
    probe_done(probe, 0, 3);
    other = taker(messages, new);
    assert_string_equal(stream_say(fixture, "EXISTS %s", new), "0");
    stream_say(fixture, "CONFIG SET maxmemory 0");
    message_publish_ok(messages, sink, new, NULL, 0, 1);
    probe_wait(other, 1);
    probe_done(other, 0, 1);
    probe_free(other);
    probe_free(probe);
}

/* Nothing is left of a queue's size once it is empty, and what others remove costs no room. */
static void sizes_go_with_what_they_count(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct message_sink *sink = &messages->kv.backend->has.queue->sink;
    const char *queue = message_topic(messages);
    struct probe *probe;

    message_publish_ok(messages, sink, queue, NULL, 0, 2);
    assert_string_equal(stream_say(fixture, "HGET prism:bytes %s", queue), "16"); /* payload, 0 */
    probe = taker(messages, queue);
    probe_wait(probe, 2);
    probe_done(probe, 0, 1);
    assert_string_equal(stream_say(fixture, "HGET prism:bytes %s", queue), "8");
    probe_done(probe, 1, 2);
    assert_string_equal(stream_say(fixture, "HEXISTS prism:bytes %s", queue), "0");
    probe_free(probe);
    message_publish_ok(messages, sink, queue, NULL, 0, 10);
    stream_say(fixture, "XTRIM %s MAXLEN 0", queue);
    message_publish_ok(messages, sink, queue, NULL, 0, 1);
    assert_string_equal(stream_say(fixture, "HGET prism:bytes %s", queue), "8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(a_full_server_has_those_who_attach),
        KV_TEST(sizes_go_with_what_they_count),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed = queue_contract("redis-stream, with bounds", open_wide, close_fixture) +
             atomic_contract("redis-stream, with bounds", open_wide, close_fixture) +
             queue_bounds_contract("redis-stream", open_bounded, close_fixture) +
             queue_bounds_contract("redis-stream, age", open_aging, close_fixture) +
             kv_group("redis-stream", "queues with bounds", tests, ARRAY_LEN(tests), open_bounded,
                      close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
