#include "backends/redis/redis_text.h"
#include "src/base/container.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct arena arena;

static int clear(void **state)
{
    (void)state;
    arena_clear(&arena);
    return 0;
}

static const struct redis_cursor samples[] = {
    {.at = 1},
    {.at = UINT64_MAX},
    {.at = 7, .within = true, .next = 0, .count = 1, .last = {(const uint8_t *)"", 0}},
    {.at = 0, .within = true, .next = 9, .count = 1000, .last = {(const uint8_t *)"a\0\xff", 3}},
    {.at = 1ull << 63,
     .within = true,
     .next = UINT64_MAX,
     .count = UINT32_MAX,
     .last = {(const uint8_t *)"some/key", 8}},
};

static const struct slice scope = {(const uint8_t *)"prism:default:x", 15};

static void comes_back_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct slice text = redis_cursor_encode(&arena, scope, &samples[i]);
        struct redis_cursor back;

        for (size_t c = 0; c < text.len; c++)
            assert_true(isgraph(text.data[c]));
        assert_true(text.len <= 2048 + 2 * samples[i].last.len);
        assert_true(redis_cursor_decode(&arena, scope, text, &back));
        assert_int_equal(back.at, samples[i].at);
        assert_int_equal(back.within, samples[i].within);
        assert_int_equal(back.next, samples[i].next);
        assert_int_equal(back.count, samples[i].count);
        assert_true(slice_equal(back.last, samples[i].last));
    }
}

/* Each byte of a cursor counts, and so does its length. */
static void edits_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct slice text = redis_cursor_encode(&arena, scope, &samples[i]);
        uint8_t *bytes = arena_alloc(&arena, text.len + 2);
        struct redis_cursor back;

        memcpy(bytes, text.data, text.len);
        memcpy(bytes + text.len, "00", 2);
        for (size_t n = 0; n < text.len + 2; n++) {
            if (n != text.len)
                assert_false(redis_cursor_decode(&arena, scope, slice_of(bytes, n), &back));
        }
        assert_false(redis_cursor_decode(&arena, scope, slice_of(bytes, text.len + 2), &back));
        for (size_t at = 0; at < text.len; at++) {
            bytes[at] ^= 1;
            assert_false(redis_cursor_decode(&arena, scope, slice_of(bytes, text.len), &back));
            bytes[at] ^= 1;
        }
        assert_true(redis_cursor_decode(&arena, scope, slice_of(bytes, text.len), &back));
    }
}

static void strangers_are_refused(void **state)
{
    static const char *const cases[] = {
        "0",      "rs1.", "rs1.0",  "rs1.zz",
        "rs2.00", "next", "rs1.00", "RS1.0000000000000000000000000000000000"};
    struct slice text = redis_cursor_encode(&arena, scope, &samples[0]);
    struct redis_cursor back;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_false(redis_cursor_decode(&arena, scope, slice_str(cases[i]), &back));
    assert_false(redis_cursor_decode(&arena, slice_str("prism:other:x"), text, &back));
    assert_false(redis_cursor_decode(&arena, slice_str("prism:default:"), text, &back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(comes_back_as_it_was, clear),
        cmocka_unit_test_teardown(edits_are_found, clear),
        cmocka_unit_test_teardown(strangers_are_refused, clear),
    };

    arena_init(&arena, NULL);
    return cmocka_run_group_tests_name("redis_cursor", tests, NULL, NULL);
}
