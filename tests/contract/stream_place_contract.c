/* Streams: where a group stands, where it begins, and what it has missed. */
#include "tests/contract/message_contract.h"

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct probe *reader(struct message_fixture *fixture, struct subscription_want want)
{
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, want);

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static void expect_from(struct probe *probe, unsigned from, unsigned n)
{
    probe_wait(probe, n);
    probe_quiet(probe, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(probe_number(probe, i), from + i);
}

static void test_new_groups_begin_where_they_want(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct subscription_want want = probe_want(topic, "earliest");
    struct probe *earliest, *latest, *alone;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 5);
    earliest = reader(fixture, want);
    want.group = slice_str("latest");
    want.if_none = START_LATEST;
    latest = reader(fixture, want);
    want.group = message_null();
    want.start = START_LATEST;
    alone = reader(fixture, want);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 5, 1);
    expect_from(earliest, 0, 6);
    expect_from(latest, 5, 1);
    expect_from(alone, 5, 1);
    probe_free(earliest);
    probe_free(latest);
    probe_free(alone);
}

static void test_start_at_an_offset(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct subscription_want want = probe_want(topic, "all");
    struct probe *probe;

    if (stream->seek == NULL)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 6);
    probe = reader(fixture, want);
    probe_wait(probe, 6);
    want.group = slice_str("some");
    want.start = stream->offsets ? START_OFFSET : START_POSITION;
    want.at = probe_got(probe, 4)->m.offset;
    want.position = probe_got(probe, 4)->m.position;

    struct probe *some = reader(fixture, want);

    expect_from(some, 4, 2);
    probe_free(some);
    probe_free(probe);
}

static void test_positions(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, probe_want(topic, "g"));
    struct stream_position position;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 5);
    probe_wait(probe, 5);
    probe_done(probe, 0, 2);
    kv_expect(probe_settle(probe, 3, SETTLE_DONE, 0), ERR_OK, NULL);
    position = message_position(fixture, topic, "g");
    assert_true(position.found);
    assert_int_equal(position.n, 1);
    if (stream->settling.single && position.partitions[0].lag >= 0)
        assert_int_equal(position.partitions[0].lag, 2);
    if (stream->settling.single && position.unsettled >= 0)
        assert_int_equal(position.unsettled, 2);
    if (stream->offsets && stream->settling.single)
        assert_int_equal(position.partitions[0].committed, probe_got(probe, 2)->m.offset);
    if (stream->offsets)
        assert_int_equal(position.partitions[0].end, probe_got(probe, 4)->m.offset + 1);
    assert_false(message_position(fixture, topic, "nobody").found);
    probe_done(probe, 2, 3);
    probe_done(probe, 4, 5);
    probe_free(probe);
}

/* ---- seek ---- */

/* Of a time that the protocol can name, and a source's own clock perhaps not, nothing is there. */
static void test_start_at_the_end_of_time(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    const int64_t ends[] = {INT64_MAX, INT64_MAX / 1000000 + 1, INT64_MAX / 500000 + 1};

    if (stream->seek == NULL)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 2);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct subscription_want want =
            probe_want(topic, arena_printf(&fixture->kv.arena, "g%zu", i));
        struct probe *probe;

        want.start = START_TIME;
        want.at = ends[i];
        probe = reader(fixture, want);
        probe_quiet(probe, 0);
        probe_free(probe);
    }
}

static void start_seek(struct backend *backend, struct op *op)
{
    backend->has.stream->seek(backend, (struct stream_seek *)(void *)op);
}

static struct err seek(struct message_fixture *fixture, struct stream_seek *seek)
{
    seek->partition = -1;
    return kv_do(&fixture->kv, start_seek, &seek->op);
}

/* The next delivery is the target, and what is settled from before moves nothing. */
static void test_seek_back(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe;
    struct stream_seek back = {
        .topic = slice_str(topic), .group = slice_str("g"), .start = START_EARLIEST};

    if (stream->seek == NULL)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 4);
    probe = reader(fixture, probe_want(topic, "g"));
    probe_wait(probe, 4);
    probe_done(probe, 0, 2);
    kv_expect(seek(fixture, &back), ERR_OK, NULL);
    probe_wait(probe, 8);
    assert_int_equal(probe_moves(probe).by_seek, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(probe_number(probe, 4 + i), i);
    kv_expect(probe_settle(probe, 3, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
    probe = reader(fixture, probe_want(topic, "g"));
    expect_from(probe, 0, 4);
    probe_free(probe);
}

static void test_seek_without_a_reader(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct stream_seek to_end = {
        .topic = slice_str(topic), .group = slice_str("g"), .start = START_LATEST};
    struct stream_seek nowhere = {.topic = slice_str("contract-no-such-topic"),
                                  .group = slice_str("g"),
                                  .start = START_EARLIEST};
    struct probe *probe;

    if (stream->seek == NULL)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 4);
    kv_expect(seek(fixture, &to_end), ERR_OK, NULL);
    kv_expect(seek(fixture, &nowhere), ERR_NOT_FOUND, "topic");
    message_publish_ok(fixture, &stream->sink, topic, NULL, 4, 1);
    probe = reader(fixture, probe_want(topic, "g"));
    expect_from(probe, 4, 1);
    probe_free(probe);
}

static void test_seek_out_of_range(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct stream_seek far = {
        .topic = slice_str(topic), .group = slice_str("g"), .start = START_OFFSET, .at = 1000000};
    struct stream_seek forged = {.topic = slice_str(topic),
                                 .group = slice_str("g"),
                                 .start = START_POSITION,
                                 .position = slice_str("not ours at all")};

    if (stream->seek == NULL)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    if (stream->offsets)
        kv_expect(seek(fixture, &far), ERR_OUT_OF_RANGE, "offset");
    kv_expect(seek(fixture, &forged), ERR_INVALID_ARGUMENT, "position");
}

/* ---- gaps: C18 ---- */

static const char *topic_with_gap(struct message_fixture *fixture, const struct stream *stream)
{
    const char *topic;
    struct probe *probe;
    int64_t offset;

    if (fixture->drop_before == NULL)
        skip();
    topic = message_topic(fixture);
    probe = reader(fixture, probe_want(topic, "g"));
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 2);
    probe_wait(probe, 2);
    probe_done(probe, 0, 2);
    probe_free(probe); /* the group stands behind 1 */
    probe = reader(fixture, probe_want(topic, "h"));
    message_publish_ok(fixture, &stream->sink, topic, NULL, 2, 6);
    probe_wait(probe, 8);
    offset = probe_got(probe, 5)->m.offset;
    fixture->keep_from = message_copy(&fixture->kv.arena, probe_got(probe, 5)->m.position);
    probe_done(probe, 0, 8);
    probe_free(probe);
    fixture->drop_before(fixture, topic, offset);
    return topic; /* 2, 3 and 4 are missing */
}

static void test_gap_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_with_gap(fixture, stream);
    struct probe *probe = reader(fixture, probe_want(topic, "g"));

    expect_from(probe, 5, 3);
    assert_int_equal(probe_gaps(probe), 1);
    if (stream->offsets) {
        assert_int_equal(probe->gap.goes_on_at, probe_got(probe, 0)->m.offset);
        assert_int_equal(probe->gap.goes_on_at - probe->gap.missing_from, 3);
    }
    assert_true(probe->missed == 3 || probe->missed == 0);
    probe_done(probe, 0, 3);
    probe_free(probe);
    probe = reader(fixture, probe_want(topic, "g"));
    probe_quiet(probe, 0);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
}

static void test_gap_to_the_latest(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_with_gap(fixture, stream);
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.on_gap = GAP_LATEST;
    probe = reader(fixture, want);
    KV_UNTIL(&fixture->kv, probe_gaps(probe) == 1);
    message_publish_ok(fixture, &stream->sink, topic, NULL, 8, 1);
    expect_from(probe, 8, 1);
    probe_free(probe);
}

static void test_gap_that_ends_it(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = topic_with_gap(fixture, stream);
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.on_gap = GAP_FAIL;
    probe = probe_start(fixture, fixture->kv.backend, &stream->source, &stream->settling, want);
    KV_UNTIL(&fixture->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_DATA_LOSS, NULL);
    probe_free(probe);
}

/* ---- opening and closing ---- */

static void test_closed_while_it_opens(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 3);
    for (unsigned i = 0; i < 20; i++)
        probe_free(probe_start(fixture, fixture->kv.backend, &stream->source, &stream->settling,
                               probe_want(topic, "g")));

    struct probe *probe = reader(fixture, probe_want(topic, "g"));

    expect_from(probe, 0, 3);
    probe_done(probe, 0, 3);
    probe_free(probe);
}

int stream_place_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_new_groups_begin_where_they_want),
        KV_TEST(test_start_at_an_offset),
        KV_TEST(test_start_at_the_end_of_time),
        KV_TEST(test_positions),
        KV_TEST(test_seek_back),
        KV_TEST(test_seek_without_a_reader),
        KV_TEST(test_seek_out_of_range),
        KV_TEST(test_gap_is_told),
        KV_TEST(test_gap_to_the_latest),
        KV_TEST(test_gap_that_ends_it),
        KV_TEST(test_closed_while_it_opens),
    };

    return kv_group(name, "stream, places", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
