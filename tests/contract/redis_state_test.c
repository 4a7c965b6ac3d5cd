/* A server that changes while we are connected: its limits, role, login, what it refuses. */
#include "src/base/container.h"
#include "tests/contract/kv_many.h"
#include "tests/contract/redis_fixture.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

enum { MIB = 1 << 20 };

static struct redis_server server, other;
static char address[128], other_address[128];

static int start_servers(void **state)
{
    (void)state;
    redis_server_start(&server, NULL);
    redis_server_start(&other, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    snprintf(other_address, sizeof other_address, "unix:%s", other.socket);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    redis_server_stop(&server);
    redis_server_stop(&other);
    return 0;
}

static void say(const char *command)
{
    assert_string_equal(redis_server_say(&server, command), "OK");
}

static void open_and_wait(struct redis_fixture *fixture, const char *user)
{
    if (user != NULL)
        redis_fixture_open(
            fixture, "default",
            (redis_settings){"address", address, "username", user, "password", "secret", NULL});
    else
        redis_fixture_open(fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(fixture, BACKEND_READY);
}

static void start_probe(struct backend *backend, struct op *op)
{
    backend->type->probe(backend, op);
}

static void probe(struct redis_fixture *fixture)
{
    struct op op = {0};

    kv_do(&fixture->kv, start_probe, &op);
}

static const char *state_text(struct redis_fixture *fixture)
{
    const char *text = atomic_load(&fixture->store->state_text);

    return text != NULL ? text : "";
}

static uint64_t connects(struct redis_fixture *fixture)
{
    return counter_read(&fixture->kv.backend->stats.connects);
}

struct limits_call {
    struct backend *backend;
    struct backend_limits limits;
};

static void copy_limits(void *arg)
{
    struct limits_call *call = arg;

    call->limits = call->backend->limits;
}

static struct backend_limits limits_of(struct redis_fixture *fixture)
{
    struct limits_call call = {.backend = fixture->kv.backend};

    kv_on_worker(&fixture->kv, copy_limits, &call);
    return call.limits;
}

static struct err put_large(struct redis_fixture *fixture, size_t bytes)
{
    struct kv_put put = {
        .key = slice_str("large"),
        .value = slice_of(memset(arena_alloc(&fixture->kv.arena, bytes), 'x', bytes), bytes)};

    return kv_do(&fixture->kv, kv_start_put, &put.op);
}

/* ---- limits ---- */

/* As configured at connect; and as changed later, once the probe has asked again. */
static void limits_are_the_servers(void **state)
{
    struct redis_fixture fixture;
    struct backend_limits limits;

    (void)state;
    say("CONFIG SET proto-max-bulk-len 2097152");
    open_and_wait(&fixture, NULL);
    limits = limits_of(&fixture);
    assert_int_equal(limits.value_bytes, 2 * MIB);
    assert_true(limits.key_bytes < limits.value_bytes);
    assert_int_equal(put_large(&fixture, 2 * MIB).code, ERR_OK);

    unsigned version = atomic_load(&fixture.store->facts_version);

    say("CONFIG SET client-query-buffer-limit 1048576");
    probe(&fixture);
    KV_UNTIL(&fixture.kv, limits_of(&fixture).value_bytes < MIB);
    assert_true(atomic_load(&fixture.store->facts_version) > version);
    assert_int_equal(put_large(&fixture, limits_of(&fixture).value_bytes).code, ERR_OK);
    assert_int_equal(connects(&fixture), 1);
    redis_fixture_close(&fixture);
    say("CONFIG SET proto-max-bulk-len 536870912");
    say("CONFIG SET client-query-buffer-limit 1073741824");
}

/* A transaction counts as a whole. */
static void transactions_stay_within_the_query_buffer(void **state)
{
    struct redis_fixture fixture;
    struct kv_put_many many;

    (void)state;
    say("CONFIG SET client-query-buffer-limit 1048576");
    open_and_wait(&fixture, NULL);
    many = kv_put_items(&fixture.kv, "txn/", 4);
    for (size_t i = 0; i < many.n; i++) {
        many.items[i].ttl_ms = 60000;
        many.items[i].value =
            slice_of(memset(arena_alloc(&fixture.kv.arena, MIB / 2), 'x', MIB / 2), MIB / 2);
    }

    struct err e = kv_do(&fixture.kv, kv_start_txn_put, &many.op);

    kv_expect(e, ERR_RESOURCE_EXHAUSTED, "client-query-buffer-limit");
    assert_int_equal(e.retry_after_ms, 0);
    many.n = 1;
    kv_expect(kv_do(&fixture.kv, kv_start_txn_put, &many.op), ERR_OK, NULL);
    assert_int_equal(connects(&fixture), 1);
    redis_fixture_close(&fixture);
    say("CONFIG SET client-query-buffer-limit 1073741824");
}

/* A user that may write and may not put commands together: all were on their way before redis
 * refused the first. */
static void without_multi_what_was_done_is_unknown(void **state)
{
    struct redis_fixture fixture;
    struct kv_put_many put;
    struct kv_del_many del;
    struct err e;

    (void)state;
    open_and_wait(&fixture, NULL);
    put = kv_put_items(&fixture.kv, "alone/", 3);
    del = kv_del_items(&fixture.kv, "alone/", 3);
    for (size_t i = 0; i < put.n; i++)
        put.items[i].ttl_ms = 60000;
    say("ACL SETUSER default -multi");
    e = kv_do(&fixture.kv, kv_start_txn_put, &put.op);
    kv_expect(e, ERR_DATA_LOSS, NULL);
    assert_int_equal(e.effect, EFFECT_UNKNOWN);
    e = kv_do(&fixture.kv, kv_start_txn_del, &del.op);
    kv_expect(e, ERR_DATA_LOSS, NULL);
    assert_int_equal(e.effect, EFFECT_UNKNOWN);
    say("ACL SETUSER default -set");
    e = kv_do(&fixture.kv, kv_start_txn_put, &put.op);
    kv_expect(e, ERR_PERMISSION_DENIED, NULL);
    assert_int_equal(e.effect, EFFECT_NONE);
    say("ACL SETUSER default +multi +set");
    kv_expect(kv_do(&fixture.kv, kv_start_txn_put, &put.op), ERR_OK, NULL);
    redis_fixture_close(&fixture);
}

/* A server that does not tell its limits teaches them once. */
static void a_refused_size_is_remembered(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    say("ACL SETUSER blind on >secret ~* +@all -config");
    say("CONFIG SET proto-max-bulk-len 1048576");
    open_and_wait(&fixture, "blind");
    assert_true(limits_of(&fixture).value_bytes > 2 * MIB);

    struct err e = put_large(&fixture, 2 * MIB);

    if (e.code != ERR_UNAVAILABLE) /* the answer may be lost with the connection */
        kv_expect(e, ERR_INVALID_ARGUMENT, NULL);
    assert_true(e.code == ERR_UNAVAILABLE || e.retry_after_ms == 0);
    if (e.code == ERR_INVALID_ARGUMENT) {
        KV_UNTIL(&fixture.kv, connects(&fixture) == 2);
        assert_int_equal(limits_of(&fixture).value_bytes, 2 * MIB - 1);
    }
    redis_fixture_close(&fixture);
    say("CONFIG SET proto-max-bulk-len 536870912");
}

/* ---- role ---- */

static void a_replica_is_left_for_the_primary(void **state)
{
    struct redis_fixture fixture;
    char command[64];

    (void)state;
    open_and_wait(&fixture, NULL);
    snprintf(command, sizeof command, "REPLICAOF 127.0.0.1 %u", other.port);
    say(command);
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_UNAVAILABLE);
    KV_UNTIL(&fixture.kv, connects(&fixture) == 2);
    redis_until(&fixture, BACKEND_DEGRADED);
    assert_non_null(strstr(state_text(&fixture), "replica"));
    say("REPLICAOF NO ONE");
    probe(&fixture); /* tells the new role */
    redis_until(&fixture, BACKEND_READY);
    KV_UNTIL(&fixture.kv, redis_put(&fixture, "k", "v").code == ERR_OK);
    redis_fixture_close(&fixture);
}

/* ---- refusals that pass ---- */

static void refusals_are_named(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    open_and_wait(&fixture, NULL);
    say("CONFIG SET min-replicas-to-write 1");
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_UNAVAILABLE);
    redis_until(&fixture, BACKEND_DEGRADED);
    assert_string_equal(state_text(&fixture), "redis refuses writes: too few replicas");
    assert_null(kv_get_ok(&fixture.kv, "nothing"));
    say("CONFIG SET min-replicas-to-write 0");
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_OK);
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(connects(&fixture), 1);
    redis_fixture_close(&fixture);
}

static void maxclients_is_named(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    say("CONFIG SET maxclients 1");
    /* This connection of the test's own is the one that there may be. */
    redisContext *held = redisConnectUnix(server.socket);
    redisReply *reply = redisCommand(held, "PING");

    freeReplyObject(reply);
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_DOWN);
    KV_UNTIL(&fixture.kv, strstr(state_text(&fixture), "maxclients") != NULL);
    assert_non_null(strstr(redis_put(&fixture, "k", "v").text, "maxclients"));
    reply = redisCommand(held, "CONFIG SET maxclients 1000");
    freeReplyObject(reply);
    redisFree(held);
    redis_until(&fixture, BACKEND_READY);
    redis_fixture_close(&fixture);
}

/* ---- login ---- */

static void a_new_password_is_taken(void **state)
{
    struct backend_value values[32] = {0};
    struct redis_fixture fixture;
    size_t n = 0;

    (void)state;
    say("ACL SETUSER moves reset on >secret ~* +@all");
    open_and_wait(&fixture, "moves");
    for (; backend_redis.settings[n].name != NULL; n++) {
        values[n].text = backend_redis.settings[n].fallback;
        if (strcmp(backend_redis.settings[n].name, "username") == 0)
            values[n].text = "moves";
        if (strcmp(backend_redis.settings[n].name, "password") == 0)
            values[n].text = "other";
    }
    redis_server_say(&server, "ACL DELUSER moves"); /* closes its connections */
    redis_until(&fixture, BACKEND_DOWN);
    say("ACL SETUSER moves reset on >other ~* +@all");
    KV_UNTIL(&fixture.kv, strstr(state_text(&fixture), "password") != NULL);
    backend_redis.reload(fixture.store, values);
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_OK);
    redis_fixture_close(&fixture);
}

/* ---- eviction ---- */

static void eviction_is_told(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    open_and_wait(&fixture, NULL);
    assert_int_equal(atomic_load(&fixture.store->eviction), BACKEND_EVICTION_NEVER);
    say("CONFIG SET maxmemory-policy allkeys-lru");
    say("CONFIG SET maxmemory 1000000000");
    probe(&fixture);
    KV_UNTIL(&fixture.kv, atomic_load(&fixture.store->eviction) == BACKEND_EVICTION_POSSIBLE);
    redis_fixture_close(&fixture);
    say("CONFIG SET maxmemory 0");
    say("CONFIG SET maxmemory-policy noeviction");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_the_servers),
        cmocka_unit_test(transactions_stay_within_the_query_buffer),
        cmocka_unit_test(without_multi_what_was_done_is_unknown),
        cmocka_unit_test(a_refused_size_is_remembered),
        cmocka_unit_test(a_replica_is_left_for_the_primary),
        cmocka_unit_test(refusals_are_named),
        cmocka_unit_test(maxclients_is_named),
        cmocka_unit_test(a_new_password_is_taken),
        cmocka_unit_test(eviction_is_told),
    };

    if (!redis_server_installed())
        return redis_server_skip();
    return cmocka_run_group_tests_name("redis_state", tests, start_servers, stop_servers);
}
