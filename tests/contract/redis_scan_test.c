/* Scans on a real server: what SCAN's buckets, its repeats and its changing table must not do to
 * pages. */
#include "backends/redis/redis_text.h"
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>
#include <string.h>

enum { KEYS = 700, CHURN = 4000, BATCH = 500 };

static struct redis_server server;

static int open_default(void **state)
{
    return redis_default_open(state, &server);
}

static int close_default(void **state)
{
    return redis_default_close(state, &server);
}

/* ---- helpers ---- */

typedef char name[24];

/* <prefix>0000.. with the value <prefix>0000..., in batches. */
static void put_keys(struct redis_fixture *fixture, const char *prefix, size_t n)
{
    name *names = test_calloc(n, sizeof *names);
    struct kv_put_item *items = test_calloc(n, sizeof *items);

    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s%04zu", prefix, i);
        items[i] =
            (struct kv_put_item){.base.key = slice_str(names[i]), .value = slice_str(names[i])};
    }
    for (size_t i = 0; i < n; i += BATCH) {
        struct kv_put_many put = {.items = items + i, .n = n - i < BATCH ? n - i : BATCH};

        assert_int_equal(kv_do(&fixture->kv, kv_start_put_many, &put.op).code, ERR_OK);
    }
    test_free(items);
    test_free(names);
}

static void del_keys(struct redis_fixture *fixture, const char *prefix, size_t n)
{
    name *names = test_calloc(n, sizeof *names);
    struct kv_del_item *items = test_calloc(n, sizeof *items);

    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s%04zu", prefix, i);
        items[i] = (struct kv_del_item){.base.key = slice_str(names[i])};
    }
    for (size_t i = 0; i < n; i += BATCH) {
        struct kv_del_many del = {.items = items + i, .n = n - i < BATCH ? n - i : BATCH};

        assert_int_equal(kv_do(&fixture->kv, kv_start_del_many, &del.op).code, ERR_OK);
    }
    test_free(items);
    test_free(names);
}

struct seen {
    unsigned times[KEYS];
    size_t items, pages, bytes;
};

/* Counts the page's keys, each <prefix>NNNN. */
static void note(struct seen *seen, const struct kv_scan_page *page)
{
    seen->pages++;
    seen->items += page->n;
    for (size_t i = 0; i < page->n; i++) {
        struct slice key = page->items[i].key;
        size_t number = 0;

        assert_true(slice_starts_with(key, page->prefix));
        for (size_t c = page->prefix.len; c < key.len; c++)
            number = number * 10 + (size_t)(key.data[c] - '0');
        assert_true(number < KEYS);
        seen->times[number]++;
        if (page->with_values)
            assert_true(slice_equal(key, page->items[i].value));
    }
}

/* One page, from where the last one ended; false after the last. */
static bool next_page(struct redis_fixture *fixture, struct kv_scan_page *page)
{
    struct slice cursor = page->next_cursor;
    bool more;

    *page = (struct kv_scan_page){.prefix = page->prefix,
                                  .cursor = cursor,
                                  .max_items = page->max_items,
                                  .max_bytes = page->max_bytes,
                                  .with_values = page->with_values};
    assert_int_equal(kv_do(&fixture->kv, kv_start_page, &page->op).code, ERR_OK);
    assert_true(page->n <= page->max_items);
    more = page->more;
    assert_true(more == (page->next_cursor.len > 0));
    return more;
}

static void expect_all(const struct seen *seen)
{
    for (size_t i = 0; i < KEYS; i++) {
        if (seen->times[i] == 0)
            fail_msg("key %zu was never returned", i);
    }
}

/* ---- pages ---- */

static void every_size_of_page_finds_all(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 7, 100, 699, 700, 701, 1000};
    struct redis_fixture *fixture = *state;

    put_keys(fixture, "page-", KEYS);
    put_keys(fixture, "other-", 2000);
    for (size_t s = 0; s < 2 * ARRAY_LEN(sizes); s++) {
        struct kv_scan_page page = {
            .prefix = slice_str("page-"), .max_items = sizes[s / 2], .with_values = s % 2 == 1};
        struct seen seen = {0};
        bool more = true;

        while (more) {
            more = next_page(fixture, &page);
            note(&seen, &page);
        }
        expect_all(&seen);
        assert_int_equal(seen.items, KEYS); /* nobody writes: no repeats either */
    }
    del_keys(fixture, "other-", 2000);
    del_keys(fixture, "page-", KEYS);
}

/* Keys come and go in thousands between pages, so the table grows and shrinks under the scan. */
static void churn_loses_nothing(void **state)
{
    static const uint32_t sizes[] = {1, 10, 100};
    struct redis_fixture *fixture = *state;

    put_keys(fixture, "fix-", KEYS);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct kv_scan_page page = {.prefix = slice_str("fix-"), .max_items = sizes[s]};
        struct seen seen = {0};
        bool more = true, there = false;

        while (more) {
            if (seen.pages % (KEYS / sizes[s] / 6 + 1) == 0) {
                if (there)
                    del_keys(fixture, "churn-", CHURN);
                else
                    put_keys(fixture, "churn-", CHURN);
                there = !there;
            }
            more = next_page(fixture, &page);
            note(&seen, &page);
            assert_true(seen.pages < 20 * KEYS);
        }
        expect_all(&seen);
        assert_true(seen.pages > 3);
        del_keys(fixture, "churn-", CHURN);
    }
    del_keys(fixture, "fix-", KEYS);
}

static struct slice cursor_of(struct redis_fixture *fixture, const struct redis_cursor *cursor)
{
    return redis_cursor_encode(&fixture->kv.arena, slice_str("prism:default:"), cursor);
}

/* A cursor whose next does not match what SCAN says now was made for other buckets: skipping would
 * lose keys. */
static void nothing_is_skipped_when_buckets_differ(void **state)
{
    struct redis_fixture *fixture = *state;
    const struct redis_cursor other = {
        .at = 0, .within = true, .next = 12345, .count = 1000, .last = slice_str("zzzz")};
    const struct redis_cursor same = {
        .at = 0, .within = true, .next = 0, .count = 1000, .last = slice_str("k2")};

    kv_put_ok(&fixture->kv, "k1", "1", 0);
    kv_put_ok(&fixture->kv, "k2", "2", 0);
    kv_put_ok(&fixture->kv, "k3", "3", 0);

    struct kv_scan_page page = {.max_items = 1000};
    size_t found = 0;

    page.next_cursor = cursor_of(fixture, &other);
    for (bool more = true; more; found += page.n)
        more = next_page(fixture, &page);
    assert_int_equal(found, 3);

    page.next_cursor = cursor_of(fixture, &same); /* the whole keyspace fits into one call */
    assert_false(next_page(fixture, &page));
    assert_int_equal(page.n, 1);
    assert_true(slice_equal(page.items[0].key, slice_str("k3")));
    redis_server_say(&server, "DEL prism:default:k1 prism:default:k2 prism:default:k3");
}

static void special_characters_are_plain(void **state)
{
    static const char *const keys[] = {"a*b", "a?b", "a[b]", "a\\b", "a^b", "a-b", "axb", "ab"};
    struct redis_fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        kv_put_ok(&fixture->kv, keys[i], "v", 0);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct kv_scan_page page = {.prefix = slice_str(keys[i]), .max_items = 100};

        assert_false(next_page(fixture, &page));
        assert_int_equal(page.n, 1);
        assert_true(slice_equal(page.items[0].key, slice_str(keys[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_true(kv_del_ok(&fixture->kv, keys[i]));
}

static void cursors_from_elsewhere_are_refused(void **state)
{
    struct redis_fixture *fixture = *state;
    static const char *const forged[] = {"0", "17", "rs1.", "xyz", "rs1.00"};
    struct kv_scan_page page = {.prefix = slice_str("p"), .max_items = 10};

    for (size_t i = 0; i < ARRAY_LEN(forged) + 1; i++) {
        page.cursor = i < ARRAY_LEN(forged)
                          ? slice_str(forged[i])
                          : cursor_of(fixture, &(struct redis_cursor){.at = 3}); /* of no prefix */

        struct err e = kv_do(&fixture->kv, kv_start_page, &page.op);

        assert_int_equal(e.code, ERR_INVALID_ARGUMENT);
        assert_string_equal(e.subject, "cursor");
    }
}

/* ---- budgets ---- */

static void bytes_end_a_page(void **state)
{
    struct redis_fixture *fixture = *state;

    put_keys(fixture, "b-", KEYS); /* 6 bytes of key, 6 of value */
    for (int with_values = 0; with_values < 2; with_values++) {
        struct kv_scan_page page = {.prefix = slice_str("b-"),
                                    .max_items = 1000,
                                    .max_bytes = 240,
                                    .with_values = with_values == 1};
        size_t one = with_values ? 12 : 6;
        struct seen seen = {0};
        bool more = true;

        while (more) {
            more = next_page(fixture, &page);
            note(&seen, &page);
            assert_true(page.n <= 240 / one);
        }
        expect_all(&seen);
        assert_int_equal(seen.items, KEYS);
        assert_true(seen.pages >= KEYS * one / 240);
    }
    del_keys(fixture, "b-", KEYS);
}

static void what_is_no_string_has_no_value(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_scan_page page = {.prefix = slice_str("mix-"), .max_items = 10, .with_values = true};

    kv_put_ok(&fixture->kv, "mix-1", "v", 0);
    redis_server_say(&server, "RPUSH prism:default:mix-2 a");
    assert_false(next_page(fixture, &page));
    assert_int_equal(page.n, 1);
    assert_true(slice_equal(page.items[0].key, slice_str("mix-1")));
    redis_server_say(&server, "DEL prism:default:mix-1 prism:default:mix-2");
}

/* ---- count ---- */

static uint64_t count_of(struct redis_fixture *fixture, const char *prefix)
{
    struct kv_count count = {.prefix = slice_str(prefix)};

    assert_int_equal(kv_do(&fixture->kv, kv_start_count, &count.op).code, ERR_OK);
    return count.count;
}

static void counts_are_exact(void **state)
{
    struct redis_fixture *fixture = *state;

    assert_int_equal(count_of(fixture, ""), 0);
    put_keys(fixture, "c-", 9000);
    redis_server_say(&server, "SET prism:elsewhere:c-1 x");
    assert_int_equal(count_of(fixture, "c-"), 9000);
    assert_int_equal(count_of(fixture, ""), 9000);
    assert_int_equal(count_of(fixture, "c-000"), 10);
    /* Shrinks the table while the next counts run over it. */
    del_keys(fixture, "c-", 8700);
    for (int i = 0; i < 50; i++)
        assert_int_equal(count_of(fixture, "c-"), 300);
    for (size_t i = 0; i < 300; i++) {
        name key;

        snprintf(key, sizeof key, "c-%04zu", 8700 + i);
        assert_true(kv_del_ok(&fixture->kv, key));
    }
    assert_int_equal(count_of(fixture, ""), 0);
}

static void count_is_stopped(void *arg)
{
    struct redis_flight *flight = arg;

    op_group_cancel(&flight->group, err_make(ERR_CANCELLED, "the caller has gone"));
}

/* However many are asked for, few SCANs are on the wire at once, and all counts get their turns.
 * Those that still wait can be cancelled. */
static void counts_share_their_turns(void **state)
{
    enum { COUNTS = 200, AT_ONCE = 3 };
    struct redis_fixture *fixture = *state;
    struct kv_count counts[COUNTS], gone[COUNTS];
    struct op *ops[COUNTS], *gone_ops[COUNTS];
    struct redis_flight flight, cancelled;
    struct counter *in_flight = &fixture->kv.backend->stats.in_flight;

    put_keys(fixture, "t-", 3000);
    for (size_t i = 0; i < COUNTS; i++) {
        counts[i] = gone[i] = (struct kv_count){.prefix = slice_str("t-")};
        ops[i] = &counts[i].op;
        gone_ops[i] = &gone[i].op;
    }
    redis_server_pause(&server);
    redis_launch(&flight, fixture, kv_start_count, ops, COUNTS, 0);
    redis_launch(&cancelled, fixture, kv_start_count, gone_ops, COUNTS, 0);
    kv_on_worker(&fixture->kv, count_is_stopped, &cancelled);
    redis_land(&cancelled);
    assert_int_equal(counter_read(in_flight), AT_ONCE);
    redis_server_resume(&server);
    redis_land(&flight);
    for (size_t i = 0; i < COUNTS; i++) {
        assert_int_equal(counts[i].op.err.code, ERR_OK);
        assert_int_equal(counts[i].count, 3000);
        assert_int_equal(gone[i].op.err.code, ERR_CANCELLED);
    }
    assert_int_equal(counter_read(in_flight), 0);
    redis_flight_clear(&flight);
    redis_flight_clear(&cancelled);
    del_keys(fixture, "t-", 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(every_size_of_page_finds_all),
        KV_TEST(churn_loses_nothing),
        KV_TEST(nothing_is_skipped_when_buckets_differ),
        KV_TEST(special_characters_are_plain),
        KV_TEST(cursors_from_elsewhere_are_refused),
        KV_TEST(bytes_end_a_page),
        KV_TEST(what_is_no_string_has_no_value),
        KV_TEST(counts_are_exact),
        KV_TEST(counts_share_their_turns),
    };

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);

    int failed = cmocka_run_group_tests_name("redis_scan", tests, open_default, close_default);

    redis_server_stop(&server);
    return failed;
}
