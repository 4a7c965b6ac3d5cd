/* `redis` with `cluster: true` against the cluster that rig/with_servers.py has started: the same
 * contracts as one server's, but for what needs keys of clients that stay together. Called without
 * an argument: key-value; else with `registry`, `session` or `topic`. */
#include "tests/contract/message_contract.h"
#include "tests/contract/redis_fixture.h"
#include "tests/contract/registry_contract.h"
#include "tests/contract/session_contract.h"
#include "tests/contract/session_groups.h"

#include <stdlib.h>
#include <string.h>

static const char *nodes;

static int open_contract(void **state)
{
    redis_settings settings = {"address", nodes, "cluster", "true", NULL};
    struct redis_pair *pair;

    redis_pair_open(state, settings);
    pair = *state;
    pair->redis.kv.stranger = pair->peer;
    return 0;
}

/* Names of sessions are the suite's, and tell no group. */
static int open_sessions(void **state)
{
    struct redis_pair *pair;

    open_contract(state);
    pair = *state;
    session_groups(pair->redis.kv.backend);
    session_groups(pair->peer);
    return 0;
}

/* ---- topics ---- */

struct topic_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture redis;      /* its kv is not used but to open and close */
};

static int open_topics(void **state)
{
    struct topic_fixture *fixture = test_calloc(1, sizeof *fixture);

    redis_fixture_open(&fixture->redis, "tested",
                       (redis_settings){"address", nodes, "cluster", "true", NULL});
    redis_until(&fixture->redis, BACKEND_READY);
    fixture->messages.kv = (struct kv_fixture){
        .worker = fixture->redis.kv.worker, .threaded = true, .backend = fixture->redis.kv.backend};
    kv_fixture_init(&fixture->messages.kv);
    fixture->messages.patience_ms = 100;
    *state = fixture;
    return 0;
}

static int close_topics(void **state)
{
    struct topic_fixture *fixture = *state;

    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

/* ---- what is not offered ---- */

static void atomic_batches_are_not_offered(void **state)
{
    struct redis_pair *fixture = *state;
    const struct backend_interfaces *has = &fixture->redis.kv.backend->has;

    assert_non_null(has->kv_batch);
    assert_non_null(has->kv_cas);
    assert_null(has->kv_txn);
    assert_non_null(has->registry);
    assert_non_null(has->session);
    assert_string_equal(fixture->redis.store->type->name, "redis-cluster");
}

/* A tag in a client's key counts as redis counts it: the node that is asked has the key. */
static void keys_with_tags(void **state)
{
    static const char *const keys[] = {"{tag}a", "{tag}b",  "{}a",  "a{b",
                                       "a}b{",   "x{}y{z}", "{{b}}"};
    struct redis_pair *fixture = *state;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct kv_exists exists = {.key = slice_str(keys[i])};

        assert_int_equal(redis_put(&fixture->redis, keys[i], "v").code, ERR_OK);
        assert_int_equal(kv_do(&fixture->redis.kv, kv_start_exists, &exists.op).code, ERR_OK);
        assert_true(exists.found);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(atomic_batches_are_not_offered, open_contract,
                                        redis_pair_close),
        cmocka_unit_test_setup_teardown(keys_with_tags, open_contract, redis_pair_close),
    };

    nodes = getenv("PRISM_TEST_REDIS_CLUSTER");
    if (nodes == NULL)
        return redis_server_skip();
    if (strcmp(what, "registry") == 0)
        return registry_contract("redis_cluster", open_contract, redis_pair_close, redis_pair_peer);
    if (strcmp(what, "session") == 0)
        return session_contract("redis_cluster", open_sessions, redis_pair_close, redis_pair_peer);
    if (strcmp(what, "topic") == 0)
        return topic_contract("redis_cluster", open_topics, close_topics);
    return kv_contract("redis_cluster", open_contract, redis_pair_close) +
           cmocka_run_group_tests_name("redis_cluster", tests, NULL, NULL);
}
