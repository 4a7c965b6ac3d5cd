/* Kafka against a real broker: what is special to this backend. Other clients are librdkafka's own,
 * with its defaults. */
#include "backends/kafka/kafka_priv.h"
#include "tests/contract/kafka_server.h"
#include "tests/contract/nats_fixture.h"

#include <stdio.h>

enum { CREDIT = 100000, BYTES = 64 << 20, CONSUMERS = 6 };

static void make_topic(struct message_fixture *fixture, const char *name, unsigned partitions)
{
    (void)fixture;
    kafka_make_topic(name, partitions, NULL);
}

static int open_fixture(void **state)
{
    const char *const pairs[] = {"brokers",
                                 kafka_server(),
                                 "session_timeout_ms",
                                 "2000",
                                 "max_span",
                                 "1000",
                                 "publish_timeout_ms",
                                 "3000",
                                 "max_consumers",
                                 "6",
                                 NULL};
    struct nats_fixture *fixture = nats_fixture_open(&backend_kafka, pairs);

    nats_until(fixture, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    fixture->messages.make_topic = make_topic;
    fixture->messages.patience_ms = 300;
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "own-");
    *state = fixture;
    return 0;
}

static const char *topic_of(struct message_fixture *fixture, unsigned partitions)
{
    char *name = arena_printf(&fixture->kv.arena, "own-p%u-%u", partitions, ++fixture->topics);

    kafka_make_topic(name, partitions, NULL);
    return name;
}

/* ---- other clients ---- */

/* As Java's producer chooses: murmur2 of the key, its sign bit off. */
static uint32_t murmur2(const uint8_t *data, size_t len)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ (uint32_t)len;

    for (; len >= 4; data += 4, len -= 4) {
        uint32_t k = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                     (uint32_t)data[3] << 24;

        k *= m;
        k ^= k >> 24;
        h = (h * m) ^ (k * m);
    }
    if (len == 3)
        h ^= (uint32_t)data[2] << 16;
    if (len >= 2)
        h ^= (uint32_t)data[1] << 8;
    if (len >= 1)
        h = (h ^ data[0]) * m;
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

/* P10: where Java's producers put a key, by a murmur2 of our own. */
static void test_keys_choose_partitions_as_in_java(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_of(fixture, 7);
    enum { N = 1000 };
    struct outgoing *items = arena_array(&fixture->kv.arena, N, sizeof *items);

    for (unsigned i = 0; i < N; i++) {
        items[i] = (struct outgoing){.topic = slice_str(topic), .payload = slice_str("x")};
        items[i].key =
            slice_str(arena_printf(&fixture->kv.arena, "%.*s%u", (int)(i % 5), "abcde", i));
    }
    items[0].key = message_empty();
    kv_expect(message_publish(fixture, &stream->sink, items, N), ERR_OK, NULL);
    for (unsigned i = 0; i < N; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        assert_int_equal(items[i].partition,
                         (murmur2(items[i].key.data, items[i].key.len) & 0x7fffffff) % 7);
    }
}

static rd_kafka_message_t *read_one(rd_kafka_t *client)
{
    uint64_t give_up_ms = kv_clock_ms() + KV_PATIENCE_MS;
    rd_kafka_message_t *message = NULL;

    while (message == NULL || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        assert_true(kv_clock_ms() < give_up_ms);
        if (message != NULL)
            rd_kafka_message_destroy(message);
        message = rd_kafka_consumer_poll(client, 100);
    }
    return message;
}

static void test_other_clients_read_what_we_write(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_of(fixture, 1);
    const char *const pairs[] = {"group.id", "native", "auto.offset.reset", "earliest", NULL};
    rd_kafka_t *client = kafka_client(RD_KAFKA_CONSUMER, pairs);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    struct header headers[] = {{slice_str("a"), slice_of("\0\xff", 2)},
                               {slice_str("a"), message_empty()},
                               {slice_str("b"), message_null()}};
    struct outgoing item = {.topic = slice_str(topic),
                            .key = slice_of("k\0", 2),
                            .id = slice_str("id-1"),
                            .payload = slice_of("p\0q", 3),
                            .headers = headers,
                            .n_headers = 3};
    rd_kafka_headers_t *got;
    rd_kafka_message_t *message;
    const char *name;
    const void *value;
    size_t size;

    kv_expect(message_publish(fixture, &stream->sink, &item, 1), ERR_OK, NULL);
    kv_expect(item.err, ERR_OK, NULL);
    rd_kafka_topic_partition_list_add(list, topic, -1);
    rd_kafka_subscribe(client, list);
    message = read_one(client);
    assert_int_equal(message->offset, item.offset);
    assert_true(slice_equal(slice_of(message->key, message->key_len), item.key));
    assert_true(slice_equal(slice_of(message->payload, message->len), item.payload));
    assert_int_equal(rd_kafka_message_headers(message, &got), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_header_cnt(got), 4); /* and the id */
    for (size_t i = 0; i < 3; i++) {
        rd_kafka_header_get_all(got, i, &name, &value, &size);
        assert_true(slice_equal(slice_str(name), headers[i].name));
        assert_true(slice_equal(slice_of(value, size), headers[i].value));
        assert_int_equal(value == NULL, message_is_null(headers[i].value));
    }
    rd_kafka_message_destroy(message);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

static void test_we_read_what_other_clients_write(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = topic_of(fixture, 1);
    rd_kafka_t *client =
        kafka_client(RD_KAFKA_PRODUCER, (const char *const[]){"compression.type", "lz4", NULL});
    struct probe *probe;
    const struct incoming *m;

    assert_int_equal(rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY("k", 1),
                                       RD_KAFKA_V_HEADER("h", "1", 1),
                                       RD_KAFKA_V_HEADER("message_id", "theirs", 6),
                                       RD_KAFKA_V_HEADER("h", NULL, 0),
                                       RD_KAFKA_V_TIMESTAMP(1234567890123), RD_KAFKA_V_END),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_flush(client, KV_PATIENCE_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(client);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 10, BYTES);
    probe_wait(probe, 1);
    m = &probe_got(probe, 0)->m;
    assert_true(slice_equal(m->key, slice_str("k")));
    assert_true(slice_equal(m->id, slice_str("theirs")));
    assert_true(message_is_null(m->payload));
    assert_int_equal(m->n_headers, 2);
    assert_true(slice_equal(m->headers[0].value, slice_str("1")));
    assert_true(message_is_null(m->headers[1].value));
    assert_int_equal(m->timestamp_ms, 1234567890123);
    probe_free(probe);
}

/* ---- what comes next ---- */

static uint64_t comes_next(struct message_fixture *fixture, const char *topic)
{
    return message_position(fixture, topic, "g").next;
}

/* Who has no credit gets nothing, and what waits for it is told: also where nothing is committed
 * yet, and not where no member of this process reads. */
static void test_what_comes_next_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_of(fixture, 1);
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    assert_int_equal(comes_next(fixture, topic), 0);
    probe_grant(probe, 2, BYTES);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 5);
    probe_wait(probe, 2);
    assert_int_equal(comes_next(fixture, topic), 3);
    probe_done(probe, 0, 2);
    assert_int_equal(comes_next(fixture, topic), 3);
    probe_grant(probe, 3, BYTES);
    probe_wait(probe, 5);
    assert_int_equal(comes_next(fixture, topic), 0); /* it is held */
    probe_free(probe);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 5, 1);
    KV_UNTIL(&fixture->kv, comes_next(fixture, topic) == 0); /* nobody reads here */
}

/* The credit ends amid what was taken from the library at once: the rest waits as well. */
static void test_what_was_taken_and_not_handed_over_comes_next(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = topic_of(fixture, 1);
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    message_publish_ok(fixture, &message_need_stream(fixture)->sink, topic, NULL, 0, 5);
    KV_UNTIL(&fixture->kv, comes_next(fixture, topic) == 5);
    kv_pass(&fixture->kv, 1000); /* the library fetches them */
    probe_grant(probe, 5, 1);
    probe_wait(probe, 1);
    assert_int_equal(comes_next(fixture, topic), 4);
    probe_free(probe);
}

/* The end of a transaction has an offset, and is no message. */
static void test_the_end_of_a_transaction_is_nothing_that_comes(void **state)
{
    struct message_fixture *fixture = *state;
    const char *topic = topic_of(fixture, 1);
    rd_kafka_t *client =
        kafka_client(RD_KAFKA_PRODUCER, (const char *const[]){"transactional.id", topic, NULL});
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    probe_grant(probe, 10, BYTES);
    assert_null(rd_kafka_init_transactions(client, KV_PATIENCE_MS));
    for (int commits = 1; commits >= 0; commits--) {
        assert_null(rd_kafka_begin_transaction(client));
        assert_int_equal(rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic),
                                           RD_KAFKA_V_VALUE("x", 1), RD_KAFKA_V_END),
                         RD_KAFKA_RESP_ERR_NO_ERROR);
        rd_kafka_flush(client, KV_PATIENCE_MS);
        assert_null(commits ? rd_kafka_commit_transaction(client, KV_PATIENCE_MS)
                            : rd_kafka_abort_transaction(client, KV_PATIENCE_MS));
        probe_wait(probe, 1);
        KV_UNTIL(&fixture->kv,
                 message_position(fixture, topic, "g").partitions[0].end == (commits ? 2 : 4));
        KV_UNTIL(&fixture->kv, comes_next(fixture, topic) == 0);
    }
    assert_int_equal(probe_count(probe), 1);
    rd_kafka_destroy(client);
    probe_free(probe);
}

/* ---- topics ---- */

static void test_absent_topics(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    struct outgoing item = {.topic = slice_str("own-absent"), .payload = slice_str("x")};
    struct probe *probe = probe_start(fixture, fixture->kv.backend, &stream->source,
                                      &stream->settling, probe_want("own-absent", "g"));
    uint64_t give_up_ms = kv_clock_ms() + KV_PATIENCE_MS;

    KV_UNTIL(&fixture->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_NOT_FOUND, "topic");
    probe_free(probe);
    kv_expect(message_publish(fixture, &stream->sink, &item, 1), ERR_OK, NULL);
    kv_expect(item.err, ERR_NOT_FOUND, "topic");
    assert_int_equal(item.err.effect, EFFECT_NONE);
    kafka_make_topic("own-absent", 1, NULL); /* it is not believed to be absent for ever */
    while (item.err.code != ERR_OK) {
        assert_true(kv_clock_ms() < give_up_ms);
        kv_expect(message_publish(fixture, &stream->sink, &item, 1), ERR_OK, NULL);
        kv_pass(&fixture->kv, 20);
    }
}

static void start_describe(struct backend *backend, struct op *op)
{
    backend->has.stream->describe(backend, (struct stream_describe *)(void *)op);
}

/* P9: retention that may remove what nobody has read is named. */
static void test_what_topics_promise(void **state)
{
    struct message_fixture *fixture = *state;
    struct stream_describe forever = {.topic = slice_str("own-forever")};
    struct stream_describe short_lived = {.topic = slice_str("own-short")};

    kafka_make_topic("own-forever", 3, (const char *const[]){"retention.ms", "-1", NULL});
    kafka_make_topic(
        "own-short", 1,
        (const char *const[]){"retention.ms", "1000", "min.insync.replicas", "2", NULL});
    kv_expect(kv_do(&fixture->kv, start_describe, &forever.op), ERR_OK, NULL);
    kv_expect(kv_do(&fixture->kv, start_describe, &short_lived.op), ERR_OK, NULL);
    assert_int_equal(forever.partitions, 3);
    assert_int_equal(forever.retention, RETENTION_KEEPS_UNREAD);
    assert_int_equal(forever.ack, BACKEND_ACK_MEMORY);     /* one broker, min.insync.replicas 1 */
    assert_int_equal(short_lived.ack, BACKEND_ACK_MEMORY); /* it is asked for, and not there */
    assert_int_equal(short_lived.retention, RETENTION_LOSSY);
    assert_string_equal(short_lived.retention_text, "retention.ms");
}

/* ---- groups ---- */

static void collect(struct probe *probe, size_t *at, uint8_t *seen, unsigned n)
{
    size_t count = probe_count(probe);

    for (; *at < count; ++*at) {
        unsigned number = probe_number(probe, *at);

        assert_true(number < n);
        seen[number]++;
        probe_settle(probe, *at, SETTLE_DONE, 0); /* ERR_ABORTED: it comes again elsewhere */
    }
}

/* C2: members come and go while messages flow: each message comes, and those of one partition that
 * did not move come once. */
static void test_rebalances_lose_nothing(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_of(fixture, 4);
    enum { N = 4000, ROUNDS = 4 };
    uint8_t *seen = arena_zalloc(&fixture->kv.arena, N);
    struct probe *first = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    size_t at = 0;

    probe_grant(first, CREDIT, BYTES);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct probe *second = probe_stream(fixture, fixture->second, probe_want(topic, "g"));
        size_t second_at = 0;

        probe_grant(second, CREDIT, BYTES);
        for (unsigned i = 0; i < N / ROUNDS; i += 50) {
            message_publish_ok(fixture, &stream->sink, topic, NULL, round * N / ROUNDS + i, 50);
            collect(first, &at, seen, N);
            collect(second, &second_at, seen, N);
        }
        KV_UNTIL(&fixture->kv, probe_moves(second).gained > 0);
        collect(second, &second_at, seen, N);
        probe_free(second);
    }
    KV_UNTIL(&fixture->kv, (collect(first, &at, seen, N), memchr(seen, 0, N) == NULL));
    assert_true(probe_moves(first).lost > 0);
    probe_free(first);
}

/* A message that is never settled stops its partition after max_span, and nothing is lost. */
static void test_span_is_bounded(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_of(fixture, 1);
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1500);
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, 1000);
    probe_done(probe, 1, 1000);
    probe_quiet(probe, 1000);
    probe_done(probe, 0, 1);
    probe_wait(probe, 1500);
    probe_done(probe, 1000, 1500);
    probe_free(probe);
}

static uint64_t consumers_of(struct kafka_store *store)
{
    uint64_t n;

    pthread_mutex_lock(&store->lock);
    n = store->consumers;
    pthread_mutex_unlock(&store->lock);
    return n;
}

/* One consumer more than max_consumers is refused, and each one that has ended makes room. */
static void test_consumers_are_bounded(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    struct kafka_store *store = kafka_store_of(fixture->kv.backend);
    struct probe *probes[CONSUMERS], *more;
    const char *topic = topic_of(fixture, 1);

    KV_UNTIL(&fixture->kv, consumers_of(store) == 0);
    for (unsigned i = 0; i < CONSUMERS; i++) {
        const char *group = arena_printf(&fixture->kv.arena, "g%u", i);

        probes[i] = probe_stream(fixture, fixture->kv.backend, probe_want(topic, group));
    }
    more = probe_start(fixture, fixture->kv.backend, &stream->source, &stream->settling,
                       probe_want(topic, "more"));
    KV_UNTIL(&fixture->kv, probe_is_closed(more));
    kv_expect(more->closed_with, ERR_RESOURCE_EXHAUSTED, "max_consumers");
    probe_free(more);
    for (unsigned i = 0; i < CONSUMERS; i++)
        probe_free(probes[i]);
    KV_UNTIL(&fixture->kv, consumers_of(store) == 0);
    more = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "more"));
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_grant(more, CREDIT, BYTES);
    probe_wait(more, 1);
    probe_free(more);
}

/* A producer that has failed for good is replaced. */
static void test_fatal_errors(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    struct kafka_store *store = kafka_store_of(fixture->kv.backend);
    const char *topic = topic_of(fixture, 1);
    struct kafka_producer *producer = kafka_producer_ref(store);
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_str("0")};
    uint64_t give_up_ms = kv_clock_ms() + KV_PATIENCE_MS;

    assert_int_equal(rd_kafka_test_fatal_error(
                         producer->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test"),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    kafka_producer_unref(producer);
    do {
        struct err err = message_publish(fixture, &stream->sink, &item, 1);

        assert_true(kv_clock_ms() < give_up_ms);
        if (err.code != ERR_OK)
            item.err = err;
        kv_pass(&fixture->kv, 5);
    } while (item.err.code != ERR_OK);
    nats_until((struct nats_fixture *)fixture, BACKEND_READY);
}

/* Behind an item that found no room none of its key is sent: a smaller one would have found some.
 */
static void test_nothing_overtakes(void **state)
{
    const char *const pairs[] = {"brokers", kafka_server(), "max_buffer_bytes", "1048576", NULL};
    enum { MOST = 450000 };
    struct nats_fixture *fixture = nats_fixture_open(&backend_kafka, pairs);
    struct slice large = slice_of(arena_zalloc(&fixture->messages.kv.arena, MOST), MOST);
    struct slice topic = slice_str("nothing-overtakes"), k = slice_str("k");
    struct outgoing items[] = {
        {.topic = topic, .key = k, .payload = large},
        {.topic = topic, .key = k, .payload = slice_of(large.data, MOST / 2)},
        {.topic = topic, .key = k, .payload = slice_str("1")},
        {.topic = topic, .key = slice_str("l"), .payload = slice_str("2")},
        {.topic = topic, .payload = slice_str("3")},
    };
    static const enum err_code expected[] = {ERR_OK, ERR_RESOURCE_EXHAUSTED, ERR_ABORTED, ERR_OK,
                                             ERR_OK};
    void *own = fixture;

    (void)state;
    nats_until(fixture, BACKEND_READY);
    kafka_make_topic("nothing-overtakes", 1, NULL);
    kv_expect(message_publish(&fixture->messages, &fixture->messages.kv.backend->has.stream->sink,
                              items, ARRAY_LEN(items)),
              ERR_OK, NULL);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_int_equal(items[i].err.code, expected[i]);
    nats_fixture_close(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_nothing_overtakes),
        KV_TEST(test_keys_choose_partitions_as_in_java),
        KV_TEST(test_other_clients_read_what_we_write),
        KV_TEST(test_we_read_what_other_clients_write),
        KV_TEST(test_what_comes_next_is_told),
        KV_TEST(test_what_was_taken_and_not_handed_over_comes_next),
        KV_TEST(test_the_end_of_a_transaction_is_nothing_that_comes),
        KV_TEST(test_absent_topics),
        KV_TEST(test_what_topics_promise),
        KV_TEST(test_rebalances_lose_nothing),
        KV_TEST(test_span_is_bounded),
        KV_TEST(test_consumers_are_bounded),
        KV_TEST(test_fatal_errors),
    };

    if (kafka_server() == NULL)
        return 77;
    return kv_group("kafka", "own", tests, sizeof tests / sizeof tests[0], open_fixture,
                    nats_fixture_close) != 0;
}
