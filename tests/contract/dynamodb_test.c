/* The dynamodb backend against a server that speaks its protocol: the contract of every interface,
 * and what is special to it. */
#include "backends/dynamodb/dynamodb.h"
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *endpoint; /* of the server that the group runs against */

#define HERE                                                                                       \
    "endpoint", endpoint, "table", "prism-test", "create_table", "true", "access_key_id", "rig",   \
        "secret_access_key", "rig"

static int open_contract(void **state)
{
    redis_neighbours_open(state, &backend_dynamodb, "a#1", (redis_settings){HERE, NULL});
    ((struct redis_fixture *)*state)->kv.portion = 100;
    return 0;
}

static int open_default(void **state)
{
    return redis_default_open_as(state, &backend_dynamodb, (redis_settings){HERE, NULL});
}

/* ---- the table ---- */

static void a_missing_table_is_told(void **state)
{
    struct redis_fixture fixture;
    struct err e;

    (void)state;
    redis_fixture_open_as(&fixture, &backend_dynamodb, "default",
                          (redis_settings){"endpoint", endpoint, "table", "nowhere",
                                           "access_key_id", "rig", "secret_access_key", "rig",
                                           NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_non_null(strstr(atomic_load(&fixture.store->state_text), "table does not exist"));
    e = redis_put(&fixture, "k", "v");
    assert_int_equal(e.code, ERR_FAILED_PRECONDITION);
    redis_fixture_close(&fixture);
}

static void a_table_is_made_once(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct redis_fixture fixture;

        redis_fixture_open_as(&fixture, &backend_dynamodb, "default",
                              (redis_settings){HERE, "table", "made", NULL});
        redis_until(&fixture, BACKEND_READY);
        if (i == 0)
            kv_put_ok(&fixture.kv, "k", "v", 0);
        else
            assert_string_equal(kv_get_ok(&fixture.kv, "k"), "v");
        redis_fixture_close(&fixture);
    }
}

static void refuses_wrong_settings(void **state)
{
    static const char *const wrong[][7] = {
        {"table", "t", "access_key_id", "a", "secret_access_key", "b", NULL},
        {"table", "a/b", "access_key_id", "a", "secret_access_key", "b", NULL},
        {"table", "table", "access_key_id", "a", NULL},
        {"table", "table", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct backend_store *store;
        struct err e = redis_fixture_store_of(&backend_dynamodb, &store, "default", wrong[i]);

        assert_int_equal(e.code, ERR_INVALID_ARGUMENT);
        assert_non_null(e.subject);
        assert_null(store);
    }
}

/* ---- values ---- */

static struct slice filled(size_t len)
{
    uint8_t *bytes = test_malloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    return slice_of(bytes, len);
}

/* The largest that is taken, under a key of the largest that is, fits an item. */
static void the_largest_item_fits(void **state)
{
    struct redis_fixture *fixture = *state;
    struct slice value = filled(fixture->kv.backend->limits.value_bytes);
    struct slice key = filled(fixture->kv.backend->limits.key_bytes);
    struct kv_put put = {.key = key, .value = value, .ttl_ms = 1000000};
    struct kv_get get = {.key = key};

    kv_expect(kv_do(&fixture->kv, kv_start_put, &put.op), ERR_OK, NULL);
    kv_expect(kv_do(&fixture->kv, kv_start_get, &get.op), ERR_OK, NULL);
    assert_true(get.found && slice_equal(get.value, value));
    test_free((void *)value.data);
    test_free((void *)key.data);
}

/* Keys that agree in all that a sort key holds of them. */
static void long_keys_are_told_apart(void **state)
{
    enum { LEN = 2000, N = 3 };
    struct redis_fixture *fixture = *state;
    char keys[N][LEN + 1];
    struct kv_scan_page page = {.max_items = 10, .max_bytes = 1 << 20};
    struct kv_count count = {.count = 0};

    for (int i = 0; i < N; i++) {
        memset(keys[i], 'k', LEN);
        keys[i][LEN - 1] = (char)('0' + i);
        keys[i][LEN] = '\0';
        kv_put_ok(&fixture->kv, keys[i], keys[i] + LEN - 1, 0);
    }
    for (int i = 0; i < N; i++)
        assert_string_equal(kv_get_ok(&fixture->kv, keys[i]), keys[i] + LEN - 1);
    page.prefix = slice_of(keys[0], LEN - 1);
    for (size_t seen = 0; seen < N; page.cursor = page.next_cursor) {
        kv_expect(kv_do(&fixture->kv, kv_start_page, &page.op), ERR_OK, NULL);
        for (size_t i = 0; i < page.n; i++)
            assert_int_equal(page.items[i].key.len, LEN);
        seen += page.n;
        assert_true(page.more || seen == N);
    }
    count.prefix = slice_of(keys[0], LEN - 1);
    kv_expect(kv_do(&fixture->kv, kv_start_count, &count.op), ERR_OK, NULL);
    assert_int_equal(count.count, N);
    count.prefix = slice_of(keys[1], LEN);
    kv_expect(kv_do(&fixture->kv, kv_start_count, &count.op), ERR_OK, NULL);
    assert_int_equal(count.count, 1);
}

/* A batch whose values are more than there is room for is read one by one, until the room ends. */
static void batches_keep_the_room(void **state)
{
    enum { N = 20, BYTES = 50000 };
    struct redis_fixture *fixture = *state;
    struct slice value = filled(BYTES);
    struct kv_get_item items[N] = {0};
    struct kv_room room = {.bytes = 3 * BYTES};
    struct kv_get_many many = {.items = items, .n = N, .room = &room};
    struct kv_put put = {.key = slice_str("big"), .value = value};

    kv_expect(kv_do(&fixture->kv, kv_start_put, &put.op), ERR_OK, NULL);
    for (unsigned i = 0; i < N; i++) {
        struct kv_put one = {.key = slice_str(kv_key(&fixture->kv, "big/", i)), .value = value};

        kv_expect(kv_do(&fixture->kv, kv_start_put, &one.op), ERR_OK, NULL);
        items[i].base.key = one.key;
    }

    uint64_t before = counter_read(&fixture->kv.backend->stats.bytes_received);

    kv_expect(kv_do(&fixture->kv, kv_start_get_many, &many.op), ERR_OK, NULL);
    for (unsigned i = 0; i < N; i++) {
        assert_true(items[i].base.err.code == ERR_OK && items[i].found);
        assert_int_equal(items[i].value.data != NULL, i < 3);
    }
    assert_true(room.exceeded);
    assert_true(counter_read(&fixture->kv.backend->stats.bytes_received) - before < 14 * BYTES);
    test_free((void *)value.data);
}

/* What has expired is absent to every operation, although the server keeps it. */
static void the_dead_are_not_told(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_put_if put = {
        .key = slice_str("dead/k"), .value = slice_str("new"), .condition = KV_IF_ABSENT};
    struct kv_persist persist = {.key = slice_str("dead/k")};
    struct kv_expire expire = {.key = slice_str("dead/k"), .ttl_ms = 100000};
    struct kv_del_item items[] = {{.base.key = slice_str("dead/k")},
                                  {.base.key = slice_str("dead/other")}};
    struct kv_del_many many = {.items = items, .n = 2};
    struct kv_count count = {.prefix = slice_str("dead/")};
    struct kv_scan_page page = {.prefix = slice_str("dead/"), .max_items = 10, .max_bytes = 1000};

    kv_put_ok(&fixture->kv, "dead/k", "old", 1);
    KV_UNTIL(&fixture->kv, kv_get_ok(&fixture->kv, "dead/k") == NULL);
    assert_false(kv_exists_ok(&fixture->kv, "dead/k"));
    assert_false(kv_del_ok(&fixture->kv, "dead/k"));
    kv_expect(kv_do(&fixture->kv, kv_start_persist, &persist.op), ERR_OK, NULL);
    kv_expect(kv_do(&fixture->kv, kv_start_expire, &expire.op), ERR_OK, NULL);
    assert_false(persist.removed || expire.existed);
    kv_expect(kv_do(&fixture->kv, kv_start_count, &count.op), ERR_OK, NULL);
    assert_int_equal(count.count, 0);
    kv_expect(kv_do(&fixture->kv, kv_start_page, &page.op), ERR_OK, NULL);
    assert_int_equal(page.n, 0);
    kv_put_ok(&fixture->kv, "dead/other", "v", 0);
    kv_expect(kv_do(&fixture->kv, kv_start_del_many, &many.op), ERR_OK, NULL);
    assert_false(items[0].existed);
    assert_true(items[1].existed);
    kv_expect(kv_do(&fixture->kv, kv_start_put_if, &put.op), ERR_OK, NULL);
    assert_true(put.stored);
    assert_string_equal(kv_get_ok(&fixture->kv, "dead/k"), "new");
}

static void cursors_of_others_are_refused(void **state)
{
    static const char *const wrong[] = {"x",   "1",      "16.",          "1.7", "1.zz",
                                        "1.6", "1.6b6b", "99999999999.", "-1.", "1.70666978"};
    struct redis_fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct kv_scan_page page = {.prefix = slice_str("prefix"),
                                    .cursor = slice_str(wrong[i]),
                                    .max_items = 10,
                                    .max_bytes = 1000};

        kv_expect(kv_do(&fixture->kv, kv_start_page, &page.op), ERR_INVALID_ARGUMENT, "cursor");
    }
}

/* ---- transactions ---- */

static void atomic_removals_tell_what_was_there(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_del_item items[] = {{.base.key = slice_str("txn/here")},
                                  {.base.key = slice_str("txn/expired")},
                                  {.base.key = slice_str("txn/absent")},
                                  {.base.key = slice_str("txn/here")}};
    struct kv_del_many many = {.items = items, .n = ARRAY_LEN(items)};

    kv_put_ok(&fixture->kv, "txn/here", "v", 0);
    kv_put_ok(&fixture->kv, "txn/expired", "v", 1);
    KV_UNTIL(&fixture->kv, !kv_exists_ok(&fixture->kv, "txn/expired"));
    kv_expect(kv_do(&fixture->kv, kv_start_txn_del, &many.op), ERR_OK, NULL);
    assert_true(items[0].existed);
    assert_false(items[1].existed || items[2].existed || items[3].existed);
    assert_false(kv_exists_ok(&fixture->kv, "txn/here"));
    kv_expect(kv_do(&fixture->kv, kv_start_txn_del, &many.op), ERR_OK, NULL);
    assert_false(items[0].existed);
}

/* While others write the same keys, a removal takes both or none, as it says. */
static void atomic_removals_among_writers(void **state)
{
    enum { ROUNDS = 6 };
    struct redis_fixture *fixture = *state;
    struct kv_put_item writes[ROUNDS][2];
    struct kv_del_item removals[ROUNDS][2];
    struct kv_put_many puts[ROUNDS] = {0};
    struct kv_del_many dels[ROUNDS] = {0};
    struct kv_step steps[2 * ROUNDS];

    for (unsigned i = 0; i < ROUNDS; i++) {
        for (unsigned j = 0; j < 2; j++) {
            struct slice key = slice_str(kv_key(&fixture->kv, "txn/both/", j));

            writes[i][j] = (struct kv_put_item){.base.key = key, .value = slice_str("v")};
            removals[i][j] = (struct kv_del_item){.base.key = key};
        }
        puts[i] = (struct kv_put_many){.items = writes[i], .n = 2};
        dels[i] = (struct kv_del_many){.items = removals[i], .n = 2};
        steps[2 * i] = (struct kv_step){.start = kv_start_txn_put, .op = &puts[i].op};
        steps[2 * i + 1] = (struct kv_step){.start = kv_start_txn_del, .op = &dels[i].op};
    }
    kv_run(&fixture->kv, fixture->kv.backend, steps, 2 * ROUNDS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        kv_expect(puts[i].op.err, ERR_OK, NULL);
        if (dels[i].op.err.code == ERR_ABORTED)
            continue; /* the keys changed all the time */
        kv_expect(dels[i].op.err, ERR_OK, NULL);
        assert_int_equal(removals[i][0].existed, removals[i][1].existed);
    }
    assert_int_equal(kv_exists_ok(&fixture->kv, kv_key(&fixture->kv, "txn/both/", 0)),
                     kv_exists_ok(&fixture->kv, kv_key(&fixture->kv, "txn/both/", 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_table_is_told),
        cmocka_unit_test(a_table_is_made_once),
        cmocka_unit_test(refuses_wrong_settings),
    };
    const struct CMUnitTest values[] = {
        KV_TEST(the_largest_item_fits),         KV_TEST(long_keys_are_told_apart),
        KV_TEST(batches_keep_the_room),         KV_TEST(the_dead_are_not_told),
        KV_TEST(cursors_of_others_are_refused),
    };
    const struct CMUnitTest transactions[] = {
        KV_TEST(atomic_removals_tell_what_was_there),
        KV_TEST(atomic_removals_among_writers),
    };
    const char *address = getenv("PRISM_TEST_DYNAMODB");
    const char *transactional = getenv("PRISM_TEST_DYNAMODB_TXN");
    char urls[2][64];
    int failed;

    if (address == NULL || transactional == NULL)
        return 77;
    unsetenv("AWS_ACCESS_KEY_ID");
    snprintf(urls[0], sizeof urls[0], "http://%s", address);
    snprintf(urls[1], sizeof urls[1], "http://%s", transactional);
    endpoint = urls[0];
    failed =
        cmocka_run_group_tests_name("dynamodb table", tests, NULL, NULL) +
        cmocka_run_group_tests_name("dynamodb values", values, open_default, redis_default_free) +
        kv_contract("dynamodb", open_contract, redis_neighbours_close);
    endpoint = urls[1];
    return failed + kv_txn_contract("dynamodb", open_contract, redis_neighbours_close) +
           cmocka_run_group_tests_name("dynamodb transactions", transactions, open_default,
                                       redis_default_free);
}
