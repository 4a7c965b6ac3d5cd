/* Queues on Postgres: the contract, by two stores; and what one process tells the other. */
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/digest.h"
#include "tests/contract/message_contract.h"
#include "tests/contract/postgres_queues.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static int open_fixture(void **state)
{
    return postgres_queues_open(state, (redis_settings){"queue_poll_ms", "20", NULL});
}

static int open_bounded(void **state)
{
    struct message_fixture *messages;

    postgres_queues_open(state, (redis_settings){"queue_poll_ms", "20", "queue_max_messages", "10",
                                                 "queue_max_bytes", "6000", NULL});
    messages = *state;
    messages->bounds.messages = 10;
    messages->bounds.bytes = 6000;
    return 0;
}

/* The whole contract by the statement of bounds. */
static int open_wide(void **state)
{
    return postgres_queues_open(state, (redis_settings){"queue_poll_ms", "20", "queue_max_messages",
                                                        "100000", "queue_max_bytes", "1000000000",
                                                        "queue_max_age_ms", "1000000000", NULL});
}

static int open_aging(void **state)
{
    postgres_queues_open(state,
                         (redis_settings){"queue_poll_ms", "20", "queue_max_age_ms", "200", NULL});
    ((struct message_fixture *)*state)->bounds.age_ms = 200;
    return 0;
}

/* No test is patient enough for a look at the queue that nobody has asked for. */
static int open_told(void **state)
{
    return postgres_queues_open(state, (redis_settings){"queue_poll_ms", "60000", NULL});
}

/* With a bound, each push looks once more behind its commit. */
static int open_told_bounded(void **state)
{
    return postgres_queues_open(
        state, (redis_settings){"queue_poll_ms", "60000", "queue_max_messages", "100", NULL});
}

enum { LEASE_MS = 6000 };

static int open_leased(void **state)
{
    return postgres_queues_open(
        state, (redis_settings){"queue_poll_ms", "20", "queue_lease_ms", "6000", NULL});
}

/* The server refuses this user's notifications: a transaction with one in it fails. */
static int open_mute(void **state)
{
    postgres_fixture_sql("DO $$ BEGIN IF to_regrole('mute') IS NULL THEN CREATE ROLE mute LOGIN;"
                         " END IF; END $$; GRANT CREATE ON DATABASE postgres TO mute;"
                         " REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC");
    assert_string_equal(
        postgres_fixture_sql("SELECT has_function_privilege('mute', 'pg_notify(text, text)',"
                             " 'execute')"),
        "f");
    return postgres_queues_open(
        state, (redis_settings){"queue_poll_ms", "20", "username", "mute", "schema", "mute", NULL});
}

/* Nulls, empties, octets of all kinds, and headers come as they were pushed. */
static void messages_come_as_they_were(void **state)
{
    struct message_fixture *fixture = *state;
    const struct header headers[] = {{slice_str("a"), slice_str("1")},
                                     {slice_str("a"), slice_of("\0\xff", 2)},
                                     {slice_str("empty"), message_empty()},
                                     {slice_str("null"), message_null()}};
    const char *name = message_topic(fixture);
    struct outgoing items[] = {
        {.topic = slice_str(name), .payload = slice_of("\0\xff", 2), .key = message_empty()},
        {.topic = slice_str(name),
         .payload = message_null(),
         .id = slice_str("id"),
         .headers = headers,
         .n_headers = 4},
    };
    struct probe *probe;
    const struct incoming *m;

    kv_expect(message_publish(fixture, &fixture->kv.backend->has.queue->sink, items, 2), ERR_OK,
              NULL);
    probe = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    probe_grant(probe, 10, 1 << 20);
    probe_wait(probe, 2);
    m = &probe_got(probe, 0)->m;
    assert_true(slice_equal(m->payload, items[0].payload));
    assert_true(!message_is_null(m->key) && m->key.len == 0 && message_is_null(m->id));
    m = &probe_got(probe, 1)->m;
    assert_true(message_is_null(m->payload) && message_is_null(m->key));
    assert_true(slice_equal(m->id, slice_str("id")));
    assert_int_equal(m->n_headers, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(slice_equal(m->headers[i].name, headers[i].name));
        assert_true(slice_equal(m->headers[i].value, headers[i].value));
        assert_int_equal(message_is_null(m->headers[i].value), i == 3);
    }
    probe_done(probe, 0, 2);
    probe_free(probe);
}

/* ---- across processes: the first store pushes, the second one waits ---- */

static void push_silently(const struct probe *probe)
{
    postgres_queues_push_silently(probe, 0, "");
}

/* What is pushed elsewhere comes, again and again, to a subscription that has nothing else to wake
 * it. The first message may come because the subscription has just begun to listen. */
static void a_push_elsewhere_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    struct probe *probe =
        probe_queue(fixture, fixture->second, probe_want(message_topic(fixture), NULL));

    probe_grant(probe, 100, 1 << 20);
    for (size_t i = 0; i < 20; i++) {
        postgres_queues_push(fixture, probe->subscription.want.topic, 0);
        probe_wait(probe, i + 1);
    }
    probe_done(probe, 0, 20);
    probe_free(probe);
}

/* The queue's name has no part in what is executed, and another queue's subscriptions sleep on. */
static void names_are_any_octets(void **state)
{
    static char name[4096] = "'; DROP TABLE prism.messages; --\"\\$1@";
    struct message_fixture *fixture = *state;
    struct subscription_want want = probe_want("x", NULL);
    struct probe *probe;

    memset(name + strlen(name) + 1, 0xff, sizeof name - strlen(name) - 1);
    want.topic = slice_of(name, sizeof name);
    probe = probe_queue(fixture, fixture->second, want);
    probe_grant(probe, 100, 1 << 20);
    for (size_t i = 0; i < 5; i++) {
        postgres_queues_push(fixture, want.topic, 0);
        probe_wait(probe, i + 1);
    }
    probe_done(probe, 0, 5);
    probe_free(probe);
}

/* A taker that sleeps learns when the next message is due. */
static void a_delay_is_kept(void **state)
{
    struct message_fixture *fixture = *state;
    struct probe *probe =
        probe_queue(fixture, fixture->second, probe_want(message_topic(fixture), NULL));

    probe_grant(probe, 100, 1 << 20);
    postgres_queues_push(fixture, probe->subscription.want.topic, 0);
    probe_wait(probe, 1);
    postgres_queues_push(fixture, probe->subscription.want.topic, 300);
    probe_wait(probe, 2);
    probe_done(probe, 0, 2);
    probe_free(probe);
}

/* One takes all it may and gives it back: the other one, which waits, has it. */
static void what_is_given_back_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *taker = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    struct probe *waits = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(waits, 1, 1 << 20);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(waits, 1);
    probe_grant(taker, 1, 1 << 20);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(taker, 1);
    probe_grant(waits, 1, 1 << 20);
    probe_quiet(waits, 1);
    kv_expect(probe_settle(taker, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
    probe_wait(waits, 2);
    probe_done(waits, 0, 2);
    probe_free(taker);
    probe_free(waits);
}

/* B6: with all connections ended by the server, what is pushed meanwhile and afterwards comes. */
static void listens_again_after_a_loss(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(probe, 100, 1 << 20);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(probe, 1);
    postgres_queues_push_silently(probe, 0,
                                  "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                  " WHERE application_name = 'prism'");
    probe_wait(probe, 2);
    KV_UNTIL(&fixture->kv, atomic_load(&fixture->kv.backend->store->state) == BACKEND_READY &&
                               atomic_load(&fixture->second->store->state) == BACKEND_READY);
    for (size_t i = 2; i < 10; i++) {
        postgres_queues_push(fixture, slice_str(name), 0);
        probe_wait(probe, i + 1);
    }
    probe_done(probe, 0, 10);
    probe_free(probe);
}

/* B6: that nothing else than being told has woken the tests above. */
static void the_untold_is_not_seen(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(probe, 100, 1 << 20);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(probe, 1);
    probe_quiet(probe, 1);
    push_silently(probe);
    probe_quiet(probe, 1);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(probe, 3);
    probe_done(probe, 0, 3);
    probe_free(probe);
}

/* One frame into more queues than are told by name: all are looked at. */
static void very_many_queues_are_told(void **state)
{
    enum { QUEUES = 200 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *first, *last;
    struct outgoing items[QUEUES];
    char names[QUEUES][64];

    for (size_t i = 0; i < QUEUES; i++) {
        snprintf(names[i], sizeof names[i], "%s-%zu", name, i);
        items[i] = (struct outgoing){.topic = slice_str(names[i]), .payload = slice_str("0")};
    }
    first = probe_queue(fixture, fixture->second, probe_want(names[0], NULL));
    last = probe_queue(fixture, fixture->second, probe_want(names[QUEUES - 1], NULL));
    probe_grant(first, 100, 1 << 20);
    probe_grant(last, 100, 1 << 20);
    for (size_t i = 0; i < 5; i++) { /* the first time it may be LISTEN that wakes them */
        kv_expect(message_publish(fixture, &fixture->kv.backend->has.queue->sink, items, QUEUES),
                  ERR_OK, NULL);
        probe_wait(first, i + 1);
        probe_wait(last, i + 1);
    }
    probe_free(first);
    probe_free(last);
}

/* The look behind a push, which is the one statement that deletes, does this instead. */
static void instead_of_the_look(const char *what)
{
    char sql[512];

    snprintf(sql, sizeof sql,
             "CREATE OR REPLACE FUNCTION prism.instead() RETURNS trigger LANGUAGE plpgsql AS $$"
             " BEGIN %s; RETURN NULL; END $$; CREATE OR REPLACE TRIGGER instead"
             " BEFORE DELETE ON prism.messages FOR EACH STATEMENT EXECUTE FUNCTION prism.instead()",
             what);
    postgres_fixture_sql(sql);
}

static void push_without_look(struct message_fixture *fixture, const char *name, const char *what)
{
    struct outgoing item = {.topic = slice_str(name), .payload = slice_str("0")};
    struct err err;

    instead_of_the_look(what);
    err = message_publish(fixture, &fixture->kv.backend->has.queue->sink, &item, 1);
    postgres_fixture_sql("DROP FUNCTION prism.instead() CASCADE");
    assert_int_not_equal(err.code, ERR_OK);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
}

/* The message is stored, though nobody knows whether it was taken back. */
static void what_may_be_stored_is_told(void **state)
{
    static const char *const faults[] = {"RAISE EXCEPTION 'no look'",
                                         "PERFORM pg_terminate_backend(pg_backend_pid())"};
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));
    size_t n = 1;

    probe_grant(probe, 100, 1 << 20);
    postgres_queues_push(fixture, slice_str(name), 0);
    probe_wait(probe, n);
    probe_quiet(probe, n);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        push_without_look(fixture, name, faults[i]);
        probe_wait(probe, ++n);
        KV_UNTIL(&fixture->kv, atomic_load(&fixture->kv.backend->store->state) == BACKEND_READY);
    }
    probe_done(probe, 0, n);
    probe_free(probe);
}

/* ---- how often it is told ---- */

/* A connection that hears what the stores are told. */
static PGconn *eavesdrop(void)
{
    PGconn *pg = postgres_fixture_connect();
    char text[96], hex[DIGEST_HEX];
    struct digest digest;
    struct slice of;

    snprintf(text, sizeof text, "\"prism\" %s",
             postgres_fixture_sql("SELECT id FROM prism.spaces WHERE name = 'a'"));
    of = slice_str(text);
    digest = digest_of(&of, 1);
    digest_hex(&digest, hex);
    snprintf(text, sizeof text, "LISTEN prism_%.32s", hex);
    PQclear(PQexec(pg, text));
    return pg;
}

/* How often the queue has been told, up to the first word of another one. */
static unsigned count_told(PGconn *pg, const char *name, const char *until)
{
    struct slice slices[] = {slice_str(name), slice_str(until)};
    char hex[2][DIGEST_HEX + 1] = {{0}};
    unsigned n = 0;

    for (size_t i = 0; i < 2; i++) {
        struct digest digest = digest_of(&slices[i], 1);

        digest_hex(&digest, hex[i]);
    }
    for (bool over = false; !over;) {
        struct pollfd ready = {.fd = PQsocket(pg), .events = POLLIN};
        PGnotify *told;

        assert_int_equal(poll(&ready, 1, 30000), 1);
        assert_int_equal(PQconsumeInput(pg), 1);
        while ((told = PQnotifies(pg)) != NULL) {
            n += strcmp(told->extra, hex[0]) == 0;
            over = over || strcmp(told->extra, hex[1]) == 0;
            PQfreemem(told);
        }
    }
    return n;
}

/* B6: pushes that follow each other fast are told together, 5 ms after the last time. */
static void fast_pushes_are_told_together(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    PGconn *pg = eavesdrop();
    uint64_t began_ns = clock_now_ns(), took_ms;
    unsigned n;

    for (size_t i = 0; i < 300; i++)
        postgres_queues_push(fixture, slice_str(name), 0);
    postgres_queues_push(fixture, slice_str("the last one"), 0);
    n = count_told(pg, name, "the last one");
    took_ms = (clock_now_ns() - began_ns) / NS_PER_MS;
    assert_in_range(n, 1, took_ms / 5 + 2);
    PQfinish(pg);
}

/* ---- leases ---- */

/* M7: more than one statement renews; another process stands by with credit for all. */
static void what_is_held_stays_held(void **state)
{
    enum { HELD = 2500, FRAME = 500 };
    struct message_fixture *fixture = *state;
    const struct queue *queue = fixture->kv.backend->has.queue;
    const char *name = message_topic(fixture);
    struct probe *holder = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    struct probe *other = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(holder, HELD, 1 << 30);
    for (unsigned i = 0; i < HELD; i += FRAME)
        message_publish_ok(fixture, &queue->sink, name, NULL, i, FRAME);
    probe_wait(holder, HELD);
    probe_grant(other, HELD, 1 << 30);
    kv_pass(&fixture->kv, 2 * LEASE_MS);
    assert_int_equal(probe_count(other), 0);
    assert_int_equal(probe_moves(holder).lost, 0);
    for (size_t i = 0; i < HELD; i += FRAME)
        probe_done(holder, i, i + FRAME);
    probe_free(holder);
    probe_free(other);
}

/* As after a time without the server: another process has it by now. */
static void what_was_lost_is_told(void **state)
{
    struct message_fixture *fixture = *state;
    const struct queue *queue = fixture->kv.backend->has.queue;
    const char *name = message_topic(fixture);
    struct probe *holder = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    char sql[256];

    probe_grant(holder, 2, 1 << 20);
    message_publish_ok(fixture, &queue->sink, name, NULL, 0, 2);
    probe_wait(holder, 2);
    snprintf(sql, sizeof sql,
             "UPDATE prism.messages SET delivery = nextval('prism.deliveries')"
             " WHERE queue = '%s' AND payload = '0'",
             name);
    postgres_fixture_sql(sql);
    KV_UNTIL(&fixture->kv, probe_moves(holder).by_lease > 0);
    kv_pass(&fixture->kv, LEASE_MS);
    assert_int_equal(probe_moves(holder).lost, 1);
    kv_expect(probe_settle(holder, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(probe_settle(holder, 1, SETTLE_DONE, 0), ERR_OK, NULL);
    probe_free(holder);
}

/* B6: what nobody tells of is found by polling alone. */
static void polling_finds_the_untold(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(probe, 100, 1 << 20);
    for (size_t i = 0; i < 3; i++) {
        push_silently(probe);
        probe_wait(probe, i + 1);
    }
    probe_done(probe, 0, 3);
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {KV_TEST(messages_come_as_they_were),
                                       KV_TEST(polling_finds_the_untold)};
    const struct CMUnitTest told[] = {KV_TEST(a_push_elsewhere_is_told),
                                      KV_TEST(names_are_any_octets),
                                      KV_TEST(a_delay_is_kept),
                                      KV_TEST(what_is_given_back_is_told),
                                      KV_TEST(listens_again_after_a_loss),
                                      KV_TEST(the_untold_is_not_seen),
                                      KV_TEST(very_many_queues_are_told),
                                      KV_TEST(fast_pushes_are_told_together)};
    const struct CMUnitTest bounded[] = {KV_TEST(what_may_be_stored_is_told)};
    const struct CMUnitTest leased[] = {KV_TEST(what_is_held_stays_held),
                                        KV_TEST(what_was_lost_is_told)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return message_contract("postgres", open_fixture, postgres_queues_close) +
           queue_contract("postgres, with bounds", open_wide, postgres_queues_close) +
           atomic_contract("postgres, with bounds", open_wide, postgres_queues_close) +
           queue_bounds_contract("postgres", open_bounded, postgres_queues_close) +
           queue_bounds_contract("postgres, age", open_aging, postgres_queues_close) +
           cmocka_run_group_tests_name("postgres queue", tests, open_fixture,
                                       postgres_queues_close) +
           cmocka_run_group_tests_name("postgres queue, told", told, open_told,
                                       postgres_queues_close) +
           cmocka_run_group_tests_name("postgres queue, told, with bounds", bounded,
                                       open_told_bounded, postgres_queues_close) +
           cmocka_run_group_tests_name("postgres queue, leases", leased, open_leased,
                                       postgres_queues_close) +
           /* No transaction that brings a message notifies: none fails if notifying does. */
           queue_contract("postgres, mute", open_mute, postgres_queues_close);
}
