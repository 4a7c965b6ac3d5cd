/* Kafka whose broker is late: the mock of a broker that the library has. */
#include "backends/kafka/kafka_priv.h"
#include "src/base/clock.h"
#include "tests/contract/nats_fixture.h"

#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>

enum {
    WATCH_MS = 1500,
    SOON_MS = 2000, /* long before a broker with LATE_MS answers */
    LATE_MS = 4500,
};

/* ---- brokers ---- */

struct brokers {
    rd_kafka_t *handle;
    rd_kafka_mock_cluster_t *mock;
};

static struct brokers brokers;

static int start_brokers(void **state)
{
    char why[256];

    (void)state;
    brokers.handle = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    if (brokers.handle == NULL)
        return -1;
    brokers.mock = rd_kafka_mock_cluster_new(brokers.handle, 1);
    return brokers.mock != NULL ? 0 : -1;
}

static int stop_brokers(void **state)
{
    (void)state;
    rd_kafka_mock_cluster_destroy(brokers.mock);
    rd_kafka_destroy(brokers.handle);
    return 0;
}

static void make_topic(struct message_fixture *fixture, const char *name, unsigned partitions)
{
    (void)fixture;
    assert_int_equal(rd_kafka_mock_topic_create(brokers.mock, name, (int)partitions, 1),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
}

static int open_fixture(void **state)
{
    const char *pairs[] = {"brokers", NULL, NULL};
    struct nats_fixture *fixture;

    if (start_brokers(state) != 0)
        return -1;
    pairs[1] = rd_kafka_mock_cluster_bootstraps(brokers.mock);
    fixture = nats_fixture_open(&backend_kafka, pairs);
    nats_until(fixture, BACKEND_READY);
    fixture->messages.make_topic = make_topic;
    fixture->messages.patience_ms = WATCH_MS;
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    int result = nats_fixture_close(state);

    return stop_brokers(state) | result;
}

/* ---- deadlines ---- */

static void start_short_position(struct backend *backend, struct op *op)
{
    op->group->deadline_ns = clock_now_ns() + 300 * NS_PER_MS;
    backend->has.stream->position(backend, CONTAINER_OF(op, struct stream_position, op));
}

/* The thread waits for the broker on. */
static void test_a_question_ends_with_its_deadline(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = message_topic(fixture);
    struct stream_position position = {.topic = slice_str(topic), .group = slice_str("g")};
    uint64_t began_ms;

    message_position(fixture, topic, "g");
    rd_kafka_mock_broker_set_rtt(brokers.mock, 1, LATE_MS);
    began_ms = kv_clock_ms();
    kv_expect(kv_do(&fixture->kv, start_short_position, &position.op), ERR_DEADLINE_EXCEEDED, NULL);
    assert_true(kv_clock_ms() - began_ms < SOON_MS);
    assert_int_equal(position.n, 0);
    rd_kafka_mock_broker_set_rtt(brokers.mock, 1, 0);
    message_position(fixture, topic, "g");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_a_question_ends_with_its_deadline),
    };

    return cmocka_run_group_tests_name("kafka_faults", tests, open_fixture, close_fixture) != 0;
}
