/* A ring of references that is there while it holds any. */
#include "backends/memstore/backlog.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MANY = 100 };

static struct kept *kept_with(size_t bytes)
{
    const struct outgoing m = {.topic = slice_str("t"), .payload = slice_of("xyz", bytes)};

    return kept_new(&m, 0);
}

/* It grows while its oldest stands anywhere in it, and keeps the order. */
static void test_order(void **state)
{
    struct kept *kept[MANY];
    struct backlog *backlog = NULL;
    unsigned taken = 0;

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        kept[i] = kept_with(i % 4);
        backlog_add(&backlog, kept[i]);
        if (i % 3 == 0) {
            assert_ptr_equal(backlog_take(&backlog), kept[taken]);
            kept_unref(kept[taken++]);
        }
        assert_int_equal(backlog_count(backlog), i + 1 - taken);
        for (unsigned j = taken; j <= i; j++)
            assert_ptr_equal(backlog_at(backlog, j - taken), kept[j]);
    }
    while (taken < MANY) {
        assert_ptr_equal(backlog_take(&backlog), kept[taken]);
        kept_unref(kept[taken++]);
    }
    assert_null(backlog);
}

static void test_costs(void **state)
{
    struct kept *small = kept_with(0), *large = kept_with(3);
    struct backlog *backlog = NULL;

    (void)state;
    assert_int_equal(backlog_bytes(backlog), 0);
    assert_int_equal(backlog_count(backlog), 0);
    backlog_add(&backlog, small);
    backlog_add(&backlog, large);
    assert_int_equal(backlog_bytes(backlog), small->cost + large->cost);
    kept_unref(backlog_take(&backlog));
    assert_int_equal(backlog_bytes(backlog), large->cost);
    kept_unref(backlog_take(&backlog));
    assert_null(backlog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_costs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
