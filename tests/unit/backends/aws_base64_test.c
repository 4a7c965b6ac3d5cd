#include "backends/aws/base64.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* RFC 4648, section 10. */
static void test_vectors(void **state)
{
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    char out[16];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice text = slice_str(cases[i][1]);

        *base64_encode(slice_str(cases[i][0]), out) = '\0';
        assert_string_equal(out, cases[i][1]);
        assert_int_equal(base64_bytes(strlen(cases[i][0])), text.len);
        assert_int_equal(base64_decoded_bytes(text), strlen(cases[i][0]));
        assert_true(base64_decode(text, out));
        assert_memory_equal(out, cases[i][0], strlen(cases[i][0]));
    }
}

static void test_all_bytes_come_back(void **state)
{
    uint8_t bytes[256], back[256];
    char text[400];

    (void)state;
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)(i * 167 + 13);
    for (size_t n = 0; n <= 256; n++) {
        size_t len = (size_t)(base64_encode(slice_of(bytes, n), text) - text);

        assert_int_equal(len, base64_bytes(n));
        assert_int_equal(base64_decoded_bytes(slice_of(text, len)), n);
        assert_true(base64_decode(slice_of(text, len), back));
        assert_memory_equal(back, bytes, n);
    }
}

static void test_nonsense_is_refused(void **state)
{
    static const char *const wrong[] = {
        "Z", "Zg", "Zg=", "Zg=a", "====", "=g==", "Z===", "Zm9 ", "Zm-_", "Zg==Zg==", "Zm\n9"};
    char out[16];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(base64_decode(slice_str(wrong[i]), out));
}

static void test_urls(void **state)
{
    char out[8];

    (void)state;
    *base64_encode_url(slice_of("\xff\xfb", 2), out) = '\0';
    assert_string_equal(out, "__s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_all_bytes_come_back),
        cmocka_unit_test(test_nonsense_is_refused),
        cmocka_unit_test(test_urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
