/* Content types in header lists, in each form that HPACK has, and cut everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/rpc/http2_fields.h"

#include <string.h>

#define CODED_NAME  "\x89\x21\xea\x49\x6a\x4a\xc9\xf5\x59\x7f"
#define CODED_GRPC  "\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64"
#define LIST(bytes) bytes, sizeof bytes - 1

enum { STATIC_FIELDS = 61 };

struct list {
    const char *bytes;
    size_t len;
    enum kind { NONE, GRPC, FOREIGN } kind;
};

static enum kind look(struct fields *f, const char *bytes, size_t len, size_t step)
{
    fields_begin(f, 0);
    for (size_t at = 0; at < len; at += step)
        fields_take(f, (const uint8_t *)bytes + at, len - at < step ? len - at : step);
    assert_int_equal(fields_are_grpc(f), f->grpc && !f->foreign_too);
    if (f->foreign_too)
        return FOREIGN;
    return f->grpc ? GRPC : NONE;
}

static void test_forms(void **state)
{
    static const struct list lists[] = {
        {LIST("\x83\x86\x84"), NONE},
        {LIST("\x5f\x10"
              "application/grpc"),
         GRPC},
        {LIST("\x0f\x10\x16"
              "application/grpc+proto"),
         GRPC},
        {LIST("\x1f\x10\x12"
              "application/grpc;x"),
         GRPC},
        {LIST("\x1f\x10\x11"
              "application/grpcx"),
         FOREIGN},
        {LIST("\x5f\x0f"
              "application/grp"),
         FOREIGN},
        {LIST("\x5f\x8b" CODED_GRPC), GRPC},
        {LIST("\x5f\x8d" CODED_GRPC "\xff\x7f"), GRPC}, /* + */
        {LIST("\x5f\x8c" CODED_GRPC "\xfb"), GRPC},     /* ; */
        {LIST("\x5f\x8c" CODED_GRPC "\xb5"), FOREIGN},  /* - */
        {LIST("\x5f\x8c" CODED_GRPC "\xff"), FOREIGN},
        {LIST("\x5f\x8a\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65"), FOREIGN},
        {LIST("\x40" CODED_NAME "\x8b" CODED_GRPC), GRPC},
        {LIST("\x40" CODED_NAME "\x01x"), FOREIGN},
        {LIST("\x10\x0c"
              "content-type\x01x"),
         FOREIGN},
        {LIST("\x10\x0c"
              "content-typo\x01x"),
         NONE},
        {LIST("\x5f\x00"), FOREIGN},
        {LIST("\x9f"), FOREIGN},
        {LIST("\x3f\xe1\x1f\x20\x00\x00\x00\x83\x9f"),
         FOREIGN}, /* sizes of the table, empty texts */
        {LIST("\x5f\x10"
              "application/grpc"
              "\x0f\x10\x01x"),
         FOREIGN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (size_t step = 1; step <= lists[i].len; step++) {
            struct fields f = {0};

            assert_int_equal(look(&f, lists[i].bytes, lists[i].len, step), lists[i].kind);
        }
    }
}

static void test_long_text(void **state)
{
    char bytes[5 + 1024] = "\x0f\x10\x7f\x81\x07"
                           "application/json";
    struct fields f = {0};

    (void)state;
    assert_int_equal(look(&f, bytes, sizeof bytes, 7), FOREIGN);
    assert_int_equal(f.state, 0);
}

/* The place in the table moves with each field that is put in. */
static void test_table(void **state)
{
    struct fields f = {0};

    (void)state;
    assert_int_equal(look(&f, LIST("\xbe"), 1), NONE); /* nothing there */
    assert_int_equal(look(&f, LIST("\x5f\x01x"), 1), FOREIGN);
    assert_int_equal(look(&f, LIST("\xbe"), 1), FOREIGN);
    assert_int_equal(look(&f, LIST("\x40\x01n\x01v"), 1), NONE);
    assert_int_equal(look(&f, LIST("\xbe"), 1), NONE);
    assert_int_equal(look(&f, LIST("\xbf"), 1), FOREIGN);
    assert_int_equal(look(&f, LIST("\x7f\x00\x01y"), 1), FOREIGN); /* the name from the table */
    assert_int_equal(look(&f, LIST("\x0f\x2f\x01z"), 1), FOREIGN); /* and again, not kept */
    assert_int_equal(look(&f,
                          LIST("\x7e\x10"
                               "application/grpc"),
                          1),
                     GRPC); /* the name from the table, 62 */
    assert_int_equal(look(&f, LIST("\xbe"), 1), GRPC);
    assert_int_equal(look(&f, LIST("\xbe\xbf"), 1), FOREIGN);
    for (int i = 0; i < FIELDS_KEPT - 3; i++)
        assert_int_equal(look(&f, LIST("\x40\x01n\x01v"), 3), NONE);
    assert_int_equal(look(&f, LIST("\xff\x3d"), 1), FOREIGN); /* the second last: 62 + 126 */
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&f, LIST("\x40\x01n\x01v"), 3), NONE);
    for (int i = STATIC_FIELDS + 1; i <= STATIC_FIELDS + FIELDS_KEPT; i++) { /* all are others */
        const char index[] = {(char)(i < 127 ? 0x80 | i : 0xff), (char)(i - 127)};

        assert_int_equal(look(&f, index, i < 127 ? 1 : 2, 1), NONE);
    }
}

/* What a list broke off does not reach into the next one. */
static void test_begin(void **state)
{
    struct fields f = {0};

    (void)state;
    assert_int_equal(look(&f,
                          LIST("\x5f\x10"
                               "appl"),
                          4),
                     NONE);
    assert_int_equal(look(&f, LIST("\x83"), 1), NONE);
    assert_int_equal(look(&f, LIST("\x5f\x7f\x80"), 4), NONE);
    assert_int_equal(look(&f, LIST("\x9f"), 1), FOREIGN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
