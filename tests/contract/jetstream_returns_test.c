/* What is given back is no attempt, on a server that counts every delivery: written down for others
 * before it goes back (C2, C3, C16), with all that may be in its way. */
#include "backends/nats/jet_priv.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct nats_server server;

static struct nats_fixture *open_on(const struct nats_server *on, const char *const *pairs)
{
    struct nats_fixture *fixture = jetstream_open(on, pairs);
    static unsigned groups;

    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "r%u-", ++groups);
    return fixture;
}

static int open_fixture(void **state)
{
    const char *const pairs[] = {"create_streams", "true", "ack_timeout_ms", "500", NULL};

    *state = open_on(&server, pairs);
    return 0;
}

static struct probe *reader(struct nats_fixture *fixture, struct backend *backend,
                            const char *topic)
{
    struct probe *probe = probe_stream(&fixture->messages, backend, probe_want(topic, "g"));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

static struct probe *first(struct nats_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.kv.backend, topic);
}

static struct probe *second(struct nats_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.second, topic);
}

static void publish(struct nats_fixture *fixture, const char *topic, unsigned from, unsigned n)
{
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, from, n);
}

/* Messages [from, from + n) in their order, each as this attempt. */
static void expect(struct probe *probe, size_t at, unsigned from, unsigned n, unsigned attempt)
{
    probe_wait(probe, at + n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(probe_number(probe, at + i), from + i);
        assert_int_equal(probe_got(probe, at + i)->m.attempt, attempt);
    }
}

static struct jet_store *store_of(struct nats_fixture *fixture)
{
    return CONTAINER_OF(fixture->store, struct jet_store, base.base);
}

static uint64_t counted(struct nats_fixture *fixture)
{
    return counter_read(&store_of(fixture)->counted);
}

/* ---- at the broker ---- */

/* What Prism tells the server. Not everything: requests to inboxes that are gone would have
 * somebody who takes their answers. */
static const char *const tapped[] = {"$JS.ACK.>", "$JS.API.STREAM.>", "PRISM_RETURNS.>"};

struct tap {
    natsSubscription *subscriptions[ARRAY_LEN(tapped)];
    _Atomic unsigned settled, asked, reads, writes;
};

static void on_tapped(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                      void *arg)
{
    const char *subject = natsMsg_GetSubject(message);
    struct tap *tap = arg;

    (void)connection;
    (void)subscription;
    tap->settled += strncmp(subject, "$JS.ACK.", 8) == 0;
    tap->asked += strncmp(subject, "$JS.API.", 8) == 0;
    tap->reads += strcmp(subject, "$JS.API.STREAM.MSG.GET.PRISM_RETURNS") == 0;
    tap->writes += strncmp(subject, "PRISM_RETURNS.", 14) == 0;
    natsMsg_Destroy(message);
}

static void tap_open(struct tap *tap, struct plain *plain)
{
    *tap = (struct tap){.settled = 0};
    for (size_t i = 0; i < ARRAY_LEN(tapped); i++)
        assert_int_equal(natsConnection_Subscribe(&tap->subscriptions[i], plain->connection,
                                                  tapped[i], on_tapped, tap),
                         NATS_OK);
    assert_int_equal(natsConnection_Flush(plain->connection), NATS_OK);
}

static bool is_idle(const struct tap *tap)
{
    uint64_t queued = 0, all = 0;

    for (size_t i = 0; i < ARRAY_LEN(tapped); i++) {
        assert_int_equal(natsSubscription_QueuedMsgs(tap->subscriptions[i], &queued), NATS_OK);
        all += queued;
    }
    return all == 0;
}

/* What the server had from others before this has come here; the last of each is being counted. */
static void tap_settle(struct nats_fixture *fixture, const struct tap *tap, struct plain *plain)
{
    assert_int_equal(natsConnection_Flush(plain->connection), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, is_idle(tap));
}

static void tap_close(struct tap *tap)
{
    for (size_t i = 0; i < ARRAY_LEN(tapped); i++) {
        natsSubscription_Unsubscribe(tap->subscriptions[i]);
        natsSubscription_Destroy(tap->subscriptions[i]);
    }
}

/* A message that is delivered once and settled costs nothing of it; what goes back together costs
 * one question and one write, what comes back together one question. */
static void what_it_costs(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe = first(fixture, topic);
    struct tap tap;

    KV_UNTIL(&fixture->messages.kv, jet_journal_state(store_of(fixture)) == JET_JOURNAL_READY);
    tap_open(&tap, &plain);
    for (unsigned i = 0; i < 10; i++) {
        publish(fixture, topic, 50 * i, 50);
        expect(probe, 50 * i, 50 * i, 50, 1);
        probe_done(probe, 50 * i, 50 * (i + 1));
    }
    tap_settle(fixture, &tap, &plain);
    KV_UNTIL(&fixture->messages.kv, tap.settled >= 500);
    assert_int_equal(tap.settled, 500);
    assert_true(fixture->messages.kv.backend->has.stream->settling.release_is_free);
    assert_int_equal(tap.asked + tap.writes, 0);
    publish(fixture, topic, 500, 50);
    expect(probe, 500, 500, 50, 1);
    probe_free(probe);
    tap_settle(fixture, &tap, &plain);
    KV_UNTIL(&fixture->messages.kv, tap.reads + tap.writes >= 2);
    assert_int_equal(tap.reads, 1);
    assert_int_equal(tap.writes, 1);
    probe = second(fixture, topic);
    expect(probe, 0, 500, 50, 1);
    probe_done(probe, 0, 50);
    probe_free(probe);
    tap_settle(fixture, &tap, &plain);
    KV_UNTIL(&fixture->messages.kv, tap.reads >= 2);
    assert_int_equal(tap.writes, 1);
    assert_in_range(tap.reads, 2, 4); /* the server may send them in several parts */
    tap_close(&tap);
    plain_close(&plain);
}

/* ---- whoever reads next ---- */

/* What is given back comes before what is new, whatever it waits for. */
static void many_hands(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);

    publish(fixture, topic, 0, 20);
    for (unsigned i = 0; i < 6; i++) {
        struct probe *probe = i % 2 == 0 ? first(fixture, topic) : second(fixture, topic);

        expect(probe, 0, 0, 20 + i, 1);
        publish(fixture, topic, 20 + i, 1);
        expect(probe, 20 + i, 20 + i, 1, 1);
        probe_free(probe);
    }
}

/* Failures count on, wherever they happen, and what is given back between them does not. */
static void retries_are_counted(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);

    publish(fixture, topic, 0, 1);
    for (unsigned i = 0; i < 4; i++) {
        struct probe *probe = i % 2 == 0 ? first(fixture, topic) : second(fixture, topic);

        expect(probe, 0, 0, 1, 2 * i + 1);
        kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
        expect(probe, 1, 0, 1, 2 * i + 1);
        kv_expect(probe_settle(probe, 1, SETTLE_RETRY, 0), ERR_OK, NULL);
        expect(probe, 2, 0, 1, 2 * i + 2);
        kv_expect(probe_settle(probe, 2, SETTLE_RETRY, 0), ERR_OK, NULL);
        expect(probe, 3, 0, 1, 2 * i + 3);
        probe_free(probe);
    }
}

/* After a seek the server counts anew, and so do we. */
static void start_seek(struct backend *backend, struct op *op)
{
    backend->has.stream->seek(backend, (struct stream_seek *)(void *)op);
}

static void a_seek_begins_anew(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct stream_seek seek = {.topic = slice_str(topic),
                               .group = slice_str("g"),
                               .partition = -1,
                               .start = START_EARLIEST};
    struct probe *probe = first(fixture, topic);

    publish(fixture, topic, 0, 1);
    expect(probe, 0, 0, 1, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    expect(probe, 1, 0, 1, 2);
    kv_expect(probe_settle(probe, 1, SETTLE_RELEASE, 0), ERR_OK, NULL);
    expect(probe, 2, 0, 1, 2);
    kv_expect(kv_do(&fixture->messages.kv, start_seek, &seek.op), ERR_OK, NULL);
    expect(probe, 3, 0, 1, 1);
    kv_expect(probe_settle(probe, 3, SETTLE_RETRY, 0), ERR_OK, NULL);
    expect(probe, 4, 0, 1, 2);
    probe_free(probe);
    probe = second(fixture, topic);
    expect(probe, 0, 0, 1, 2);
    probe_free(probe);
}

/* It may have forgotten what went back last: then that comes after the consumer's patience. */
static void the_server_is_killed(void **state)
{
    const char *const pairs[] = {"create_streams", "true", "ack_wait_ms", "5000", NULL};
    struct nats_fixture *fixture = open_on(&server, pairs);
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = first(fixture, topic);

    (void)state;
    publish(fixture, topic, 0, 1);
    expect(probe, 0, 0, 1, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    expect(probe, 1, 0, 1, 2);
    probe_free(probe);
    nats_server_kill(&server);
    nats_server_restart(&server);
    probe = second(fixture, topic);
    expect(probe, 0, 0, 1, 2);
    probe_done(probe, 0, 1);
    probe_free(probe);
    nats_fixture_close((void **)&fixture);
}

/* ---- others write, too ---- */

enum { PAGE_ROOM = 512 };

static void subject_of(char subject[PAGE_ROOM], const char *topic)
{
    snprintf(subject, PAGE_ROOM, "PRISM_RETURNS.%s.g@%s", topic, topic);
}

static void read_page(struct plain *plain, const char *topic, char page[PAGE_ROOM])
{
    char subject[PAGE_ROOM];
    natsMsg *message = NULL;

    subject_of(subject, topic);
    assert_int_equal(js_GetLastMsg(&message, plain->js, "PRISM_RETURNS", subject, NULL, NULL),
                     NATS_OK);
    snprintf(page, PAGE_ROOM, "%.*s", natsMsg_GetDataLength(message), natsMsg_GetData(message));
    natsMsg_Destroy(message);
}

/* The page as it is, with a row of somebody else's. */
static void write_beside(struct plain *plain, const char *topic, const char *row)
{
    char subject[PAGE_ROOM], page[PAGE_ROOM];

    read_page(plain, topic, page);
    assert_true(strlen(page) + strlen(row) < sizeof page);
    memcpy(page + strlen(page), row, strlen(row) + 1);
    subject_of(subject, topic);
    assert_int_equal(js_Publish(NULL, plain->js, subject, page, (int)strlen(page), NULL, NULL),
                     NATS_OK);
}

static void nobody_overwrites_others(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe =
        probe_stream(&fixture->messages, fixture->messages.kv.backend, probe_want(topic, "g"));
    char page[PAGE_ROOM];

    publish(fixture, topic, 0, 3);
    probe_grant(probe, 2, BYTES);
    expect(probe, 0, 0, 2, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
    write_beside(&plain, topic, "3-3 7 5\n");
    kv_expect(probe_settle(probe, 1, SETTLE_RELEASE, 0), ERR_OK, NULL);
    probe_free(probe);
    read_page(&plain, topic, page);
    assert_string_equal(strchr(page, '\n'), "\n1-2 1 1\n3-3 7 5\n");
    probe = second(fixture, topic);
    expect(probe, 0, 0, 2, 1);
    probe_free(probe);
    assert_int_equal(counted(fixture), 0);
    plain_close(&plain);
}

/* ---- without it ---- */

/* Delivered again as another attempt, to others; who gave it back knows better. */
static void expect_counted(struct nats_fixture *fixture, const char *topic)
{
    uint64_t begun_ms = kv_clock_ms(), before = counted(fixture);
    struct probe *probe = first(fixture, topic);

    publish(fixture, topic, 0, 2);
    expect(probe, 0, 0, 2, 1);
    kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
    expect(probe, 2, 0, 1, 1);
    probe_free(probe);
    assert_int_equal(counted(fixture) - before, 3);
    probe = second(fixture, topic);
    probe_wait(probe, 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(probe_got(probe, i)->m.attempt, probe_number(probe, i) == 0 ? 3 : 2);
    probe_done(probe, 0, 2);
    probe_free(probe);
    assert_true(kv_clock_ms() - begun_ms < 5000);
    KV_UNTIL(&fixture->messages.kv, jet_journal_state(store_of(fixture)) == JET_JOURNAL_REFUSED);
    probe_free(first(fixture, topic));
    assert_false(fixture->messages.kv.backend->has.stream->settling.release_is_free);
}

static void without_permission(void **state)
{
    static const char *const denied[] = {"$JS.API.STREAM.INFO.PRISM_RETURNS",
                                         "$JS.API.STREAM.CREATE.PRISM_RETURNS",
                                         "$JS.API.STREAM.MSG.GET.PRISM_RETURNS", "PRISM_RETURNS.>"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(denied); i++) {
        const char *const pairs[] = {"username",       "prism", "password", "secret",
                                     "create_streams", "true",  NULL};
        struct nats_server strict;
        struct nats_fixture *fixture;
        char config[512];

        snprintf(config, sizeof config,
                 "jetstream { store_dir: \"js\" }\nauthorization { users: [ { user: prism, "
                 "password: secret, permissions: { publish: { deny: [ \"%s\" ] } } } ] }",
                 denied[i]);
        nats_server_start(&strict, config);
        fixture = open_on(&strict, pairs);
        expect_counted(fixture, message_topic(&fixture->messages));
        expect_counted(fixture, message_topic(&fixture->messages));
        nats_fixture_close((void **)&fixture);
        nats_server_stop(&strict);
    }
}

static void where_none_is_wanted(void **state)
{
    const char *const pairs[] = {"returns_stream", "", "create_streams", "true", NULL};
    struct nats_fixture *fixture = open_on(&server, pairs);

    (void)state;
    expect_counted(fixture, message_topic(&fixture->messages));
    nats_fixture_close((void **)&fixture);
}

/* An operator removes it: what it said is lost, and the next one is made. */
static void removed_and_made_again(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct plain plain = plain_open(&server);
    struct probe *probe = first(fixture, topic);
    uint64_t before = counted(fixture), begun_ms = kv_clock_ms();
    bool is_counted = true;

    publish(fixture, topic, 0, 1);
    expect(probe, 0, 0, 1, 1);
    assert_int_equal(js_DeleteStream(plain.js, "PRISM_RETURNS", NULL, NULL), NATS_OK);
    kv_expect(probe_settle(probe, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
    expect(probe, 1, 0, 1, 1);
    assert_int_equal(counted(fixture) - before, 1);
    for (size_t n = 2; is_counted; n++) { /* soon it is asked again */
        before = counted(fixture);
        probe_grant(probe, 1, 1000);
        kv_expect(probe_settle(probe, n - 1, SETTLE_RELEASE, 0), ERR_OK, NULL);
        expect(probe, n, 0, 1, 1);
        is_counted = counted(fixture) != before;
        assert_true(kv_clock_ms() - begun_ms < KV_PATIENCE_MS);
    }
    probe_free(probe);
    probe = second(fixture, topic);
    expect(probe, 0, 0, 1, 1);
    probe_free(probe);
    plain_close(&plain);
}

static int run_on(const char *name)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(what_it_costs),
        KV_TEST(many_hands),
        KV_TEST(retries_are_counted),
        KV_TEST(a_seek_begins_anew),
        KV_TEST(nobody_overwrites_others),
        cmocka_unit_test(the_server_is_killed),
        KV_TEST(removed_and_made_again),
        cmocka_unit_test(without_permission),
        cmocka_unit_test(where_none_is_wanted),
    };
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }\n");
    failed = cmocka_run_group_tests_name(name, tests, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    return nats_server_each("jetstream, what is given back", run_on);
}
