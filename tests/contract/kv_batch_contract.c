/* kv_batch, and kv_basic.window: many keys in few calls, an outcome for each. */
#include "tests/contract/kv_contract.h"
#include "tests/contract/kv_many.h"

#include <string.h>

enum { SHORT_MS = 300, MOST = 1000 };

static void need_many(const struct kv_fixture *fixture)
{
    if (kv_many(fixture->backend) == NULL)
        skip();
}

/* As many as one call takes, within reason. */
static size_t most(const struct kv_fixture *fixture)
{
    uint32_t max_items = kv_many(fixture->backend)->max_items;

    return max_items < MOST ? max_items : MOST;
}

static void put_all(struct kv_fixture *fixture, const char *prefix, size_t n)
{
    struct kv_put_many many = kv_put_items(fixture, prefix, n);

    kv_expect(kv_do(fixture, kv_start_put_many, &many.op), ERR_OK, NULL);
    for (size_t i = 0; i < n; i++)
        kv_expect(many.items[i].base.err, ERR_OK, NULL);
}

/* Sizes 1, 2 and the largest: every item there, in its own place. */
static void test_put_get_del(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);

    const size_t sizes[] = {1, 2, most(fixture)};

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s];
        const char *prefix = arena_printf(&fixture->arena, "batch/%zu/", n);
        struct kv_get_many get = kv_get_items(fixture, prefix, n);
        struct kv_del_many del = kv_del_items(fixture, prefix, n);

        put_all(fixture, prefix, n);
        kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
        for (size_t i = 0; i < n; i++) {
            kv_expect(get.items[i].base.err, ERR_OK, NULL);
            assert_true(get.items[i].found);
            assert_true(slice_equal(get.items[i].value, get.items[i].base.key));
        }
        kv_expect(kv_do(fixture, kv_start_del_many, &del.op), ERR_OK, NULL);
        for (size_t i = 0; i < n; i++) {
            kv_expect(del.items[i].base.err, ERR_OK, NULL);
            assert_true(del.items[i].existed);
        }
        assert_null(kv_get_ok(fixture, kv_key(fixture, prefix, 0)));
        assert_null(kv_get_ok(fixture, kv_key(fixture, prefix, (unsigned)n - 1)));
    }
}

static void test_found_and_absent_mixed(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    if (most(fixture) < 10)
        skip();

    struct kv_get_many get = kv_get_items(fixture, "batch/mixed/", 10);
    struct kv_del_many del = kv_del_items(fixture, "batch/mixed/", 10);

    put_all(fixture, "batch/mixed/", 10);
    for (unsigned i = 0; i < 10; i += 3)
        kv_del_ok(fixture, kv_key(fixture, "batch/mixed/", i));
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    kv_expect(kv_do(fixture, kv_start_del_many, &del.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 10; i++) {
        kv_expect(get.items[i].base.err, ERR_OK, NULL);
        kv_expect(del.items[i].base.err, ERR_OK, NULL);
        assert_int_equal(get.items[i].found, i % 3 != 0);
        assert_int_equal(del.items[i].existed, i % 3 != 0);
    }
}

/* The same key more than once: as if one after the other. */
static void test_repeated_keys(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    if (most(fixture) < 4)
        skip();

    struct kv_put_many put = kv_put_items(fixture, "batch/again/", 4);
    struct kv_get_many get = kv_get_items(fixture, "batch/again/", 4);
    struct kv_del_many del = kv_del_items(fixture, "batch/again/", 4);

    for (unsigned i = 0; i < 4; i++) {
        put.items[i].base.key = get.items[i].base.key = del.items[i].base.key =
            slice_str("batch/again/same");
        put.items[i].value = slice_str(kv_key(fixture, "value ", i));
    }
    kv_expect(kv_do(fixture, kv_start_put_many, &put.op), ERR_OK, NULL);
    assert_string_equal(kv_get_ok(fixture, "batch/again/same"), "value 00003");
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    kv_expect(kv_do(fixture, kv_start_del_many, &del.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 4; i++) {
        kv_expect(put.items[i].base.err, ERR_OK, NULL);
        assert_true(get.items[i].found);
        assert_true(slice_equal(get.items[i].value, slice_str("value 00003")));
        assert_int_equal(del.items[i].existed, i == 0);
    }
}

static void test_binary_and_empty(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    if (most(fixture) < 3)
        skip();

    struct kv_put_many put = kv_put_items(fixture, "batch/binary/", 3);
    struct kv_get_many get = kv_get_items(fixture, "batch/binary/", 3);

    put.items[0].base.key = get.items[0].base.key = slice_of("batch\0\r\n*", 9);
    put.items[0].value = slice_of("\0\r\n$-1\r\n\xff", 9);
    put.items[1].value = slice_str("");
    kv_expect(kv_do(fixture, kv_start_put_many, &put.op), ERR_OK, NULL);
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(get.items[i].found);
        assert_true(slice_equal(get.items[i].value, put.items[i].value));
    }
}

static void test_expiry_of_each_item(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    kv_need(fixture, BACKEND_KV_TTL);
    if (most(fixture) < 3)
        skip();

    struct kv_put_many put = kv_put_items(fixture, "batch/ttl/", 3);

    kv_put_ok(fixture, "batch/ttl/00002", "had an expiry", SHORT_MS);
    put.items[0].ttl_ms = SHORT_MS;
    put.items[1].ttl_ms = 60000;
    kv_expect(kv_do(fixture, kv_start_put_many, &put.op), ERR_OK, NULL);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "batch/ttl/00000"));
    assert_true(kv_exists_ok(fixture, "batch/ttl/00001"));
    assert_true(kv_exists_ok(fixture, "batch/ttl/00002"));
}

static void test_large_values(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    if (most(fixture) < 8)
        skip();

    struct kv_put_many put = kv_put_items(fixture, "batch/large/", 8);
    struct kv_get_many get = kv_get_items(fixture, "batch/large/", 8);
    size_t len = 256 << 10;

    for (unsigned i = 0; i < 8; i++)
        put.items[i].value =
            slice_of(memset(arena_alloc(&fixture->arena, len), 'a' + (int)i, len), len);
    kv_expect(kv_do(fixture, kv_start_put_many, &put.op), ERR_OK, NULL);
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 8; i++)
        assert_true(slice_equal(get.items[i].value, put.items[i].value));
}

/* Requests that run at the same time share the room; what does not fit leaves room for what does.
 */
static void test_values_beyond_the_room(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);

    struct kv_put_many put = kv_put_items(fixture, "batch/room/", 3);
    struct kv_get_many get = kv_get_items(fixture, "batch/room/", 3), more = get;
    struct kv_room room = {.bytes = 10};

    put.items[0].value = slice_str("sixsix");
    put.items[1].value = slice_str("fives");
    put.items[2].value = slice_str("four");
    kv_expect(kv_do(fixture, kv_start_put_many, &put.op), ERR_OK, NULL);
    get.room = &room;
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    assert_true(slice_equal(get.items[0].value, put.items[0].value));
    assert_true(get.items[1].found);
    assert_null(get.items[1].value.data);
    assert_int_equal(get.items[1].value.len, 5);
    assert_true(slice_equal(get.items[2].value, put.items[2].value));
    assert_int_equal(room.bytes, 0);
    assert_true(room.exceeded);
    more.room = &room;
    kv_expect(kv_do(fixture, kv_start_get_many, &more.op), ERR_OK, NULL);
    for (size_t i = 0; i < 3; i++)
        assert_true(more.items[i].found && more.items[i].value.data == NULL);
}

/* A small request for much: small values first, then a large one as often as one call takes it. The
 * backend asks its server for what the room holds, not for all of it. */
static void test_asks_within_the_room(void **state)
{
    struct kv_fixture *fixture = *state;

    need_many(fixture);

    uint64_t largest = fixture->backend->limits.value_bytes;
    size_t n = most(fixture), small = n / 4, len = 1 << 20;

    if (largest != 0 && largest < len)
        len = (size_t)largest;

    struct kv_put large = {.key = slice_str("batch/much"),
                           .value =
                               slice_of(memset(arena_alloc(&fixture->arena, len), 'x', len), len)};
    struct kv_get_many get = kv_get_items(fixture, "batch/few/", n);
    struct kv_room room = {.bytes = 3 * len + len / 2};
    struct counter *received = &fixture->backend->stats.bytes_received;

    kv_expect(kv_do(fixture, kv_start_put, &large.op), ERR_OK, NULL);
    kv_fill(fixture, "batch/few/", 0, (unsigned)small);
    for (size_t i = small; i < n; i++)
        get.items[i].base.key = large.key;
    get.room = &room;

    uint64_t before = counter_read(received);

    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    assert_true(counter_read(received) - before <= 3 * len + len / 2 + len);
    for (size_t i = 0; i < n; i++)
        assert_true(get.items[i].base.err.code == ERR_OK && get.items[i].found);
    for (size_t i = 0; i < small; i++)
        assert_true(slice_equal(get.items[i].value, get.items[i].base.key));
    for (size_t i = small; i < n; i++)
        assert_int_equal(get.items[i].value.data != NULL, i < small + 3);
    assert_int_equal(room.exceeded, n > small + 3);
}

/* Somebody else makes many small values large: what this instance has seen of values tells nothing.
 */
static void test_values_of_others(void **state)
{
    enum { N = 40, BYTES = 1 << 20, ROOM = 2 * BYTES };
    struct kv_fixture *fixture = *state;

    need_many(fixture);
    if (fixture->stranger == NULL)
        skip();

    struct kv_get_many get = kv_get_items(fixture, "batch/others/", N), again = get;
    struct kv_room room = {.bytes = ROOM}, later = room;
    struct counter *received = &fixture->backend->stats.bytes_received;

    kv_fill(fixture, "batch/others/", 0, N);
    get.room = &room;
    kv_expect(kv_do(fixture, kv_start_get_many, &get.op), ERR_OK, NULL);
    assert_false(room.exceeded);
    kv_swell(fixture, "batch/others/", N, BYTES);

    uint64_t before = counter_read(received);

    again.room = &later;
    kv_expect(kv_do(fixture, kv_start_get_many, &again.op), ERR_OK, NULL);
    assert_true(counter_read(received) - before <= ROOM + BYTES);
    assert_true(later.exceeded);
    for (unsigned i = 0; i < N; i++) {
        assert_true(again.items[i].found);
        assert_int_equal(again.items[i].value.data != NULL, i < ROOM / BYTES);
    }
}

int kv_batch_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_put_get_del),
        KV_TEST(test_found_and_absent_mixed),
        KV_TEST(test_repeated_keys),
        KV_TEST(test_binary_and_empty),
        KV_TEST(test_expiry_of_each_item),
        KV_TEST(test_large_values),
        KV_TEST(test_values_beyond_the_room),
        KV_TEST(test_asks_within_the_room),
        KV_TEST(test_values_of_others),
    };

    return kv_group(name, "kv_batch", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
