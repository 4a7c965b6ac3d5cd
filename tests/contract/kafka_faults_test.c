/* Kafka whose brokers, or whose client library, refuse at a chosen moment: the library's own mock
 * of a broker, and functions of the library that fail as often as a test says, or are counted. */
#include "backends/kafka/kafka_listener.h"
#include "src/base/clock.h"
#include "tests/contract/nats_fixture.h"

#include <librdkafka/rdkafka_mock.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CREDIT = 1000,
    BYTES = 1 << 20,
    WATCH_MS = 1500,
    SOON_MS = 2000, /* long before a broker with LATE_MS answers */
    LATE_MS = 4500,
    API_LIST_OFFSETS = 2,
    API_JOIN_GROUP = 11,
};

/* ---- the library's function ---- */

static _Atomic int refusals;

rd_kafka_error_t *__real_rd_kafka_incremental_assign(rd_kafka_t *rk,
                                                     const rd_kafka_topic_partition_list_t *list);
rd_kafka_error_t *__wrap_rd_kafka_incremental_assign(rd_kafka_t *rk,
                                                     const rd_kafka_topic_partition_list_t *list);

rd_kafka_error_t *__wrap_rd_kafka_incremental_assign(rd_kafka_t *rk,
                                                     const rd_kafka_topic_partition_list_t *list)
{
    if (atomic_load(&refusals) == 0)
        return __real_rd_kafka_incremental_assign(rk, list);
    atomic_fetch_sub(&refusals, 1);
    return rd_kafka_error_new(RD_KAFKA_RESP_ERR__STATE, "refused by the test");
}

static _Atomic int committed_asked;

rd_kafka_resp_err_t __real_rd_kafka_committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list,
                                              int timeout_ms);
rd_kafka_resp_err_t __wrap_rd_kafka_committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list,
                                              int timeout_ms);

rd_kafka_resp_err_t __wrap_rd_kafka_committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list,
                                              int timeout_ms)
{
    atomic_fetch_add(&committed_asked, 1);
    return __real_rd_kafka_committed(rk, list, timeout_ms);
}

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

static void every_answer_is(int16_t api, size_t n, rd_kafka_resp_err_t code)
{
    rd_kafka_resp_err_t *errors = calloc(n, sizeof errors[0]);

    assert_non_null(errors);
    for (size_t i = 0; i < n; i++)
        errors[i] = code;
    rd_kafka_mock_push_request_errors_array(brokers.mock, api, n, errors);
    free(errors);
}

/* ---- readers ---- */

static struct probe *reader_of(struct message_fixture *fixture, const char *topic, unsigned n)
{
    const struct stream *stream = message_need_stream(fixture);
    struct probe *probe;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, n);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, n);
    probe_done(probe, 0, n);
    return probe;
}

struct loss {
    struct kafka_store *store;
    const char *topic;
};

/* As an error in the partition's queue does. */
static void lose_place(void *arg)
{
    const struct loss *loss = arg;
    struct kafka_listener *listener = kafka_listener_here(loss->store, loss->topic, "g");

    listener->parts->reset = true;
    kafka_listener_wake(listener);
}

/* A position that is not in the log, and brokers that do not say what is: they are asked again,
 * later each time, and the partition is read on when they do. */
static void test_a_place_is_not_looked_for_without_a_pause(void **state)
{
    struct message_fixture *fixture = *state;
    struct kafka_store *store = kafka_store_of(fixture->kv.backend);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader_of(fixture, topic, 3);
    uint64_t before = counter_read(&store->resets), asked;
    struct loss loss = {.store = store, .topic = topic};

    every_answer_is(API_LIST_OFFSETS, 10000, RD_KAFKA_RESP_ERR_UNKNOWN);
    kv_on_worker(&fixture->kv, lose_place, &loss);
    KV_UNTIL(&fixture->kv, counter_read(&store->resets) >= before + 2);
    probe_quiet(probe, 3);
    asked = counter_read(&store->resets) - before;
    print_message("asked %llu times in %d ms\n", (unsigned long long)asked, (int)WATCH_MS);
    assert_in_range(asked, 2, 8);
    rd_kafka_mock_clear_request_errors(brokers.mock, API_LIST_OFFSETS);
    message_publish_ok(fixture, &message_need_stream(fixture)->sink, topic, NULL, 3, 1);
    probe_wait(probe, 4);
    assert_int_equal(probe_number(probe, 3), 3);
    probe_free(probe);
}

static void start_seek(struct backend *backend, struct op *op)
{
    backend->has.stream->seek(backend, CONTAINER_OF(op, struct stream_seek, op));
}

/* The group has been moved, and the library does not take the partition back at once. */
static void test_a_seek_whose_partition_is_refused_is_read_from(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = message_topic(fixture);
    struct probe *probe = reader_of(fixture, topic, 3);
    struct stream_seek back = {.topic = slice_str(topic),
                               .group = slice_str("g"),
                               .partition = -1,
                               .start = START_EARLIEST};

    atomic_store(&refusals, 3);
    kv_expect(kv_do(&fixture->kv, start_seek, &back.op), ERR_OK, NULL);
    probe_wait(probe, 6);
    assert_int_equal(atomic_load(&refusals), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(probe_number(probe, 3 + i), i);
    probe_done(probe, 3, 6);
    probe_free(probe);
}

/* ---- deadlines ---- */

static void start_late_publish(struct backend *backend, struct op *op)
{
    op->group->deadline_ns = 1;
    backend->has.stream->sink.publish(backend, CONTAINER_OF(op, struct publish, op));
}

/* Nothing was given to the library, so nothing is unknown. */
static void test_a_publish_that_is_late_before_it_is_sent_is_not_stored(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = message_topic(fixture);
    struct outgoing items[2] = {{.topic = slice_str(topic), .payload = slice_str("0")},
                                {.topic = slice_str(topic), .payload = slice_str("1")}};
    struct publish publish = {.items = items, .n = ARRAY_LEN(items)};
    struct stream_position position;

    kv_expect(kv_do(&fixture->kv, start_late_publish, &publish.op), ERR_OK, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        kv_expect(items[i].err, ERR_DEADLINE_EXCEEDED, NULL);
        assert_int_not_equal(items[i].err.effect, EFFECT_UNKNOWN);
    }
    message_publish_ok(fixture, &message_need_stream(fixture)->sink, topic, NULL, 2, 1);
    position = message_position(fixture, topic, "g");
    assert_int_equal(position.n, 1);
    assert_int_equal(position.partitions[0].end, 1);
}

static void start_publish_and_fail(struct backend *backend, struct op *op)
{
    struct kafka_producer *producer = kafka_producer_ref(kafka_store_of(backend));

    backend->has.stream->sink.publish(backend, CONTAINER_OF(op, struct publish, op));
    rd_kafka_test_fatal_error(producer->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
    kafka_producer_unref(producer);
}

/* The library says of each message whether it was ever sent: these are still being gathered. */
static void test_what_a_failed_producer_never_sent_is_not_stored(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = message_topic(fixture);
    const char *const pairs[] = {"brokers", rd_kafka_mock_cluster_bootstraps(brokers.mock),
                                 "linger_ms", "1000", NULL};
    struct nats_fixture *gathers = nats_fixture_open(&backend_kafka, pairs);
    struct outgoing never = {.topic = slice_str(topic), .payload = slice_str("7")};
    struct publish publish = {.items = &never, .n = 1};
    struct probe *probe;

    nats_until(gathers, BACKEND_READY);
    kv_expect(kv_do(&gathers->messages.kv, start_publish_and_fail, &publish.op), ERR_OK, NULL);
    kv_expect(never.err, ERR_UNAVAILABLE, NULL);
    assert_int_not_equal(never.err.effect, EFFECT_UNKNOWN);
    nats_fixture_close((void **)&gathers);
    probe = reader_of(fixture, topic, 1);
    probe_quiet(probe, 1);
    assert_int_equal(probe_number(probe, 0), 0);
    probe_free(probe);
}

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

/* The question is a client of its own, with threads and a connection. */
static void test_where_a_group_stands_is_not_asked_of_a_group_that_is_here(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = message_topic(fixture);
    struct probe *probe = reader_of(fixture, topic, 3);
    int before = atomic_load(&committed_asked);
    struct stream_position position = message_position(fixture, topic, "g");

    assert_true(position.found);
    assert_int_equal(position.partitions[0].committed, 3);
    assert_int_equal(position.partitions[0].lag, 0);
    assert_int_equal(atomic_load(&committed_asked), before);
    assert_false(message_position(fixture, topic, "nobody").found);
    assert_int_equal(atomic_load(&committed_asked), before + 1);
    probe_free(probe);
}

/* Others divide the group's partitions in another way: it is not opened before they have gone. */
static void test_why_a_group_gets_nothing_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    every_answer_is(API_JOIN_GROUP, 10000, RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL);
    probe = probe_start(fixture, fixture->kv.backend, &stream->source, &stream->settling,
                        probe_want(topic, "g"));
    probe_grant(probe, CREDIT, BYTES);
    KV_UNTIL(&fixture->kv, probe_delayed_by(probe) != NULL);
    assert_string_equal(probe_delayed_by(probe),
                        rd_kafka_err2str(RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL));
    assert_int_equal(probe_opened(probe), 0);
    rd_kafka_mock_clear_request_errors(brokers.mock, API_JOIN_GROUP);
    probe_wait(probe, 1);
    assert_int_equal(probe_opened(probe), 1);
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_why_a_group_gets_nothing_is_told),
        KV_TEST(test_a_place_is_not_looked_for_without_a_pause),
        KV_TEST(test_a_seek_whose_partition_is_refused_is_read_from),
        KV_TEST(test_a_publish_that_is_late_before_it_is_sent_is_not_stored),
        KV_TEST(test_what_a_failed_producer_never_sent_is_not_stored),
        KV_TEST(test_a_question_ends_with_its_deadline),
        KV_TEST(test_where_a_group_stands_is_not_asked_of_a_group_that_is_here),
    };

    return cmocka_run_group_tests_name("kafka_faults", tests, open_fixture, close_fixture) != 0;
}
