/* Streams: what is settled is over, what is not comes again. */
#include "tests/contract/message_contract.h"

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct probe *reader(struct message_fixture *fixture, struct backend *backend,
                            const char *topic)
{
    struct probe *probe = probe_stream(fixture, backend, probe_want(topic, "g"));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static const struct stream *need_single(struct message_fixture *fixture)
{
    const struct stream *stream = message_need_stream(fixture);

    if (!stream->settling.single)
        skip();
    return stream;
}

/* Numbers [0, n) without those in `gone`, each at least once; nothing else. */
static void expect_numbers(struct probe *probe, unsigned n, const bool *gone)
{
    unsigned expected = 0;
    bool seen[64] = {false};

    assert_true(n <= 64);
    for (unsigned i = 0; i < n; i++)
        expected += !gone[i];
    probe_wait(probe, expected);
    probe_quiet(probe, expected);
    for (unsigned i = 0; i < expected; i++) {
        unsigned number = probe_number(probe, i);

        assert_true(number < n && !gone[number] && !seen[number]);
        seen[number] = true;
    }
}

static void test_settled_is_over(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 6);
    probe_wait(probe, 6);
    probe_done(probe, 0, 4);
    probe_free(probe);
    probe = reader(fixture, fixture->kv.backend, topic);
    expect_numbers(probe, 6, (const bool[64]){true, true, true, true});
    if (stream->settling.release_is_free)
        assert_int_equal(probe_got(probe, 0)->m.attempt, 1);
    probe_done(probe, 0, 2);
    probe_free(probe);
    probe = reader(fixture, fixture->kv.backend, topic);
    probe_quiet(probe, 0);
    probe_free(probe);
}

/* C1: a hole is never jumped over. */
static void test_holes(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);
    bool gone[64] = {true, false, true, false, true, true};

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 6);
    probe_wait(probe, 6);
    for (unsigned i = 6; i-- > 0;) {
        if (gone[i])
            kv_expect(probe_settle(probe, i, SETTLE_DONE, 0), ERR_OK, NULL);
    }
    probe_free(probe);
    probe = reader(fixture, fixture->kv.backend, topic);
    if (!stream->settling.single)
        gone[2] = gone[4] = gone[5] = false; /* one position: before the first hole */
    expect_numbers(probe, 6, gone);
    probe_free(probe);
}

static void test_settled_twice_is_late(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 2);
    probe_wait(probe, 2);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(probe_settle(probe, 1, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

/* C16: a retry is an attempt, a release is none. */
static void test_attempts(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_single(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    assert_int_equal(probe_got(probe, 0)->m.attempt, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    probe_wait(probe, 2);
    assert_int_equal(probe_got(probe, 1)->m.attempt, 2);
    assert_int_not_equal(probe_got(probe, 1)->m.token, probe_got(probe, 0)->m.token);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL); /* a delivery of before */
    kv_expect(probe_settle(probe, 1, SETTLE_RELEASE, 0), ERR_OK, NULL);
    probe_wait(probe, 3);
    if (stream->settling.release_is_free)
        assert_int_equal(probe_got(probe, 2)->m.attempt, 2);
    probe_free(probe);
    probe = reader(fixture, fixture->kv.backend, topic);
    probe_wait(probe, 1);
    if (stream->settling.release_is_free && stream->settling.counts_attempts)
        assert_int_equal(probe_got(probe, 0)->m.attempt, 2);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

/* C15: never approximated. */
static void test_what_a_source_lacks_is_refused(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    if (!stream->settling.single) {
        kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_UNIMPLEMENTED, NULL);
        kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_UNIMPLEMENTED, NULL);
    }
    kv_expect(probe_settle(probe, 0, SETTLE_DEAD, 0), ERR_UNIMPLEMENTED, NULL);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(probe);
}

/* Those that wait for a retry hold no credit and let others pass. */
static void test_delay(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_single(fixture);
    const char *topic = message_topic(fixture);
    enum { DELAY_MS = 300 };
    struct probe *probe = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    uint64_t parked_ms;

    if (!stream->settling.delays)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 4);
    probe_grant(probe, 2, BYTES);
    probe_wait(probe, 2);
    parked_ms = kv_clock_ms();
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, DELAY_MS), ERR_OK, NULL);
    kv_expect(probe_settle(probe, 1, SETTLE_RETRY, DELAY_MS), ERR_OK, NULL);
    probe_grant(probe, 10, BYTES);
    probe_wait(probe, 4);
    assert_int_equal(probe_number(probe, 2), 2);
    assert_int_equal(probe_number(probe, 3), 3);
    probe_wait(probe, 6);
    for (unsigned i = 4; i < 6; i++) {
        assert_int_equal(probe_got(probe, i)->m.attempt, 2);
        if (fixture->kv.pass_ms == NULL)
            assert_true(probe_got(probe, i)->at_ms - parked_ms >= DELAY_MS - 5);
    }
    probe_done(probe, 2, 6);
    probe_free(probe);
}

static void test_parked_messages_outlive_their_reader(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_single(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, fixture->kv.backend, topic);

    if (!stream->settling.delays)
        skip();
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 100), ERR_OK, NULL);
    probe_free(probe);
    probe = reader(fixture, fixture->kv.backend, topic);
    probe_wait(probe, 1);
    if (stream->settling.counts_attempts)
        assert_int_equal(probe_got(probe, 0)->m.attempt, 2);
    probe_done(probe, 0, 1);
    probe_free(probe);
}

/* ---- leases ---- */

static const struct stream *need_leases(struct message_fixture *fixture)
{
    const struct stream *stream = need_single(fixture);

    if (stream->settling.extend == NULL || fixture->lease_ms == 0)
        skip();
    return stream;
}

static struct probe *leaser(struct message_fixture *fixture, struct backend *backend,
                            const char *topic)
{
    struct subscription_want want = probe_want(topic, "g");

    want.lease_ms = fixture->lease_ms;
    return probe_stream(fixture, backend, want);
}

/* Only the slow one's lease is short: the other has the time that it needs. */
static void test_lease_runs_out(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_leases(fixture);
    const char *topic = message_topic(fixture);
    struct probe *slow = leaser(fixture, fixture->kv.backend, topic);
    struct probe *other = probe_stream(fixture, fixture->second, probe_want(topic, "g"));

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_grant(slow, 1, BYTES);
    probe_wait(slow, 1);
    probe_grant(other, 1, BYTES);
    probe_wait(other, 1);
    assert_int_equal(probe_got(other, 0)->m.attempt, 2);
    if (stream->settling.fences) {
        kv_expect(probe_settle(slow, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
        kv_expect(probe_extend(slow, 0, fixture->lease_ms), ERR_ABORTED, NULL);
    }
    kv_expect(probe_settle(other, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(slow);
    probe_free(other);
}

/* C6: kept for five leases by extending; another reader with credit stands by. The first lease is
 * the source's own, which is long. */
static void test_extend_keeps(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_leases(fixture);
    const char *topic = message_topic(fixture);
    struct probe *holder = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    struct probe *other = probe_stream(fixture, fixture->second, probe_want(topic, "g"));
    uint64_t end_ms;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, 1);
    probe_grant(holder, 1, BYTES);
    probe_wait(holder, 1);
    probe_grant(other, 1, BYTES);
    end_ms = kv_clock_ms() + 5ull * fixture->lease_ms;
    while (kv_clock_ms() < end_ms) {
        kv_expect(probe_extend(holder, 0, 4ull * fixture->lease_ms), ERR_OK, NULL);
        kv_pass(&fixture->kv, fixture->lease_ms / 5);
    }
    assert_int_equal(probe_count(other), 0);
    kv_expect(probe_settle(holder, 0, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_quiet(other, 0);
    probe_free(holder);
    probe_free(other);
}

/* ---- two processes ---- */

static void test_each_message_has_one_reader(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_single(fixture);
    const char *topic = message_topic(fixture);
    enum { N = 60 };
    struct probe *a, *b;
    bool seen[N] = {false};

    if (fixture->second == NULL)
        skip();
    a = probe_stream(fixture, fixture->kv.backend, probe_want(topic, "g"));
    b = probe_stream(fixture, fixture->second, probe_want(topic, "g"));
    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, N);
    probe_grant(a, 10, BYTES);
    probe_wait(a, 10);
    probe_grant(b, CREDIT, BYTES);
    probe_wait(b, N - 10);
    probe_quiet(b, N - 10);
    for (unsigned i = 0; i < N; i++) {
        unsigned number = i < 10 ? probe_number(a, i) : probe_number(b, i - 10);

        assert_true(number < N && !seen[number]);
        seen[number] = true;
    }
    probe_free(a); /* its ten go to the other */
    probe_wait(b, N);
    probe_done(b, 0, N);
    probe_free(b);
}

/* ---- order by key ---- */

static const struct stream *need_order(struct message_fixture *fixture)
{
    const struct stream *stream = need_single(fixture);

    if (!stream->source.keyed)
        skip();
    return stream;
}

static struct probe *ordered(struct message_fixture *fixture, const char *topic)
{
    struct subscription_want want = probe_want(topic, "g");
    struct probe *probe;

    want.ordered = true;
    probe = probe_stream(fixture, fixture->kv.backend, want);
    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* While a message of "a" waits for its retry, "a" waits and "b" flows. */
static void test_only_its_key_waits(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_order(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = ordered(fixture, topic);

    message_publish_ok(fixture, &stream->sink, topic, "a", 0, 1);
    probe_wait(probe, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, stream->settling.delays ? 300 : 0), ERR_OK,
              NULL);
    message_publish_ok(fixture, &stream->sink, topic, "a", 1, 2);
    message_publish_ok(fixture, &stream->sink, topic, "b", 10, 2);
    probe_wait(probe, 6);
    if (stream->settling.delays) {
        assert_int_equal(probe_number(probe, 1), 10);
        assert_int_equal(probe_number(probe, 2), 11);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(probe_number(probe, 3 + i), i);
    }
    assert_int_equal(probe_got(probe, 3)->m.attempt, 2);
    probe_done(probe, 1, 6);
    probe_free(probe);
}

/* Given back in any order, they come in the log's. */
static void test_released_in_disorder(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = need_order(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = ordered(fixture, topic);
    static const unsigned disorder[] = {3, 0, 4, 1, 2};

    message_publish_ok(fixture, &stream->sink, topic, "a", 0, 5);
    probe_wait(probe, 5);
    probe_withdraw(probe);
    for (unsigned i = 0; i < 5; i++)
        kv_expect(probe_settle(probe, disorder[i], SETTLE_RELEASE, 0), ERR_OK, NULL);
    message_publish_ok(fixture, &stream->sink, topic, "a", 5, 2);
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, 12);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(probe_number(probe, 5 + i), i);
    probe_done(probe, 5, 12);
    probe_free(probe);
}

/* ---- all of it at once ---- */

/* C1: settled at random, by readers that come and go: each message is done once, none is lost. */
static void test_nothing_is_lost(void **state)
{
    struct message_fixture *fixture = *state;
    const struct stream *stream = message_need_stream(fixture);
    const char *topic = message_topic(fixture);
    enum { N = 2000 };
    bool *done = arena_zalloc(&fixture->kv.arena, N);
    unsigned left = N, random = 1;

    message_publish_ok(fixture, &stream->sink, topic, NULL, 0, N);
    for (unsigned round = 0; left > 0; round++) {
        struct probe *probe = reader(fixture, fixture->kv.backend, topic);

        assert_true(round < 100);
        probe_grant(probe, N, BYTES);
        probe_wait(probe, left < N / 4 ? left : N / 4);
        for (size_t i = probe_count(probe); i-- > 0;) {
            unsigned number = probe_number(probe, i);

            random = random * 1103515245u + 12345u;
            if (round < 4 && (random >> 16) % 4 == 0)
                continue;
            if (stream->settling.single)
                assert_false(done[number]);
            kv_expect(probe_settle(probe, i, SETTLE_DONE, 0), ERR_OK, NULL);
            left -= !done[number];
            done[number] = true;
        }
        probe_free(probe);
    }
}

int stream_settle_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_settled_is_over),
        KV_TEST(test_holes),
        KV_TEST(test_settled_twice_is_late),
        KV_TEST(test_attempts),
        KV_TEST(test_what_a_source_lacks_is_refused),
        KV_TEST(test_delay),
        KV_TEST(test_parked_messages_outlive_their_reader),
        KV_TEST(test_lease_runs_out),
        KV_TEST(test_extend_keeps),
        KV_TEST(test_each_message_has_one_reader),
        KV_TEST(test_only_its_key_waits),
        KV_TEST(test_released_in_disorder),
        KV_TEST(test_nothing_is_lost),
    };

    return kv_group(name, "stream, settling", tests, sizeof tests / sizeof tests[0], setup,
                    teardown);
}
