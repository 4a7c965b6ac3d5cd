/* What decoding would let through has to be found before it. */
#include "src/rpc/wire_check.h"

#include "google/protobuf/struct.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "src/base/arena.h"
#include "src/rpc/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const ProtobufCMessageDescriptor *const store =
    &prism__patterns__keyvalue__store_request__descriptor;
static const ProtobufCMessageDescriptor *const batch =
    &prism__patterns__keyvalue__store_batch_request__descriptor;

#define CHECK(type, text, field) wire_check(type, slice_of(text, sizeof text - 1), field)

static void text_passes(void **state)
{
    const char *field;

    (void)state;
    assert_int_equal(CHECK(store, "", &field), WIRE_OK);
    assert_int_equal(CHECK(store, "\x0a\x03key\x12\x02\x00\xff", &field), WIRE_OK);
    assert_int_equal(CHECK(store,
                           "\x0a\x12"
                           "abcdefgh\xc3\xa4"
                           "abcdefgh",
                           &field),
                     WIRE_OK);
    /* numbers, and a field of the future that holds what it likes */
    assert_int_equal(CHECK(store, "\x18\x80\x01\xa2\x06\x02\x00\xff", &field), WIRE_OK);
}

static void nul_is_found_at_every_place(void **state)
{
    (void)state;
    for (uint8_t len = 1; len < 40; len++) {
        for (uint8_t at = 0; at < len; at++) {
            uint8_t bytes[64] = {0x0a, len};
            const char *field;

            memset(bytes + 2, 'a', len);
            assert_int_equal(wire_check(store, slice_of(bytes, 2u + len), &field), WIRE_OK);
            bytes[2 + at] = 0;
            assert_int_equal(wire_check(store, slice_of(bytes, 2u + len), &field), WIRE_NOT_TEXT);
            assert_string_equal(field, "key");
            bytes[2 + at] = 0xff;
            assert_int_equal(wire_check(store, slice_of(bytes, 2u + len), &field), WIRE_NOT_TEXT);
        }
    }
}

static void nested_text_is_looked_at(void **state)
{
    const char *field;

    (void)state;
    assert_int_equal(CHECK(batch, "\x0a\x03\x0a\x01k\x0a\x03\x0a\x01k", &field), WIRE_OK);
    assert_int_equal(CHECK(batch, "\x0a\x03\x0a\x01k\x0a\x03\x0a\x01\x00", &field), WIRE_NOT_TEXT);
    assert_string_equal(field, "key");
    /* 4 tags {1 tags: {1 key, 2 value}} */
    assert_int_equal(CHECK(store, "\x22\x08\x0a\x06\x0a\x01k\x12\x01\xff", &field), WIRE_NOT_TEXT);
    assert_string_equal(field, "value");
}

/* Each level wraps: Value {5 list_value: ListValue {1 values: Value}}. */
static size_t nest(uint8_t *out, size_t room, unsigned levels)
{
    uint8_t *at = out + room;
    size_t len = 0;

    for (unsigned i = 0; i < levels; i++) {
        uint8_t head[12];
        size_t n = 0;

        head[n++] = i % 2 == 0 ? 0x32 : 0x0a; /* 6 list_value, 1 values */
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
    const char *field;

    (void)state;
    for (unsigned levels = 1; levels <= 100000; levels = levels < 200 ? levels + 1 : levels * 10) {
        const ProtobufCMessageDescriptor *type = levels % 2 != 0
                                                     ? &google__protobuf__value__descriptor
                                                     : &google__protobuf__list_value__descriptor;
        size_t len = nest(bytes, room, levels);

        assert_int_equal(wire_check(type, slice_of(bytes, len), &field),
                         levels < WIRE_MAX_DEPTH ? WIRE_OK : WIRE_TOO_DEEP);
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
    const char *field;

    (void)state;
    for (size_t len = 0; len < sizeof whole; len++) {
        uint8_t *bytes = malloc(len + 1); /* exact size: a read beyond it shows under ASan */

        memcpy(bytes, whole, len);
        assert_int_equal(wire_check(store, slice_of(bytes, len), &field),
                         is_whole(len) ? WIRE_OK : WIRE_MALFORMED);
        free(bytes);
    }
    assert_int_equal(CHECK(store, "\x0b\x0c", &field), WIRE_MALFORMED);
    assert_int_equal(CHECK(store, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k", &field),
                     WIRE_MALFORMED);
    assert_int_equal(CHECK(batch, "\x0a\x01\x0b\x0a\x03\x0a\x01\x00", &field), WIRE_MALFORMED);
}

/* protobuf-c cuts the excess bits of a tag off and reads on. What follows has to be checked, or
 * refused: here, a value that would overrun its stack. */
static void nothing_hides_behind_a_long_tag(void **state)
{
    static const uint8_t before[] = {
        0x2a, 0,    0x2a, 0, /* struct_value twice: left to protobuf-c */
        0xf8, 0xff, 0xff, 0xff, 0x7f, 0};
    const size_t room = 1u << 20;
    uint8_t *bytes = malloc(room + sizeof before);
    const ProtobufCMessage *message;
    struct arena arena;
    const char *field;
    size_t len;

    (void)state;
    memcpy(bytes, before, sizeof before);
    len = sizeof before + nest(bytes + sizeof before, room, 100001);
    assert_int_equal(wire_check(&google__protobuf__value__descriptor, slice_of(bytes, len), &field),
                     WIRE_MALFORMED);
    arena_init(&arena, NULL);
    assert_int_equal(
        decode_message(&arena, &google__protobuf__value__descriptor, slice_of(bytes, len), &message)
            .code,
        ERR_INVALID_ARGUMENT);
    assert_null(message);
    arena_clear(&arena);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_passes),
        cmocka_unit_test(nul_is_found_at_every_place),
        cmocka_unit_test(nested_text_is_looked_at),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(nothing_hides_behind_a_long_tag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
