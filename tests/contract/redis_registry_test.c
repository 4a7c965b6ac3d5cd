/* The registry's contract on Redis, as a user that may do what docs/backends/redis.md asks for, by
 * two instances; and what is special to this backend. */
#include "tests/contract/redis_fixture.h"
#include "tests/contract/registry_contract.h"

#include <stdio.h>
#include <string.h>

static struct redis_server server;

struct registry_fixture {
    struct redis_fixture redis; /* first */
    struct backend_store *other, *peer_store;
    struct backend *peer;
};

static int open_fixture(void **state)
{
    struct registry_fixture *fixture = test_calloc(1, sizeof *fixture);
    char address[128];
    redis_settings login = {"address", address, "username", "prism", "password", "secret", NULL};

    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server, "ACL SETUSER prism reset on >secret ~prism:* +evalsha +eval +time "
                              "+get +set +hget +hset +hmget +hdel +zadd +zrem +zscore +zmscore "
                              "+zcard +zcount +zrangebylex +zrangebyscore");
    redis_fixture_open(&fixture->redis, "a", login);
    assert_int_equal(redis_fixture_store(&fixture->other, "a:b}", login).code, ERR_OK);
    assert_int_equal(redis_fixture_store(&fixture->peer_store, "a", login).code, ERR_OK);
    fixture->redis.kv.elsewhere = kv_open(&fixture->redis.kv, fixture->other);
    fixture->peer = kv_open(&fixture->redis.kv, fixture->peer_store);
    redis_until(&fixture->redis, BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->peer_store->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

static struct backend *peer(struct kv_fixture *kv)
{
    return ((struct registry_fixture *)kv)->peer;
}

static int close_fixture(void **state)
{
    struct registry_fixture *fixture = *state;

    kv_close(&fixture->redis.kv, fixture->redis.kv.elsewhere);
    kv_close(&fixture->redis.kv, fixture->peer);
    backend_redis.store_close(fixture->other);
    backend_redis.store_close(fixture->peer_store);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

int main(void)
{
    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);

    int failed = registry_contract("redis", open_fixture, close_fixture, peer);

    redis_server_stop(&server);
    return failed != 0;
}
