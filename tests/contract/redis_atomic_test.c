/* Atomic publishes on a real redis: what it refuses, it refuses for all; and a server that is
 * killed in the middle of one has all of it afterwards, or nothing, as far as the client was told.
 */
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <glob.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { SOME = 10 };

static struct redis_server server;
static char address[128];

static const char user[] =
    STREAM_USER "~prism:bytes +hget +hset +client|id +client|unblock +config|get +info";

static int open_with(void **state, const char *messages)
{
    redis_server_say(&server, "FLUSHALL");
    redis_server_say(&server, user);
    *state = stream_fixture_open(&server,
                                 (redis_settings){"address", address, "username", "prism",
                                                  "password", "secret", "command_timeout_ms",
                                                  "5000", "queue_max_messages", messages, NULL});
    return 0;
}

static int open_fixture(void **state)
{
    return open_with(state, "0");
}

static int open_bounded(void **state)
{
    return open_with(state, "100");
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

static const struct message_sink *sink_of(const struct stream_fixture *fixture, bool queue)
{
    const struct backend_interfaces *has = &fixture->messages.kv.backend->has;

    return queue ? &has->queue->sink : &has->stream->sink;
}

static struct err publish(struct stream_fixture *fixture, bool queue, const char *topic, unsigned n,
                          struct slice payload)
{
    struct outgoing *items = arena_array(&fixture->messages.kv.arena, n, sizeof *items);
    uint32_t culprit;

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct outgoing){.topic = slice_str(topic), .payload = payload};
    return message_publish_atomic(&fixture->messages, sink_of(fixture, queue), items, n, &culprit);
}

static void expect_length(struct stream_fixture *fixture, const char *topic, unsigned n)
{
    char text[16];

    snprintf(text, sizeof text, "%u", n);
    assert_string_equal(stream_say(fixture, "XLEN %s", topic), text);
}

/* ---- refusals ---- */

static void what_redis_refuses(struct stream_fixture *fixture, bool queue)
{
    const char *typed = message_topic(&fixture->messages);
    const char *topic = message_topic(&fixture->messages);
    struct slice payload = slice_str("0");

    stream_say(fixture, "SET %s text", typed);
    kv_expect(publish(fixture, queue, typed, SOME, payload), ERR_FAILED_PRECONDITION, "topic");
    assert_string_equal(stream_say(fixture, "GET %s", typed), "text");
    kv_expect(publish(fixture, queue, "denied", SOME, payload), ERR_PERMISSION_DENIED, "topic");
    kv_expect(publish(fixture, queue, topic, SOME, payload), ERR_OK, NULL);
    stream_say(fixture, "CONFIG SET maxmemory 1");
    kv_expect(publish(fixture, queue, topic, SOME, payload), ERR_RESOURCE_EXHAUSTED, "maxmemory");
    stream_say(fixture, "CONFIG SET maxmemory 0");
    expect_length(fixture, topic, SOME);
}

static void a_stream_is_refused_as_a_whole(void **state)
{
    what_redis_refuses(*state, false);
}

static void a_queue_with_bounds_is_refused_as_a_whole(void **state)
{
    what_redis_refuses(*state, true);
}

#define LAST_BUT_TWO "18446744073709551615-18446744073709551613"

/* Somebody has used up all identifiers but two. MULTI does not know, and that is told. */
static void identifiers_that_end(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct err err;

    stream_say(fixture, "XADD %s " LAST_BUT_TWO " payload 0", topic);
    err = publish(fixture, false, topic, 3, slice_str("1"));
    kv_expect(err, ERR_DATA_LOSS, NULL);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    err = publish(fixture, false, topic, 3, slice_str("1"));
    assert_true(err.code != ERR_OK && err.effect == EFFECT_NONE);
    expect_length(fixture, topic, 3);
}

/* A user that may add messages and may not put them together. */
static void a_user_without_transactions(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    const struct outgoing one = {
        .topic = slice_str(topic), .key = slice_str("k"), .payload = slice_str("1")};
    struct outgoing keyed[] = {one, one};
    struct err err;

    stream_say(fixture, "ACL SETUSER prism -multi");
    err = publish(fixture, false, topic, SOME, slice_str("1"));
    kv_expect(err, ERR_DATA_LOSS, NULL);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    expect_length(fixture, topic, SOME);
    kv_expect(message_publish(&fixture->messages, sink_of(fixture, false), keyed, 2), ERR_OK, NULL);
    for (size_t i = 0; i < 2; i++)
        kv_expect(keyed[i].err, ERR_OK, NULL);
    expect_length(fixture, topic, SOME + 2);
    stream_say(fixture, "ACL SETUSER prism +multi -exec");
    err = publish(fixture, false, topic, SOME, slice_str("1"));
    assert_true(err.code != ERR_OK && err.effect == EFFECT_NONE);
    expect_length(fixture, topic, SOME + 2);
    stream_say(fixture, "ACL SETUSER prism +exec");
    kv_expect(publish(fixture, false, topic, SOME, slice_str("1")), ERR_OK, NULL);
    expect_length(fixture, topic, 2 * SOME + 2);
}

/* The script takes back what it has added. */
static void identifiers_that_end_in_a_queue(void **state)
{
    struct stream_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct err err;

    stream_say(fixture, "XADD %s " LAST_BUT_TWO " payload 0", topic);
    err = publish(fixture, true, topic, 3, slice_str("1"));
    assert_true(err.code != ERR_OK && err.effect == EFFECT_NONE);
    expect_length(fixture, topic, 1);
}

/* ---- killed in the middle ---- */

enum { MANY = 1000, PAYLOAD = 2048, ROUNDS = 12 };

/* Kills the server once so much has gone into its file. */
struct killer {
    off_t most;
    atomic_bool stop;
};

static off_t file_bytes(void)
{
    char pattern[128];
    struct stat status;
    off_t bytes = 0;
    glob_t files;

    snprintf(pattern, sizeof pattern, "%s/appendonlydir/*.incr.aof", server.folder);
    if (glob(pattern, 0, NULL, &files) != 0)
        return 0;
    for (size_t i = 0; i < files.gl_pathc; i++)
        bytes += stat(files.gl_pathv[i], &status) == 0 ? status.st_size : 0;
    globfree(&files);
    return bytes;
}

static void *kill_it(void *arg)
{
    struct killer *killer = arg;

    while (!atomic_load(&killer->stop) && file_bytes() < killer->most)
        ;
    redis_server_kill(&server);
    return NULL;
}

static void restart(struct stream_fixture *fixture)
{
    redis_server_restart(&server);
    redis_server_say(&server, user);
    redis_until(&fixture->redis, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
}

/* True: its outcome was unknown. */
static bool kill_round(struct stream_fixture *fixture, unsigned round)
{
    const char *topic = message_topic(&fixture->messages);
    struct slice payload = slice_of(arena_zalloc(&fixture->messages.kv.arena, PAYLOAD), PAYLOAD);
    struct killer killer = {.most = file_bytes() + 1 + (off_t)MANY * PAYLOAD / ROUNDS * round};
    pthread_t thread;
    const char *length;
    struct err err;

    assert_int_equal(pthread_create(&thread, NULL, kill_it, &killer), 0);
    err = publish(fixture, false, topic, MANY, payload);
    atomic_store(&killer.stop, true);
    pthread_join(thread, NULL);
    redis_until(&fixture->redis, BACKEND_DOWN);
    restart(fixture);
    length = stream_say(fixture, "XLEN %s", topic);
    print_message("round %u: %s, %s there\n", round, err_code_name(err.code), length);
    if (err.code == ERR_OK)
        assert_string_equal(length, "1000");
    else if (err.effect == EFFECT_NONE)
        assert_string_equal(length, "0");
    else
        assert_true(strcmp(length, "0") == 0 || strcmp(length, "1000") == 0);
    return err.code != ERR_OK && err.effect == EFFECT_UNKNOWN;
}

static void killed_in_the_middle(void **state)
{
    unsigned unknown = 0;

    for (unsigned round = 0; round < ROUNDS; round++)
        unknown += kill_round(*state, round);
    assert_true(unknown > 0);
}

int main(void)
{
    const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    const struct CMUnitTest tests[] = {
        KV_TEST(a_stream_is_refused_as_a_whole),
        KV_TEST(identifiers_that_end),
        KV_TEST(a_user_without_transactions),
        KV_TEST(killed_in_the_middle),
    };
    const struct CMUnitTest queues[] = {
        KV_TEST(a_queue_with_bounds_is_refused_as_a_whole),
        KV_TEST(identifiers_that_end_in_a_queue),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, args);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed =
        kv_group("redis-stream", "atomic", tests, ARRAY_LEN(tests), open_fixture, close_fixture) +
        kv_group("redis-stream", "atomic, with bounds", queues, ARRAY_LEN(queues), open_bounded,
                 close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
