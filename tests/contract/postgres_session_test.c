/* The contract of sessions on postgres, by two instances; and what is special to this backend. */
#include "tests/contract/postgres_fixture.h"
#include "tests/contract/session_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session_fixture {
    struct redis_neighbours postgres; /* first */
    struct backend_store *peer_store;
    struct backend *peer;
};

static int open_fixture(void **state)
{
    struct session_fixture *fixture = test_calloc(1, sizeof *fixture);
    const char *const settings[] = {
        "address", postgres_fixture_address(), "username", "postgres", "database", "postgres",
        NULL};
    struct kv_fixture *kv = &fixture->postgres.base.kv;

    postgres_fixture_open(&fixture->postgres.base, "a", (redis_settings){NULL});
    assert_int_equal(
        redis_fixture_store_of(&backend_postgres, &fixture->postgres.other, "a:b", settings).code,
        ERR_OK);
    assert_int_equal(
        redis_fixture_store_of(&backend_postgres, &fixture->peer_store, "a", settings).code,
        ERR_OK);
    kv->elsewhere = kv_open(kv, fixture->postgres.other);
    fixture->peer = kv_open(kv, fixture->peer_store);
    redis_until(&fixture->postgres.base, BACKEND_READY);
    KV_UNTIL(kv, atomic_load(&fixture->postgres.other->state) == BACKEND_READY);
    KV_UNTIL(kv, atomic_load(&fixture->peer_store->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

static struct backend *peer(struct kv_fixture *kv)
{
    return ((struct session_fixture *)kv)->peer;
}

static int close_fixture(void **state)
{
    struct session_fixture *fixture = *state;
    struct kv_fixture *kv = &fixture->postgres.base.kv;

    kv_close(kv, kv->elsewhere);
    kv_close(kv, fixture->peer);
    backend_postgres.store_close(fixture->postgres.other);
    backend_postgres.store_close(fixture->peer_store);
    redis_fixture_close(&fixture->postgres.base);
    test_free(fixture);
    return 0;
}

/* ---- what is special to this backend ---- */

static int open_alone(void **state)
{
    struct redis_fixture *fixture = test_calloc(1, sizeof *fixture);

    postgres_fixture_open(fixture, "default",
                          (redis_settings){"schema", "alone", "sweep_interval_ms", "10", NULL});
    redis_until(fixture, BACKEND_READY);
    *state = fixture;
    return 0;
}

static int close_alone(void **state)
{
    redis_fixture_close(*state);
    test_free(*state);
    postgres_fixture_sql("DROP SCHEMA alone CASCADE");
    return 0;
}

/* S3: many reads are one write, as the server counts them. */
static void s3_reads_seldom_write_to_postgres(void **state)
{
    enum { READS = 1000 };
    struct kv_fixture *kv = *state;
    struct session_get *gets = calloc(READS, sizeof *gets);
    struct kv_step *steps = calloc(READS, sizeof *steps);
    static const char version[] = "SELECT xmin FROM alone.sessions";
    char before[32], after[32];

    assert_true(gets != NULL && steps != NULL);
    session_make(kv, "s", "alice", SESSION_LONG_MS);
    kv_pass(kv, 5);
    snprintf(before, sizeof before, "%s", postgres_fixture_sql(version));
    gets[0] = (struct session_get){.id = slice_str("s"), .use = session_test_use};
    kv_expect(kv_do(kv, session_start_get, &gets[0].op), ERR_OK, NULL);
    snprintf(after, sizeof after, "%s", postgres_fixture_sql(version));
    assert_string_not_equal(before, after);
    for (unsigned i = 0; i < READS; i++) {
        gets[i] = (struct session_get){.id = slice_str("s"), .use = session_test_use};
        steps[i] = (struct kv_step){.start = session_start_get, .op = &gets[i].op};
    }
    kv_run(kv, kv->backend, steps, READS);
    for (unsigned i = 0; i < READS; i++)
        kv_expect(gets[i].op.err, ERR_OK, NULL);
    assert_string_equal(after, postgres_fixture_sql(version)); /* no row has been written since */
    free(gets);
    free(steps);
}

/* S5: what has expired is removed without anybody asking for it, with its values. */
static void s5_expired_rows_are_removed(void **state)
{
    struct kv_fixture *kv = *state;
    struct session_value value = session_pair("k", "v");
    struct session_create create = session_new("short", "alice", 200);

    create.values = &value; /* with it: a moment later it may have expired */
    create.n = 1;
    kv_expect(kv_do(kv, session_start_create, &create.op), ERR_OK, NULL);
    session_make(kv, "long", "alice", 60000);
    kv_expect(session_put(kv, "long", "k", "v"), ERR_OK, NULL);
    KV_UNTIL(kv, strcmp(postgres_fixture_sql("SELECT count(*) FROM alone.sessions"), "1") == 0);
    assert_string_equal(postgres_fixture_sql("SELECT count(*) FROM alone.session_values"), "1");
    assert_true(session_end(kv, "long"));
    assert_string_equal(postgres_fixture_sql("SELECT count(*) FROM alone.session_values"), "0");
}

/* A schema of the version before is brought up to date. */
static void older_schema_is_migrated(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    postgres_fixture_sql("CREATE SCHEMA older; CREATE TABLE older.migrations (version int PRIMARY"
                         " KEY, made_at timestamptz NOT NULL DEFAULT now());"
                         "INSERT INTO older.migrations (version) VALUES (1);"
                         "CREATE TABLE older.spaces (id int GENERATED ALWAYS AS IDENTITY PRIMARY"
                         " KEY, name text NOT NULL UNIQUE)");
    postgres_fixture_open(&fixture, "default", (redis_settings){"schema", "older", NULL});
    redis_until(&fixture, BACKEND_READY);
    session_make(&fixture.kv, "s", "alice", 60000);
    assert_string_equal(postgres_fixture_sql("SELECT max(version) >= 2 FROM older.migrations"),
                        "t");
    redis_fixture_close(&fixture);
    postgres_fixture_sql("DROP SCHEMA older CASCADE");
}

int main(void)
{
#define ALONE(test) cmocka_unit_test_setup_teardown(test, open_alone, close_alone)
    const struct CMUnitTest tests[] = {
        ALONE(s3_reads_seldom_write_to_postgres),
        ALONE(s5_expired_rows_are_removed),
        cmocka_unit_test(older_schema_is_migrated),
    };
#undef ALONE

    if (postgres_fixture_address() == NULL)
        return 77;

    int failed = session_contract("postgres", open_fixture, close_fixture, peer) +
                 cmocka_run_group_tests_name("postgres, sessions", tests, NULL, NULL);

    return failed != 0;
}
