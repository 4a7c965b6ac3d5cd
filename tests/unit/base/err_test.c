#include "src/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* google.rpc.Code, written out once more: the wire depends on these numbers. */
static const struct {
    enum err_code code;
    int number;
    const char *name;
} wire[] = {
    {ERR_OK, 0, "OK"},
    {ERR_CANCELLED, 1, "CANCELLED"},
    {ERR_UNKNOWN, 2, "UNKNOWN"},
    {ERR_INVALID_ARGUMENT, 3, "INVALID_ARGUMENT"},
    {ERR_DEADLINE_EXCEEDED, 4, "DEADLINE_EXCEEDED"},
    {ERR_NOT_FOUND, 5, "NOT_FOUND"},
    {ERR_ALREADY_EXISTS, 6, "ALREADY_EXISTS"},
    {ERR_PERMISSION_DENIED, 7, "PERMISSION_DENIED"},
    {ERR_RESOURCE_EXHAUSTED, 8, "RESOURCE_EXHAUSTED"},
    {ERR_FAILED_PRECONDITION, 9, "FAILED_PRECONDITION"},
    {ERR_ABORTED, 10, "ABORTED"},
    {ERR_OUT_OF_RANGE, 11, "OUT_OF_RANGE"},
    {ERR_UNIMPLEMENTED, 12, "UNIMPLEMENTED"},
    {ERR_INTERNAL, 13, "INTERNAL"},
    {ERR_UNAVAILABLE, 14, "UNAVAILABLE"},
    {ERR_DATA_LOSS, 15, "DATA_LOSS"},
    {ERR_UNAUTHENTICATED, 16, "UNAUTHENTICATED"},
};

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(ERR_CODE_COUNT, sizeof wire / sizeof wire[0]);
    for (size_t i = 0; i < sizeof wire / sizeof wire[0]; i++) {
        assert_int_equal(wire[i].code, wire[i].number);
        assert_string_equal(err_code_name(wire[i].code), wire[i].name);
    }
    assert_string_equal(err_code_name((enum err_code)99), "UNKNOWN");
    assert_string_equal(err_code_name(ERR_CODE_COUNT), "UNKNOWN");
}

static void test_constructors(void **state)
{
    (void)state;
    struct err e = err_about(ERR_INVALID_ARGUMENT, "key", "key is empty");

    assert_int_equal(e.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(e.subject, "key");
    assert_string_equal(e.text, "key is empty");
    assert_int_equal(e.retry_after_ms, 0);
    assert_null(err_make(ERR_INTERNAL, "x").subject);
    assert_int_equal(ERR_NONE.code, ERR_OK);
    assert_null(ERR_NONE.text);
    assert_int_equal(e.effect, EFFECT_NONE);
    assert_int_equal(err_lost(e).effect, EFFECT_UNKNOWN);
    assert_int_equal(err_lost(e).code, e.code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_constructors),
    };

    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
