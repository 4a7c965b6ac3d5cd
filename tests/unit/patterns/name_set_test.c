#include "patterns/name_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_each_once_and_found(void **state)
{
    struct arena arena;
    char *texts[] = {"b", "", "ab", "b", "a", "", "abc"};
    const char *sorted[] = {"", "a", "ab", "abc", "b"};
    struct name_set set;

    (void)state;
    arena_init(&arena, NULL);
    set = name_set_of_texts(&arena, texts, sizeof texts / sizeof texts[0]);
    assert_int_equal(set.n, 5);
    for (size_t i = 0; i < set.n; i++) {
        assert_true(slice_equal(set.names[i], slice_str(sorted[i])));
        assert_int_equal(name_set_find(&set, slice_str(sorted[i])), i);
    }
    assert_int_equal(name_set_find(&set, slice_str("aa")), set.n);
    assert_int_equal(name_set_find(&set, slice_str("c")), set.n);
    set = name_set_of_texts(&arena, NULL, 0);
    assert_int_equal(name_set_find(&set, slice_str("")), 0);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_once_and_found)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
