/* Queues on a real redis: with bounds, the contract by their code, what is counted, a full server;
 * and what is pending before somebody comes who wants the oldest first. */
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

static struct stream_fixture *open_idle(const char *claim_idle_ms)
{
    redis_server_say(&server, "FLUSHALL");
    redis_server_say(&server, STREAM_USER);
    return stream_fixture_open(&server,
                               (redis_settings){"address", address, "username", "prism", "password",
                                                "secret", "claim_idle_ms", claim_idle_ms, NULL});
}

static int open_hasty(void **state)
{
    *state = open_idle("500");
    return 0;
}

enum { IDLE_MS = 2000 };

static void dies_with(struct message_fixture *messages, const char *queue, unsigned n)
{
    struct stream_fixture *fixture = CONTAINER_OF(messages, struct stream_fixture, messages);

    stream_say(fixture, "XGROUP CREATE %s prism:queue 0", queue); /* the first one makes it */
    stream_say(fixture, "XREADGROUP GROUP prism:queue dead COUNT %u STREAMS %s >", n, queue);
}

static int open_mortal(void **state)
{
    struct stream_fixture *fixture = open_idle("2000");

    fixture->messages.dies_with = dies_with;
    fixture->messages.silent_ms = IDLE_MS;
    *state = fixture;
    return 0;
}

static int open_patient(void **state)
{
    *state = open_idle("3600000");
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

/* ---- who wants the oldest first ---- */

static void take_as(struct stream_fixture *fixture, const char *queue, const char *consumer,
                    unsigned n)
{
    stream_say(fixture, "XREADGROUP GROUP prism:queue %s COUNT %u STREAMS %s >", consumer, n,
               queue);
}

static struct probe *heir(struct message_fixture *messages, const char *queue)
{
    struct subscription_want want = probe_want(queue, NULL);
    struct probe *probe;

    want.oldest_first = true;
    probe = probe_queue(messages, messages->kv.backend, want);
    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* A look sees a part of what is pending: the dead one's is behind the first part. */
static void what_the_dead_had_comes_in_its_place(void **state)
{
    enum { BACK = 110, DEAD = 40, ALL = 250 };
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *queue = message_topic(messages);
    struct probe *probe;

    message_publish_ok(messages, &messages->kv.backend->has.queue->sink, queue, NULL, 0, ALL);
    stream_say(fixture, "XGROUP CREATE %s prism:queue 0", queue);
    take_as(fixture, queue, "prism:nobody", BACK);
    take_as(fixture, queue, "dead", DEAD);
    probe = heir(messages, queue);
    probe_wait(probe, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(probe_number(probe, i), i);
        assert_int_equal(probe_got(probe, i)->m.attempt, i < BACK + DEAD ? 2 : 1);
    }
    probe_done(probe, 0, ALL);
    probe_free(probe);
}

/* What waits for its retry with nobody keeps its delay, and holds nothing up. */
static void what_waits_for_its_retry_is_passed_by(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *queue = message_topic(messages);
    struct probe *probe;

    message_publish_ok(messages, &messages->kv.backend->has.queue->sink, queue, NULL, 0, 3);
    stream_say(fixture, "XGROUP CREATE %s prism:queue 0", queue);
    take_as(fixture, queue, "prism:nobody", 1);
    probe = heir(messages, queue);
    probe_wait(probe, 2);
    assert_int_equal(probe_number(probe, 0), 1);
    assert_int_equal(probe_number(probe, 1), 2);
    probe_done(probe, 0, 2);
    probe_quiet(probe, 2);
    probe_free(probe);
}

/* What is given back is heard of at once, long before anything could be claimed for its age. */
static void what_is_given_back_comes_in_its_place(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *queue = message_topic(messages);
    struct probe *probe;

    for (unsigned i = 0; i < 3; i++)
        stream_say(fixture, "XADD %s 1-%u payload %u", queue, i + 1, i);
    stream_say(fixture, "XGROUP CREATE %s prism:queue 0", queue);
    take_as(fixture, queue, "silent", 2);
    probe = heir(messages, queue);
    probe_quiet(probe, 0);
    stream_say(fixture, "XCLAIM %s prism:queue prism:nobody 0 1-1 1-2 IDLE 86400000 JUSTID", queue);
    stream_say(fixture, "XADD prism:wake * from it topic %s group prism:queue what back", queue);
    probe_wait(probe, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(probe_number(probe, i), i);
    probe_done(probe, 0, 3);
    probe_free(probe);
}

/* In another process and in this one, by whom nothing would be said for a quarter of an hour. */
static void who_lives_says_so_when_asked(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    struct backend *const homes[] = {messages->second, messages->kv.backend};

    for (size_t i = 0; i < ARRAY_LEN(homes); i++) {
        const char *queue = message_topic(messages);
        struct probe *holder, *probe;

        message_publish_ok(messages, &messages->kv.backend->has.queue->sink, queue, NULL, 0, 3);
        holder = probe_queue(messages, homes[i], probe_want(queue, NULL));
        probe_grant(holder, 2, BYTES);
        probe_wait(holder, 2);
        probe = heir(messages, queue);
        probe_wait(probe, 1);
        probe_quiet(probe, 1);
        assert_int_equal(probe_number(probe, 0), 2);
        probe_done(holder, 0, 2);
        probe_done(probe, 0, 1);
        probe_free(holder);
        probe_free(probe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(a_full_server_has_those_who_attach),
        KV_TEST(sizes_go_with_what_they_count),
    };
    const struct CMUnitTest hasty[] = {
        KV_TEST(what_the_dead_had_comes_in_its_place),
    };
    const struct CMUnitTest patient[] = {
        KV_TEST(what_waits_for_its_retry_is_passed_by),
        KV_TEST(what_is_given_back_comes_in_its_place),
        KV_TEST(who_lives_says_so_when_asked),
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
                      close_fixture) +
             oldest_contract("redis-stream", open_mortal, close_fixture) +
             kv_group("redis-stream", "the oldest first", hasty, ARRAY_LEN(hasty), open_hasty,
                      close_fixture) +
             kv_group("redis-stream", "the oldest first, patiently", patient, ARRAY_LEN(patient),
                      open_patient, close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
