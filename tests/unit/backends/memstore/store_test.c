/* The store without operations: values, conditions, capacity, health; keys whose hashes collide. */
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { ITEM_BYTES = 16 + 16 + 16 }; /* of a key of 12 bytes with a value of up to 4, as charged */

/* Random writes, removals and reads against an array; hash_bits 0 = all keys in one place. */
static void against_a_model(unsigned hash_bits, unsigned keys, unsigned rounds)
{
    struct rig rig;
    unsigned *model = calloc(keys, sizeof *model); /* length of the value + 1; 0 = absent */
    uint64_t seed = hash_bits, present = 0;
    char key[32];

    assert_non_null(model);
    rig_open(&rig, hash_bits, 0, 0);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned k = (unsigned)(rig_random(&seed) % keys);
        unsigned len = (unsigned)(rig_random(&seed) % 60);
        struct memstore_write write = {
            .key = slice_str(rig_key(key, k)),
            .value = slice_of(memset(arena_alloc(&rig.arena, 60), (int)('a' + k % 26), 60), len)};

        if (rig_random(&seed) % 3 == 0) {
            assert_int_equal(rig_del(&rig, key), model[k] > 0);
            present -= model[k] > 0;
            model[k] = 0;
        } else {
            assert_int_equal(memstore_write(rig.store, &write).code, ERR_OK);
            present += model[k] == 0;
            model[k] = len + 1;
        }
        k = (unsigned)(rig_random(&seed) % keys);

        struct memstore_read read =
            memstore_read(rig.store, slice_str(rig_key(key, k)), NULL, &rig.arena);

        assert_int_equal(read.found, model[k] > 0);
        assert_int_equal(read.value.len, model[k] > 0 ? model[k] - 1 : 0);
        if (read.value.len > 0)
            assert_int_equal(read.value.data[read.value.len - 1], 'a' + k % 26);
        assert_int_equal(memstore_exists(rig.store, slice_str(key)), model[k] > 0);
        assert_int_equal(rig_keys(&rig), present);
        if (i % 1000 == 0)
            arena_clear(&rig.arena);
    }
    for (unsigned k = 0; k < keys; k++)
        assert_int_equal(rig_del(&rig, rig_key(key, k)), model[k] > 0);
    assert_int_equal(memstore_totals(rig.store).keys, 0);
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    free(model);
    rig_close(&rig);
}

static void test_random(void **state)
{
    (void)state;
    against_a_model(64, 3000, 20000);
}

/* 8 bits: one tag in each shard; 12 bits: sixteen; 0 bits: one for all keys. */
static void test_collisions(void **state)
{
    (void)state;
    against_a_model(0, 100, 3000);
    against_a_model(8, 1500, 6000);
    against_a_model(12, 3000, 6000);
}

/* ---- capacity ---- */

static void expect_refused(struct rig *rig, const char *key, const char *value, const char *limit)
{
    struct memstore_totals before = memstore_totals(rig->store), after;
    struct err err = rig_put(rig, key, value, 0);

    assert_int_equal(err.code, ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(err.subject, limit);
    assert_non_null(strstr(err.text, limit));
    assert_non_null(strstr(err.text, "nothing was written"));
    assert_int_equal(err.retry_after_ms, 0); /* waiting makes no room */
    after = memstore_totals(rig->store);
    assert_int_equal(after.keys, before.keys);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.refused, before.refused + 1);
}

static void expect_health(struct rig *rig, enum backend_state health, const char *about)
{
    struct backend_health now = backend_health(&rig->store->base);

    assert_int_equal(now.state, health);
    if (about != NULL)
        assert_non_null(strstr(now.text, about));
    else
        assert_null(now.text);
}

static void test_max_keys(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 10, 0);
    for (unsigned i = 0; i < 10; i++) {
        expect_health(&rig, BACKEND_READY, NULL);
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    }
    expect_health(&rig, BACKEND_DEGRADED, "max_keys");
    expect_refused(&rig, "one more", "v", "max_keys");
    assert_non_null(strstr(rig_put(&rig, "one more", "v", 0).text, "10 keys"));
    assert_null(rig_get(&rig, "one more"));
    rig_put_ok(&rig, rig_key(key, 3), "a replaced value that is longer", 0); /* still allowed */
    assert_string_equal(rig_get(&rig, key), "a replaced value that is longer");
    expect_health(&rig, BACKEND_DEGRADED, "max_keys");
    assert_true(rig_del(&rig, rig_key(key, 7)));
    expect_health(&rig, BACKEND_READY, NULL);
    rig_put_ok(&rig, "one more", "v", 0);
    expect_health(&rig, BACKEND_DEGRADED, "max_keys");
    rig_close(&rig);
}

static void test_max_bytes(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 0, 100 * ITEM_BYTES);
    for (unsigned i = 0; i < 100; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    assert_int_equal(memstore_totals(rig.store).bytes, 100 * ITEM_BYTES);
    expect_health(&rig, BACKEND_DEGRADED, "max_bytes");
    expect_refused(&rig, "another key", "v", "max_bytes");
    assert_null(rig_get(&rig, "another key"));

    /* A value that grows is refused too, and the old one stays; one that does not grow is not. */
    expect_refused(&rig, rig_key(key, 5), "longer than before", "max_bytes");
    assert_string_equal(rig_get(&rig, key), "v");
    rig_put_ok(&rig, key, "w", 0);
    assert_string_equal(rig_get(&rig, key), "w");
    rig_put_ok(&rig, key, "", 0);

    for (unsigned i = 10; i < 13; i++)
        assert_true(rig_del(&rig, rig_key(key, i)));
    expect_health(&rig, BACKEND_READY, NULL);
    rig_put_ok(&rig, rig_key(key, 5), "longer than before", 0);
    rig_close(&rig);
}

/* A value as large as the store: refused before anything is lost, taken when it fits. */
static void test_large_values(void **state)
{
    struct rig rig;
    size_t most = 1 << 20;
    uint8_t *bytes = malloc(most);
    struct memstore_write write = {.key = slice_str("large"), .value = slice_of(bytes, most)};

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'x', most);
    rig_open(&rig, 64, 0, most);
    rig_put_ok(&rig, "large", "small", 0);
    assert_int_equal(memstore_write(rig.store, &write).code, ERR_RESOURCE_EXHAUSTED);
    assert_false(write.stored);
    assert_string_equal(rig_get(&rig, "large"), "small");
    write.value.len = most - 64;
    assert_int_equal(memstore_write(rig.store, &write).code, ERR_OK);
    assert_int_equal(memstore_read(rig.store, write.key, NULL, &rig.arena).value.len, most - 64);
    write.value.len = most / 2;
    assert_int_equal(memstore_write(rig.store, &write).code, ERR_OK);
    assert_true(memstore_totals(rig.store).bytes < most / 2 + 100);
    rig_close(&rig);
    free(bytes);
}

static void test_no_limit(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < 50000; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    expect_health(&rig, BACKEND_READY, NULL);
    assert_int_equal(rig_keys(&rig), 50000);
    rig_close(&rig);
}

/* ---- conditions ---- */

static bool put_if(struct rig *rig, enum memstore_condition condition, uint32_t *version)
{
    struct memstore_write write = {.key = slice_str("key"),
                                   .value = slice_str("v"),
                                   .condition = condition,
                                   .expected = *version};

    assert_int_equal(memstore_write(rig->store, &write).code, ERR_OK);
    if (write.stored)
        *version = write.version;
    return write.stored;
}

static void test_versions(void **state)
{
    struct rig rig;
    uint32_t version = 0, old;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    assert_false(put_if(&rig, MEMSTORE_IF_VERSION, &version));
    assert_true(put_if(&rig, MEMSTORE_IF_ABSENT, &version));
    assert_false(put_if(&rig, MEMSTORE_IF_ABSENT, &version));
    assert_int_equal(memstore_read(rig.store, slice_str("key"), NULL, &rig.arena).version, version);
    old = version;
    assert_true(put_if(&rig, MEMSTORE_IF_VERSION, &version));
    assert_int_not_equal(old, version);
    assert_false(put_if(&rig, MEMSTORE_IF_VERSION, &old));
    assert_true(memstore_expire(rig.store, slice_str("key"), 1000));
    assert_true(put_if(&rig, MEMSTORE_IF_VERSION, &version)); /* expiry is no write */
    old = version;
    assert_true(rig_del(&rig, "key"));
    version = 0;
    assert_true(put_if(&rig, MEMSTORE_IF_ABSENT, &version));
    assert_false(put_if(&rig, MEMSTORE_IF_VERSION, &old));
    rig_close(&rig);
}

/* The condition is looked at first: a write that would not happen needs no room. */
static void test_condition_before_capacity(void **state)
{
    struct rig rig;
    uint32_t version = 0;

    (void)state;
    rig_open(&rig, 64, 1, 0);
    rig_put_ok(&rig, "other", "v", 0);
    assert_false(put_if(&rig, MEMSTORE_IF_VERSION, &version));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),       cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_max_keys),     cmocka_unit_test(test_max_bytes),
        cmocka_unit_test(test_large_values), cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_versions),     cmocka_unit_test(test_condition_before_capacity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
