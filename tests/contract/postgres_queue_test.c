/* Queues on Postgres: the contract, by two stores. */
#include "tests/contract/message_contract.h"
#include "tests/contract/postgres_fixture.h"

#include <stdio.h>
#include <string.h>

struct queue_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture first;
    struct backend_store *second;
};

static int open_fixture(void **state)
{
    struct queue_fixture *fixture = test_calloc(1, sizeof *fixture);
    struct message_fixture *messages = &fixture->messages;

    postgres_fixture_open(&fixture->first, "a", (redis_settings){"queue_poll_ms", "20", NULL});
    redis_until(&fixture->first, BACKEND_READY);
    messages->kv = (struct kv_fixture){
        .worker = fixture->first.kv.worker, .threaded = true, .backend = fixture->first.kv.backend};
    kv_fixture_init(&messages->kv);
    fixture->second = postgres_fixture_store("a");
    messages->second = kv_open(&messages->kv, fixture->second);
    KV_UNTIL(&messages->kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    snprintf(messages->prefix, sizeof messages->prefix, "%p-", (void *)fixture);
    messages->lease_ms = 300;
    messages->patience_ms = 300;
    *state = fixture;
    return 0;
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

int main(void)
{
    const struct CMUnitTest tests[] = {KV_TEST(messages_come_as_they_were)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return message_contract("postgres", open_fixture, close_fixture) +
           cmocka_run_group_tests_name("postgres queue", tests, open_fixture, close_fixture);
}
