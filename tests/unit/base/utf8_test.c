#include "src/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes; /* of its first character */
    } cases[] = {
        {"", 0},
        {"a", 1},
        {"\x7f", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\x80", 0},             /* continuation first */
        {"\xc0\xaf", 0},         /* overlong */
        {"\xc1\xbf", 0},         /* overlong */
        {"\xe0\x9f\xbf", 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
        {"\xed\xa0\x80", 0},     /* surrogate */
        {"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xff", 0},
        {"\xe2\x82", 0}, /* cut */
        {"\xe2\x82"
         "a",
         0},
        {"\xf0\x9f\x98"
         "a",
         0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_char_bytes(slice_str(cases[i].text)), cases[i].bytes);
    assert_int_equal(utf8_char_bytes(slice_of("\0x", 2)), 1);
}

static void test_valid(void **state)
{
    (void)state;
    assert_true(utf8_valid(slice_str("")));
    assert_true(utf8_valid(slice_str("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80")));
    assert_true(utf8_valid(slice_of("a\0b", 3)));
    assert_false(utf8_valid(slice_str("ok\xff")));
    assert_false(utf8_valid(slice_of("\xe2\x82\xac", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_valid),
    };

    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
