/* `redis` with `cluster: true` against the cluster that rig/with_servers.py has started: the same
 * contract as one server's, but for what needs keys that stay together. */
#include "tests/contract/redis_fixture.h"

#include <stdlib.h>
#include <string.h>

static const char *nodes;

struct contract_fixture {
    struct redis_fixture redis; /* first */
    struct backend_store *other, *stranger;
};

static int open_contract(void **state)
{
    struct contract_fixture *fixture = test_calloc(1, sizeof *fixture);
    redis_settings settings = {"address", nodes, "cluster", "true", NULL};

    redis_fixture_open(&fixture->redis, "a", settings);
    assert_int_equal(redis_fixture_store(&fixture->other, "a:b", settings).code, ERR_OK);
    fixture->redis.kv.elsewhere = kv_open(&fixture->redis.kv, fixture->other);
    assert_int_equal(redis_fixture_store(&fixture->stranger, "a", settings).code, ERR_OK);
    fixture->redis.kv.stranger = kv_open(&fixture->redis.kv, fixture->stranger);
    redis_until(&fixture->redis, BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->stranger->state) == BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

static int close_contract(void **state)
{
    struct contract_fixture *fixture = *state;

    kv_close(&fixture->redis.kv, fixture->redis.kv.stranger);
    fixture->stranger->type->store_close(fixture->stranger);
    kv_close(&fixture->redis.kv, fixture->redis.kv.elsewhere);
    fixture->other->type->store_close(fixture->other);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

/* ---- what is not offered ---- */

static void interfaces_are_those_of_one_key(void **state)
{
    struct contract_fixture *fixture = *state;
    const struct backend_interfaces *has = &fixture->redis.kv.backend->has;

    assert_non_null(has->kv_batch);
    assert_non_null(has->kv_cas);
    assert_null(has->kv_txn);
    assert_null(has->registry);
    assert_null(has->session);
    assert_string_equal(fixture->redis.store->type->name, "redis-cluster");
}

/* A tag in a client's key counts as redis counts it: the node that is asked has the key. */
static void keys_with_tags(void **state)
{
    static const char *const keys[] = {"{tag}a", "{tag}b",  "{}a",  "a{b",
                                       "a}b{",   "x{}y{z}", "{{b}}"};
    struct contract_fixture *fixture = *state;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct kv_exists exists = {.key = slice_str(keys[i])};

        assert_int_equal(redis_put(&fixture->redis, keys[i], "v").code, ERR_OK);
        assert_int_equal(kv_do(&fixture->redis.kv, kv_start_exists, &exists.op).code, ERR_OK);
        assert_true(exists.found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(interfaces_are_those_of_one_key, open_contract,
                                        close_contract),
        cmocka_unit_test_setup_teardown(keys_with_tags, open_contract, close_contract),
    };

    nodes = getenv("PRISM_TEST_REDIS_CLUSTER");
    if (nodes == NULL)
        return redis_server_skip();
    return kv_contract("redis_cluster", open_contract, close_contract) +
           cmocka_run_group_tests_name("redis_cluster", tests, NULL, NULL);
}
