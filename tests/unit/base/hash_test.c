#include "src/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

/* Names that meet in one bucket by one seed do so by others no more often than any. */
static void test_names_cannot_be_made_to_meet(void **state)
{
    enum { BUCKETS = 64, NAMES = 640 };
    uint32_t chosen[NAMES], in_one = 0;
    uint32_t n = 0;

    (void)state;
    for (uint32_t i = 0; n < NAMES; i++) {
        if (hash_seeded(1, slice_of(&i, sizeof i)) % BUCKETS == 0)
            chosen[n++] = i;
    }
    for (n = 0; n < NAMES; n++)
        in_one += hash_seeded(2, slice_of(&chosen[n], sizeof chosen[n])) % BUCKETS == 0;
    assert_in_range(in_one, 0, NAMES / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names_cannot_be_made_to_meet)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
