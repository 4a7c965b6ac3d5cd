/* Messages that are packed come out as they went in; their blocks are held as long. */
#include "patterns/messaging/packed.h"

#include "src/base/block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char bytes[4096];

static struct slice some(size_t at, size_t len)
{
    return slice_of(bytes + at, len);
}

static void expect_text(struct slice got, struct slice want)
{
    assert_int_equal(message_is_null(got), message_is_null(want));
    assert_true(slice_equal(got, want));
}

static void expect_same(const struct incoming *got, const struct incoming *want)
{
    expect_text(got->topic, want->topic);
    expect_text(got->key, want->key);
    expect_text(got->id, want->id);
    expect_text(got->payload, want->payload);
    expect_text(got->position, want->position);
    assert_int_equal(got->offset, want->offset);
    assert_int_equal(got->timestamp_ms, want->timestamp_ms);
    assert_int_equal(got->token, want->token);
    assert_int_equal(got->partition, want->partition);
    assert_int_equal(got->attempt, want->attempt);
    assert_int_equal(got->n_headers, want->n_headers);
    for (uint32_t i = 0; i < want->n_headers; i++) {
        expect_text(got->headers[i].name, want->headers[i].name);
        expect_text(got->headers[i].value, want->headers[i].value);
    }
}

static void expect_packed(const struct incoming *messages, uint32_t n)
{
    struct arena scratch, arena;

    arena_init(&scratch, NULL);
    arena_init(&arena, NULL);

    struct block *packed = packed_new(messages, n, &scratch);

    assert_non_null(packed);
    arena_clear(&scratch);
    assert_int_equal(packed_partition(packed), messages[0].partition);

    const struct incoming *opened = packed_open(packed, &arena);

    for (uint32_t i = 0; i < n; i++) {
        expect_same(&opened[i], &messages[i]);
        assert_int_equal(packed_token(packed, i), messages[i].token);
        assert_int_equal(packed_bytes(packed, i), message_in_bytes(&messages[i]));
        assert_int_equal(packed_offset(packed, i), messages[i].offset);
        assert_int_equal(packed_attempt(packed, i), messages[i].attempt);
    }
    packed_destroy(packed);
    arena_clear(&arena);
}

static void test_they_come_out_as_they_went_in(void **state)
{
    const struct header headers[] = {
        {some(0, 3), some(9, 4)}, {some(0, 3), message_null()}, {some(5, 1), message_empty()}};
    struct incoming messages[BATCH_MESSAGES];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31 + i / 7);
    for (uint32_t i = 0; i < BATCH_MESSAGES; i++) {
        messages[i] = (struct incoming){
            .topic = some(i / 100, 5),
            .key = i % 3 == 0 ? message_null() : some(i, i % 3 - 1),
            .id = i % 2 == 0 ? message_null() : some(i, 20),
            .payload = i % 5 == 0 ? message_null() : some(i, i % 5 == 1 ? 0 : (size_t)i * 9),
            .position = i % 4 == 0 ? some(i, 19) : message_null(),
            .headers = headers,
            .n_headers = i % 4,
            .offset = i == 7 ? INT64_MAX : (int64_t)i - 1,
            .timestamp_ms = i == 9 ? UINT64_MAX : 1700000000000u - i % 3,
            .token = UINT64_MAX - i,
            .partition = -1,
            .attempt = i == 11 ? UINT32_MAX : i,
        };
    }
    expect_packed(messages, BATCH_MESSAGES);
    expect_packed(messages, 1);
    expect_packed(messages + 7, 3);
}

static void test_payloads_stay_in_their_blocks(void **state)
{
    struct block *block = block_copy(some(0, 64)), *other = block_copy(some(64, 64));
    struct arena arena;
    const struct incoming messages[] = {
        {.topic = some(0, 1), .payload = block->bytes, .block = block},
        {.topic = some(0, 1), .payload = slice_of(block->bytes.data + 60, 4), .block = block},
        {.topic = some(0, 1), .payload = some(200, 9), .block = other}, /* holds something else */
        {.topic = some(0, 1), .payload = message_null(), .block = other},
        {.topic = some(0, 1), .payload = some(300, 9)},
    };

    (void)state;
    expect_packed(messages, 5);
    arena_init(&arena, NULL);

    struct block *packed = packed_new(messages, 5, &arena);
    const struct incoming *opened = packed_open(packed, &arena);

    assert_int_equal(atomic_load(&block->refs), 3);
    assert_int_equal(atomic_load(&other->refs), 1);
    assert_ptr_equal(opened[1].payload.data, block->bytes.data + 60);
    assert_ptr_equal(opened[1].block, block);
    assert_null(opened[2].block);
    packed_destroy(packed);
    assert_int_equal(atomic_load(&block->refs), 1);
    arena_clear(&arena);
    block_unref(block);
    block_unref(other);
}

/* As memstore has them, and as redis has them: beside the payloads that are not in blocks. */
static void test_what_repeats_takes_little(void **state)
{
    enum { PAYLOAD = 128, MOST_BYTES = 16 };

    struct incoming lent[BATCH_MESSAGES], copied[BATCH_MESSAGES];
    char positions[BATCH_MESSAGES][32];
    struct arena arena;

    (void)state;
    for (uint32_t i = 0; i < BATCH_MESSAGES; i++) {
        snprintf(positions[i], sizeof positions[i], "1700000000000-%u", i);
        copied[i] = (struct incoming){.topic = slice_str("topic"),
                                      .payload = some(0, PAYLOAD),
                                      .position = slice_str(positions[i]),
                                      .offset = -1,
                                      .timestamp_ms = 1700000000000u,
                                      .token = (uint64_t)(1000 + i) << 32 | 1,
                                      .partition = -1,
                                      .attempt = 1};
        lent[i] = copied[i];
        lent[i].position = message_null();
        lent[i].offset = i;
        lent[i].block = block_copy(some(0, PAYLOAD));
        lent[i].payload = lent[i].block->bytes;
    }
    arena_init(&arena, NULL);

    struct block *packed = packed_new(lent, BATCH_MESSAGES, &arena);

    assert_true(packed->bytes.len < BATCH_MESSAGES * MOST_BYTES);
    packed_destroy(packed);
    packed = packed_new(copied, BATCH_MESSAGES, &arena);
    assert_true(packed->bytes.len < BATCH_MESSAGES * (PAYLOAD + MOST_BYTES));
    packed_destroy(packed);
    expect_packed(lent, BATCH_MESSAGES);
    expect_packed(copied, BATCH_MESSAGES);
    arena_clear(&arena);
    for (uint32_t i = 0; i < BATCH_MESSAGES; i++)
        block_unref(lent[i].block);
}

static void test_several_partitions_are_not_packed(void **state)
{
    const struct incoming messages[] = {{.partition = 1}, {.partition = 2}};
    struct arena scratch;

    (void)state;
    arena_init(&scratch, NULL);
    assert_null(packed_new(messages, 2, &scratch));
    packed_destroy(NULL);
    arena_clear(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_they_come_out_as_they_went_in),
        cmocka_unit_test(test_payloads_stay_in_their_blocks),
        cmocka_unit_test(test_what_repeats_takes_little),
        cmocka_unit_test(test_several_partitions_are_not_packed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
