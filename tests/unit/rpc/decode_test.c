/* What our decoder refuses although protobuf-c would take it, and where it stops. */
#include "src/rpc/decode.h"

#include "google/protobuf/struct.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "src/base/container.h"
#include "tests/unit/one_arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef const ProtobufCMessageDescriptor *const message_type;

static message_type store = &prism__patterns__keyvalue__store_request__descriptor;
static message_type batch = &prism__patterns__keyvalue__store_batch_request__descriptor;
static message_type keys = &prism__patterns__keyvalue__retrieve_batch_request__descriptor;
static message_type value = &google__protobuf__value__descriptor;
static message_type list = &google__protobuf__list_value__descriptor;

static void taken(const ProtobufCMessageDescriptor *type, struct slice bytes)
{
    const ProtobufCMessage *message;

    assert_int_equal(decode_message(&arena, type, bytes, 0, &message).code, ERR_OK);
    assert_non_null(message);
}

/* "request": what is no message at all. */
static void refused(const ProtobufCMessageDescriptor *type, struct slice bytes, const char *field)
{
    const ProtobufCMessage *message;
    struct err err = decode_message(&arena, type, bytes, 0, &message);

    assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(err.subject, field);
    assert_null(message);
}

#define BYTES(text) slice_of(text, sizeof text - 1)

static void text_passes(void **state)
{
    (void)state;
    taken(store, BYTES(""));
    taken(store, BYTES("\x0a\x03key\x12\x02\x00\xff"));
    taken(store, BYTES("\x0a\x12"
                       "abcdefgh\xc3\xa4"
                       "abcdefgh"));
    /* numbers, and a field of the future that holds what it likes */
    taken(store, BYTES("\x18\x80\x01\xa2\x06\x02\x00\xff"));
}

static void nul_is_found_at_every_place(void **state)
{
    (void)state;
    for (uint8_t len = 1; len < 40; len++) {
        for (uint8_t at = 0; at < len; at++) {
            uint8_t bytes[64] = {0x0a, len};

            memset(bytes + 2, 'a', len);
            taken(store, slice_of(bytes, 2u + len));
            bytes[2 + at] = 0;
            refused(store, slice_of(bytes, 2u + len), "key");
            bytes[2 + at] = 0xff;
            refused(store, slice_of(bytes, 2u + len), "key");
        }
    }
}

static void nested_text_is_looked_at(void **state)
{
    (void)state;
    taken(batch, BYTES("\x0a\x03\x0a\x01k\x0a\x03\x0a\x01k"));
    refused(batch, BYTES("\x0a\x03\x0a\x01k\x0a\x03\x0a\x01\x00"), "key");
    /* 4 tags {1 tags: {1 key, 2 value}} */
    refused(store, BYTES("\x22\x08\x0a\x06\x0a\x01k\x12\x01\xff"), "value");
}

/* Each level wraps: Value {6 list_value: ListValue {1 values: Value}}. */
static size_t nest(uint8_t *out, size_t room, unsigned levels)
{
    uint8_t *at = out + room;
    size_t len = 0;

    for (unsigned i = 0; i < levels; i++) {
        uint8_t head[12];
        size_t n = 0;

        head[n++] = i % 2 == 0 ? 0x32 : 0x0a;
        for (size_t left = len; n < sizeof head; left >>= 7) {
            head[n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
            if (left <= 0x7f)
                break;
        }
        at -= n;
        memcpy(at, head, n);
        len += n;
    }
    memmove(out, at, len);
    return len;
}

static void depth_is_bounded(void **state)
{
    const size_t room = 1u << 20;
    uint8_t *bytes = malloc(room);

    (void)state;
    for (unsigned levels = 1; levels <= 100000; levels = levels < 200 ? levels + 1 : levels * 10) {
        size_t len = nest(bytes, room, levels);

        if (levels < 100)
            taken(levels % 2 != 0 ? value : list, slice_of(bytes, len));
        else
            refused(levels % 2 != 0 ? value : list, slice_of(bytes, len),
                    levels % 2 != 0 ? "values" : "list_value");
    }
    free(bytes);
}

/* Where a field ends before the message does. */
static bool is_whole(size_t len)
{
    return len == 0 || len == 10 || len == 13;
}

static void damage_is_found(void **state)
{
    static const char whole[] = "\x22\x08\x0a\x06\x0a\x01k\x12\x01v\x0a\x01k";

    (void)state;
    for (size_t len = 0; len < sizeof whole; len++) {
        uint8_t *bytes = malloc(len + 1); /* exact size: a read beyond it shows under ASan */

        memcpy(bytes, whole, len);
        if (is_whole(len))
            taken(store, slice_of(bytes, len));
        else
            refused(store, slice_of(bytes, len), "request");
        free(bytes);
    }
    refused(store, BYTES("\x0b\x0c"), "request");
    refused(store, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k"), "request");
    refused(batch, BYTES("\x0a\x01\x0b\x0a\x03\x0a\x01\x00"), "request");
}

/* protobuf-c cuts the excess bits of a tag off and reads on. */
static void tags_have_32_bits(void **state)
{
    (void)state;
    refused(store, BYTES("\xf8\xff\xff\xff\x7f\x00"), "request");
}

/* Millions of empty elements, in whatever shape, are refused before they take memory. */
static void elements_are_bounded(void **state)
{
    enum { MOST = 100, MANY = 100000 };
    static const struct {
        message_type *type;
        const uint8_t bytes[8];
        size_t len;
        const char *field;
    } cases[] = {
        {&batch, {0x0a, 0}, 2, "requests"},
        {&keys, {0x0a, 0}, 2, "keys"},
        {&store, {0x22, 2, 0x0a, 0}, 4, "tags"},            /* tags {tags}, merged */
        {&value, {0x2a, 0, 0x32, 0}, 4, "list_value"},      /* a oneof that takes turns */
        {&value, {0x32, 2, 0x0a, 0}, 4, "values"},          /* list_value {values}, merged */
        {&value, {0x32, 4, 0x0a, 2, 0x32, 0}, 6, "values"}, /* and with something in it */
    };
    uint8_t *bytes = malloc((size_t)MANY * 8);
    const ProtobufCMessage *message;

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        size_t len = cases[c].len, before;
        struct err err;

        for (size_t i = 0; i < MANY; i++)
            memcpy(bytes + i * len, cases[c].bytes, len);
        before = arena.bytes;
        err = decode_message(&arena, *cases[c].type, slice_of(bytes, MANY * len), MOST, &message);
        assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
        assert_string_equal(err.subject, cases[c].field);
        assert_non_null(strstr(err.text, "at most 100"));
        assert_true(arena.bytes - before < 64 * 1024);
        err = decode_message(&arena, *cases[c].type, slice_of(bytes, 10 * len), MOST, &message);
        assert_int_equal(err.code, ERR_OK);
    }
    free(bytes);
}

static void bytes_are_not_copied(void **state)
{
    static const uint8_t wire[] = {0x0a, 1, 'k', 0x12, 3, 'a', 0, 'b'};
    const ProtobufCMessage *message;

    (void)state;
    assert_int_equal(decode_message(&arena, store, slice_of(wire, sizeof wire), 0, &message).code,
                     ERR_OK);

    const Prism__Patterns__Keyvalue__StoreRequest *request = (const void *)message;

    assert_string_equal(request->key, "k");
    assert_int_equal(request->value.len, 3);
    assert_ptr_equal(request->value.data, wire + 5);
}

/* In a batch they stand side by side; a sender may put other fields between them, and write tags
 * and lengths longer than they need be. */
static void elements_may_stand_apart(void **state)
{
    const Prism__Patterns__Keyvalue__StoreBatchRequest *request;
    const ProtobufCMessage *message;
    const char *wanted[] = {"a", "b", "c", "d", "e"};

    (void)state;
    assert_int_equal(decode_message(&arena, batch,
                                    BYTES("\x0a\x03\x0a\x01"
                                          "a\x0a\x03\x0a\x01"
                                          "b\x10\x01\x0a\x03\x0a\x01"
                                          "c\x8a\x00\x03\x0a\x01"
                                          "d\x0a\x83\x80\x00\x0a\x01"
                                          "e"),
                                    0, &message)
                         .code,
                     ERR_OK);
    request = (const void *)message;
    assert_true(request->atomic);
    assert_int_equal(request->n_requests, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_string_equal(request->requests[i]->key, wanted[i]);
}

/* Field 1 of ListValue, n times: numbers from `from` on. */
static size_t put_numbers(uint8_t *out, size_t n, double from)
{
    for (size_t i = 0; i < n; i++, out += 11) {
        double number = from + (double)i;

        memcpy(out, "\x0a\x09\x11", 3); /* Value, whose field 2 is a double */
        memcpy(out + 3, &number, sizeof number);
    }
    return n * 11;
}

/* Arrays of every length, also those that go on where the same message field occurs again. */
static void arrays_have_any_length(void **state)
{
    enum { MOST = 70 };
    uint8_t bytes[2 * (MOST * 11 + 4)];

    (void)state;
    for (size_t first = 0; first <= MOST; first++) {
        for (size_t second = 0; first + second <= MOST; second++) {
            const Google__Protobuf__Value *whole;
            const ProtobufCMessage *message;
            size_t len = 0, n[] = {first, second};

            for (size_t part = 0; part < 2; part++) {
                size_t content = n[part] * 11;

                bytes[len++] = 0x32; /* list_value */
                bytes[len++] = (uint8_t)(content | 0x80);
                bytes[len++] = (uint8_t)(content >> 7);
                len += put_numbers(bytes + len, n[part], part == 0 ? 0 : (double)first);
            }
            assert_int_equal(
                decode_message(&arena, value, slice_of(bytes, len), MOST, &message).code, ERR_OK);
            whole = (const void *)message;
            assert_int_equal(whole->list_value->n_values, first + second);
            for (size_t i = 0; i < first + second; i++)
                assert_true(whole->list_value->values[i]->number_value == (double)i);
        }
        arena_clear(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_passes),
        cmocka_unit_test(nul_is_found_at_every_place),
        cmocka_unit_test(nested_text_is_looked_at),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(tags_have_32_bits),
        cmocka_unit_test(elements_are_bounded),
        cmocka_unit_test(bytes_are_not_copied),
        cmocka_unit_test(elements_may_stand_apart),
        cmocka_unit_test(arrays_have_any_length),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
