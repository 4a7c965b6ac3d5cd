/* Messages with more bytes than there is room for: the server refuses them at first, and they are
 * asked for by themselves. That is no other attempt, and hides none. */
#include "backends/nats/jet_priv.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROOM = 4096, LARGE = 9000, OTHERS = 3, ACK_WAIT_MS = 5000 };

static struct nats_server server;

static void publish_large(struct nats_fixture *fixture, const char *topic)
{
    static char payload[LARGE];
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_of(payload, LARGE)};

    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
}

/* Room for `n` messages, and for bytes of small ones. */
static struct probe *reader(struct nats_fixture *fixture, unsigned turn, const char *topic,
                            unsigned n)
{
    struct backend *backend =
        turn % 2 == 0 ? fixture->messages.kv.backend : fixture->messages.second;
    struct probe *probe = probe_stream(&fixture->messages, backend, probe_want(topic, "g"));

    probe_grant(probe, n, ROOM);
    return probe;
}

/* Both processes have met a large message: who has not asks for many at once. */
static void meet(struct nats_fixture *fixture)
{
    const char *topic = message_topic(&fixture->messages);

    for (unsigned turn = 0; turn < 2; turn++) {
        struct probe *probe;

        publish_large(fixture, topic);
        probe = reader(fixture, turn, topic, 1);
        probe_wait(probe, 1);
        probe_done(probe, 0, 1);
        probe_free(probe);
    }
}

static int open_fixture(void **state)
{
    const char *const pairs[] = {"create_streams", "true", "ack_wait_ms", "5000", NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    static unsigned groups;

    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "l%u-", ++groups);
    meet(fixture);
    *state = fixture;
    return 0;
}

static unsigned attempt_at(struct probe *probe, size_t at)
{
    probe_wait(probe, at + 1);
    return probe_got(probe, at)->m.attempt;
}

static void attempts_count(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = reader(fixture, 0, topic, 1);

    publish_large(fixture, topic);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(attempt_at(probe, i), i + 1);
        kv_expect(probe_settle(probe, i, SETTLE_RETRY, 0), ERR_OK, NULL);
        probe_grant(probe, 1, ROOM + LARGE);
    }
    probe_free(probe);
}

static void attempts_count_for_others(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    uint64_t begun_ms = kv_clock_ms();

    publish_large(fixture, topic);
    for (unsigned i = 0; i < 5; i++) {
        struct probe *probe = reader(fixture, i, topic, 1);

        assert_int_equal(attempt_at(probe, 0), i + 1);
        kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
        probe_free(probe);
    }
    assert_true(kv_clock_ms() - begun_ms < ACK_WAIT_MS);
}

/* Neither a large one nor its neighbours wait for the consumer's patience, or come twice. */
static void neighbours_are_not_disturbed(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    uint64_t begun_ms = kv_clock_ms();

    publish_large(fixture, topic);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, 0, OTHERS);
    for (unsigned i = 0; i < 5; i++) {
        struct probe *probe = reader(fixture, i, topic, 1 + OTHERS);
        unsigned seen = 0;

        probe_grant(probe, 0, LARGE);
        probe_wait(probe, 1 + OTHERS);
        for (unsigned k = 0; k < 1 + OTHERS; k++) {
            assert_int_equal(attempt_at(probe, k), i + 1);
            seen |= 1u << probe_got(probe, k)->m.offset;
        }
        assert_int_equal(seen, ((1u << (1 + OTHERS)) - 1) << 1);
        for (unsigned k = 0; k < 1 + OTHERS; k++)
            kv_expect(probe_settle(probe, k, SETTLE_RETRY, 0), ERR_OK, NULL);
        assert_int_equal(probe_moves(probe).lost, 0);
        probe_free(probe);
    }
    assert_true(kv_clock_ms() - begun_ms < ACK_WAIT_MS);
}

static bool has_large(struct probe *probe)
{
    for (size_t i = 0; i < probe_count(probe); i++) {
        if (probe_got(probe, i)->m.payload.len == LARGE)
            return true;
    }
    return false;
}

/* A reader who knows nothing of it has a request open when another gives it back: older servers
 * refuse it there and forget it for a time, but not for ever. */
static void what_others_give_back_comes(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *small = reader(fixture, 0, topic, 0), *large = reader(fixture, 1, topic, 1);

    publish_large(fixture, topic);
    assert_int_equal(attempt_at(large, 0), 1);
    probe_grant(small, 100, ROOM);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, 0, 1);
    probe_wait(small, 1);
    kv_expect(probe_settle(large, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    KV_UNTIL(&fixture->messages.kv, has_large(small));
    probe_free(large);
    probe_free(small);
}

static int run_on(const char *name)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(attempts_count),
        KV_TEST(attempts_count_for_others),
        KV_TEST(neighbours_are_not_disturbed),
        KV_TEST(what_others_give_back_comes),
    };
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }\n");
    failed = cmocka_run_group_tests_name(name, tests, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    return nats_server_each("jetstream, large messages", run_on);
}
