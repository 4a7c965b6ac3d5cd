/* What a dead process had of a group comes before what is newer, for who asks for it: the contract,
 * on a server that does not say who holds what, and what is special here. */
#include "backends/nats/jet_priv.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>

enum { BYTES = 1 << 20, SILENT_MS = 2000, CREDIT = 1000 };

static struct nats_server server;

/* ---- a process that dies ---- */

static void consumer_of(const char *topic, char name[JET_NAME_BYTES])
{
    assert_true(jet_name(name, slice_str(OLDEST_GROUP), slice_str(topic)));
}

static void make_consumer(struct plain *plain, const char *topic, const char *name)
{
    jsConsumerConfig config;

    jsConsumerConfig_Init(&config);
    config.Durable = name;
    config.FilterSubject = topic;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = SILENT_MS * 1000000ll;
    assert_int_equal(js_AddConsumer(NULL, plain->js, topic, &config, NULL, NULL), NATS_OK);
}

/* Streams that Prism makes are named as their topics. */
static void dies_with(struct message_fixture *fixture, const char *topic, unsigned n)
{
    char name[JET_NAME_BYTES], subject[2 * JET_NAME_BYTES + 64], wants[32];
    struct plain plain = plain_open(&server);
    natsSubscription *inbox;
    natsMsg *message;

    (void)fixture;
    consumer_of(topic, name);
    make_consumer(&plain, topic, name);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", topic, name);
    snprintf(wants, sizeof wants, "{\"batch\":%u}", n);
    assert_int_equal(natsConnection_SubscribeSync(&inbox, plain.connection, "dead"), NATS_OK);
    assert_int_equal(natsConnection_PublishRequestString(plain.connection, subject, "dead", wants),
                     NATS_OK);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(natsSubscription_NextMsg(&message, inbox, KV_PATIENCE_MS), NATS_OK);
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(inbox);
    plain_close(&plain);
}

static struct nats_fixture *open_on(const char *ack_wait_ms)
{
    const char *const pairs[] = {"create_streams", "true", "ack_wait_ms", ack_wait_ms,
                                 "ack_timeout_ms", "500",  NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    static unsigned groups;

    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    fixture->messages.dies_with = dies_with;
    fixture->messages.silent_ms = SILENT_MS;
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "o%u-", ++groups);
    return fixture;
}

static int open_fixture(void **state)
{
    *state = open_on("2000");
    return 0;
}

static int open_patient(void **state)
{
    *state = open_on("3600000");
    return 0;
}

/* ---- those who read ---- */

static void publish(struct nats_fixture *fixture, const char *topic, unsigned from, unsigned n)
{
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, from, n);
}

static struct probe *reader_of(struct nats_fixture *fixture, struct backend *backend,
                               const char *topic, uint32_t credit, bool oldest_first)
{
    struct subscription_want want = probe_want(topic, OLDEST_GROUP);
    struct probe *probe;

    want.oldest_first = oldest_first;
    probe = probe_stream(&fixture->messages, backend, want);
    probe_grant(probe, credit, BYTES);
    return probe;
}

static struct probe *heir(struct nats_fixture *fixture, const char *topic, uint32_t credit)
{
    return reader_of(fixture, fixture->messages.kv.backend, topic, credit, true);
}

static struct probe *other(struct nats_fixture *fixture, const char *topic, uint32_t credit)
{
    return reader_of(fixture, fixture->messages.second, topic, credit, true);
}

static void in_order(struct probe *probe, unsigned n)
{
    probe_wait(probe, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(probe_number(probe, i), i);
}

/* Those behind `from` come as this attempt. */
static void expect(struct probe *probe, unsigned from, unsigned to, unsigned attempt)
{
    in_order(probe, to);
    for (unsigned i = from; i < to; i++)
        assert_int_equal(probe_got(probe, i)->m.attempt, attempt);
}

static int64_t unsettled(struct plain *plain, const char *topic)
{
    char name[JET_NAME_BYTES];
    jsConsumerInfo *info = NULL;
    int64_t n;

    consumer_of(topic, name);
    assert_int_equal(js_GetConsumerInfo(&info, plain->js, topic, name, NULL, NULL), NATS_OK);
    n = info->NumAckPending;
    jsConsumerInfo_Destroy(info);
    return n;
}

/* ---- tests ---- */

/* Newer messages come before what the dead had can come. They take no credit, and their wait is no
 * attempt. */
static void newer_ones_take_no_room(void **state)
{
    enum { DEAD = 8, ALL = 28 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    publish(fixture, topic, 0, ALL);
    dies_with(&fixture->messages, topic, DEAD);
    probe = heir(fixture, topic, DEAD);
    expect(probe, 0, DEAD, 2);
    probe_quiet(probe, DEAD);
    probe_done(probe, 0, DEAD);
    probe_grant(probe, ALL - DEAD, BYTES);
    expect(probe, DEAD, ALL, 1);
    assert_int_equal(probe_moves(probe).lost, 0);
    probe_done(probe, DEAD, ALL);
    probe_free(probe);
}

/* More was given back than there is credit for: nobody is waited for. */
static void older_ones_go_on(void **state)
{
    enum { HELD = 7, ALL = 12, FEW = 3 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe;

    publish(fixture, topic, 0, ALL);
    probe = other(fixture, topic, HELD);
    probe_wait(probe, HELD);
    probe_free(probe);
    probe = heir(fixture, topic, FEW);
    for (unsigned at = 0; at < ALL; at += FEW) {
        expect(probe, at, at + FEW, 1);
        probe_done(probe, at, at + FEW);
        probe_grant(probe, FEW, BYTES);
    }
    probe_free(probe);
}

/* The server has them in the order in which they were given back. */
static void the_last_given_back_come_first(void **state)
{
    enum { HELD = 4 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *holders[2], *probe;

    publish(fixture, topic, 0, 2 * HELD);
    for (unsigned i = 0; i < 2; i++) {
        holders[i] = reader_of(fixture, fixture->messages.second, topic, HELD, false);
        probe_wait(holders[i], HELD);
    }
    assert_int_equal(probe_number(holders[1], 0), HELD);
    probe_free(holders[1]);
    probe_free(holders[0]);
    probe = heir(fixture, topic, HELD);
    expect(probe, 0, HELD, 1);
    probe_grant(probe, HELD, BYTES);
    expect(probe, HELD, 2 * HELD, 1);
    probe_done(probe, 0, 2 * HELD);
    probe_free(probe);
}

/* They are waited for no longer: a look tells. */
static void what_the_living_settle_is_over(void **state)
{
    enum { HELD = 2, ALL = 5 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *holder, *probe;

    publish(fixture, topic, 0, ALL);
    holder = other(fixture, topic, HELD);
    probe_wait(holder, HELD);
    probe = heir(fixture, topic, CREDIT);
    KV_UNTIL(&fixture->messages.kv, unsettled(&plain, topic) > HELD);
    probe_quiet(probe, 0);
    probe_done(holder, 0, HELD);
    probe_wait(probe, ALL - HELD);
    for (unsigned i = 0; i < ALL - HELD; i++)
        assert_int_equal(probe_number(probe, i), HELD + i);
    probe_free(holder);
    probe_free(probe);
    plain_close(&plain);
}

/* Who waited gives back what it kept; the next one waits as well. A message that comes to a request
 * that has just gone is an attempt. */
static void who_waits_may_leave(void **state)
{
    enum { DEAD = 3, ALL = 8 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    publish(fixture, topic, 0, ALL);
    dies_with(&fixture->messages, topic, DEAD);
    for (unsigned i = 0; i < 2; i++) {
        probe = other(fixture, topic, CREDIT);
        KV_UNTIL(&fixture->messages.kv, unsettled(&plain, topic) > DEAD);
        if (i == 1)
            probe_withdraw(probe);
        probe_free(probe);
    }
    probe = heir(fixture, topic, CREDIT);
    in_order(probe, ALL);
    probe_done(probe, 0, ALL);
    probe_free(probe);
    plain_close(&plain);
}

static void the_server_restarts_meanwhile(void **state)
{
    enum { DEAD = 3, ALL = 8 };
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    publish(fixture, topic, 0, ALL);
    dies_with(&fixture->messages, topic, DEAD);
    probe = heir(fixture, topic, CREDIT);
    KV_UNTIL(&fixture->messages.kv, unsettled(&plain, topic) > DEAD);
    plain_close(&plain);
    nats_server_kill(&server);
    nats_server_restart(&server);
    in_order(probe, ALL);
    probe_free(probe);
}

/* ---- what it costs ---- */

static void on_asked(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                     void *asked)
{
    (void)connection;
    (void)subscription;
    *(_Atomic unsigned *)asked += 1;
    natsMsg_Destroy(message);
}

/* How often the server is asked while `n` messages come, with nothing in hand anywhere. */
static unsigned asked(struct nats_fixture *fixture, bool oldest_first, unsigned n)
{
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    _Atomic unsigned asked = 0;
    natsSubscription *tap;
    struct probe *probe;
    uint64_t queued;

    publish(fixture, topic, 0, n);
    assert_int_equal(natsConnection_Subscribe(&tap, plain.connection, "$JS.API.CONSUMER.>",
                                              on_asked, (void *)&asked),
                     NATS_OK);
    assert_int_equal(natsConnection_Flush(plain.connection), NATS_OK);
    probe = reader_of(fixture, fixture->messages.kv.backend, topic, n, oldest_first);
    probe_wait(probe, n);
    assert_int_equal(natsConnection_Flush(plain.connection), NATS_OK);
    KV_UNTIL(&fixture->messages.kv,
             natsSubscription_QueuedMsgs(tap, &queued) == NATS_OK && queued == 0);
    natsSubscription_Destroy(tap);
    probe_free(probe);
    plain_close(&plain);
    return asked;
}

static void nothing_where_nobody_has_any(void **state)
{
    struct nats_fixture *fixture = *state;

    assert_true(asked(fixture, false, 100) > 0);
    assert_int_equal(asked(fixture, true, 100), asked(fixture, false, 100));
}

static int run_on(const char *name)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(newer_ones_take_no_room),
        KV_TEST(who_waits_may_leave),
        KV_TEST(the_server_restarts_meanwhile),
        KV_TEST(nothing_where_nobody_has_any),
    };
    const struct CMUnitTest patient[] = {
        KV_TEST(older_ones_go_on),
        KV_TEST(the_last_given_back_come_first),
        KV_TEST(what_the_living_settle_is_over),
    };
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }");
    failed = oldest_contract(name, open_fixture, nats_fixture_close) +
             kv_group(name, "the oldest first", tests, ARRAY_LEN(tests), open_fixture,
                      nats_fixture_close) +
             kv_group(name, "the oldest first, patiently", patient, ARRAY_LEN(patient),
                      open_patient, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    return nats_server_each("jetstream", run_on);
}
