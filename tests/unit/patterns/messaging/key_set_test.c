#include "patterns/messaging/key_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct slice numbered(char *text, size_t size, int i)
{
    return slice_of(text, (size_t)snprintf(text, size, "key-%d", i));
}

static void test_keys_of_topics(void **state)
{
    struct key_set set;

    (void)state;
    key_set_init(&set, NULL);
    assert_false(key_set_has(&set, slice_str("t"), slice_str("k")));
    assert_true(key_set_add(&set, slice_str("t"), slice_str("k")));
    assert_true(key_set_add(&set, slice_str("t"), slice_str("k"))); /* once */
    assert_true(key_set_add(&set, slice_str("u"), slice_str("k")));
    assert_true(key_set_add(&set, slice_str("t"), slice_str("")));
    assert_int_equal(set.n, 3);
    assert_true(key_set_has(&set, slice_str("t"), slice_str("")));
    assert_false(key_set_has(&set, slice_str("tk"), slice_str("")));
    key_set_remove(&set, slice_str("k"));
    assert_false(key_set_has(&set, slice_str("t"), slice_str("k")));
    assert_false(key_set_has(&set, slice_str("u"), slice_str("k")));
    assert_true(key_set_has(&set, slice_str("t"), slice_str("")));
    key_set_remove(&set, slice_str(""));
    assert_int_equal(set.n, 0);
    assert_int_equal(set.memory.bytes, 0); /* an empty set holds nothing */
    key_set_clear(&set);
}

static void test_a_full_set_says_so(void **state)
{
    struct key_set set;
    char text[16];
    int n = 0;

    (void)state;
    key_set_init(&set, NULL);
    while (key_set_add(&set, slice_str("t"), numbered(text, sizeof text, n)))
        n++;
    assert_true(n > 1000);
    for (int i = 0; i < n; i++)
        assert_true(key_set_has(&set, slice_str("t"), numbered(text, sizeof text, i)));
    assert_true(set.memory.bytes <= KEY_SET_BYTES);
    key_set_clear(&set);
    assert_true(key_set_add(&set, slice_str("t"), slice_str("again")));
    key_set_clear(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_of_topics),
        cmocka_unit_test(test_a_full_set_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
