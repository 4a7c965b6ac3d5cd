/* Tokens: what is written is read, and nothing else is. */
#include "patterns/consumer/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct token_scope here = {.namespace_name = "orders", .backend = "b"};

static struct slice some(struct arena *arena, size_t topic, size_t group, size_t ticket)
{
    uint8_t bytes[TICKET_BYTES];

    memset(bytes, 'x', sizeof bytes);
    return token_write(arena, &here,
                       &(struct token){.topic = slice_of(bytes, topic),
                                       .group = slice_of(bytes, group),
                                       .ticket = slice_of(bytes, ticket)});
}

static void test_what_is_written_is_read(void **state)
{
    static const size_t sizes[][3] = {{1, 0, 1},
                                      {7, 3, 40},
                                      {127, 128, 200},
                                      {MESSAGE_TOPIC_BYTES, MESSAGE_TOPIC_BYTES, TICKET_BYTES}};
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < 4; i++) {
        struct slice bytes = some(&arena, sizes[i][0], sizes[i][1], sizes[i][2]);
        struct token token;

        assert_in_range(bytes.len, 1, TOKEN_BYTES);
        assert_true(token_read(bytes, &here, &token));
        assert_int_equal(bytes.len, token_bytes(&token));
        assert_int_equal(token.topic.len, sizes[i][0]);
        assert_int_equal(token.group.len, sizes[i][1]);
        assert_int_equal(token.ticket.len, sizes[i][2]);
    }
    arena_clear(&arena);
}

/* Each byte changed, each length cut, one byte more. */
static void test_what_was_changed_is_none(void **state)
{
    struct arena arena;
    struct token token;

    (void)state;
    arena_init(&arena, NULL);

    struct slice bytes = some(&arena, 5, 2, 20);
    uint8_t *copy = arena_alloc(&arena, bytes.len + 1);

    for (size_t i = 0; i < bytes.len; i++) {
        memcpy(copy, bytes.data, bytes.len);
        copy[i] ^= 1;
        assert_false(token_read(slice_of(copy, bytes.len), &here, &token));
        assert_false(token_read(slice_of(bytes.data, i), &here, &token));
    }
    memcpy(copy, bytes.data, bytes.len);
    copy[bytes.len] = 0;
    assert_false(token_read(slice_of(copy, bytes.len + 1), &here, &token));
    assert_true(token_read(slice_of(copy, bytes.len), &here, &token));
    arena_clear(&arena);
}

static void test_of_another_namespace_or_source(void **state)
{
    static const struct token_scope others[] = {{.namespace_name = "order", .backend = "b"},
                                                {.namespace_name = "orders", .backend = "c"},
                                                {.namespace_name = "ordersb", .backend = ""}};
    struct arena arena;
    struct token token;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < 3; i++)
        assert_false(token_read(some(&arena, 5, 2, 20), &others[i], &token));
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_what_was_changed_is_none),
        cmocka_unit_test(test_of_another_namespace_or_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
