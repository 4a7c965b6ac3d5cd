#include "src/base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* "abc", from FIPS 180-4. */
static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void test_parts_count_as_one_text(void **state)
{
    const struct slice parts[] = {slice_str("a"), slice_str(""), slice_str("bc")};
    struct digest digest = digest_of(parts, 3);
    char hex[DIGEST_HEX];

    (void)state;
    digest_hex(&digest, hex);
    assert_memory_equal(hex, abc, DIGEST_HEX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts_count_as_one_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
