/* The contract of sessions on dynamodb, by two instances. The server answers some hundred requests
 * in a second: tests of many sessions of one user, which are begun one after the other, have a
 * tenth of them. */
#include "backends/dynamodb/dynamodb.h"
#include "tests/contract/redis_fixture.h"
#include "tests/contract/session_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *endpoint;

struct session_fixture {
    struct redis_fixture base; /* first */
    struct backend_store *other, *peer_store;
    struct backend *peer;
};

#define HERE                                                                                       \
    "endpoint", endpoint, "table", "prism-sessions", "create_table", "true", "access_key_id",      \
        "rig", "secret_access_key", "rig"

static int open_fixture(void **state)
{
    struct session_fixture *fixture = test_calloc(1, sizeof *fixture);
    struct kv_fixture *kv = &fixture->base.kv;
    redis_settings settings = {HERE, NULL};

    redis_fixture_open_as(&fixture->base, &backend_dynamodb, "a", settings);
    assert_int_equal(
        redis_fixture_store_of(&backend_dynamodb, &fixture->other, "a#u:YQ==", settings).code,
        ERR_OK);
    assert_int_equal(
        redis_fixture_store_of(&backend_dynamodb, &fixture->peer_store, "a", settings).code,
        ERR_OK);
    kv->portion = 40;
    kv->divisor = 10;
    kv->elsewhere = kv_open(kv, fixture->other);
    fixture->peer = kv_open(kv, fixture->peer_store);
    redis_until(&fixture->base, BACKEND_READY);
    KV_UNTIL(kv, atomic_load(&fixture->other->state) == BACKEND_READY);
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
    struct kv_fixture *kv = &fixture->base.kv;

    kv_close(kv, kv->elsewhere);
    kv_close(kv, fixture->peer);
    backend_dynamodb.store_close(fixture->other);
    backend_dynamodb.store_close(fixture->peer_store);
    redis_fixture_close(&fixture->base);
    test_free(fixture);
    return 0;
}

int main(void)
{
    const char *address = getenv("PRISM_TEST_DYNAMODB_SESSIONS");
    char url[64];

    if (address == NULL)
        return 77;
    unsetenv("AWS_ACCESS_KEY_ID");
    snprintf(url, sizeof url, "http://%s", address);
    endpoint = url;
    return session_contract("dynamodb", open_fixture, close_fixture, peer) != 0;
}
