/* Streams: what is appended comes to every group, within the credit. */
#include "src/base/container.h"
#include "tests/contract/message_contract.h"

static struct slice str(const char *text)
{
    return slice_str(text);
}

static void test_in_order_with_places(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe;

    message_publish_ok(fixture, &stream->sink, topic, "k", 0, 10);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 100, 1 << 20);
    probe_wait(probe, 10);
    message_publish_ok(fixture, &stream->sink, topic, "k", 10, 10);
    probe_wait(probe, 20);
    for (unsigned i = 0; i < 20; i++) {
        const struct got *got = probe_got(probe, i);

        assert_int_equal(probe_number(probe, i), i);
        assert_true(slice_equal(got->m.topic, str(topic)));
        assert_true(slice_equal(got->m.key, str("k")));
        assert_true(got->m.attempt <= 1);
        if (stream->offsets && i > 0)
            assert_true(got->m.offset > probe_got(probe, i - 1)->m.offset);
        if (got->m.timestamp_ms > 0 && i > 0)
            assert_true(got->m.timestamp_ms >= probe_got(probe, i - 1)->m.timestamp_ms);
    }
    probe_quiet(probe, 20);
    probe_free(probe);
}

/* What publish told is where it is found. */
static void test_places_agree(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct outgoing items[3];
    struct probe *probe;

    memset(items, 0, sizeof items);
    for (unsigned i = 0; i < 3; i++) {
        items[i].topic = str(topic);
        items[i].payload = str("0");
    }
    kv_expect(message_publish(fixture, &stream->sink, items, 3), ERR_OK, NULL);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 3, 1 << 20);
    probe_wait(probe, 3);
    for (unsigned i = 0; i < 3; i++) {
        const struct incoming *m = &probe_got(probe, i)->m;

        kv_expect(items[i].err, ERR_OK, NULL);
        assert_int_equal(m->partition, items[i].partition);
        assert_int_equal(m->offset, items[i].offset);
        assert_true(slice_equal(m->position, items[i].position));
    }
    probe_free(probe);
}

/* Where header h is expected: a carrier of texts keeps the order of equal names only. */
static size_t named(const struct incoming *m, const struct header *headers, size_t h)
{
    size_t before = 0;

    for (size_t i = 0; i < h; i++)
        before += slice_equal(headers[i].name, headers[h].name);
    for (size_t i = 0; i < m->n_headers; i++) {
        if (slice_equal(m->headers[i].name, headers[h].name) && before-- == 0)
            return i;
    }
    fail_msg("a header is missing");
    return 0;
}

static void test_bytes_as_they_are(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const struct message_sink *sink = &stream->sink;
    const char *topic = message_topic(fixture);
    static const uint8_t wild[] = {0, 255, 1, 254, '\n', 0};
    struct header headers[] = {
        {str("name"), str("first")},
        {str("name"), str("second")},
        {str("empty"), sink->binary_headers ? message_empty() : str("no")},
        {str("wild"), sink->binary_headers ? slice_of(wild, sizeof wild) : str("tame")},
        {str("x-identity"), str("who")}, /* names that begin as others do */
        {str("x-id"), str("what")},
        {str("a"), str("short")},
        {str("abc"), str("long")},
        {str("null"), message_null()},
    };
    struct outgoing items[] = {
        {.topic = str(topic),
         .key = sink->binary_headers ? slice_of(wild, sizeof wild) : str("k"),
         .payload = message_empty()},
        {.topic = str(topic), .payload = slice_of(wild, sizeof wild), .headers = headers},
        {.topic = str(topic), .payload = message_null()},
    };
    size_t n = sink->null_payload ? 3 : 2;
    struct probe *probe;

    items[1].n_headers = ARRAY_LEN(headers) - !sink->null_header_values;
    kv_expect(message_publish(fixture, sink, items, n), ERR_OK, NULL);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 10, 1 << 20);
    probe_wait(probe, n);
    for (size_t i = 0; i < n; i++) {
        const struct incoming *m = &probe_got(probe, i)->m;

        kv_expect(items[i].err, ERR_OK, NULL);
        assert_true(slice_equal(m->key, items[i].key));
        assert_true(slice_equal(m->payload, items[i].payload));
        if (sink->null_payload)
            assert_int_equal(message_is_null(m->payload), message_is_null(items[i].payload));
        assert_int_equal(m->n_headers, items[i].n_headers);
        for (size_t h = 0; h < m->n_headers; h++) {
            const struct header *got = &m->headers[sink->binary_headers ? h : named(m, headers, h)];

            assert_true(slice_equal(got->name, headers[h].name));
            assert_true(slice_equal(got->value, headers[h].value));
            if (sink->null_header_values)
                assert_int_equal(message_is_null(got->value), message_is_null(headers[h].value));
        }
    }
    probe_free(probe);
}

/* A hopeless item fails alone; results stand where their messages do. */
static void test_outcomes_by_item(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *one = message_topic(fixture), *two = message_topic(fixture);
    uint64_t most = stream->sink.max_message_bytes != 0 ? stream->sink.max_message_bytes
                                                        : stream->sink.max_frame_bytes;
    struct slice large = slice_of(arena_zalloc(&fixture->kv.arena, most + 1), most + 1);
    struct outgoing items[] = {
        {.topic = str(one), .payload = str("0")}, {.topic = str(two), .payload = str("1")},
        {.topic = str(one), .payload = large},    {.topic = str(one), .payload = str("3")},
        {.topic = str(two), .payload = str("4")},
    };
    static const enum err_code expected[] = {ERR_OK, ERR_OK, ERR_INVALID_ARGUMENT, ERR_OK, ERR_OK};
    struct probe *probes[2];

    kv_expect(message_publish(fixture, &stream->sink, items, 5), ERR_OK, NULL);
    for (size_t i = 0; i < 5; i++)
        kv_expect(items[i].err, expected[i], i == 2 ? "payload" : NULL);
    probes[0] = probe_stream(fixture, fixture->kv.backend, probe_want(one, "g"));
    probes[1] = probe_stream(fixture, fixture->kv.backend, probe_want(two, "g"));
    for (unsigned i = 0; i < 2; i++) {
        probe_grant(probes[i], 10, 1 << 20);
        probe_wait(probes[i], 2);
        assert_int_equal(probe_number(probes[i], 0), i);
        assert_int_equal(probe_number(probes[i], 1), 3 + i);
        probe_quiet(probes[i], 2);
        probe_free(probes[i]);
    }
}

/* Behind a hopeless item none of its key is stored: whoever sent it may send it again, mended. */
static void test_nothing_overtakes_the_hopeless(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture), *other = message_topic(fixture);
    uint64_t most = stream->sink.max_message_bytes != 0 ? stream->sink.max_message_bytes
                                                        : stream->sink.max_frame_bytes;
    struct slice large = slice_of(arena_zalloc(&fixture->kv.arena, most + 1), most + 1);
    struct outgoing items[] = {
        {.topic = str(topic), .key = str("k"), .payload = str("0")},
        {.topic = str(topic), .key = str("k"), .payload = large},
        {.topic = str(topic), .key = str("k"), .payload = str("2")},
        {.topic = str(topic), .key = str("l"), .payload = str("3")},
        {.topic = str(topic), .payload = str("4")},
        {.topic = str(other), .key = str("k"), .payload = str("5")},
    };
    static const enum err_code expected[] = {
        ERR_OK, ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_OK, ERR_OK, ERR_OK};
    struct probe *probe;

    if (!stream->sink.keyed)
        skip();
    kv_expect(message_publish(fixture, &stream->sink, items, ARRAY_LEN(items)), ERR_OK, NULL);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_int_equal(items[i].err.code, expected[i]);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 10, 1 << 20);
    probe_wait(probe, 3);
    probe_quiet(probe, 3);
    probe_free(probe);
}

static void test_every_group_gets_all(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probes[3];
    static const char *const groups[] = {"a", "b", NULL};

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 5);
    for (unsigned i = 0; i < 3; i++) {
        struct subscription_want want = probe_want(topic, groups[i]);

        if (groups[i] == NULL)
            want.start = START_EARLIEST;
        probes[i] = probe_stream(fixture, fixture->kv.backend, want);
        probe_grant(probes[i], 10, 1 << 20);
    }
    for (unsigned i = 0; i < 3; i++) {
        probe_wait(probes[i], 5);
        probe_done(probes[i], 0, 5);
    }
    for (unsigned i = 0; i < 3; i++)
        probe_free(probes[i]);
}

static void test_credit_in_messages(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 50);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_quiet(probe, 0);
    probe_grant(probe, 7, 1 << 20);
    probe_wait(probe, 7);
    probe_done(probe, 0, 7); /* settling is no permission */
    probe_quiet(probe, 7);
    probe_grant(probe, 3, 0);
    probe_wait(probe, 10);
    probe_grant(probe, 100, 1 << 20);
    probe_wait(probe, 50);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(probe_number(probe, i), i);
    probe_free(probe);
}

/* Bytes may be overdrawn by one message, not by two. */
static void test_credit_in_bytes(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    enum { SIZE = 1000, N = 10 };
    struct outgoing items[N];
    struct slice payload = slice_of(arena_zalloc(&fixture->kv.arena, SIZE), SIZE);
    struct probe *probe;

    memset(items, 0, sizeof items);
    for (unsigned i = 0; i < N; i++) {
        items[i].topic = str(topic);
        items[i].payload = payload;
    }
    kv_expect(message_publish(fixture, &stream->sink, items, N), ERR_OK, NULL);
    probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    probe_grant(probe, 100, 2 * SIZE + SIZE / 2);
    probe_wait(probe, 1);
    for (unsigned ms = 0; ms < fixture->patience_ms; ms += 5)
        kv_pass(&fixture->kv, 5);

    size_t n = probe_count(probe);

    assert_true(n >= 2 && n <= 3);
    probe_grant(probe, 0, 100 * SIZE);
    probe_wait(probe, N);
    probe_free(probe);
}

static void test_withdraw(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    probe_grant(probe, 100, 1 << 20);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 5);
    probe_wait(probe, 5);
    probe_withdraw(probe);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 5, 5);
    probe_quiet(probe, 5);
    probe_done(probe, 0, 5); /* settling goes on */
    probe_grant(probe, 5, 1 << 20);
    probe_wait(probe, 10);
    probe_free(probe);
}

/* Batches stay whole while others come and after the subscription's end. */
static void test_batches_are_the_receivers(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));

    probe->hold = true;
    probe_grant(probe, 1000, 1 << 20);
    for (unsigned i = 0; i < 10; i++) {
        message_publish_ok(fixture, &stream->sink, topic, NULL, i * 10, 10);
        probe_wait(probe, (i + 1) * 10);
    }
    probe_done(probe, 0, 100);
    for (size_t b = 0, i = 0; b < probe->n_held; b++) {
        for (uint32_t k = 0; k < probe->held[b]->n; k++, i++)
            assert_true(
                slice_equal(probe->held[b]->items[k].payload, probe_got(probe, i)->m.payload));
    }
    probe_free(probe);
}

static void test_large_messages_and_many(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    enum { N = 3000 };
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    struct outgoing large = {.topic = str(topic)};
    uint8_t *bytes = arena_zalloc(&fixture->kv.arena, BATCH_BYTES + 1);

    memset(bytes, 'x', BATCH_BYTES + 1);
    large.payload = slice_of(bytes, BATCH_BYTES + 1);
    probe_grant(probe, N + 1, 100 << 20);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, N);
    kv_expect(message_publish(fixture, &stream->sink, &large, 1), ERR_OK, NULL);
    kv_expect(large.err, ERR_OK, NULL);
    probe_wait(probe, N + 1);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(probe_number(probe, i), i);
    assert_true(slice_equal(probe_got(probe, N)->m.payload, large.payload));
    assert_true(probe->batches >= N / BATCH_MESSAGES);
    probe_free(probe);
}

static void start_describe(struct backend *backend, struct op *op)
{
    backend->has.stream->describe(backend, (struct stream_describe *)(void *)op);
}

static void test_describe(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct stream_describe there = {.topic = str(topic)};
    struct stream_describe absent = {.topic = str("contract-no-such-topic")};

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    kv_expect(kv_do(&fixture->kv, start_describe, &there.op), ERR_OK, NULL);
    kv_expect(kv_do(&fixture->kv, start_describe, &absent.op), ERR_OK, NULL);
    assert_true(there.found);
    assert_false(absent.found);
    assert_int_equal(there.retention == RETENTION_LOSSY, there.retention_text != NULL);
    assert_non_null(stream->sink.ack_means);
}

int stream_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_in_order_with_places),
        KV_TEST(test_places_agree),
        KV_TEST(test_bytes_as_they_are),
        KV_TEST(test_outcomes_by_item),
        KV_TEST(test_nothing_overtakes_the_hopeless),
        KV_TEST(test_every_group_gets_all),
        KV_TEST(test_credit_in_messages),
        KV_TEST(test_credit_in_bytes),
        KV_TEST(test_withdraw),
        KV_TEST(test_batches_are_the_receivers),
        KV_TEST(test_large_messages_and_many),
        KV_TEST(test_describe),
    };

    return kv_group(name, "stream", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
