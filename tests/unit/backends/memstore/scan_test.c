/* Scans while everything around them changes: each key that stays is met exactly once, in pages of
 * any size, with hashes that collide and tables that grow and shrink in between. And cursors: what
 * is not ours is refused. */
#include "tests/unit/backends/memstore/memstore_rig.h"

#include "pool/op.h"

enum { STAYING = 400, NOISE = 4000, CROWD = 400 };

struct scan {
    struct rig *rig;
    struct slice prefix, cursor;
    struct op_group group;
    struct kv_scan_page page;
};

static void scan_open(struct scan *scan, struct rig *rig, const char *prefix)
{
    *scan = (struct scan){.rig = rig, .prefix = slice_str(prefix)};
    op_group_init(&scan->group, NULL, &rig->arena, 0);
}

static struct err scan_page(struct scan *scan, uint32_t max_items, uint64_t max_bytes)
{
    struct err err;

    scan->page = (struct kv_scan_page){.op = {.group = &scan->group, .arena = scan->group.arena},
                                       .prefix = scan->prefix,
                                       .cursor = scan->cursor,
                                       .max_items = max_items,
                                       .max_bytes = max_bytes,
                                       .with_values = true};
    err = memstore_page(scan->rig->store, &scan->page);
    if (err.code == ERR_OK && scan->page.more)
        scan->cursor = scan->page.next_cursor;
    return err;
}

static unsigned number_of(struct rig *rig, struct slice key)
{
    return (unsigned)strtoul(arena_strdup(&rig->arena, key) + 4, NULL, 10);
}

/* The keys 0 .. STAYING-1 stay, the others come and go. */
static void change(struct rig *rig, uint64_t *seed, unsigned noise, bool growing)
{
    char key[32];

    for (unsigned i = 0; i < 200; i++) {
        unsigned n = STAYING + (unsigned)(rig_random(seed) % noise);

        switch (rig_random(seed) % 8) {
        case 0:
            rig_put_ok(rig, rig_key(key, (unsigned)(rig_random(seed) % STAYING)),
                       i % 2 == 0 ? "" : "a value that needs a new entry because it is longer", 0);
            break;
        case 1:
            rig_put_ok(rig, rig_key(key, n), "v", 1 + rig_random(seed) % 200);
            break;
        default:
            if (growing)
                rig_put_ok(rig, rig_key(key, n), "v", 0);
            else
                rig_del(rig, rig_key(key, n));
        }
    }
    rig_pass_ms(rig, 10);
}

static void scan_under_change(unsigned hash_bits, uint64_t seed)
{
    struct rig rig;
    struct scan scan;
    unsigned seen[STAYING] = {0}, pages = 0;
    unsigned noise = hash_bits < 8 ? CROWD : NOISE; /* keys with one tag cost their square */
    char key[32];

    rig_open(&rig, hash_bits, 0, 0);
    for (unsigned i = 0; i < STAYING; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    for (unsigned i = 0; i < noise && seed % 2 == 0; i++)
        rig_put_ok(&rig, rig_key(key, STAYING + i), "v", 0);
    scan_open(&scan, &rig, "key-");
    do {
        uint32_t max_items = 1 + (uint32_t)(rig_random(&seed) % 30);
        uint64_t max_bytes = rig_random(&seed) % 2 == 0 ? UINT64_MAX : rig_random(&seed) % 300;
        size_t fresh = 0;

        assert_int_equal(scan_page(&scan, max_items, max_bytes).code, ERR_OK);
        assert_true(scan.page.n <= max_items);
        for (size_t i = 0; i < scan.page.n; i++) {
            unsigned n = number_of(&rig, scan.page.items[i].key);

            if (n < STAYING)
                seen[n]++;
            fresh++;
        }
        assert_true(fresh > 0 || !scan.page.more || hash_bits == 0);
        change(&rig, &seed, noise, pages / 20 % 2 == 0);
        pages++;
    } while (scan.page.more);
    assert_true(pages > 10);
    for (unsigned i = 0; i < STAYING; i++)
        assert_int_equal(seen[i], 1);
    rig_close(&rig);
}

static void test_each_key_once(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        scan_under_change(64, seed);
}

static void test_each_key_once_with_collisions(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        scan_under_change(0, seed);
        scan_under_change(5, seed);
        scan_under_change(8, seed);
        scan_under_change(11, seed);
        scan_under_change(28, seed);
    }
}

/* The order of a scan is that of hashes: the same for every page size, and a longer value does not
 * change it. */
static void test_order_does_not_depend_on_pages(void **state)
{
    struct rig rig;
    struct scan one, all;
    char key[32];

    (void)state;
    rig_open(&rig, 11, 0, 0);
    for (unsigned i = 0; i < STAYING; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    scan_open(&all, &rig, "");
    scan_open(&one, &rig, "");
    assert_int_equal(scan_page(&all, STAYING, UINT64_MAX).code, ERR_OK);
    assert_int_equal(all.page.n, STAYING);
    assert_false(all.page.more); /* a page that ends with the last key says so */
    for (unsigned i = 0; i < STAYING; i++) {
        assert_int_equal(scan_page(&one, 1, UINT64_MAX).code, ERR_OK);
        assert_int_equal(one.page.n, 1);
        assert_true(slice_equal(one.page.items[0].key, all.page.items[i].key));
        assert_int_equal(one.page.more, i + 1 < STAYING);
    }
    rig_close(&rig);
}

/* A rare prefix in a large store: pages end, empty, before they have held up a worker for long. */
static void test_pages_of_a_rare_prefix_are_bounded(void **state)
{
    struct rig rig;
    struct scan scan;
    unsigned pages = 0, found = 0;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < 100000; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 0);
    rig_put_ok(&rig, "rare", "v", 0);
    scan_open(&scan, &rig, "ra");
    do {
        assert_int_equal(scan_page(&scan, 10, UINT64_MAX).code, ERR_OK);
        found += (unsigned)scan.page.n;
        pages++;
    } while (scan.page.more);
    assert_int_equal(found, 1);
    assert_in_range(pages, 100000 / 5000, 100000 / 4000);
    rig_close(&rig);
}

static uint64_t count(struct rig *rig, const char *prefix, size_t budget)
{
    struct memstore_position position = {0};
    uint64_t n = 0;

    while (position.at < MEMSTORE_END)
        memstore_count(rig->store, slice_str(prefix), &position, budget, &n);
    return n;
}

static void test_count(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 12, 0, 0);
    assert_int_equal(count(&rig, "", 10), 0);
    for (unsigned i = 0; i < 3000; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", i % 3 == 0 ? 1000 : 0);
    for (size_t budget = 1; budget < 5000; budget = budget * 3 + 1) {
        assert_int_equal(count(&rig, "", budget), 3000);
        assert_int_equal(count(&rig, "key-000000", budget), 100);
        assert_int_equal(count(&rig, "other", budget), 0);
    }
    rig_pass_ms(&rig, 1000);
    assert_int_equal(count(&rig, "", 100), 2000);
    assert_int_equal(count(&rig, "key-0000000", 100), 6);
    rig_sweep(&rig);
    assert_int_equal(count(&rig, "", 100), 2000);
    rig_close(&rig);
}

/* ---- cursors ---- */

static void expect_refused(struct scan *scan, struct slice cursor)
{
    struct err err;

    scan->cursor = cursor;
    err = scan_page(scan, 10, UINT64_MAX);
    assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(err.subject, "cursor");
}

/* Every bit of a cursor counts, and its length does. */
static void every_change_is_refused(struct scan *scan)
{
    struct slice good = scan->cursor;
    uint8_t *bad = arena_alloc(&scan->rig->arena, good.len + 1);

    for (size_t bit = 0; bit < 8 * good.len; bit++) {
        memcpy(bad, good.data, good.len);
        bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        expect_refused(scan, slice_of(bad, good.len));
    }
    memcpy(bad, good.data, good.len);
    bad[good.len] = '0';
    expect_refused(scan, slice_of(bad, good.len + 1));
    for (size_t len = 1; len < good.len; len++)
        expect_refused(scan, slice_of(arena_copy(&scan->rig->arena, slice_of(bad, len)).data, len));
    scan->cursor = good;
    assert_int_equal(scan_page(scan, 10, UINT64_MAX).code, ERR_OK);
}

static void test_cursors_cannot_be_made_up(void **state)
{
    struct rig rig, other;
    struct scan scan;
    char key[32];

    (void)state;
    for (unsigned hash_bits = 0; hash_bits <= 64;
         hash_bits += 32) { /* with a key inside, and without */
        rig_open(&rig, hash_bits, 0, 0);
        rig_open(&other, hash_bits, 0, 0);
        for (unsigned i = 0; i < 100; i++)
            rig_put_ok(&rig, rig_key(key, i), "v", 0);
        scan_open(&scan, &rig, "key");
        assert_int_equal(scan_page(&scan, 3, UINT64_MAX).code, ERR_OK);
        assert_true(scan.page.more);
        every_change_is_refused(&scan);

        /* Of another prefix, of another store. */
        scan_open(&scan, &rig, "key");
        assert_int_equal(scan_page(&scan, 3, UINT64_MAX).code, ERR_OK);
        scan.prefix = slice_str("ke");
        expect_refused(&scan, scan.cursor);
        scan.prefix = slice_str("key");
        scan.rig = &other;
        expect_refused(&scan, scan.cursor);
        rig_close(&rig);
        rig_close(&other);
    }
}

/* A key of the largest size, all bytes binary, as a place between keys with one hash. */
static void test_long_keys_in_cursors(void **state)
{
    struct rig rig;
    struct scan scan;
    const uint8_t first_bytes[] = {0x00, 0xfe, 0xff};
    uint8_t *key;

    (void)state;
    rig_open(&rig, 0, 0, 0);
    key = arena_alloc(&rig.arena, ENTRY_KEY_MAX);
    for (unsigned i = 0; i < 3; i++) {
        struct memstore_write write = {.key = slice_of(key, ENTRY_KEY_MAX)};

        memset(key, first_bytes[i], ENTRY_KEY_MAX);
        assert_int_equal(memstore_write(rig.store, &write).code, ERR_OK);
    }
    scan_open(&scan, &rig, "");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(scan_page(&scan, 1, UINT64_MAX).code, ERR_OK);
        assert_int_equal(scan.page.n, 1);
        assert_int_equal(scan.page.items[0].key.data[0], first_bytes[i]);
        assert_int_equal(scan.page.more, i < 2);
        if (i < 2)
            assert_true(scan.cursor.len > 2 * ENTRY_KEY_MAX &&
                        scan.cursor.len < 2 * ENTRY_KEY_MAX + 2048);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_once),
        cmocka_unit_test(test_each_key_once_with_collisions),
        cmocka_unit_test(test_order_does_not_depend_on_pages),
        cmocka_unit_test(test_pages_of_a_rare_prefix_are_bounded),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_cursors_cannot_be_made_up),
        cmocka_unit_test(test_long_keys_in_cursors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
