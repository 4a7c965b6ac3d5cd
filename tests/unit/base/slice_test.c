#include "src/base/slice.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_equal(void **state)
{
    (void)state;
    assert_true(slice_equal(slice_str("ab"), slice_of("abc", 2)));
    assert_false(slice_equal(slice_str("ab"), slice_str("abc")));
    assert_false(slice_equal(slice_str("ab"), slice_str("ac")));
    assert_true(slice_equal(slice_of(NULL, 0), slice_str("")));
    assert_true(slice_equal(slice_str(NULL), slice_str("")));
    assert_false(slice_equal(slice_of("a\0b", 3), slice_of("a\0c", 3)));
}

static void test_starts_with(void **state)
{
    (void)state;
    assert_true(slice_starts_with(slice_str("abc"), slice_str("ab")));
    assert_true(slice_starts_with(slice_str("abc"), slice_str("")));
    assert_true(slice_starts_with(slice_of(NULL, 0), slice_of(NULL, 0)));
    assert_false(slice_starts_with(slice_str("ab"), slice_str("abc")));
    assert_false(slice_starts_with(slice_str("abc"), slice_str("b")));
}

static void test_compare(void **state)
{
    (void)state;
    assert_true(slice_compare(slice_str("a"), slice_str("b")) < 0);
    assert_true(slice_compare(slice_str("b"), slice_str("a")) > 0);
    assert_int_equal(slice_compare(slice_str("a"), slice_str("a")), 0);
    assert_true(slice_compare(slice_str("a"), slice_str("ab")) < 0);
    assert_true(slice_compare(slice_str("ab"), slice_str("a")) > 0);
    assert_true(slice_compare(slice_str("\x7f"), slice_str("\x80")) < 0); /* bytes are unsigned */
    assert_int_equal(slice_compare(slice_of(NULL, 0), slice_str("")), 0);
    assert_true(slice_compare(slice_of(NULL, 0), slice_str("a")) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_starts_with),
        cmocka_unit_test(test_compare),
    };

    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
