/* kv_scan: pages and counts. The promises that matter under change: a key that is there from the
 * first page to the last is returned at least once, or exactly once where the backend says so;
 * nothing else than keys of the prefix is; and a cursor that is not one of ours is refused. */
#include "tests/contract/kv_many.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 120, ANY = 1000000, CURSOR_MAX = 4096 };

/* One walk over a prefix, page by page. */
struct walk {
    struct kv_fixture *fixture;
    struct slice prefix;
    uint32_t max_items;
    uint64_t max_bytes;
    bool with_values;
    /* of the last page */
    struct kv_scan_page page;
    bool over;
    unsigned pages;
};

static struct walk walk_of(struct kv_fixture *fixture, const char *prefix, uint32_t max_items)
{
    return (struct walk){.fixture = fixture,
                         .prefix = slice_str(prefix),
                         .max_items = max_items,
                         .max_bytes = UINT64_MAX};
}

static void check_cursor(const struct kv_scan_page *page)
{
    assert_in_range(page->next_cursor.len, 1, CURSOR_MAX);
    for (size_t i = 0; i < page->next_cursor.len; i++)
        assert_true(isgraph(page->next_cursor.data[i]));
}

/* False: there is no further page. */
static bool walk_on(struct walk *walk)
{
    struct slice cursor = walk->page.next_cursor;

    if (walk->over)
        return false;
    walk->page = (struct kv_scan_page){.prefix = walk->prefix,
                                       .cursor = cursor,
                                       .max_items = walk->max_items,
                                       .max_bytes = walk->max_bytes,
                                       .with_values = walk->with_values};
    kv_expect(kv_do(walk->fixture, kv_start_page, &walk->page.op), ERR_OK, NULL);
    assert_true(walk->page.n <= walk->max_items);
    for (size_t i = 0; i < walk->page.n; i++)
        assert_true(slice_starts_with(walk->page.items[i].key, walk->prefix));
    walk->over = !walk->page.more;
    if (walk->page.more)
        check_cursor(&walk->page);
    assert_true(++walk->pages < 100000);
    return true;
}

/* Counts how often each of prefix 00000 .. KEYS-1 was in the page; others are not counted. */
static void tally(const struct walk *walk, const char *prefix, unsigned *seen, unsigned n)
{
    size_t len = strlen(prefix);

    for (size_t i = 0; i < walk->page.n; i++) {
        struct slice key = walk->page.items[i].key;

        if (key.len != len + 5 || !slice_starts_with(key, slice_str(prefix)))
            continue;

        unsigned number = (unsigned)strtoul(
            arena_strdup(&walk->fixture->arena, slice_of(key.data + len, 5)), NULL, 10);

        if (number < n)
            seen[number]++;
    }
}

static void expect_seen(const struct kv_fixture *fixture, const unsigned *seen, unsigned from,
                        unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        if (fixture->backend->has.kv_scan->exactly_once)
            assert_int_equal(seen[i], 1);
        else
            assert_true(seen[i] >= 1);
    }
}

static uint64_t count(struct kv_fixture *fixture, struct slice prefix)
{
    struct kv_count count = {.prefix = prefix};

    kv_expect(kv_do(fixture, kv_start_count, &count.op), ERR_OK, NULL);
    return count.count;
}

static void test_all_keys_of_a_prefix(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/all/", 1000);
    unsigned seen[KEYS] = {0};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/all/", 0, KEYS);
    kv_fill(fixture, "scan/alm/", 0, 10);
    kv_put_ok(fixture, "scan/all", "shorter than the prefix", 0);
    while (walk_on(&walk))
        tally(&walk, "scan/all/", seen, KEYS);
    expect_seen(fixture, seen, 0, KEYS);
    assert_int_equal(count(fixture, slice_str("scan/all/")), KEYS);
    assert_int_equal(count(fixture, slice_str("scan/alm/")), 10);
    assert_int_equal(count(fixture, slice_str("scan/all/00119")), 1);
}

static void test_nothing_found(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/nothing/", 10);

    kv_need(fixture, BACKEND_KV_SCAN);
    while (walk_on(&walk))
        assert_int_equal(walk.page.n, 0);
    assert_int_equal(count(fixture, slice_str("scan/nothing/")), 0);
}

/* Whatever the size of a page: none is too long, and together they hold each key. */
static void test_pages_of_all_sizes(void **state)
{
    struct kv_fixture *fixture = *state;
    const uint32_t sizes[] = {1, 2, 3, 7, 10, 50, KEYS - 1, KEYS, KEYS + 1};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/sizes/", 0, KEYS);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct walk walk = walk_of(fixture, "scan/sizes/", sizes[i]);
        unsigned seen[KEYS] = {0};

        while (walk_on(&walk))
            tally(&walk, "scan/sizes/", seen, KEYS);
        expect_seen(fixture, seen, 0, KEYS);
    }
}

static void test_values(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk with = walk_of(fixture, "scan/values/", 17);
    struct walk without = walk_of(fixture, "scan/values/", 17);
    unsigned items = 0;

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/values/", 0, 50);
    kv_put_ok(fixture, "scan/values/empty", "", 0);
    with.with_values = true;
    while (walk_on(&with)) {
        for (size_t i = 0; i < with.page.n; i++, items++) {
            const struct kv_scan_item *item = &with.page.items[i];

            if (slice_equal(item->key, slice_str("scan/values/empty")))
                assert_int_equal(item->value.len, 0);
            else
                assert_true(slice_equal(item->key, item->value));
        }
    }
    assert_true(items >= 51);
    while (walk_on(&without)) {
        for (size_t i = 0; i < without.page.n; i++)
            assert_int_equal(without.page.items[i].value.len, 0);
    }
}

/* The page ends with the item that passes the budget: at least one, and not one more than needed.
 */
static void test_byte_budget(void **state)
{
    struct kv_fixture *fixture = *state;
    const uint64_t budgets[] = {1, 100, 1000};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/budget/", 0, KEYS);
    for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
        struct walk walk = walk_of(fixture, "scan/budget/", 1000);
        unsigned seen[KEYS] = {0};

        walk.max_bytes = budgets[b];
        walk.with_values = true;
        while (walk_on(&walk)) {
            uint64_t bytes = 0;

            for (size_t i = 0; i < walk.page.n; i++) {
                assert_true(bytes <= budgets[b]);
                bytes += walk.page.items[i].key.len + walk.page.items[i].value.len;
            }
            tally(&walk, "scan/budget/", seen, KEYS);
        }
        expect_seen(fixture, seen, 0, KEYS);
        assert_true(walk.pages > 1);
    }
}

/* Values that somebody else has made large are not asked for beyond the budget, and one more. */
static void test_values_of_others(void **state)
{
    enum { N = 24, BYTES = 1 << 20, BUDGET = 2 * BYTES };
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_SCAN);
    if (fixture->stranger == NULL)
        skip();

    struct walk walk = walk_of(fixture, "scan/others/", N);
    struct counter *received = &fixture->backend->stats.bytes_received;
    unsigned seen[N] = {0};

    kv_fill(fixture, "scan/others/", 0, N);
    walk.with_values = true;
    while (walk_on(&walk))
        ;
    kv_swell(fixture, "scan/others/", N, BYTES);
    walk = walk_of(fixture, "scan/others/", N);
    walk.with_values = true;
    walk.max_bytes = BUDGET;
    for (;;) {
        uint64_t before = counter_read(received);
        bool on = walk_on(&walk);

        assert_true(counter_read(received) - before <= BUDGET + BYTES);
        if (!on)
            break;
        tally(&walk, "scan/others/", seen, N);
    }
    expect_seen(fixture, seen, 0, N);
}

static void put_bytes(struct kv_fixture *fixture, const void *key, size_t len)
{
    struct kv_put put = {.key = slice_of(key, len), .value = slice_str("v")};

    kv_expect(kv_do(fixture, kv_start_put, &put.op), ERR_OK, NULL);
}

static unsigned matches(struct kv_fixture *fixture, struct slice prefix)
{
    struct walk walk = walk_of(fixture, "", 1000);
    unsigned n = 0;

    walk.prefix = prefix;
    while (walk_on(&walk))
        n += (unsigned)walk.page.n;
    return n;
}

/* What is special in glob, in LIKE and in C: in a prefix it is a byte like any other. */
static void test_prefixes_are_bytes(void **state)
{
    struct kv_fixture *fixture = *state;
    static const char *const special[] = {"*", "?", "[a-z]", "\\", "%", "_", "{x}", "^", "[", "]"};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_put_ok(fixture, "scan/glob/plain", "v", 0);
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        char *key = arena_printf(&fixture->arena, "scan/glob/%s/key", special[i]);
        struct slice prefix = slice_of(key, strlen(key) - strlen("/key"));

        assert_int_equal(count(fixture, prefix), 0);
        kv_put_ok(fixture, key, "v", 0);
        assert_int_equal(count(fixture, prefix), 1);
        assert_true(kv_del_ok(fixture, key));
    }
    put_bytes(fixture, "scan\0a/1", 8);
    put_bytes(fixture, "scan\0a/2", 8);
    put_bytes(fixture, "scan\0b/1", 8);
    put_bytes(fixture, "\xff\xff/scan", 7);
    put_bytes(fixture, "\xff\xff", 2);
    assert_int_equal(matches(fixture, slice_of("scan\0a", 6)), 2);
    assert_int_equal(matches(fixture, slice_of("scan\0", 5)), 3);
    assert_int_equal(count(fixture, slice_of("scan\0a/2", 8)), 1);
    assert_int_equal(matches(fixture, slice_of("\xff\xff", 2)), 2);
    assert_int_equal(count(fixture, slice_of("\xff\xff/", 3)), 1);
}

static void test_empty_prefix_is_the_namespace(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "", 25);
    unsigned seen[KEYS] = {0}, all = 0;

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/whole/", 0, KEYS);
    while (walk_on(&walk)) {
        tally(&walk, "scan/whole/", seen, KEYS);
        all += (unsigned)walk.page.n;
    }
    expect_seen(fixture, seen, 0, KEYS);
    if (fixture->backend->has.kv_scan->exactly_once)
        assert_int_equal(count(fixture, slice_str("")), all);
    else
        assert_true(count(fixture, slice_str("")) <= all);
}

static void test_order(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/order/", 7);
    struct slice last = slice_str("");

    kv_need(fixture, BACKEND_KV_SCAN);
    if (!fixture->backend->has.kv_scan->ordered)
        skip();
    kv_fill(fixture, "scan/order/", 0, 50);
    while (walk_on(&walk)) {
        for (size_t i = 0; i < walk.page.n; i++) {
            assert_true(slice_compare(last, walk.page.items[i].key) < 0);
            last = walk.page.items[i].key;
        }
    }
}

/* Between the pages others write, replace and remove so much that tables grow and shrink. */
static void test_stable_under_change(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/", 5);
    unsigned seen[KEYS] = {0};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/change/", 0, KEYS);
    while (walk_on(&walk)) {
        unsigned round = walk.pages;

        tally(&walk, "scan/change/", seen, KEYS);
        if (round <= 8)
            kv_fill(fixture, "scan/noise/", round * 500, round * 500 + 500);
        else if (round <= 16)
            kv_empty(fixture, "scan/noise/", (round - 8) * 500, (round - 8) * 500 + 500);
        if (round % 4 == 0)
            kv_fill(fixture, "scan/change/", 0, KEYS / 2); /* the same keys once more */
    }
    assert_true(walk.pages > 16);
    expect_seen(fixture, seen, 0, KEYS);
    kv_empty(fixture, "scan/noise/", 500, 4500);
}

static void test_removed_before_is_not_returned(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/removed/", 10);
    unsigned seen[KEYS] = {0};

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/removed/", 0, KEYS);
    kv_empty(fixture, "scan/removed/", 0, KEYS / 2);
    while (walk_on(&walk))
        tally(&walk, "scan/removed/", seen, KEYS);
    for (unsigned i = 0; i < KEYS / 2; i++)
        assert_int_equal(seen[i], 0);
    expect_seen(fixture, seen, KEYS / 2, KEYS);
    assert_int_equal(count(fixture, slice_str("scan/removed/")), KEYS / 2);
}

static void test_expired_is_not_returned(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_need(fixture, BACKEND_KV_TTL);
    kv_put_ok(fixture, "scan/expired/gone", "v", 200);
    kv_put_ok(fixture, "scan/expired/stays", "v", 0);
    assert_int_equal(count(fixture, slice_str("scan/expired/")), 2);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "scan/expired/gone"));
    assert_int_equal(matches(fixture, slice_str("scan/expired/")), 1);
    assert_int_equal(count(fixture, slice_str("scan/expired/")), 1);
}

static void test_namespaces_are_apart(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put put = {.key = slice_str("scan/space/theirs"), .value = slice_str("v")};
    struct kv_count theirs = {.prefix = slice_str("scan/space/")};
    struct kv_step write = {.start = kv_start_put, .op = &put.op};
    struct kv_step counting = {.start = kv_start_count, .op = &theirs.op};

    kv_need(fixture, BACKEND_KV_SCAN);
    if (fixture->elsewhere == NULL)
        skip();
    kv_fill(fixture, "scan/space/", 0, 20);
    kv_run(fixture, fixture->elsewhere, &write, 1);
    kv_expect(put.op.err, ERR_OK, NULL);
    assert_int_equal(matches(fixture, slice_str("scan/space/")), 20);
    kv_run(fixture, fixture->elsewhere, &counting, 1);
    assert_int_equal(theirs.count, 1);
}

/* ---- cursors that are not ours ---- */

static void expect_refused(struct kv_fixture *fixture, struct slice cursor)
{
    struct kv_scan_page page = {.prefix = slice_str("scan/cursor/"),
                                .cursor = cursor,
                                .max_items = 10,
                                .max_bytes = UINT64_MAX};

    kv_expect(kv_do(fixture, kv_start_page, &page.op), ERR_INVALID_ARGUMENT, "cursor");
}

static void test_foreign_cursors_are_refused(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/cursor/", 3);
    static const char *const foreign[] = {
        " ", "0", "17", "-1", "cursor", "AAAAAAAAAAAAAAAA", "18446744073709551616", "%s%n", "\xff",
    };

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/cursor/", 0, KEYS);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        expect_refused(fixture, slice_str(foreign[i]));
    expect_refused(fixture, slice_of("\0\0\0\0", 4));
    expect_refused(fixture,
                   slice_of(memset(arena_alloc(&fixture->arena, 100000), 'a', 100000), 100000));
    assert_true(walk_on(&walk));
    assert_true(walk.page.more);
}

/* A cursor with a byte changed, cut off or added is refused, or, where the place is all that it
 * says, leads to some page of the same prefix; never to anything else. */
static void test_mangled_cursors(void **state)
{
    struct kv_fixture *fixture = *state;
    struct walk walk = walk_of(fixture, "scan/mangled/", 3);

    kv_need(fixture, BACKEND_KV_SCAN);
    kv_fill(fixture, "scan/mangled/", 0, KEYS);
    assert_true(walk_on(&walk));
    assert_true(walk.page.more);

    struct slice cursor = walk.page.next_cursor;

    for (size_t i = 0; i < 2 * cursor.len; i++) {
        uint8_t *mangled = arena_alloc(&fixture->arena, cursor.len);
        size_t len = i < cursor.len ? cursor.len : i - cursor.len;
        struct kv_scan_page page = {.prefix = slice_str("scan/mangled/"),
                                    .cursor = slice_of(mangled, len),
                                    .max_items = 3,
                                    .max_bytes = UINT64_MAX};

        memcpy(mangled, cursor.data, cursor.len);
        if (i < cursor.len)
            mangled[i] ^= 1;
        if (len == 0)
            continue;
        if (kv_do(fixture, kv_start_page, &page.op).code == ERR_OK)
            assert_true(page.n <= 3);
        else
            kv_expect(page.op.err, ERR_INVALID_ARGUMENT, "cursor");
    }
}

int kv_scan_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_all_keys_of_a_prefix),
        KV_TEST(test_nothing_found),
        KV_TEST(test_pages_of_all_sizes),
        KV_TEST(test_values),
        KV_TEST(test_byte_budget),
        KV_TEST(test_values_of_others),
        KV_TEST(test_prefixes_are_bytes),
        KV_TEST(test_empty_prefix_is_the_namespace),
        KV_TEST(test_order),
        KV_TEST(test_stable_under_change),
        KV_TEST(test_removed_before_is_not_returned),
        KV_TEST(test_expired_is_not_returned),
        KV_TEST(test_namespaces_are_apart),
        KV_TEST(test_foreign_cursors_are_refused),
        KV_TEST(test_mangled_cursors),
    };

    return kv_group(name, "kv_scan", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
