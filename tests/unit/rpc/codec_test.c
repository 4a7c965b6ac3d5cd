/* Our decoder and encoder against protobuf-c's, on random messages of every request and response
 * type, whole and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "google/protobuf/struct.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "prism/patterns/consumer/consumer_pattern.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "prism/patterns/multicast_registry/multicast_registry_pattern.pb-c.h"
#include "prism/patterns/session_store/session_store_pattern.pb-c.h"
#include "src/base/container.h"
#include "src/rpc/decode.h"
#include "src/rpc/encode.h"

#include <stdlib.h>
#include <string.h>

static const ProtobufCMessageDescriptor *const types[] = {
    &prism__patterns__keyvalue__store_request__descriptor,
    &prism__patterns__keyvalue__store_batch_request__descriptor,
    &prism__patterns__keyvalue__store_batch_response__descriptor,
    &prism__patterns__keyvalue__retrieve_batch_request__descriptor,
    &prism__patterns__keyvalue__scan_request__descriptor,
    &prism__patterns__keyvalue__scan_response__descriptor,
    &prism__patterns__keyvalue__capabilities__descriptor,
    &prism__patterns__keyvalue__get_expiration_response__descriptor,
    &prism__patterns__multicast_registry__register_request__descriptor,
    &prism__patterns__multicast_registry__multicast_request__descriptor,
    &prism__patterns__session_store__session_data__descriptor,
    &prism__patterns__consumer__subscribe_request__descriptor,
    &google__protobuf__value__descriptor,
    &grpc__reflection__v1__server_reflection_response__descriptor,
};

enum { BUFFER = 1 << 16, ROUNDS = 3000 };

static uint64_t state = 88172645463325252ull;

static uint32_t dice(uint32_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % sides;
}

/* ---- random encoded messages ---- */

struct wire {
    uint8_t *bytes;
    size_t len;
};

static void put(struct wire *w, uint8_t octet)
{
    if (w->len < BUFFER)
        w->bytes[w->len++] = octet;
}

static void put_varint(struct wire *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put(w, (uint8_t)(v | 0x80));
    put(w, (uint8_t)v);
}

static unsigned wire_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return 5;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 1;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return 2;
    default:
        return 0;
    }
}

static void put_message(struct wire *w, const ProtobufCMessageDescriptor *type, unsigned depth);

static void put_number(struct wire *w, ProtobufCType type)
{
    static const uint64_t corners[] = {0,          1,          127,        128,       300,
                                       UINT32_MAX, UINT64_MAX, 1ull << 63, 0x80000000};

    switch (wire_type(type)) {
    case 0:
        put_varint(w, dice(2) ? dice(1000) : corners[dice(ARRAY_LEN(corners))]);
        break;
    case 1:
    case 5:
        for (int i = 0; i < (wire_type(type) == 1 ? 8 : 4); i++)
            put(w, (uint8_t)dice(3));
        break;
    }
}

static void put_value(struct wire *w, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    static const char *const texts[] = {"", "k", "a longer text than eight",
                                        "\xc3\xa9\xe2\x82\xac"};
    struct wire nested = {.bytes = malloc(BUFFER)};

    if (wire_type(field->type) != 2) {
        put_number(w, field->type);
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        put_message(&nested, field->descriptor, depth + 1);
    } else if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = texts[dice(ARRAY_LEN(texts))];

        for (; *text != '\0'; text++)
            put(&nested, (uint8_t)*text);
    } else {
        for (uint32_t n = dice(40); n > 0; n--)
            put(&nested, (uint8_t)dice(256));
    }
    if (wire_type(field->type) == 2) {
        put_varint(w, nested.len);
        for (size_t i = 0; i < nested.len; i++)
            put(w, nested.bytes[i]);
    }
    free(nested.bytes);
}

static void put_field(struct wire *w, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;

    if (repeated && wire_type(field->type) != 2 && dice(2)) { /* packed */
        struct wire nested = {.bytes = malloc(BUFFER)};

        for (uint32_t n = dice(20); n > 0; n--)
            put_number(&nested, field->type);
        put_varint(w, (uint64_t)field->id << 3 | 2);
        put_varint(w, nested.len);
        for (size_t i = 0; i < nested.len; i++)
            put(w, nested.bytes[i]);
        free(nested.bytes);
        return;
    }
    for (uint32_t n = repeated ? dice(5) : dice(12) == 0 ? 2 : 1; n > 0; n--) {
        put_varint(w, (uint64_t)field->id << 3 | wire_type(field->type));
        put_value(w, field, depth);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !repeated)
            return;
    }
}

/* Message fields occur once: protobuf-c does not merge as it should. */
static void put_message(struct wire *w, const ProtobufCMessageDescriptor *type, unsigned depth)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < type->n_fields; i++) {
        uint32_t at = dice(type->n_fields);
        const ProtobufCFieldDescriptor *field = &type->fields[at];

        if (field->type == PROTOBUF_C_TYPE_MESSAGE && (depth >= 5 || seen >> at & 1))
            continue;
        if (dice(3) != 0) {
            seen |= UINT64_C(1) << at;
            put_field(w, field, depth);
        }
    }
}

/* ---- both ways ---- */

static int compared;

static struct slice repack(const ProtobufCMessage *message, uint8_t *out)
{
    return slice_of(out, protobuf_c_message_pack(message, out));
}

/* How the bytes came about. */
enum origin { WHOLE, CUT_OFF, FLIPPED };

/* What we took, and what protobuf-c made of the same bytes, or of what we make of them. */
static void check_equal(const ProtobufCMessage *ours, const ProtobufCMessage *theirs)
{
    static uint8_t theirs_out[8 * BUFFER], ours_out[8 * BUFFER], encoded[8 * BUFFER];
    struct slice a = repack(theirs, theirs_out), b = repack(ours, ours_out);
    struct encode_plan plan;

    assert_true(slice_equal(a, b));
    encode_measure(&plan, ours);
    assert_int_equal(plan.bytes, a.len);
    encode_write(&plan, ours, encoded);
    assert_memory_equal(encoded, a.data, a.len);
    compared++;
}

/* A flipped bit may make a message that protobuf-c refuses to merge, so what we take then has only
 * to be a message. */
static void check_same(const ProtobufCMessageDescriptor *type, struct slice bytes,
                       enum origin origin)
{
    static uint8_t again[8 * BUFFER];
    ProtobufCMessage *theirs;
    struct arena arena;
    const ProtobufCMessage *ours;
    struct err err;

    arena_init(&arena, NULL);
    err = decode_message(&arena, type, bytes, 0, &ours);
    assert_int_equal(err.code == ERR_OK, ours != NULL);
    if (origin == FLIPPED && ours != NULL)
        bytes = repack(ours, again);
    theirs = protobuf_c_message_unpack(type, NULL, bytes.len, bytes.data);
    if (theirs == NULL && ours != NULL)
        fail_msg("%s: we take what protobuf-c refuses", type->name);
    if (origin == WHOLE)
        assert_non_null(ours);
    if (ours != NULL)
        check_equal(ours, theirs);
    if (theirs != NULL)
        protobuf_c_message_free_unpacked(theirs, NULL);
    arena_clear(&arena);
}

/* The bytes stand in an allocation of their own size, so that a read past the end is found. */
static void with_exact_room(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
                            size_t len, enum origin origin)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    memcpy(copy, bytes, len);
    check_same(type, slice_of(copy, len), origin);
    free(copy);
}

static void test_random_messages(void **unused)
{
    struct wire w = {.bytes = malloc(BUFFER)};

    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        w.len = 0;
        put_message(&w, types[(size_t)i % ARRAY_LEN(types)], 0);
        if (w.len < BUFFER / 2)
            with_exact_room(types[(size_t)i % ARRAY_LEN(types)], w.bytes, w.len, WHOLE);
    }
    free(w.bytes);
    assert_true(compared > ROUNDS / 2);
}

static void test_damaged_messages(void **unused)
{
    struct wire w = {.bytes = malloc(BUFFER)};

    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        const ProtobufCMessageDescriptor *type = types[(size_t)i % ARRAY_LEN(types)];

        w.len = 0;
        put_message(&w, type, 0);
        if (w.len == 0 || w.len > BUFFER / 2)
            continue;
        for (int hits = 0; hits < 5; hits++) {
            uint8_t saved[BUFFER];

            memcpy(saved, w.bytes, w.len);
            with_exact_room(type, w.bytes, dice((uint32_t)w.len), hits == 0 ? CUT_OFF : FLIPPED);
            w.bytes[dice((uint32_t)w.len)] ^= (uint8_t)(1u << dice(8));
            with_exact_room(type, w.bytes, w.len, FLIPPED);
            if (dice(2))
                memcpy(w.bytes, saved, w.len);
        }
    }
    free(w.bytes);
}

/* A message of `type` whose field holds `content`, cut in `pieces`. */
static size_t wrap(uint8_t *out, const ProtobufCFieldDescriptor *field, const struct wire *content,
                   const size_t *cuts, size_t pieces)
{
    struct wire w = {.bytes = out};

    for (size_t i = 0; i < pieces; i++) {
        put_varint(&w, (uint64_t)field->id << 3 | 2);
        put_varint(&w, cuts[i + 1] - cuts[i]);
        for (size_t at = cuts[i]; at < cuts[i + 1]; at++)
            put(&w, content->bytes[at]);
    }
    return w.len;
}

/* protobuf's definition of merging: pieces of a message, each under the same field, are what the
 * field is with all of their bytes. */
static bool merges(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field)
{
    static uint8_t content_bytes[BUFFER], whole[BUFFER], cut[BUFFER], a_out[BUFFER], b_out[BUFFER];
    struct wire content = {.bytes = content_bytes};
    const ProtobufCMessage *a, *b;
    size_t cuts[5] = {0};
    struct arena arena;

    for (size_t i = 1; i < ARRAY_LEN(cuts); i++) {
        put_message(&content, field->descriptor, 3);
        cuts[i] = content.len;
    }
    if (content.len > BUFFER / 8)
        return false;

    size_t whole_len = wrap(whole, field, &content, (size_t[]){0, content.len}, 1);
    size_t cut_len = wrap(cut, field, &content, cuts, ARRAY_LEN(cuts) - 1);

    arena_init(&arena, NULL);
    assert_int_equal(decode_message(&arena, type, slice_of(whole, whole_len), 0, &a).code, ERR_OK);
    assert_int_equal(decode_message(&arena, type, slice_of(cut, cut_len), 0, &b).code, ERR_OK);
    assert_true(slice_equal(repack(a, a_out), repack(b, b_out)));
    arena_clear(&arena);
    return true;
}

static void test_message_fields_merge(void **unused)
{
    unsigned merged = 0;

    (void)unused;
    for (int round = 0; round < ROUNDS / 10; round++) {
        for (size_t t = 0; t < ARRAY_LEN(types); t++) {
            for (unsigned i = 0; i < types[t]->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &types[t]->fields[i];

                if (field->type == PROTOBUF_C_TYPE_MESSAGE &&
                    field->label != PROTOBUF_C_LABEL_REPEATED)
                    merged += merges(types[t], field);
            }
        }
    }
    assert_true(merged > 1000);
}

/* Runs of one struct in a repeated field, as batches have them: copied, with the same bytes as
 * ever. */
static void test_shared_elements(void **unused)
{
    typedef Prism__Patterns__Keyvalue__StoreResponse result;
    result ok = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT,
           bad = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    result *results[200];
    Prism__Patterns__Keyvalue__StoreBatchResponse response =
        PRISM__PATTERNS__KEYVALUE__STORE_BATCH_RESPONSE__INIT;

    (void)unused;
    ok.success = 1;
    bad.code = 14;
    for (int round = 0; round < 50; round++) {
        uint8_t theirs[4096], ours[4096];
        struct encode_plan plan;

        response.n_results = dice(ARRAY_LEN(results));
        response.results = results;
        for (size_t i = 0; i < response.n_results; i++)
            results[i] = dice(4) ? &ok : &bad;
        encode_measure(&plan, &response.base);
        assert_int_equal(plan.bytes, protobuf_c_message_pack(&response.base, theirs));
        encode_write(&plan, &response.base, ours);
        assert_memory_equal(ours, theirs, plan.bytes);
    }
}

/* Lists of numbers in many messages: more sizes than are kept without asking for memory. */
static void test_many_lists(void **unused)
{
    Prism__Patterns__Consumer__ConsumeResponse response =
        PRISM__PATTERNS__CONSUMER__CONSUME_RESPONSE__INIT;
    Prism__Patterns__Consumer__ConsumeStarted started =
        PRISM__PATTERNS__CONSUMER__CONSUME_STARTED__INIT;
    Prism__Patterns__Consumer__Revoked revoked[200], *pointers[200];
    int64_t sequences[200];

    (void)unused;
    response.started = &started; /* so that a list is the first that does not fit */
    response.revoked = pointers;
    for (size_t n = 0; n <= ARRAY_LEN(revoked); n++) {
        uint8_t theirs[4096], ours[4096];
        struct encode_plan plan;

        response.n_revoked = n;
        encode_measure(&plan, &response.base);
        assert_int_equal(plan.bytes, protobuf_c_message_pack(&response.base, theirs));
        encode_write(&plan, &response.base, ours);
        assert_memory_equal(ours, theirs, plan.bytes);
        if (n == ARRAY_LEN(revoked))
            break;
        prism__patterns__consumer__revoked__init(&revoked[n]);
        sequences[n] = (int64_t)n;
        revoked[n].n_sequences = 1;
        revoked[n].sequences = &sequences[n];
        pointers[n] = &revoked[n];
    }
}

/* A message may carry what was packed before. */
static void test_unknown_fields_are_written(void **unused)
{
    uint8_t data[] = {3, 'a', 'b', 'c', 0x10, 7};
    ProtobufCMessageUnknownField fields[] = {
        {.tag = 1, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = 6, .data = data},
        {.tag = 5000, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .len = 1, .data = data},
    };
    Prism__Patterns__Keyvalue__Capabilities message = PRISM__PATTERNS__KEYVALUE__CAPABILITIES__INIT;
    uint8_t ours[64], theirs[64];
    struct encode_plan plan;

    (void)unused;
    message.supports_scan = true;
    message.base.n_unknown_fields = 2;
    message.base.unknown_fields = fields;
    encode_measure(&plan, &message.base);
    assert_int_equal(plan.bytes, protobuf_c_message_get_packed_size(&message.base));
    encode_write(&plan, &message.base, ours);
    protobuf_c_message_pack(&message.base, theirs);
    assert_memory_equal(ours, theirs, plan.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_messages),
        cmocka_unit_test(test_damaged_messages),
        cmocka_unit_test(test_message_fields_merge),
        cmocka_unit_test(test_shared_elements),
        cmocka_unit_test(test_many_lists),
        cmocka_unit_test(test_unknown_fields_are_written),
    };

    return cmocka_run_group_tests_name("decode and encode", tests, NULL, NULL);
}
