/* `redis-stream` with `cluster: true` against the cluster that rig/with_servers.py has started: the
 * contracts of streams and queues, and where keys are. */
#include "tests/contract/redis_stream_fixture.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 3, CREDIT = 1000, BYTES = 1 << 20 };

static const char *nodes, *sockets;

/* A command to one node, by its socket, where no TLS is spoken; the caller frees the answer. */
static redisReply *ask(unsigned node, const char *command)
{
    const char *at = sockets;
    char path[128];
    redisContext *context;
    redisReply *reply;

    for (unsigned i = 0; i < node; i++)
        at = strchr(at, ',') + 1;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(at, ","), at);
    context = redisConnectUnix(path);
    assert_true(context != NULL && context->err == 0);
    reply = redisCommand(context, command);
    redisFree(context);
    assert_non_null(reply);
    return reply;
}

static void say_to_all(const char *command)
{
    for (unsigned node = 0; node < NODES; node++)
        freeReplyObject(ask(node, command));
}

/* The others answer MOVED. */
static void drop_before(struct message_fixture *messages, const char *topic, int64_t offset)
{
    char command[256];

    (void)offset;
    snprintf(command, sizeof command, "XTRIM %s MINID %.*s", topic, (int)messages->keep_from.len,
             (const char *)messages->keep_from.data);
    say_to_all(command);
}

static struct stream_fixture *open_with(const char *messages, const char *bytes)
{
    struct stream_fixture *fixture;

    say_to_all("FLUSHALL");
    fixture = stream_fixture_open(
        NULL, (redis_settings){"address", nodes, "cluster", "true", "command_timeout_ms", "10000",
                               "claim_idle_ms", "1000", "queue_max_messages", messages,
                               "queue_max_bytes", bytes, NULL});
    fixture->messages.drop_before = drop_before;
    return fixture;
}

static int open_fixture(void **state)
{
    *state = open_with("0", "0");
    return 0;
}

static int open_bounded_queues(void **state)
{
    struct stream_fixture *fixture = open_with("10", "6000");

    fixture->messages.bounds.messages = 10;
    fixture->messages.bounds.bytes = 6000;
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

/* ---- where keys are ---- */

/* Names that redis hashes otherwise than as a whole, and those that no tag can repeat. */
static void topics_of_all_kinds(void **state)
{
    static const char *const topics[] = {"contract-{tag}a", "contract-{tag}b", "contract-a}b",
                                         "contract-{}a",    "contract-a{b",    "contract-}{",
                                         "contract-{{x}}"};
    struct stream_fixture *fixture = *state;

    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        struct probe *probe = stream_reader(fixture, topics[i]), *next;

        assert_int_equal(stream_publish(fixture, topics[i], 0).code, ERR_OK);
        probe_wait(probe, 1);
        kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_OK, NULL); /* by a note */
        probe_wait(probe, 2);
        next = stream_other_reader(fixture, topics[i]);
        probe_free(probe); /* gives back, by a note */
        probe_wait(next, 1);
        probe_done(next, 0, 1);
        probe_free(next);
    }
}

/* One frame for topics of all nodes: each message has its outcome, in its place. */
static void a_frame_for_many_topics(void **state)
{
    enum { ITEMS = 60, TOPICS = 20 };
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    struct outgoing items[ITEMS] = {{.topic = slice_str("")}};

    for (unsigned i = 0; i < ITEMS; i++)
        items[i] = (struct outgoing){
            .topic = slice_str(arena_printf(&messages->kv.arena, "contract-many%u", i % TOPICS)),
            .payload = slice_str(arena_printf(&messages->kv.arena, "%u", i)),
            .key = slice_str("k")};
    items[7].topic = slice_str("prism:mine");
    kv_expect(message_publish(messages, &messages->kv.backend->has.stream->sink, items, ITEMS),
              ERR_OK, NULL);
    for (unsigned i = 0; i < ITEMS; i++) {
        kv_expect(items[i].err, i == 7 ? ERR_INVALID_ARGUMENT : ERR_OK, NULL);
        assert_int_equal(items[i].position.len > 0, i != 7);
    }
    for (unsigned t = 0; t < TOPICS; t++) {
        char name[32];
        struct probe *probe;

        snprintf(name, sizeof name, "contract-many%u", t);
        probe = stream_reader(fixture, name);
        probe_wait(probe, t == 7 ? 2 : 3);
        for (unsigned i = 0; i < (t == 7 ? 2 : 3); i++)
            assert_int_equal(probe_number(probe, i), t + TOPICS * (i + (t == 7)));
        probe_free(probe);
    }
}

static unsigned connections(void)
{
    unsigned n = 0;

    for (unsigned node = 0; node < NODES; node++) {
        redisReply *reply = ask(node, "CLIENT LIST TYPE NORMAL");

        for (const char *at = reply->str; (at = strstr(at, "id=")) != NULL; at++)
            n++;
        freeReplyObject(reply);
    }
    return n;
}

/* More topics than connections that wait: the rest is looked for, and all connections go again. */
static void more_topics_than_watches(void **state)
{
    enum { MANY = 300, WATCHES = 256 };
    struct stream_fixture *fixture = *state;
    struct kv_fixture *kv = &fixture->messages.kv;
    struct probe **probes = calloc(MANY, sizeof *probes);
    unsigned before = connections();
    char name[32];

    assert_non_null(probes);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "contract-wide%u", i);
        probes[i] = stream_reader(fixture, name);
    }
    KV_UNTIL(kv, connections() == before + WATCHES);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "contract-wide%u", i);
        assert_int_equal(stream_publish(fixture, name, i).code, ERR_OK);
    }
    for (unsigned i = 0; i < MANY; i++) {
        probe_wait(probes[i], 1);
        assert_int_equal(probe_number(probes[i], 0), i);
        probe_free(probes[i]);
    }
    KV_UNTIL(kv, connections() == before);
    free(probes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {KV_TEST(topics_of_all_kinds),
                                       KV_TEST(a_frame_for_many_topics),
                                       KV_TEST(more_topics_than_watches)};

    nodes = getenv("PRISM_TEST_REDIS_CLUSTER");
    sockets = getenv("PRISM_TEST_REDIS_CLUSTER_UNIX");
    if (nodes == NULL || sockets == NULL)
        return redis_server_skip();
    return message_contract("redis-stream-cluster", open_fixture, close_fixture) +
           queue_bounds_contract("redis-stream-cluster", open_bounded_queues, close_fixture) +
           kv_group("redis-stream-cluster", "in particular", tests, sizeof tests / sizeof tests[0],
                    open_fixture, close_fixture);
}
