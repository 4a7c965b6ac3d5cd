/* Names of objects: legible, different for different keys, and fit for servers that keep files. */
#include "backends/s3/s3_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int open_arena(void **state)
{
    struct arena *arena = malloc(sizeof *arena);

    arena_init(arena, NULL);
    *state = arena;
    return 0;
}

static int close_arena(void **state)
{
    arena_clear(*state);
    free(*state);
    return 0;
}

static void names_are_legible(void **state)
{
    static const char *const cases[][2] = {
        {"users/1", "users/1"},
        {"a b", "a!20b"},
        {"a!b", "a!21b"},
        {"/a", "!2Fa"},
        {"a/", "a!2F"},
        {"a//b", "a/!2Fb"},
        {"/", "!2F"},
        {"//", "!2F!2F"},
        {".", "!2E"},
        {"..", "!2E!2E"},
        {"a/../b", "a/!2E!2E/b"},
        {"a/./b", "a/!2E/b"},
        {"...", "..."},
        {".a", ".a"},
        {"a.", "a."},
        {"..a/b", "..a/b"},
        {"\xc3\xa9", "!C3!A9"},
        {"%2F", "!252F"},
        {"a/b/", "a/b!2F"},
        {"./", "!2E!2F"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice name = s3_name_encode(slice_str(cases[i][0]), false, *state);

        assert_string_equal((const char *)name.data, cases[i][1]);
    }
    assert_string_equal((const char *)s3_name_encode(slice_str("a/b"), true, *state).data, "a!2Fb");
}

static bool is_fit(struct slice name)
{
    const char *text = (const char *)name.data, *part = text;

    for (const char *at = text;; at++) {
        size_t len = (size_t)(at - part);

        if (*at != '/' && *at != '\0')
            continue;
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && memcmp(part, "..", 2) == 0))
            return false;
        if (*at == '\0')
            return true;
        part = at + 1;
    }
}

/* Every text of up to five of these letters: there and back, and fit for files. */
static void all_short_keys_come_back(void **state)
{
    static const char letters[] = {'/', '.', 'a', '!', '\0'};
    enum { N = sizeof letters, MOST = 5 };
    char key[MOST];

    for (unsigned len = 1, all = N; len <= MOST; len++, all *= N) {
        for (unsigned number = 0; number < all; number++) {
            struct slice name, back;

            for (unsigned i = 0, rest = number; i < len; i++, rest /= N)
                key[i] = letters[rest % N];
            for (int flat = 0; flat < 2; flat++) {
                name = s3_name_encode(slice_of(key, len), flat, *state);
                assert_true(is_fit(name));
                assert_true(s3_name_decode(name, flat, &back, *state));
                assert_true(slice_equal(back, slice_of(key, len)));
            }
        }
        arena_clear(*state);
    }
}

static void foreign_names_are_no_keys(void **state)
{
    static const char *const names[] = {"a b", "!",    "!2", "!2f", "a//b",
                                        "!61", "!~00", "a/", "!GG"};
    struct slice key;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_false(s3_name_decode(slice_str(names[i]), false, &key, *state));
}

static void long_names_are_digested(void **state)
{
    char root[] = "prism/n/", key[S3_KEY_BYTES];
    const struct s3_names names = {.root = root};
    bool digested;

    memset(key, 'k', sizeof key);
    s3_name(&names, slice_of(key, S3_SEGMENT_BYTES), &digested, *state);
    assert_false(digested);
    s3_name(&names, slice_of(key, S3_SEGMENT_BYTES + 1), &digested, *state);
    assert_true(digested);
    for (size_t i = 100; i < sizeof key; i += 100)
        key[i] = '/';
    s3_name(&names, slice_of(key, sizeof key - strlen(root)), &digested, *state);
    assert_false(digested);
    assert_int_equal(strlen(s3_name(&names, slice_of(key, sizeof key), &digested, *state)),
                     strlen(root) + 2 + DIGEST_HEX);
    assert_true(digested);
}

static void keys_are_spelled_for_headers(void **state)
{
    assert_string_equal(s3_name_spell(slice_str(""), *state), "");
    assert_string_equal(s3_name_spell(slice_str("f"), *state), "Zg");
    assert_string_equal(s3_name_spell(slice_str("fo"), *state), "Zm8");
    assert_string_equal(s3_name_spell(slice_str("foobar"), *state), "Zm9vYmFy");
    assert_string_equal(s3_name_spell(slice_of("\xff\xfb", 2), *state), "__s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_legible),
        cmocka_unit_test(all_short_keys_come_back),
        cmocka_unit_test(foreign_names_are_no_keys),
        cmocka_unit_test(long_names_are_digested),
        cmocka_unit_test(keys_are_spelled_for_headers),
    };

    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
