/* Subjects to publish to: any byte at any place, and two dots at any two. */
#include "backends/nats/nats_priv.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LONGEST = 40 };

/* Without a token of the server's own, which these do not have. */
static bool is_subject(const uint8_t *bytes, size_t len)
{
    if (bytes[0] == '$')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool ends = i == 0 || i == len - 1;

        if (bytes[i] <= ' ' || bytes[i] == 0x7f || bytes[i] == '*' || bytes[i] == '>')
            return false;
        if (bytes[i] == '.' && (ends || bytes[i + 1] == '.'))
            return false;
    }
    return true;
}

static void assert_checked(const uint8_t *bytes, size_t len)
{
    bool good = nats_check_topic(slice_of(bytes, len)).code == ERR_OK;

    assert_int_equal(good, is_subject(bytes, len));
}

static void test_each_byte_at_each_place(void **state)
{
    uint8_t bytes[LONGEST];

    (void)state;
    for (size_t len = 1; len <= LONGEST; len++) {
        for (size_t place = 0; place < len; place++) {
            memset(bytes, 'x', sizeof bytes);
            for (unsigned byte = 0; byte <= UINT8_MAX; byte++) {
                bytes[place] = (uint8_t)byte;
                assert_checked(bytes, len);
            }
        }
    }
}

static void test_two_dots(void **state)
{
    uint8_t bytes[LONGEST];

    (void)state;
    for (size_t len = 1; len <= LONGEST; len++) {
        for (size_t one = 0; one < len; one++) {
            for (size_t other = 0; other < len; other++) {
                memset(bytes, 'x', sizeof bytes);
                bytes[one] = bytes[other] = '.';
                assert_checked(bytes, len);
            }
        }
    }
}

static void test_tokens_of_the_server(void **state)
{
    static const char *const refused[] = {"_INBOX.a", "_R_.a", "_GR_.a", "$SYS.a", "_INBOX"};
    static const char *const good[] = {"_INBOXES.a", "a._INBOX", "_", "a.$SYS", "_R"};

    (void)state;
    for (unsigned i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_int_not_equal(nats_check_topic(slice_str(refused[i])).code, ERR_OK);
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(nats_check_topic(slice_str(good[i])).code, ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_byte_at_each_place),
        cmocka_unit_test(test_two_dots),
        cmocka_unit_test(test_tokens_of_the_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
