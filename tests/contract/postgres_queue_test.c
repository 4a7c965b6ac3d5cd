/* Queues on Postgres: the contract, by two stores; and what one process tells the other. */
#include "tests/contract/message_contract.h"
#include "tests/contract/postgres_fixture.h"

#include <stdio.h>
#include <string.h>

struct queue_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture first;
    struct backend_store *second;
};

static int open_with(void **state, const char *poll_ms)
{
    redis_settings settings = {"queue_poll_ms", poll_ms, NULL};
    struct queue_fixture *fixture = test_calloc(1, sizeof *fixture);
    struct message_fixture *messages = &fixture->messages;

    postgres_fixture_open(&fixture->first, "a", settings);
    redis_until(&fixture->first, BACKEND_READY);
    messages->kv = (struct kv_fixture){
        .worker = fixture->first.kv.worker, .threaded = true, .backend = fixture->first.kv.backend};
    kv_fixture_init(&messages->kv);
    fixture->second = postgres_fixture_store("a", settings);
    messages->second = kv_open(&messages->kv, fixture->second);
    KV_UNTIL(&messages->kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    snprintf(messages->prefix, sizeof messages->prefix, "%p-", (void *)fixture);
    messages->lease_ms = 300;
    messages->patience_ms = 300;
    *state = fixture;
    return 0;
}

static int open_fixture(void **state)
{
    return open_with(state, "20");
}

/* No test is patient enough for a look at the queue that nobody has asked for. */
static int open_told(void **state)
{
    return open_with(state, "60000");
}

static int close_fixture(void **state)
{
    struct queue_fixture *fixture = *state;

    kv_close(&fixture->messages.kv, fixture->messages.second);
    backend_postgres.store_close(fixture->second);
    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->first);
    test_free(fixture);
    return 0;
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

static void push(struct message_fixture *fixture, struct slice queue, uint64_t delay_ms)
{
    struct outgoing item = {.topic = queue, .payload = slice_str("0"), .delay_ms = delay_ms};

    kv_expect(message_publish(fixture, &fixture->kv.backend->has.queue->sink, &item, 1), ERR_OK,
              NULL);
}

/* A row that nobody tells of: as a pooler does that does not pass LISTEN on. */
static void push_silently(const struct probe *probe)
{
    struct slice name = probe->subscription.want.topic;
    char sql[512];

    snprintf(sql, sizeof sql,
             "INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at)"
             " SELECT id, '%.*s', '0', '', 1, 1 FROM prism.spaces WHERE name = 'a'",
             (int)name.len, (const char *)name.data);
    postgres_fixture_sql(sql);
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
        push(fixture, probe->subscription.want.topic, 0);
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
        push(fixture, want.topic, 0);
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
    push(fixture, probe->subscription.want.topic, 0);
    probe_wait(probe, 1);
    push(fixture, probe->subscription.want.topic, 300);
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
    push(fixture, slice_str(name), 0);
    probe_wait(waits, 1);
    probe_grant(taker, 1, 1 << 20);
    push(fixture, slice_str(name), 0);
    probe_wait(taker, 1);
    probe_grant(waits, 1, 1 << 20);
    probe_quiet(waits, 1);
    kv_expect(probe_settle(taker, 0, SETTLE_RELEASE, 0), ERR_OK, NULL);
    probe_wait(waits, 2);
    probe_done(waits, 0, 2);
    probe_free(taker);
    probe_free(waits);
}

/* With all connections ended by the server, what is pushed meanwhile and afterwards comes. */
static void listens_again_after_a_loss(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(probe, 100, 1 << 20);
    push(fixture, slice_str(name), 0);
    probe_wait(probe, 1);
    postgres_fixture_sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                         " WHERE application_name = 'prism'");
    push_silently(probe);
    probe_wait(probe, 2);
    KV_UNTIL(&fixture->kv, atomic_load(&fixture->kv.backend->store->state) == BACKEND_READY &&
                               atomic_load(&fixture->second->store->state) == BACKEND_READY);
    for (size_t i = 2; i < 10; i++) {
        push(fixture, slice_str(name), 0);
        probe_wait(probe, i + 1);
    }
    probe_done(probe, 0, 10);
    probe_free(probe);
}

/* That nothing else than being told has woken the tests above. */
static void the_untold_is_not_seen(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe = probe_queue(fixture, fixture->second, probe_want(name, NULL));

    probe_grant(probe, 100, 1 << 20);
    push(fixture, slice_str(name), 0);
    probe_wait(probe, 1);
    probe_quiet(probe, 1);
    push_silently(probe);
    probe_quiet(probe, 1);
    push(fixture, slice_str(name), 0);
    probe_wait(probe, 3);
    probe_done(probe, 0, 3);
    probe_free(probe);
}

/* With polling alone. */
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
                                      KV_TEST(the_untold_is_not_seen)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return message_contract("postgres", open_fixture, close_fixture) +
           cmocka_run_group_tests_name("postgres queue", tests, open_fixture, close_fixture) +
           cmocka_run_group_tests_name("postgres queue, told", told, open_told, close_fixture);
}
