/* C18 on JetStream: what was delivered and not settled, and then removed by its stream before it
 * came again, is told as a gap, once, whoever reads next. */
#include "backends/nats/jet_priv.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>

#define NOTICES "PRISM_RETURNS_REMOVED"

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct nats_server server;

static int open_fixture(void **state)
{
    const char *const pairs[] = {"ack_timeout_ms", "2000", NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    static unsigned groups;

    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "l%u-", ++groups);
    *state = fixture;
    return 0;
}

static struct probe *reader(struct nats_fixture *fixture, struct backend *backend,
                            const char *topic, enum gap_policy on_gap)
{
    struct subscription_want want = probe_want(topic, "g");
    const struct stream *stream = backend->has.stream;
    struct probe *probe;

    want.on_gap = on_gap;
    probe = probe_start(&fixture->messages, backend, &stream->source, &stream->settling, want);
    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static struct probe *first(struct nats_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.kv.backend, topic, GAP_EARLIEST);
}

static struct probe *second(struct nats_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.second, topic, GAP_EARLIEST);
}

static void publish(struct nats_fixture *fixture, const char *topic, unsigned from, unsigned n)
{
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, from, n);
}

static void change(struct plain *plain, const char *topic, void (*how)(jsStreamConfig *))
{
    const char *subjects[] = {topic};
    jsStreamConfig config;

    jsStreamConfig_Init(&config);
    config.Name = topic;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_MemoryStorage;
    how(&config);
    assert_int_equal(js_UpdateStream(NULL, plain->js, &config, NULL, NULL), NATS_OK);
}

static void keep_two(jsStreamConfig *config)
{
    config->MaxMsgs = 2;
}

static void keep_few_bytes(jsStreamConfig *config)
{
    config->MaxBytes = 100;
}

static void keep_a_second(jsStreamConfig *config)
{
    config->MaxAge = 1000000000;
    config->Duplicates = 1000000000;
}

static void keep_all(jsStreamConfig *config)
{
    (void)config;
}

static bool is_empty(struct plain *plain, const char *topic)
{
    return plain_count(plain, topic) == 0;
}

/* Messages 0..5: 0 is settled, 1..4 wait for a retry, 5 is in hand, when `how` removes them: all at
 * once, or one after the other as they grow too old, which may be told in parts. */
static void expect_told(struct nats_fixture *fixture, void (*how)(jsStreamConfig *), unsigned told)
{
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, topic, topic, NULL);
    probe = first(fixture, topic);
    publish(fixture, topic, 0, 6);
    probe_wait(probe, 6);
    probe_done(probe, 0, 1);
    for (unsigned i = 1; i < 5; i++)
        kv_expect(probe_settle(probe, i, SETTLE_RETRY, 600000), ERR_OK, NULL);
    change(&plain, topic, how);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == told);
    assert_in_range(probe_gaps(probe), 1, how == keep_a_second ? told : 1);
    if (probe_gaps(probe) == 1)
        assert_int_equal(probe->gap.missing_from, 2);
    assert_int_equal(probe->gap.goes_on_at, 2 + (int64_t)told);
    probe_done(probe, 5, 6);
    probe_free(probe);
    plain_close(&plain);
}

static void by_number(void **state)
{
    expect_told(*state, keep_two, 3);
}

static void by_age(void **state)
{
    expect_told(*state, keep_a_second, 4);
}

/* Its bytes hold no more than the last message, or two of them. */
static void by_bytes(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;
    uint64_t left;

    plain_stream(&plain, topic, topic, NULL);
    probe = first(fixture, topic);
    publish(fixture, topic, 0, 6);
    probe_wait(probe, 6);
    for (unsigned i = 0; i < 6; i++)
        kv_expect(probe_settle(probe, i, SETTLE_RETRY, 600000), ERR_OK, NULL);
    change(&plain, topic, keep_few_bytes);
    left = plain_count(&plain, topic);
    assert_true(left < 6);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == 6 - left);
    probe_free(probe);
    plain_close(&plain);
}

/* One by one, by an operator; two gaps, as what is between them is there. */
static void one_by_one(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, topic, topic, NULL);
    probe = first(fixture, topic);
    publish(fixture, topic, 0, 4);
    probe_wait(probe, 4);
    for (unsigned i = 0; i < 4; i++)
        kv_expect(probe_settle(probe, i, SETTLE_RETRY, 600000), ERR_OK, NULL);
    assert_int_equal(js_DeleteMsg(plain.js, topic, 2, NULL, NULL), NATS_OK);
    assert_int_equal(js_DeleteMsg(plain.js, topic, 4, NULL, NULL), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == 2);
    assert_int_equal(probe_gaps(probe), 2);
    probe_free(probe);
    plain_close(&plain);
}

/* ---- whoever reads next ---- */

/* Nobody reads when they are removed: the next one is told, and the one after it is not. */
static void while_nobody_reads(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, topic, topic, NULL);
    publish(fixture, topic, 0, 5);
    probe = first(fixture, topic);
    probe_wait(probe, 5);
    probe_done(probe, 0, 1);
    kv_expect(probe_settle(probe, 1, SETTLE_RETRY, 600000), ERR_OK, NULL);
    probe_free(probe); /* gives 2, 3 and 4 back */
    change(&plain, topic, keep_a_second);
    KV_UNTIL(&fixture->messages.kv, is_empty(&plain, topic));
    change(&plain, topic, keep_all);
    probe = second(fixture, topic);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == 4);
    assert_int_equal(probe_gaps(probe), 1);
    publish(fixture, topic, 5, 1);
    probe_wait(probe, 1);
    assert_int_equal(probe_number(probe, 0), 5);
    probe_done(probe, 0, 1);
    probe_free(probe);
    probe = first(fixture, topic);
    kv_pass(&fixture->messages.kv, 3000);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
    plain_close(&plain);
}

/* With two readers in two instances one of them is told. */
static void one_of_two(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *one, *other;

    plain_stream(&plain, topic, topic, NULL);
    publish(fixture, topic, 0, 4);
    one = first(fixture, topic);
    probe_wait(one, 4);
    for (unsigned i = 0; i < 4; i++)
        kv_expect(probe_settle(one, i, SETTLE_RETRY, 600000), ERR_OK, NULL);
    other = second(fixture, topic);
    change(&plain, topic, keep_two);
    KV_UNTIL(&fixture->messages.kv, probe_missed(one) + probe_missed(other) >= 2);
    kv_pass(&fixture->messages.kv, 3000);
    assert_int_equal(probe_missed(one) + probe_missed(other), 2);
    probe_free(one);
    probe_free(other);
    plain_close(&plain);
}

/* ---- the stream of notices fails ---- */

/* It takes advisories: a new stream begins with them, and then takes what is put back. */
static bool hears(struct plain *plain)
{
    return js_Publish(NULL, plain->js, NOTICES ".nobody", "", 0, NULL, NULL) == NATS_OK;
}

/* It is gone when a reader looks: it is made anew, and the next gap is told without another
 * connection. */
static void a_failure_is_not_for_good(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, topic, topic, NULL);
    probe = first(fixture, topic);
    publish(fixture, topic, 0, 4);
    probe_wait(probe, 4);
    for (unsigned i = 0; i < 4; i++)
        kv_expect(probe_settle(probe, i, SETTLE_RETRY, 600000), ERR_OK, NULL);
    assert_int_equal(js_DeleteStream(plain.js, NOTICES, NULL, NULL), NATS_OK);
    assert_int_equal(js_DeleteMsg(plain.js, topic, 2, NULL, NULL), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, hears(&plain));
    assert_int_equal(js_DeleteMsg(plain.js, topic, 4, NULL, NULL), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == 1);
    assert_int_equal(probe->gap.missing_from, 4);
    probe_free(probe);
    plain_close(&plain);
}

static bool is_claimed(struct plain *plain, uint64_t after)
{
    jsStreamInfo *info = NULL;
    bool claimed;

    assert_int_equal(js_GetStreamInfo(&info, plain->js, NOTICES, NULL, NULL), NATS_OK);
    claimed = info->State.LastSeq > after && info->State.Msgs == 0;
    jsStreamInfo_Destroy(info);
    return claimed;
}

static uint64_t empty_notices(struct plain *plain)
{
    jsStreamInfo *info = NULL;
    uint64_t last;

    assert_int_equal(js_PurgeStream(plain->js, NOTICES, NULL, NULL), NATS_OK);
    assert_int_equal(js_GetStreamInfo(&info, plain->js, NOTICES, NULL, NULL), NATS_OK);
    last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return last;
}

/* It is gone when a reader leaves: what that one had in hand is put back all the same. */
static void putting_back_is_tried_again(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;
    uint64_t last;

    plain_stream(&plain, topic, topic, NULL);
    probe = first(fixture, topic);
    publish(fixture, topic, 0, 3);
    probe_wait(probe, 3);
    last = empty_notices(&plain);
    assert_int_equal(js_DeleteMsg(plain.js, topic, 1, NULL, NULL), NATS_OK);
    assert_int_equal(js_DeleteMsg(plain.js, topic, 2, NULL, NULL), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, is_claimed(&plain, last + 1));
    assert_int_equal(js_DeleteStream(plain.js, NOTICES, NULL, NULL), NATS_OK);
    probe_free(probe);
    probe = first(fixture, topic);
    KV_UNTIL(&fixture->messages.kv, probe_missed(probe) == 2);
    assert_int_equal(probe->gap.missing_from, 1);
    probe_free(probe);
    plain_close(&plain);
}

/* ---- what is in hand ---- */

/* What is settled after all is no gap; what fails is one, and so is what its reader leaves. */
static void what_is_in_hand(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *one, *other;

    plain_stream(&plain, topic, topic, NULL);
    publish(fixture, topic, 0, 3);
    one = first(fixture, topic);
    probe_wait(one, 3);
    other = second(fixture, topic); /* does not tell what the first one has */
    change(&plain, topic, keep_a_second);
    KV_UNTIL(&fixture->messages.kv, is_empty(&plain, topic));
    change(&plain, topic, keep_all);
    kv_pass(&fixture->messages.kv, 3000);
    assert_int_equal(probe_gaps(one) + probe_gaps(other), 0);
    probe_done(one, 0, 1);
    kv_expect(probe_settle(one, 1, SETTLE_RETRY, 0), ERR_OK, NULL);
    KV_UNTIL(&fixture->messages.kv, probe_missed(one) == 1);
    assert_int_equal(one->gap.missing_from, 2);
    probe_free(one);
    probe_free(other);
    one = first(fixture, topic);
    KV_UNTIL(&fixture->messages.kv, probe_missed(one) == 1);
    assert_int_equal(one->gap.missing_from, 3);
    probe_free(one);
    plain_close(&plain);
}

static void a_subscription_may_end_with_it(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, topic, topic, NULL);
    publish(fixture, topic, 0, 3);
    probe = reader(fixture, fixture->messages.kv.backend, topic, GAP_FAIL);
    probe_wait(probe, 3);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 600000), ERR_OK, NULL);
    change(&plain, topic, keep_two);
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_DATA_LOSS, NULL);
    probe_free(probe);
    plain_close(&plain);
}

/* ---- what it is not ---- */

static void expect_no_gap_by_others(struct nats_fixture *fixture, struct plain plain,
                                    const char *topic)
{
    struct probe *probe;
    char subject[512];

    plain_stream(&plain, topic, topic, NULL);
    publish(fixture, topic, 0, 2);
    probe = first(fixture, topic);
    probe_wait(probe, 2);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 600000), ERR_OK, NULL);
    snprintf(subject, sizeof subject, "$JS.ACK.%s.g@%s.1.1.1.0.0", topic, topic);
    assert_int_equal(natsConnection_PublishString(plain.connection, subject, "+TERM"), NATS_OK);
    assert_int_equal(natsConnection_Flush(plain.connection), NATS_OK);
    kv_pass(&fixture->messages.kv, 4000);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
    plain_close(&plain);
}

/* Another client of the group that ends a message has dealt with it. */
static void what_others_end_is_no_gap(void **state)
{
    struct nats_fixture *fixture = *state;

    expect_no_gap_by_others(fixture, plain_open(&server), message_topic(&fixture->messages));
}

/* Servers that do not say why they forgot a message are asked whether it is there. No answer does
 * not say that it is removed. */
static void what_is_not_answered_is_no_gap(void **state)
{
    const char *const pairs[] = {"username",       "prism", "password", "secret",
                                 "ack_timeout_ms", "500",   NULL};
    struct nats_server normal = server, strict;
    struct nats_fixture *fixture;

    (void)state;
    nats_server_start(&strict,
                      "jetstream { store_dir: \"js\" }\n"
                      "authorization { users: [ { user: prism, password: secret, permissions: { "
                      "publish: { deny: [ \"$JS.API.STREAM.MSG.GET.strict\" ] } } }, "
                      "{ user: plain, password: plain } ] }\nno_auth_user: plain");
    server = strict;
    fixture = jetstream_open(&strict, pairs);
    expect_no_gap_by_others(fixture, plain_open(&strict), "strict");
    nats_fixture_close((void **)&fixture);
    nats_server_stop(&strict);
    server = normal;
}

/* Nothing else changes. */
static void without_permission(void **state)
{
    const char *const pairs[] = {"username", "prism", "password", "secret", NULL};
    struct nats_server normal = server, strict;
    struct nats_fixture *fixture;
    struct probe *probe;

    (void)state;
    nats_server_start(&strict,
                      "jetstream { store_dir: \"js\" }\n"
                      "authorization { users: [ { user: prism, password: secret, permissions: { "
                      "publish: { deny: [ \"$JS.API.STREAM.INFO.PRISM_RETURNS_REMOVED\" ] }, "
                      "subscribe: { deny: [ \"$JS.EVENT.>\" ] } } }, "
                      "{ user: plain, password: plain } ] }\nno_auth_user: plain");
    server = strict;
    fixture = jetstream_open(&strict, pairs);

    struct plain plain = plain_open(&strict);

    plain_stream(&plain, "strict", "strict", NULL);
    probe = first(fixture, "strict");
    publish(fixture, "strict", 0, 2);
    probe_wait(probe, 2);
    probe_done(probe, 0, 2);
    probe_free(probe);
    plain_close(&plain);
    nats_fixture_close((void **)&fixture);
    nats_server_stop(&strict);
    server = normal;
}

static int run_on(const char *name)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(by_number),
        KV_TEST(by_bytes),
        KV_TEST(by_age),
        KV_TEST(one_by_one),
        KV_TEST(while_nobody_reads),
        KV_TEST(one_of_two),
        KV_TEST(a_failure_is_not_for_good),
        KV_TEST(putting_back_is_tried_again),
        KV_TEST(what_is_in_hand),
        KV_TEST(a_subscription_may_end_with_it),
        KV_TEST(what_others_end_is_no_gap),
        cmocka_unit_test(what_is_not_answered_is_no_gap),
        cmocka_unit_test(without_permission),
    };
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }\n");
    failed = cmocka_run_group_tests_name(name, tests, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    return nats_server_each("jetstream, what is removed", run_on);
}
