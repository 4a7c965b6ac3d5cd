/* The contract of sessions on Redis, as a user that may do what docs/backends/redis.md asks for, by
 * two instances; and what is special to this backend. */
#include "tests/contract/redis_fixture.h"
#include "tests/contract/session_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct redis_server server;

static int open_fixture(void **state)
{
    return redis_pair_open_as(state, &server,
                              "+evalsha +eval +time +get +set +hget +hset +hmget +hgetall "
                              "+hstrlen +hdel +del +rename +pexpireat +zadd +zrem +zcard +zrange "
                              "+zrangebyscore");
}

/* ---- what is special to this backend ---- */

/* As redis_server_say takes it: a format. */
#define KEY(name) "prism:{default}%%session:" name

static int open_default(void **state)
{
    return redis_default_open(state, &server);
}

static int close_default(void **state)
{
    return redis_default_close(state, &server);
}

static void scripts_are_sent_when_missing(void **state)
{
    struct kv_fixture *kv = *state;

    for (int i = 0; i < 2; i++) {
        redis_server_say(&server, "SCRIPT FLUSH");
        session_make(kv, "a", "alice", 60000);
        redis_server_say(&server, "SCRIPT FLUSH");
        kv_expect(session_put(kv, "a", "k", "v"), ERR_OK, NULL);
        assert_string_equal(session_value(kv, "a", "k"), "v");
        assert_string_equal(session_ids(kv, kv->backend, "alice", "", 10), "a");
        assert_true(session_end(kv, "a"));
    }
}

/* S3, counted where the writes arrive: 10,000 reads, one write. */
static void s3_reads_seldom_write_to_redis(void **state)
{
    enum { READS = 10000, AT_ONCE = 1000 };
    struct kv_fixture *kv = *state;
    struct session_get *gets = calloc(AT_ONCE, sizeof *gets);
    struct kv_step *steps = calloc(AT_ONCE, sizeof *steps);

    assert_true(gets != NULL && steps != NULL);
    session_make(kv, "s", "alice", SESSION_LONG_MS);
    redis_server_say(&server, "CONFIG RESETSTAT");
    for (unsigned done = 0; done < READS; done += AT_ONCE) {
        for (unsigned i = 0; i < AT_ONCE; i++) {
            gets[i] = (struct session_get){.id = slice_str("s"), .use = session_test_use};
            steps[i] = (struct kv_step){.start = session_start_get, .op = &gets[i].op};
        }
        kv_run(kv, kv->backend, steps, AT_ONCE);
        for (unsigned i = 0; i < AT_ONCE; i++)
            kv_expect(gets[i].op.err, ERR_OK, NULL);
        arena_clear(&kv->arena);
    }

    const char *stats = redis_server_say(&server, "INFO commandstats");

    assert_non_null(strstr(stats, "cmdstat_evalsha:calls=10000,"));
    assert_non_null(strstr(stats, "cmdstat_hset:calls=1,"));
    free(gets);
    free(steps);
}

/* S5: what expired while nobody was there is in no answer, and goes, with calls and by itself. */
static void s5_ghosts_go(void **state)
{
    enum { GHOSTS = 1500, WITH_EACH_WRITE = 8 };
    struct kv_fixture *kv = *state;
    struct session_create *creates = arena_array(&kv->arena, GHOSTS, sizeof *creates);
    struct kv_step *steps = arena_array(&kv->arena, GHOSTS, sizeof *steps);

    for (unsigned i = 0; i < GHOSTS; i++) {
        creates[i] = session_new(kv_key(kv, "ghost", i), "alice", 400);
        creates[i].owner.region = slice_str("eu");
        steps[i] = (struct kv_step){.start = session_start_create, .op = &creates[i].op};
    }
    kv_run(kv, kv->backend, steps, GHOSTS);
    session_make(kv, "lives", "alice", 60000);
    KV_UNTIL(kv, session_look(kv, kv->backend, "ghost01499") == NULL);
    assert_string_equal(redis_server_say(&server, "EXISTS " KEY("s:ghost00000")), "0");
    assert_string_equal(session_ids(kv, kv->backend, "alice", "", 10), "lives");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("u:alice")), "1"); /* one pass */
    /* The others go with writes, some with each. */
    for (unsigned i = 0; i < GHOSTS / WITH_EACH_WRITE + 1; i++)
        session_end(kv, "nobody");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("all")), "1");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("due")), "1");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("r:eu")), "0");
    assert_true(session_end(kv, "lives"));
    assert_string_equal(redis_server_say(&server, "DBSIZE"), "1"); /* the last place given */
}

/* What redis has no room for has not happened; what is there can be read, and be given up. */
static void redis_is_full(void **state)
{
    struct kv_fixture *kv = *state;
    struct session_get get = {.id = slice_str("a"), .use = {.percent = 1, .max_interval_ms = 1}};
    struct session_create create = session_new("b", "alice", 60000);

    session_make(kv, "a", "alice", 60000);
    kv_expect(session_put(kv, "a", "k", "v"), ERR_OK, NULL);
    redis_server_say(&server, "CONFIG SET maxmemory 1");
    kv_expect(kv_do(kv, session_start_create, &create.op), ERR_RESOURCE_EXHAUSTED, "maxmemory");
    assert_int_equal(create.op.err.effect, EFFECT_NONE);
    kv_expect(session_put(kv, "a", "k", "w"), ERR_RESOURCE_EXHAUSTED, "maxmemory");
    kv_pass(kv, 5);
    kv_expect(kv_do(kv, session_start_get, &get.op), ERR_OK, NULL);
    assert_string_equal(session_value(kv, "a", "k"), "v");
    assert_true(session_end(kv, "a"));
    redis_server_say(&server, "CONFIG SET maxmemory 0");
    assert_null(session_look(kv, kv->backend, "b"));
    assert_string_equal(session_ids(kv, kv->backend, "", "", 10), "");
}

/* A server that stands still has perhaps done it; afterwards all is as it says. */
static void outcomes_are_unknown_where_they_are(void **state)
{
    struct redis_fixture *fixture = *state;
    struct session_value value = session_pair("k", "v");
    struct session_patch patch = session_set("a", &value, 1);
    struct session_get get = {.id = slice_str("a")};
    struct op *ops[] = {&patch.op, &get.op};
    struct redis_flight patches, gets;

    session_make(&fixture->kv, "a", "alice", 60000);
    redis_server_pause(&server);
    redis_launch(&patches, fixture, session_start_patch, &ops[0], 1, 300);
    redis_launch(&gets, fixture, session_start_get, &ops[1], 1, 300);
    redis_land(&patches);
    redis_land(&gets);
    redis_server_resume(&server);
    kv_expect(patch.op.err, ERR_DEADLINE_EXCEEDED, NULL);
    assert_int_equal(patch.op.err.effect, EFFECT_UNKNOWN);
    kv_expect(get.op.err, ERR_DEADLINE_EXCEEDED, NULL);
    assert_int_equal(get.op.err.effect, EFFECT_NONE);
    redis_flight_clear(&patches);
    redis_flight_clear(&gets);
    KV_UNTIL(&fixture->kv, session_value(&fixture->kv, "a", "k") != NULL);
}

/* The sweep, which no call waits for, counts the refusal and comes again. */
static void a_sweep_is_refused(void **state)
{
    struct kv_fixture *kv = *state;
    uint64_t errors = counter_read(&kv->backend->stats.errors);

    session_make(kv, "a", "alice", SESSION_LONG_MS);
    redis_server_say(&server, "ACL SETUSER default -eval"); /* the sweep's; others are known */
    kv_pass(kv, 5000);                                      /* half of the time that it rests */
    KV_UNTIL(kv, counter_read(&kv->backend->stats.errors) > errors);
    redis_server_say(&server, "ACL SETUSER default +eval");
    kv_expect(session_put(kv, "a", "k", "v"), ERR_OK, NULL);
}

static void foreign_data_is_an_error(void **state)
{
    struct kv_fixture *kv = *state;
    struct session_get get = {.id = slice_str("a")};
    struct session_page page = {.max_items = 10};

    session_make(kv, "a", "alice", 60000);
    redis_server_say(&server, "HSET " KEY("s:a") " vk short");
    kv_expect(kv_do(kv, session_start_get, &get.op), ERR_INTERNAL, NULL);
    redis_server_say(&server, "HSET " KEY("s:a") " o nonsense");
    get.op = (struct op){0};
    kv_expect(kv_do(kv, session_start_get, &get.op), ERR_INTERNAL, NULL);
    redis_server_say(&server, "DEL " KEY("all"));
    redis_server_say(&server, "SET " KEY("all") " x");
    kv_expect(kv_do(kv, session_start_page, &page.op), ERR_FAILED_PRECONDITION, NULL);
}

int main(void)
{
#define ALONE(test) cmocka_unit_test_setup_teardown(test, open_default, close_default)
    const struct CMUnitTest tests[] = {
        ALONE(scripts_are_sent_when_missing),
        ALONE(s3_reads_seldom_write_to_redis),
        ALONE(s5_ghosts_go),
        ALONE(redis_is_full),
        ALONE(outcomes_are_unknown_where_they_are),
        ALONE(a_sweep_is_refused),
        ALONE(foreign_data_is_an_error),
    };
#undef ALONE

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);

    int failed = session_contract("redis", open_fixture, redis_pair_close, redis_pair_peer) +
                 cmocka_run_group_tests_name("redis, sessions", tests, NULL, NULL);

    redis_server_stop(&server);
    return failed != 0;
}
