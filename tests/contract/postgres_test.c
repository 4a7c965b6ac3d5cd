/* Postgres against a real server: the contract of every key-value interface, that of expiry as the
 * slot may switch it on, then what is special to this backend. */
#include "tests/contract/postgres_fixture.h"

#include "src/base/container.h"

#include <stdio.h>
#include <string.h>

enum { LARGE = 8 << 20 };

static struct redis_fixture *fixture_of(void **state)
{
    return *state;
}

/* As a slot with `emulate: [keyvalue_ttl]` sees it. */
static int setup_emulated(void **state)
{
    struct redis_neighbours *fixture;

    postgres_fixture_setup_in(state, "emulated");
    fixture = *state;
    fixture->base.kv.backend->has.kv_ttl = backend_postgres.emulations.kv_ttl;
    return 0;
}

/* ---- settings ---- */

static void refuses_contradictions(void **state)
{
    static const char *const wrong[][5] = {
        {"address", "a b", NULL},
        {"address", "unix:relative", NULL},
        {"address", "localhost:0", NULL},
        {"schema", "Prism", NULL},
        {"schema", "pg_prism", NULL},
        {"sslmode", "maybe", NULL},
        {"sslmode", "verify-full", NULL},
        {"sslcert", "/cert", NULL},
        {"connection_string", "postgresql://localhost/x?target_session_attrs=any", NULL},
        {"connection_string", "postgresql://u@localhost/x", "username", "v", NULL},
        {"connection_string", "no string", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct backend_store *store;
        struct err e = redis_fixture_store_of(&backend_postgres, &store, "default", wrong[i]);

        if (e.code != ERR_INVALID_ARGUMENT || e.subject == NULL)
            fail_msg("%s: %s is taken", wrong[i][0], wrong[i][1]);
        assert_null(store);
    }
}

/* By TCP with a name, and by a connection string. */
static void connects_as_it_is_told(void **state)
{
    const char *port = strchr(postgres_fixture_address(), ':') + 1;
    char name[64], string[128];
    const char *const ways[][7] = {
        {"address", name, "username", "postgres", "database", "postgres", NULL},
        {"connection_string", string, NULL},
    };

    (void)state;
    snprintf(name, sizeof name, "LocalHost:%s", port);
    snprintf(string, sizeof string, "postgresql://postgres:ignored@127.0.0.1:%s/postgres", port);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct redis_fixture fixture;

        redis_fixture_open_as(&fixture, &backend_postgres, "default", ways[i]);
        redis_until(&fixture, BACKEND_READY);
        kv_put_ok(&fixture.kv, "where", "here", 0);
        assert_string_equal(kv_get_ok(&fixture.kv, "where"), "here");
        redis_fixture_close(&fixture);
    }
}

/* ---- the schema ---- */

static void expect_state(redis_settings settings, enum backend_state state, const char *text)
{
    struct redis_fixture fixture;

    postgres_fixture_open(&fixture, "default", settings);
    redis_until(&fixture, state);
    if (text != NULL)
        assert_non_null(strstr(backend_health(fixture.store).text, text));
    redis_fixture_close(&fixture);
}

/* Many connections find no schema at the same time: one of them makes it. */
static void schema_is_made_once(void **state)
{
    (void)state;
    expect_state((redis_settings){"schema", "made_once", "connections", "8", NULL}, BACKEND_READY,
                 NULL);
    assert_string_equal(postgres_fixture_sql("SELECT count(*) FROM made_once.spaces"), "1");
    postgres_fixture_sql("DROP SCHEMA made_once CASCADE");
}

static void newer_schema_is_refused(void **state)
{
    (void)state;
    expect_state((redis_settings){"schema", "newer", NULL}, BACKEND_READY, NULL);
    postgres_fixture_sql("INSERT INTO newer.migrations (version) VALUES (1000)");
    expect_state((redis_settings){"schema", "newer", NULL}, BACKEND_DOWN, "newer Prism");
    postgres_fixture_sql("DROP SCHEMA newer CASCADE");
}

/* A role that may use the tables but make none. */
static void role_without_rights(void **state)
{
    static const char *const login[] = {"username", "nobody", "schema", "none", NULL};

    (void)state;
    postgres_fixture_sql("CREATE ROLE nobody LOGIN");
    expect_state(login, BACKEND_DOWN, "may not make");
    expect_state((redis_settings){"schema", "none", NULL}, BACKEND_READY, NULL);
    postgres_fixture_sql("GRANT USAGE ON SCHEMA none TO nobody;"
                         "GRANT ALL ON ALL TABLES IN SCHEMA none TO nobody;"
                         "GRANT ALL ON ALL SEQUENCES IN SCHEMA none TO nobody");
    expect_state(login, BACKEND_READY, NULL);
    postgres_fixture_sql("DROP SCHEMA none CASCADE; DROP ROLE nobody");
}

/* Somebody drops the tables while we are connected: they are made anew, empty. */
static void dropped_tables_come_back(void **state)
{
    struct redis_fixture fixture;
    struct kv_exists exists = {.key = slice_str("k")};

    (void)state;
    postgres_fixture_open(&fixture, "default", (redis_settings){"schema", "dropped", NULL});
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "k", "v", 0);
    postgres_fixture_sql("DROP SCHEMA dropped CASCADE");
    KV_UNTIL(&fixture.kv, kv_do(&fixture.kv, kv_start_exists, &exists.op).code == ERR_OK);
    assert_false(exists.found);
    redis_fixture_close(&fixture);
    postgres_fixture_sql("DROP SCHEMA dropped CASCADE");
}

/* ---- what an acknowledgement means ---- */

static void acknowledgement_is_as_configured(void **state)
{
    static const struct {
        const char *setting;
        enum backend_ack ack;
    } cases[] = {
        {"SET synchronous_commit = off", BACKEND_ACK_MEMORY},
        {"SET synchronous_commit = remote_apply", BACKEND_ACK_MEMORY}, /* fsync is off here */
    };
    char sql[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_fixture fixture;

        snprintf(sql, sizeof sql, "ALTER DATABASE postgres %s", cases[i].setting);
        postgres_fixture_sql(sql);
        postgres_fixture_open(&fixture, "default", (redis_settings){NULL});
        redis_until(&fixture, BACKEND_READY);
        assert_int_equal(atomic_load(&fixture.store->ack), cases[i].ack);
        assert_int_equal(atomic_load(&fixture.store->eviction), BACKEND_EVICTION_NEVER);
        redis_fixture_close(&fixture);
    }
    postgres_fixture_sql("ALTER DATABASE postgres RESET synchronous_commit");
}

/* ---- keys and values ---- */

static void large_values_pass(void **state)
{
    struct redis_fixture *fixture = fixture_of(state);
    uint8_t *large = test_malloc(LARGE);

    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 2654435761u >> 24);

    struct kv_put put = {.key = slice_str("large"), .value = slice_of(large, LARGE)};
    struct kv_get get = {.key = slice_str("large"), .want_version = true};

    assert_int_equal(kv_do(&fixture->kv, kv_start_put, &put.op).code, ERR_OK);
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && slice_equal(get.value, put.value));
    assert_int_equal(get.version.len, 16);
    assert_true(kv_del_ok(&fixture->kv, "large"));
    test_free(large);
}

/* Thousands of calls at once: every answer finds its call. */
static void thousands_at_once(void **state)
{
    redis_many_at_once(fixture_of(state), 5000);
}

/* Gets that come together keep two connections busy, not one. */
static void gets_are_shared_out(void **state)
{
    enum { N = 64 };
    struct redis_fixture *fixture = fixture_of(state);
    PGconn *other = postgres_fixture_connect();
    struct kv_get gets[N];
    struct op *ops[N];
    struct redis_flight flight;

    for (size_t i = 0; i < N; i++) {
        gets[i] = (struct kv_get){.key = slice_str(i % 2 == 0 ? "shared" : "absent")};
        ops[i] = &gets[i].op;
    }
    kv_put_ok(&fixture->kv, "shared", "v", 0);
    PQclear(PQexec(other, "SET idle_in_transaction_session_timeout = 30000"));
    PQclear(PQexec(other, "BEGIN; LOCK TABLE prism.keyvalue IN ACCESS EXCLUSIVE MODE"));
    redis_launch(&flight, fixture, kv_start_get, ops, N, 0);
    KV_UNTIL(&fixture->kv, strcmp(postgres_fixture_sql("SELECT count(*) FROM pg_stat_activity WHERE"
                                                       " wait_event_type = 'Lock' AND query LIKE"
                                                       " 'SELECT digest, octet_length(value)%'"),
                                  "2") == 0);
    PQclear(PQexec(other, "COMMIT"));
    PQfinish(other);
    redis_land(&flight);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(gets[i].op.err.code, ERR_OK);
        assert_int_equal(gets[i].found, i % 2 == 0);
    }
    redis_flight_clear(&flight);
}

/* One put that the server refuses does not fail those that travel with it. */
static void one_bad_put_fails_alone(void **state)
{
    enum { N = 20 };
    struct redis_fixture *fixture = fixture_of(state);
    struct kv_put puts[N];
    struct op *ops[N];
    char keys[N][16];
    struct redis_flight flight;

    postgres_fixture_sql("ALTER TABLE prism.keyvalue ADD CONSTRAINT no_poison"
                         " CHECK (value <> 'poison'::bytea) NOT VALID");
    for (size_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "poison-%zu", i);
        puts[i] = (struct kv_put){.key = slice_str(keys[i]),
                                  .value = slice_str(i == 7 ? "poison" : "good")};
        ops[i] = &puts[i].op;
    }
    redis_launch(&flight, fixture, kv_start_put, ops, N, 0);
    redis_land(&flight);
    postgres_fixture_sql("ALTER TABLE prism.keyvalue DROP CONSTRAINT no_poison");
    for (size_t i = 0; i < N; i++)
        assert_int_equal(puts[i].op.err.code, i == 7 ? ERR_INTERNAL : ERR_OK);
    assert_non_null(strstr(puts[7].op.err.text, "23514"));
    redis_flight_clear(&flight);
    assert_string_equal(kv_get_ok(&fixture->kv, "poison-8"), "good");
    assert_null(kv_get_ok(&fixture->kv, "poison-7"));
}

/* Plans do not depend on how large the table was when the statement was prepared. */
static void statements_use_the_indexes(void **state)
{
    static const char *const plans[] = {
        "SELECT 1 FROM prism.keyvalue WHERE space = 1 AND digest = ANY('{a,b}'::bytea[])",
        "SELECT key FROM prism.keyvalue WHERE space = 1 AND substr(key, 1, 1024) >= 'a'"
        " AND substr(key, 1, 1024) <= 'b' ORDER BY substr(key, 1, 1024), key LIMIT 10",
    };
    char sql[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        snprintf(sql, sizeof sql,
                 "CREATE OR REPLACE FUNCTION plan() RETURNS SETOF text LANGUAGE plpgsql AS $f$"
                 " BEGIN SET LOCAL enable_seqscan = off; RETURN QUERY EXECUTE $q$EXPLAIN %s$q$;"
                 " END $f$",
                 plans[i]);
        postgres_fixture_sql(sql);
        assert_string_not_equal(
            postgres_fixture_sql("SELECT count(*) FROM plan() AS line WHERE line LIKE '%Index%'"),
            "0");
    }
    postgres_fixture_sql("DROP FUNCTION plan()");
}

/* ---- deadlines ---- */

/* Somebody holds the row: a write waits, is given up at its deadline, and may still happen. */
static void deadline_of_a_write_that_waits(void **state)
{
    struct redis_fixture *fixture = fixture_of(state);
    struct kv_put put = {.key = slice_str("held"), .value = slice_str("second")};
    struct op *ops[] = {&put.op};
    struct redis_flight flight;

    kv_put_ok(&fixture->kv, "held", "first", 0);
    redis_launch(&flight, fixture, kv_start_put, ops, 1, 0);
    redis_land(&flight);
    redis_flight_clear(&flight);
    postgres_fixture_sql("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                         " $$ BEGIN PERFORM pg_sleep(0.5); RETURN new; END $$;"
                         "CREATE TRIGGER slow BEFORE UPDATE ON prism.keyvalue"
                         " FOR EACH ROW EXECUTE FUNCTION slow()");
    redis_launch(&flight, fixture, kv_start_put, ops, 1, 50);
    redis_land(&flight);
    assert_int_equal(put.op.err.code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(put.op.err.effect, EFFECT_UNKNOWN);
    redis_flight_clear(&flight);
    postgres_fixture_sql("DROP TRIGGER slow ON prism.keyvalue; DROP FUNCTION slow()");
    assert_string_equal(kv_get_ok(&fixture->kv, "held"), "second");
}

static void start_late_put(struct backend *backend, struct op *op)
{
    op->group->deadline_ns = 1;
    kv_start_put(backend, op);
}

static void start_late_del(struct backend *backend, struct op *op)
{
    op->group->deadline_ns = 1;
    kv_start_del(backend, op);
}

/* In the line of puts, and of what goes to libpq by itself. */
static void what_is_late_before_it_is_sent_is_not_done(void **state)
{
    struct redis_fixture fixture;
    struct kv_put put = {.key = slice_str("late"), .value = slice_str("v")};
    struct kv_del del = {.key = slice_str("early")};

    (void)state;
    postgres_fixture_open(&fixture, "default", (redis_settings){NULL});
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "early", "v", 0);
    assert_int_equal(kv_do(&fixture.kv, start_late_put, &put.op).code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(kv_do(&fixture.kv, start_late_del, &del.op).code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(put.op.err.effect, EFFECT_NONE);
    assert_int_equal(del.op.err.effect, EFFECT_NONE);
    assert_int_equal(counter_read(&fixture.kv.backend->stats.withdrawn), 2);
    assert_null(kv_get_ok(&fixture.kv, "late"));
    assert_string_equal(kv_get_ok(&fixture.kv, "early"), "v");
    redis_fixture_close(&fixture);
}

/* The server ends a statement that takes longer than command_timeout_ms. */
static void statement_timeout(void **state)
{
    struct redis_fixture fixture;
    struct kv_put put = {.key = slice_str("slow"), .value = slice_str("v")};

    (void)state;
    postgres_fixture_open(&fixture, "default",
                          (redis_settings){"schema", "slow", "command_timeout_ms", "200", NULL});
    redis_until(&fixture, BACKEND_READY);
    postgres_fixture_sql("CREATE FUNCTION slow.slow() RETURNS trigger LANGUAGE plpgsql AS"
                         " $$ BEGIN PERFORM pg_sleep(30); RETURN new; END $$;"
                         "CREATE TRIGGER slow BEFORE INSERT ON slow.keyvalue"
                         " FOR EACH ROW EXECUTE FUNCTION slow.slow()");
    assert_int_equal(kv_do(&fixture.kv, kv_start_put, &put.op).code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(put.op.err.effect, EFFECT_NONE);
    assert_null(kv_get_ok(&fixture.kv, "slow"));
    assert_int_equal(counter_read(&fixture.kv.backend->stats.connects), 2);
    redis_fixture_close(&fixture);
    postgres_fixture_sql("DROP SCHEMA slow CASCADE");
}

/* What has expired is removed, too, without anybody asking for it. */
static void expired_rows_are_removed(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    postgres_fixture_open(&fixture, "default",
                          (redis_settings){"schema", "swept", "sweep_interval_ms", "10", NULL});
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "short", "v", 1);
    kv_put_ok(&fixture.kv, "long", "v", 60000);
    KV_UNTIL(&fixture.kv,
             strcmp(postgres_fixture_sql("SELECT count(*) FROM swept.keyvalue"), "1") == 0);
    redis_fixture_close(&fixture);
    postgres_fixture_sql("DROP SCHEMA swept CASCADE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_contradictions),
        cmocka_unit_test(connects_as_it_is_told),
        cmocka_unit_test(schema_is_made_once),
        cmocka_unit_test(newer_schema_is_refused),
        cmocka_unit_test(role_without_rights),
        cmocka_unit_test(dropped_tables_come_back),
        cmocka_unit_test(acknowledgement_is_as_configured),
        KV_TEST(large_values_pass),
        KV_TEST(thousands_at_once),
        KV_TEST(gets_are_shared_out),
        KV_TEST(one_bad_put_fails_alone),
        cmocka_unit_test(statements_use_the_indexes),
        KV_TEST(deadline_of_a_write_that_waits),
        cmocka_unit_test(what_is_late_before_it_is_sent_is_not_done),
        cmocka_unit_test(statement_timeout),
        cmocka_unit_test(expired_rows_are_removed),
    };

    if (postgres_fixture_address() == NULL)
        return 77;
    return kv_contract("postgres", postgres_fixture_setup, redis_neighbours_close) +
           kv_ttl_contract("postgres emulated", setup_emulated, redis_neighbours_close) +
           kv_cas_contract("postgres emulated", setup_emulated, redis_neighbours_close) +
           cmocka_run_group_tests_name("postgres", tests, postgres_fixture_setup,
                                       redis_neighbours_close);
}
