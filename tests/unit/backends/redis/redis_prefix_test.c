#include "backends/redis/redis_text.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void prefixes_are_readable(void **state)
{
    char *prefix = redis_prefix_new("prism", "default");

    (void)state;
    assert_string_equal(prefix, "prism:default:");
    free(prefix);
}

/* No prefix starts another one, whatever the parts hold: else one namespace would see the keys of
 * the other. */
static void no_prefix_starts_another(void **state)
{
    static const char *const roots[] = {"p", "p2", "prism", "a"};
    static const char *const names[] = {
        "a", "b", "a:b", "a%3Ab", "", ":", "a:", ":a", "a%b", "%", "p", "a::b", "%3", "3A"};
    char *all[ARRAY_LEN(roots) * ARRAY_LEN(names)];
    size_t n = 0;

    (void)state;
    for (size_t r = 0; r < ARRAY_LEN(roots); r++) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            all[n++] = redis_prefix_new(roots[r], names[i]);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            if (i != j && slice_starts_with(slice_str(all[i]), slice_str(all[j])))
                fail_msg("%s starts with %s", all[i], all[j]);
        }
    }
    for (size_t i = 0; i < n; i++)
        free(all[i]);
}

static void roots_that_would_be_ambiguous(void **state)
{
    static const char *const cases[] = {"", "a:", "a%", "a b", "\n", "\xc3\xa4"};
    char longest[66] = "";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_false(redis_prefix_root_valid(cases[i]));
    memset(longest, 'x', 64);
    assert_true(redis_prefix_root_valid(longest));

    char *prefix = redis_prefix_new(longest, "n");

    assert_non_null(prefix);
    free(prefix);
    longest[64] = 'x';
    assert_false(redis_prefix_root_valid(longest));
}

static void patterns_mean_what_they_hold(void **state)
{
    static const struct {
        const char *key;
        size_t len;
        const char *pattern;
        size_t pattern_len;
    } cases[] = {
        {"", 0, "p:*", 3},
        {"ab", 2, "p:ab*", 5},
        {"a*?[]\\^-", 8, "p:a\\*\\?\\[\\]\\\\\\^\\-*", 18},
        {"\0\xff", 2, "p:\0\xff*", 5},
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice key = slice_of(cases[i].key, cases[i].len);
        struct slice pattern = redis_glob_starts_with(&arena, slice_str("p:"), key);

        assert_int_equal(pattern.len, cases[i].pattern_len);
        assert_memory_equal(pattern.data, cases[i].pattern, pattern.len);
    }
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_readable),
        cmocka_unit_test(no_prefix_starts_another),
        cmocka_unit_test(roots_that_would_be_ambiguous),
        cmocka_unit_test(patterns_mean_what_they_hold),
    };

    return cmocka_run_group_tests_name("redis_prefix", tests, NULL, NULL);
}
