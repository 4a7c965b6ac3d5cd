/* Documents: one encoding for equal values, what is refused, JSON and back, merging. */
#include "src/filter/document.h"
#include "tests/unit/one_arena.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct slice value_of(const char *json)
{
    struct slice value = {0};

    assert_int_equal(document_from_json(&arena, slice_str(json), 1 << 20, &value).code, ERR_OK);
    assert_true(document_valid(value));
    return value;
}

static void expect_json(struct slice value, const char *json)
{
    struct slice text = document_to_json(&arena, value);

    assert_true(document_valid(value));
    assert_string_equal(arena_strdup(&arena, text), json);
}

static void test_one_encoding(void **state)
{
    (void)state;
    assert_true(slice_equal(value_of("{\"b\":[1,2.50],\"a\":{\"y\":null,\"x\":-0}}"),
                            value_of(" { \"a\" : {\"x\":0.0,\"y\":null}, \"b\":[1e0,25e-1] } ")));
    expect_json(value_of("{\"b\":1,\"a\":2,\"b\":3,\"\":4,\"ab\":5}"),
                "{\"\":4,\"a\":2,\"ab\":5,\"b\":3}"); /* the later one holds */
    expect_json(value_of("[{\"b\":{\"d\":1,\"c\":[]},\"a\":[{\"z\":1,\"y\":2}]}]"),
                "[{\"a\":[{\"y\":2,\"z\":1}],\"b\":{\"c\":[],\"d\":1}}]");
}

static void test_json(void **state)
{
    static const char *const same[] = {
        "null",    "true",
        "false",   "0",
        "1",       "-1.5",
        "0.1",     "9007199254740992",
        "1e+308",  "4.94065645841247e-324",
        "\"\"",    "\"\xf0\x9f\x98\x80 \\\"\\\\ \\u0001\"",
        "[]",      "{}",
        "[[],{}]", "{\"a\":[null,true,{\"b\":\"c\"}]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        expect_json(value_of(same[i]), same[i]);
    expect_json(value_of("\"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\""),
                "\"\xc3\xa9\xf0\x9f\x98\x80/\\u0008\\u000c\\u000a\\u000d\\u0009\"");
}

/* Each of these faults alone makes a value refused. */
static void test_refused(void **state)
{
    struct document_writer writer;
    struct slice out;

    (void)state;
    document_start(&writer, &arena, 100);
    document_number(&writer, NAN);
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 100);
    document_number(&writer, INFINITY);
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 100);
    document_string(&writer, slice_of("a\0b", 3));
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 100);
    document_string(&writer, slice_str("\xff"));
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 10);
    document_string(&writer, slice_str("0123456789"));
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 11);
    document_string(&writer, slice_str("0123456789"));
    assert_int_equal(document_finish(&writer, &out).code, ERR_OK);
    document_start(&writer, &arena, 1000);
    for (int i = 0; i < DOCUMENT_DEPTH + 1; i++)
        document_begin(&writer, DOCUMENT_LIST);
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
    document_start(&writer, &arena, 100);
    document_begin(&writer, DOCUMENT_LIST);
    assert_int_equal(document_finish(&writer, &out).code, ERR_INVALID_ARGUMENT);
}

static void expect_merge(const char *base, const char *changes, const char *merged)
{
    struct slice out;

    assert_int_equal(document_merge(&arena, value_of(base), value_of(changes), 1000, &out).code,
                     ERR_OK);
    expect_json(out, merged);
}

static void test_merge(void **state)
{
    struct slice out;

    (void)state;
    expect_merge("{\"a\":1,\"c\":3}", "{\"b\":2,\"c\":{\"x\":null}}",
                 "{\"a\":1,\"b\":2,\"c\":{\"x\":null}}");
    expect_merge("{\"a\":1,\"b\":2}", "{\"a\":null,\"z\":null}", "{\"b\":2}");
    expect_merge("{}", "{\"a\":1}", "{\"a\":1}");
    expect_merge("{\"a\":1}", "{}", "{\"a\":1}");
    assert_int_equal(
        document_merge(&arena, value_of("{\"a\":1}"), value_of("{\"b\":1}"), 20, &out).code,
        ERR_INVALID_ARGUMENT);
}

/* No prefix and no change of one byte is taken for another value without being one. */
static void test_valid(void **state)
{
    struct slice value = value_of("{\"a\":[1,\"x\",{\"k\":null}],\"b\":{\"c\":true},\"d\":2.5}");
    uint8_t *copy = arena_alloc(&arena, value.len);

    (void)state;
    for (size_t len = 1; len < value.len; len++) {
        struct slice cut = slice_of(memcpy(copy, value.data, len), len);

        if (document_valid(cut)) /* then all of it can be walked */
            document_to_json(&arena, cut);
    }
    for (size_t i = 0; i < value.len; i++) {
        for (int change = 1; change < 256; change++) {
            memcpy(copy, value.data, value.len);
            copy[i] ^= (uint8_t)change;
            if (document_valid(slice_of(copy, value.len)))
                document_to_json(&arena, slice_of(copy, value.len));
        }
    }
    assert_false(document_valid(slice_of(NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_encoding, begin, end),
        cmocka_unit_test_setup_teardown(test_json, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_merge, begin, end),
        cmocka_unit_test_setup_teardown(test_valid, begin, end),
    };

    return cmocka_run_group_tests_name("document", tests, NULL, NULL);
}
