/* The glob matcher against one that tries everything, and what a long tail costs. */
#include "src/filter/glob.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { PIECES = 8, TEXT = 12, CASES = 200000 };

/* ---- one that tries everything ---- */

struct piece {
    const char *written;
    const char *of; /* characters that it takes, one beside the other; NULL: any one */
    bool run;
};

static const char *const characters[] = {"a", "b", "\xc3\xa9", "*"};

static const struct piece pieces[] = {
    {"*", NULL, true},
    {"?", NULL, false},
    {"a", "a", false},
    {"b", "b", false},
    {"\xc3\xa9", "\xc3\xa9", false},
    {"\\*", "*", false},
    {"[ab]", "ab", false},
    {"[!a]", "b\xc3\xa9*", false},
};

static bool tries(const struct piece *const *pattern, size_t n, const char *const *text, size_t len)
{
    if (n == 0)
        return len == 0;
    if (pattern[0]->run)
        return tries(pattern + 1, n - 1, text, len) ||
               (len > 0 && tries(pattern, n, text + 1, len - 1));
    return len > 0 && (pattern[0]->of == NULL || strstr(pattern[0]->of, text[0]) != NULL) &&
           tries(pattern + 1, n - 1, text + 1, len - 1);
}

static void add(char *to, size_t size, const char *more)
{
    size_t len = strlen(to);

    assert_in_range(snprintf(to + len, size - len, "%s", more), 1, size - len - 1);
}

static void test_as_one_that_tries_everything(void **state)
{
    uint32_t random = 1;
    unsigned matches = 0;

    (void)state;
    for (unsigned i = 0; i < CASES; i++) {
        const struct piece *pattern[PIECES];
        const char *text[TEXT];
        char written[PIECES * 4 + 1] = "", plain[TEXT * 2 + 1] = "";
        size_t n, len;
        bool holds;

#define DRAW(OF) ((random = random * 1103515245u + 12345u) >> 16) % (OF)
        n = DRAW(PIECES + 1);
        len = DRAW(TEXT + 1);
        for (size_t at = 0; at < n; at++) {
            pattern[at] = &pieces[DRAW(ARRAY_LEN(pieces))];
            add(written, sizeof written, pattern[at]->written);
        }
        for (size_t at = 0; at < len; at++) {
            text[at] = characters[DRAW(ARRAY_LEN(characters))];
            add(plain, sizeof plain, text[at]);
        }
        holds = tries(pattern, n, text, len);
        matches += holds;
        if (glob_match(slice_str(written), slice_str(plain)) != holds)
            fail_msg("'%s' on '%s' should be %d", written, plain, holds);
    }
    assert_in_range(matches, CASES / 20, CASES / 2);
}

/* ---- what a long tail costs ---- */

static double cpu_of(struct slice pattern, struct slice text)
{
    enum { TIMES = 200 };
    clock_t began = clock();

    for (unsigned i = 0; i < TIMES; i++)
        assert_false(glob_match(pattern, text));
    return (double)(clock() - began + 1);
}

/* Compared at each place of the text it would cost 57,000 times what it costs at one. */
static void test_a_tail_is_compared_once(void **state)
{
    enum { LONG = 65536, TAIL = 8192 };
    static uint8_t text[LONG], pattern[TAIL + 1];
    double once;

    (void)state;
    memset(text, 'a', LONG);
    memset(pattern, 'a', sizeof pattern);
    pattern[TAIL - 1] = 'b';
    once = cpu_of(slice_of(pattern, TAIL), slice_of(text, TAIL));
    memmove(pattern + 1, pattern, TAIL);
    pattern[0] = '*';
    assert_true(cpu_of(slice_of(pattern, TAIL + 1), slice_of(text, LONG)) < 100 * once);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_one_that_tries_everything),
        cmocka_unit_test(test_a_tail_is_compared_once),
    };

    return cmocka_run_group_tests_name("glob", tests, NULL, NULL);
}
