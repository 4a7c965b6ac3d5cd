/* Atomic pushes on a real Postgres: one row that it refuses refuses all; and a session that is
 * ended in the middle leaves nothing, and an unknown outcome. */
#include "src/base/container.h"
#include "tests/contract/message_contract.h"
#include "tests/contract/postgres_fixture.h"

#include <stdio.h>

enum { SOME = 20 };

struct atomic_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture first;
};

static int open_with(void **state, redis_settings settings)
{
    struct atomic_fixture *fixture = test_calloc(1, sizeof *fixture);

    postgres_fixture_open(&fixture->first, "atomic", settings);
    redis_until(&fixture->first, BACKEND_READY);
    fixture->messages.kv = (struct kv_fixture){
        .worker = fixture->first.kv.worker, .threaded = true, .backend = fixture->first.kv.backend};
    kv_fixture_init(&fixture->messages.kv);
    *state = fixture;
    return 0;
}

static int open_fixture(void **state)
{
    return open_with(state, (redis_settings){NULL});
}

static int open_wide(void **state)
{
    return open_with(state, (redis_settings){"queue_max_messages", "100000", NULL});
}

static int close_fixture(void **state)
{
    struct atomic_fixture *fixture = *state;

    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->first);
    test_free(fixture);
    return 0;
}

static struct err push(struct message_fixture *fixture, const char *payload_of_one)
{
    struct outgoing items[SOME];
    uint32_t culprit;

    for (unsigned i = 0; i < SOME; i++)
        items[i] = (struct outgoing){.topic = slice_str("atomic"),
                                     .payload = slice_str(i == SOME / 2 ? payload_of_one : "x")};
    return message_publish_atomic(fixture, &fixture->kv.backend->has.queue->sink, items, SOME,
                                  &culprit);
}

static void expect_there(unsigned n)
{
    char text[16];

    snprintf(text, sizeof text, "%u", n);
    assert_string_equal(postgres_fixture_sql("SELECT count(*) FROM prism.messages"), text);
}

static void one_row_that_is_refused(void **state)
{
    struct err err;

    postgres_fixture_sql("DELETE FROM prism.messages");
    postgres_fixture_sql("ALTER TABLE prism.messages ADD CONSTRAINT sound"
                         " CHECK (payload <> 'poison')");
    err = push(*state, "poison");
    assert_true(err.code != ERR_OK && err.effect == EFFECT_NONE);
    expect_there(0);
    kv_expect(push(*state, "sound"), ERR_OK, NULL);
    expect_there(SOME);
    postgres_fixture_sql("ALTER TABLE prism.messages DROP CONSTRAINT sound");
}

/* Ends the session that waits for the table. */
static void *end_the_session(void *arg)
{
    PGconn *own = arg;
    int ended = 0;

    while (ended == 0) {
        PGresult *result =
            PQexec(own, "SELECT pg_terminate_backend(pid) FROM pg_locks"
                        " WHERE NOT granted AND relation = 'prism.messages'::regclass");

        assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
        ended = PQntuples(result);
        PQclear(result);
    }
    return NULL;
}

static void ended_in_the_middle(void **state)
{
    PGconn *locks = postgres_fixture_connect(), *ends = postgres_fixture_connect();
    struct atomic_fixture *fixture = *state;
    pthread_t thread;
    struct err err;

    postgres_fixture_sql("DELETE FROM prism.messages");
    PQclear(PQexec(locks, "BEGIN; LOCK TABLE prism.messages IN SHARE MODE"));
    assert_int_equal(pthread_create(&thread, NULL, end_the_session, ends), 0);
    err = push(&fixture->messages, "x");
    pthread_join(thread, NULL);
    PQfinish(locks);
    PQfinish(ends);
    kv_expect(err, ERR_UNAVAILABLE, NULL);
    assert_int_equal(err.effect, EFFECT_UNKNOWN);
    expect_there(0);
    redis_until(&fixture->first, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, push(&fixture->messages, "x").code == ERR_OK);
    expect_there(SOME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {KV_TEST(one_row_that_is_refused),
                                       KV_TEST(ended_in_the_middle)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return kv_group("postgres", "atomic", tests, ARRAY_LEN(tests), open_fixture, close_fixture) +
               kv_group("postgres, with bounds", "atomic", tests, ARRAY_LEN(tests), open_wide,
                        close_fixture) !=
           0;
}
