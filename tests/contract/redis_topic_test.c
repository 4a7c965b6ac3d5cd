/* Topics on a real redis: the contract, other clients, what the user may not do, and connections
 * that are lost. */
#include "src/base/container.h"
#include "tests/contract/message_contract.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct redis_server server;
static char address[128];

struct topic_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture redis;      /* its kv is not used but to open and close */
};

static void open_as(struct topic_fixture *fixture, redis_settings settings)
{
    redis_fixture_open(&fixture->redis, "tested", settings);
    redis_until(&fixture->redis, BACKEND_READY);
    fixture->messages.kv = (struct kv_fixture){
        .worker = fixture->redis.kv.worker, .threaded = true, .backend = fixture->redis.kv.backend};
    kv_fixture_init(&fixture->messages.kv);
    fixture->messages.patience_ms = 100;
}

/* As a user that may do what docs/backends/redis.md asks for. */
static int open_fixture(void **state)
{
    struct topic_fixture *fixture = test_calloc(1, sizeof *fixture);

    redis_server_say(&server, "ACL SETUSER prism reset on >secret resetchannels &contract-* &far "
                              "+publish +subscribe +unsubscribe +ping");
    open_as(fixture, (redis_settings){"address", address, "username", "prism", "password", "secret",
                                      "command_timeout_ms", "400", NULL});
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct topic_fixture *fixture = *state;

    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

static struct probe *listener(struct topic_fixture *fixture, const char *topic)
{
    struct probe *probe =
        probe_topic(&fixture->messages, fixture->messages.kv.backend, probe_want(topic, NULL));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static struct err publish_one(struct topic_fixture *fixture, const char *topic, const char *text)
{
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_str(text)};
    struct err err = message_publish(&fixture->messages,
                                     &fixture->messages.kv.backend->has.topic->sink, &item, 1);

    return err.code != ERR_OK ? err : item.err;
}

/* Topics are the server's channels, by their own names. */
static void other_clients_are_reached(void **state)
{
    struct topic_fixture *fixture = *state;
    struct probe *probe = listener(fixture, "far");
    unsigned payload;

    assert_string_equal(redis_server_say(&server, "PUBLISH far 17"), "1");
    probe_wait(probe, 1);
    payload = probe_number(probe, 0);
    assert_int_equal(payload, 17);
    assert_string_equal(redis_server_say(&server, "PUBSUB NUMSUB far"), "far 1");
    probe_free(probe);
    KV_UNTIL(&fixture->messages.kv,
             strcmp(redis_server_say(&server, "PUBSUB NUMSUB far"), "far 0") == 0);
}

/* One SUBSCRIBE for all, and a subscription that comes while the last one leaves. */
static void channels_are_shared_and_come_back(void **state)
{
    struct topic_fixture *fixture = *state;

    for (unsigned i = 0; i < 20; i++) {
        struct probe *a = listener(fixture, "far"), *b = listener(fixture, "far");

        assert_string_equal(redis_server_say(&server, "PUBLISH far 1"), "1");
        probe_wait(a, 1);
        probe_wait(b, 1);
        probe_free(a);
        probe_free(b);
    }
}

static void what_is_denied_is_said(void **state)
{
    struct topic_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    static const char *const topics[] = {"forbidden", "__keyevent@0__:expired"};
    static const enum err_code codes[] = {ERR_PERMISSION_DENIED, ERR_INVALID_ARGUMENT};

    for (unsigned i = 0; i < ARRAY_LEN(topics); i++) {
        struct probe *probe =
            probe_start(messages, messages->kv.backend, &messages->kv.backend->has.topic->source,
                        NULL, probe_want(topics[i], NULL));

        KV_UNTIL(&messages->kv, probe_is_closed(probe));
        kv_expect(probe->closed_with, codes[i], NULL);
        probe_free(probe);
        kv_expect(publish_one(fixture, topics[i], "0"), codes[i], NULL);
    }
    kv_expect(publish_one(fixture, "far", "0"), ERR_OK, NULL);
}

/* What /metrics shows. */
static unsigned long long dropped(struct topic_fixture *fixture)
{
    struct metrics_page page;
    const char *sample;
    unsigned long long n = 0;

    metrics_page_init(&page);
    backend_redis.render(&fixture->redis.store, 1, &page);
    sample = strstr(page.text, "prism_redis_dropped_total{");
    assert_non_null(sample);
    assert_int_equal(sscanf(strchr(sample, '}'), "} %llu", &n), 1);
    metrics_page_clear(&page);
    return n;
}

static void what_is_dropped_is_counted(void **state)
{
    enum { LARGE = 64 << 10, N = 40 };
    struct topic_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    struct outgoing items[N] = {0};
    struct probe *probe = probe_topic(messages, messages->kv.backend, probe_want("far", NULL));
    struct probe *reader = probe_topic(messages, messages->kv.backend, probe_want("far", NULL));
    void *payload = test_calloc(1, LARGE);
    unsigned long long dropped_before;

    probe_grant(reader, CREDIT, 1ull << 30);
    for (unsigned i = 0; i < N; i++)
        items[i] =
            (struct outgoing){.topic = slice_str("far"), .payload = slice_of(payload, LARGE)};
    kv_expect(message_publish(messages, &messages->kv.backend->has.topic->sink, items, N), ERR_OK,
              NULL);
    /* What one has got has come for the other, which has no credit yet. */
    KV_UNTIL(&messages->kv, probe_count(reader) + probe_missed(reader) == N);
    probe_free(reader);
    dropped_before = dropped(fixture);
    probe_grant(probe, CREDIT, 1ull << 30);
    KV_UNTIL(&messages->kv, probe_count(probe) + probe_missed(probe) == N);
    assert_true(probe_missed(probe) > 0);
    assert_int_equal(dropped(fixture) - dropped_before, probe_missed(probe));
    probe_free(probe);
    test_free(payload);
}

/* A connection that redis ends is made again; the gap is told once for each subscription. */
static void a_lost_connection_is_told(void **state)
{
    struct topic_fixture *fixture = *state;
    struct probe *probes[] = {listener(fixture, "far"), listener(fixture, "far")};

    assert_string_equal(redis_server_say(&server, "PUBLISH far 0"), "1");
    probe_wait(probes[0], 1);
    assert_string_equal(redis_server_say(&server, "CLIENT KILL TYPE pubsub"), "1");
    for (unsigned i = 0; i < 2; i++)
        KV_UNTIL(&fixture->messages.kv, probe_gaps(probes[i]) == 1);
    assert_int_equal(probes[0]->gap.count, 0);
    KV_UNTIL(&fixture->messages.kv, strcmp(redis_server_say(&server, "PUBLISH far 1"), "1") == 0);
    for (unsigned i = 0; i < 2; i++) {
        probe_wait(probes[i], 2);
        assert_int_equal(probe_number(probes[i], 1), 1);
        assert_int_equal(probe_gaps(probes[i]), 1);
        probe_free(probes[i]);
    }
}

/* A server that hangs is noticed without a message to wait for, and a subscription that is opened
 * while it is away is opened once it is back. */
static void a_silent_server_is_left(void **state)
{
    struct topic_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    struct probe *probe = listener(fixture, "far"), *late;

    redis_server_pause(&server);
    KV_UNTIL(&messages->kv, probe_gaps(probe) > 0);
    late = probe_start(messages, messages->kv.backend, &messages->kv.backend->has.topic->source,
                       NULL, probe_want("far", NULL));
    probe_grant(late, CREDIT, BYTES);
    assert_int_equal(probe_opened(late), 0);
    redis_server_resume(&server);
    KV_UNTIL(&messages->kv, probe_opened(late) > 0);
    redis_until(&fixture->redis, BACKEND_READY);
    kv_expect(publish_one(fixture, "far", "5"), ERR_OK, NULL);
    probe_wait(late, 1);
    probe_wait(probe, 1);
    probe_free(late);
    probe_free(probe);
}

/* Without a server nothing is published, and nobody waits for it; a subscription that waits can be
 * closed. */
static void without_a_server(void **state)
{
    struct topic_fixture *fixture = *state;
    struct probe *probe = listener(fixture, "far");

    redis_server_kill(&server);
    redis_until(&fixture->redis, BACKEND_DOWN);

    struct err err = publish_one(fixture, "far", "0");

    kv_expect(err, ERR_UNAVAILABLE, NULL);
    assert_int_equal(err.effect, EFFECT_NONE);
    probe_free(probe);
    redis_server_restart(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(other_clients_are_reached), KV_TEST(channels_are_shared_and_come_back),
        KV_TEST(what_is_denied_is_said),    KV_TEST(what_is_dropped_is_counted),
        KV_TEST(a_lost_connection_is_told), KV_TEST(a_silent_server_is_left),
        KV_TEST(without_a_server),
    };
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed = topic_contract("redis", open_fixture, close_fixture) +
             kv_group("redis", "topics in particular", tests, ARRAY_LEN(tests), open_fixture,
                      close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
