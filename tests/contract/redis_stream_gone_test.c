/* What was delivered and is pending no more, because somebody else removed the group or settled it:
 * it is not told settled. */
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <stdio.h>

static struct redis_server server;
static char address[128];

static int open_fixture(void **state)
{
    redis_server_say(&server, "FLUSHALL");
    *state = stream_fixture_open(&server, (redis_settings){"address", address, NULL});
    return 0;
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

/* What went with its group was not settled by whom it was with: it comes again from the group's
 * beginning. Before the reader knows, and after, and whether redis is asked first or not. */
static void settlements_without_a_group(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct probe *probe = stream_reader(fixture, topic);

    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 0, 4);
    probe_wait(probe, 4);
    stream_say(fixture, "XGROUP DESTROY %s g", topic);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    KV_UNTIL(&messages->kv, probe_moves(probe).lost > 0);
    kv_expect(probe_settle(probe, 1, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(probe_settle(probe, 2, SETTLE_RETRY, 0), ERR_ABORTED, NULL);
    probe_wait(probe, 8);
    assert_int_equal(probe_number(probe, 4), 0);
    probe_done(probe, 4, 8);
    probe_free(probe);
}

/* Some of a frame were settled by hand: which ones, redis does not tell. */
static void settlements_that_somebody_made(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct probe *probe = stream_reader(fixture, topic);
    struct settlement items[2] = {{.token = 0}};

    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 0, 3);
    probe_wait(probe, 3);
    for (size_t i = 0; i < 2; i++) {
        struct slice position = probe_got(probe, 2 * i)->m.position;

        items[i].token = probe_got(probe, i)->m.token;
        stream_say(fixture, "XACK %s g %.*s", topic, (int)position.len,
                   (const char *)position.data);
    }
    kv_expect(probe_settle_all(probe, items, 2), ERR_OK, NULL);
    for (size_t i = 0; i < 2; i++) {
        kv_expect(items[i].err, ERR_UNAVAILABLE, NULL);
        assert_int_equal(items[i].err.effect, EFFECT_UNKNOWN);
        kv_expect(probe_settle(probe, i, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    }
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    assert_int_equal(strncmp(stream_say(fixture, "XPENDING %s g", topic), "0 ", 2), 0);
    probe_free(probe);
}

/* Nobody asks again: of those that are gone the subscription is told, and the others stay. */
static void settlements_in_doubt(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct probe *probe = stream_reader(fixture, topic);
    struct settlement items[2] = {{.token = 0}};
    struct slice position;

    message_publish_ok(messages, stream_sink(fixture), topic, NULL, 0, 3);
    probe_wait(probe, 3);
    position = probe_got(probe, 0)->m.position;
    stream_say(fixture, "XACK %s g %.*s", topic, (int)position.len, (const char *)position.data);
    for (size_t i = 0; i < 2; i++)
        items[i].token = probe_got(probe, i)->m.token;
    kv_expect(probe_settle_all(probe, items, 2), ERR_OK, NULL);
    for (size_t i = 0; i < 2; i++)
        kv_expect(items[i].err, ERR_UNAVAILABLE, NULL);
    KV_UNTIL(&messages->kv, probe_moves(probe).by_lease == 1);
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(settlements_without_a_group),
        KV_TEST(settlements_that_somebody_made),
        KV_TEST(settlements_in_doubt),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed = kv_group("redis-stream", "gone", tests, ARRAY_LEN(tests), open_fixture, close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
