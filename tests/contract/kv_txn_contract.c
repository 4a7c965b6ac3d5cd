/* kv_txn: all items or none, and nobody sees a part. */
#include "tests/contract/kv_contract.h"
#include "tests/contract/kv_many.h"

enum { SHORT_MS = 300, ITEMS = 20, ROUNDS = 10 };

static size_t most(const struct kv_fixture *fixture)
{
    uint32_t max_items = fixture->backend->has.kv_txn->max_items;

    return max_items < ITEMS ? max_items : ITEMS;
}

static void test_put_and_del(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_TXN);

    size_t n = most(fixture);
    struct kv_put_many put = kv_put_items(fixture, "txn/all/", n);
    struct kv_del_many del = kv_del_items(fixture, "txn/all/", n);

    kv_expect(kv_do(fixture, kv_start_txn_put, &put.op), ERR_OK, NULL);
    for (unsigned i = 0; i < n; i++)
        assert_string_equal(kv_get_ok(fixture, kv_key(fixture, "txn/all/", i)),
                            kv_key(fixture, "txn/all/", i));
    assert_true(kv_del_ok(fixture, "txn/all/00000"));
    kv_expect(kv_do(fixture, kv_start_txn_del, &del.op), ERR_OK, NULL);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(del.items[i].existed, i > 0);
        assert_null(kv_get_ok(fixture, kv_key(fixture, "txn/all/", i)));
    }
}

static void test_expiry(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_TXN);
    kv_need(fixture, BACKEND_KV_TTL);

    struct kv_put_many put = kv_put_items(fixture, "txn/ttl/", 2);

    put.items[0].ttl_ms = SHORT_MS;
    kv_put_ok(fixture, "txn/ttl/00001", "had an expiry", SHORT_MS);
    kv_expect(kv_do(fixture, kv_start_txn_put, &put.op), ERR_OK, NULL);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "txn/ttl/00000"));
    assert_true(kv_exists_ok(fixture, "txn/ttl/00001"));
}

static void test_repeated_keys(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_TXN);

    struct kv_put_many put = kv_put_items(fixture, "txn/again/", 2);

    put.items[0].base.key = put.items[1].base.key;
    kv_expect(kv_do(fixture, kv_start_txn_put, &put.op), ERR_OK, NULL);
    assert_string_equal(kv_get_ok(fixture, "txn/again/00001"), "txn/again/00001");
}

/* Transactions that write the same keys, all at once: the keys tell of one and the same
 * transaction. */
static void test_isolation(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put_many puts[ROUNDS];
    struct kv_step steps[ROUNDS];

    kv_need(fixture, BACKEND_KV_TXN);

    size_t n = most(fixture);

    for (unsigned round = 0; round < ROUNDS; round++) {
        puts[round] = kv_put_items(fixture, "txn/apart/", n);
        for (size_t i = 0; i < n; i++)
            puts[round].items[i].value = slice_str(kv_key(fixture, "round ", round));
        steps[round] = (struct kv_step){.start = kv_start_txn_put, .op = &puts[round].op};
    }
    kv_run(fixture, fixture->backend, steps, ROUNDS);
    for (unsigned round = 0; round < ROUNDS; round++)
        kv_expect(puts[round].op.err, ERR_OK, NULL);

    const char *first = kv_get_ok(fixture, "txn/apart/00000");

    for (unsigned i = 1; i < n; i++)
        assert_string_equal(kv_get_ok(fixture, kv_key(fixture, "txn/apart/", i)), first);
}

int kv_txn_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_put_and_del),
        KV_TEST(test_expiry),
        KV_TEST(test_repeated_keys),
        KV_TEST(test_isolation),
    };

    return kv_group(name, "kv_txn", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
