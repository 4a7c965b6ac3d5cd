/* The shapes that our protocol has are decoded here: scalars, strings, bytes, messages, repeated
 * fields (packed or not), maps, oneofs. A shape that is rare (a message field that occurs twice and
 * has to be merged, a proto2 `required`) is left to protobuf-c, after wire_check: DECODE_RARE.
 *
 * Repeated fields are counted before they are filled, so each gets its exact array, and repeated
 * messages lie side by side. */
#include "src/rpc/decode.h"

#include "src/base/utf8.h"
#include "src/rpc/wire.h"
#include "src/rpc/wire_check.h"

#include <stdbool.h>
#include <string.h>

enum { COUNTED_FIELDS = 64 };

enum decode_result { DECODE_OK, DECODE_MALFORMED, DECODE_NOT_TEXT, DECODE_TOO_DEEP, DECODE_RARE };

struct decoder {
    struct arena *arena;
    const char *field; /* of the last fault */
};

struct reader {
    const uint8_t *at, *end;
};

/* One field as it stands on the wire. */
struct item {
    uint32_t number;
    enum wire_type wire;
    uint64_t value;       /* WIRE_VARINT, WIRE_64, WIRE_32 */
    struct slice content; /* WIRE_BYTES */
};

/* ---- the wire ---- */

static bool read_varint_slow(struct reader *r, uint64_t *value)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        uint8_t octet = *r->at++;

        if (shift < 64)
            v |= (uint64_t)(octet & 0x7f) << shift;
        if (octet < 0x80) {
            *value = v;
            return true;
        }
    }
    return false;
}

static inline bool read_varint(struct reader *r, uint64_t *value)
{
    if (r->at < r->end && *r->at < 0x80) {
        *value = *r->at++;
        return true;
    }
    return read_varint_slow(r, value);
}

static bool read_fixed(struct reader *r, unsigned bytes, uint64_t *value)
{
    *value = 0;
    if ((size_t)(r->end - r->at) < bytes)
        return false;
    for (unsigned i = 0; i < bytes; i++)
        *value |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return true;
}

static inline bool read_bytes(struct reader *r, struct slice *content)
{
    uint64_t len;

    if (!read_varint(r, &len) || len > (size_t)(r->end - r->at))
        return false;
    *content = slice_of(r->at, (size_t)len);
    r->at += len;
    return true;
}

static inline bool read_item(struct reader *r, struct item *item)
{
    uint64_t tag;

    if (!read_varint(r, &tag) || tag > UINT32_MAX)
        return false;
    item->number = (uint32_t)(tag >> 3);
    item->wire = (enum wire_type)(tag & 7);
    if (item->number == 0)
        return false;
    switch (tag & 7) {
    case WIRE_VARINT:
        return read_varint(r, &item->value);
    case WIRE_64:
        return read_fixed(r, 8, &item->value);
    case WIRE_BYTES:
        return read_bytes(r, &item->content);
    case WIRE_32:
        return read_fixed(r, 4, &item->value);
    default:
        return false; /* groups are gone from the language */
    }
}

/* ---- descriptors ---- */

static inline const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type,
                                                         uint32_t number)
{
    if (type->n_field_ranges == 1) { /* numbers without a gap: nearly all of ours */
        uint32_t index = number - (uint32_t)type->field_ranges[0].start_value;

        return index < type->n_fields ? &type->fields[index] : NULL;
    }
    return protobuf_c_message_descriptor_get_field(type, number);
}

static inline void *member(void *message, size_t offset)
{
    return (char *)message + offset;
}

/* ---- values ---- */

static uint64_t unzigzag(uint64_t v)
{
    return (v >> 1) ^ (0 - (v & 1));
}

/* The member has the type's size; the wire's bits are cut to it, as protobuf wants. */
static void put_number(void *out, ProtobufCType type, uint64_t v)
{
    uint32_t low;

    if (type == PROTOBUF_C_TYPE_BOOL)
        v = v != 0;
    else if (type == PROTOBUF_C_TYPE_SINT32)
        v = unzigzag(v & UINT32_MAX);
    else if (type == PROTOBUF_C_TYPE_SINT64)
        v = unzigzag(v);
    if (element_bytes(type) == 8) {
        memcpy(out, &v, 8);
        return;
    }
    low = (uint32_t)v;
    memcpy(out, &low, 4);
}

/* Eight octets at a time while they are ASCII and not NUL. */
static bool is_text(struct slice text)
{
    uint64_t word;

    while (text.len >= sizeof word) {
        memcpy(&word, text.data, sizeof word);
        if ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080))
            break;
        text = slice_of(text.data + sizeof word, text.len - sizeof word);
    }
    return text.len == 0 || (memchr(text.data, 0, text.len) == NULL && utf8_valid(text));
}

static enum decode_result put_content(struct decoder *d, void *out,
                                      const ProtobufCFieldDescriptor *field, struct slice content)
{
    char *text;

    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        *(ProtobufCBinaryData *)out = (ProtobufCBinaryData){
            .len = content.len,
            .data = content.len > 0 ? (uint8_t *)(uintptr_t)content.data : NULL};
        return DECODE_OK;
    }
    if (!is_text(content)) {
        d->field = field->name;
        return DECODE_NOT_TEXT;
    }
    text = arena_strdup(d->arena, content);
    memcpy(out, &text, sizeof text);
    return DECODE_OK;
}

/* ---- messages ---- */

static enum decode_result decode_into(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                      ProtobufCMessage *out, struct slice bytes, unsigned depth);

static enum decode_result put_message(struct decoder *d, void *out,
                                      const ProtobufCFieldDescriptor *field, struct slice content,
                                      unsigned depth)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    ProtobufCMessage *message;

    if (depth == WIRE_MAX_DEPTH) {
        d->field = field->name;
        return DECODE_TOO_DEEP;
    }
    message = arena_alloc(d->arena, type->sizeof_message);
    memcpy(out, &message, sizeof message);
    return decode_into(d, type, message, content, depth + 1);
}

/* Presence; the member of a oneof is written over whatever was there. */
static enum decode_result put_singular(struct decoder *d, ProtobufCMessage *out,
                                       const ProtobufCFieldDescriptor *field,
                                       const struct item *item, unsigned depth)
{
    void *at = member(out, field->offset);
    bool oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    uint32_t *chosen = oneof ? member(out, field->quantifier_offset) : NULL;

    if (item->wire != wire_of(field->type))
        return DECODE_MALFORMED;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *before;

        memcpy(&before, at, sizeof before);
        if (oneof ? *chosen == field->id : before != NULL)
            return DECODE_RARE; /* a second occurrence is merged into the first */
    }
    if (oneof)
        *chosen = field->id;
    else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0)
        *(protobuf_c_boolean *)member(out, field->quantifier_offset) = 1;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return put_message(d, at, field, item->content, depth);
    if (item->wire == WIRE_BYTES)
        return put_content(d, at, field, item->content);
    put_number(at, field->type, item->value);
    return DECODE_OK;
}

/* ---- repeated fields ---- */

static bool is_packed(const ProtobufCFieldDescriptor *field, const struct item *item)
{
    return item->wire == WIRE_BYTES && wire_of(field->type) != WIRE_BYTES;
}

static bool read_number(struct reader *r, enum wire_type wire, uint64_t *value)
{
    if (wire == WIRE_VARINT)
        return read_varint(r, value);
    return read_fixed(r, wire == WIRE_64 ? 8 : 4, value);
}

static size_t packed_count(enum wire_type wire, struct slice content)
{
    size_t n = 0;

    if (wire != WIRE_VARINT)
        return content.len / (wire == WIRE_64 ? 8 : 4);
    for (size_t i = 0; i < content.len; i++)
        n += content.data[i] < 0x80;
    return n;
}

static bool count_repeated(const ProtobufCMessageDescriptor *type, struct slice bytes,
                           size_t *counts)
{
    struct reader r = {bytes.data, bytes.data + bytes.len};
    struct item item;

    while (r.at < r.end) {
        if (!read_item(&r, &item))
            return false;

        const ProtobufCFieldDescriptor *field = find_field(type, item.number);

        if (field != NULL && field->label == PROTOBUF_C_LABEL_REPEATED)
            counts[field - type->fields] +=
                is_packed(field, &item) ? packed_count(wire_of(field->type), item.content) : 1;
    }
    return true;
}

static void allocate_repeated(struct decoder *d, const ProtobufCMessageDescriptor *type,
                              ProtobufCMessage *out, const size_t *counts)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if (field->label != PROTOBUF_C_LABEL_REPEATED || counts[i] == 0)
            continue;

        void *array = arena_alloc(d->arena, counts[i] * element_bytes(field->type));

        memcpy(member(out, field->offset), &array, sizeof array);
    }
}

static enum decode_result put_repeated(struct decoder *d, ProtobufCMessage *out,
                                       const ProtobufCFieldDescriptor *field,
                                       const struct item *item, unsigned depth)
{
    size_t *n = member(out, field->quantifier_offset), bytes = element_bytes(field->type);
    char *array;

    memcpy(&array, member(out, field->offset), sizeof array);
    if (is_packed(field, item)) {
        struct reader r = {item->content.data, item->content.data + item->content.len};
        uint64_t value;

        while (r.at < r.end) {
            if (!read_number(&r, wire_of(field->type), &value))
                return DECODE_MALFORMED;
            put_number(array + (*n)++ * bytes, field->type, value);
        }
        return DECODE_OK;
    }
    if (item->wire != wire_of(field->type))
        return DECODE_MALFORMED;

    void *at = array + (*n)++ * bytes;

    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return put_message(d, at, field, item->content, depth);
    if (item->wire == WIRE_BYTES)
        return put_content(d, at, field, item->content);
    put_number(at, field->type, item->value);
    return DECODE_OK;
}

static bool has_repeated(const ProtobufCMessageDescriptor *type)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (type->fields[i].label == PROTOBUF_C_LABEL_REPEATED)
            return true;
    }
    return false;
}

static enum decode_result prepare(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                  ProtobufCMessage *out, struct slice bytes)
{
    size_t counts[COUNTED_FIELDS];

    if (type->n_fields > COUNTED_FIELDS || type->message_init == NULL)
        return DECODE_RARE;
    type->message_init(out);
    if (!has_repeated(type))
        return DECODE_OK;
    memset(counts, 0, type->n_fields * sizeof counts[0]);
    if (!count_repeated(type, bytes, counts))
        return DECODE_MALFORMED;
    allocate_repeated(d, type, out, counts);
    return DECODE_OK;
}

/* A key or a value: most of what is sent, and nothing to record about its presence. */
static inline bool is_plain_content(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_NONE &&
           (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 &&
           (field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_STRING);
}

/* Recursion is bounded by WIRE_MAX_DEPTH. */
static enum decode_result decode_into(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                      ProtobufCMessage *out, struct slice bytes, unsigned depth)
{
    struct reader r = {bytes.data, bytes.data + bytes.len};
    enum decode_result result = prepare(d, type, out, bytes);
    struct item item;

    while (result == DECODE_OK && r.at < r.end) {
        if (!read_item(&r, &item))
            return DECODE_MALFORMED;

        const ProtobufCFieldDescriptor *field = find_field(type, item.number);

        if (field == NULL)
            continue; /* of a newer client */
        if (item.wire == WIRE_BYTES && is_plain_content(field))
            result = put_content(d, member(out, field->offset), field, item.content);
        else if (field->label == PROTOBUF_C_LABEL_REPEATED)
            result = put_repeated(d, out, field, &item, depth);
        else if (field->label == PROTOBUF_C_LABEL_REQUIRED)
            result = DECODE_RARE;
        else
            result = put_singular(d, out, field, &item, depth);
    }
    return result;
}

/* ---- the rare shapes ---- */

static void *arena_alloc_fn(void *arena, size_t bytes)
{
    return arena_alloc(arena, bytes);
}

static void arena_free_fn(void *arena, void *ptr)
{
    (void)arena;
    (void)ptr; /* goes with the arena */
}

static enum decode_result decode_rare(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                      struct slice bytes, const ProtobufCMessage **out)
{
    ProtobufCAllocator allocator = {
        .alloc = arena_alloc_fn, .free = arena_free_fn, .allocator_data = d->arena};

    switch (wire_check(type, bytes, &d->field)) {
    case WIRE_NOT_TEXT:
        return DECODE_NOT_TEXT;
    case WIRE_TOO_DEEP:
        return DECODE_TOO_DEEP;
    case WIRE_MALFORMED:
        return DECODE_MALFORMED;
    case WIRE_OK:
        break;
    }
    *out = protobuf_c_message_unpack(type, &allocator, bytes.len, bytes.data);
    return *out != NULL ? DECODE_OK : DECODE_MALFORMED;
}

struct err decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                          struct slice bytes, const ProtobufCMessage **message)
{
    struct decoder d = {.arena = arena};
    ProtobufCMessage *out = arena_alloc(arena, type->sizeof_message);
    enum decode_result result = decode_into(&d, type, out, bytes, 1);

    *message = out;
    if (result == DECODE_RARE)
        result = decode_rare(&d, type, bytes, message);
    if (result == DECODE_OK)
        return ERR_NONE;
    *message = NULL;
    if (result == DECODE_NOT_TEXT)
        return err_about(ERR_INVALID_ARGUMENT, d.field,
                         arena_printf(arena, "%s must be UTF-8 text without NUL bytes", d.field));
    if (result == DECODE_TOO_DEEP)
        return err_about(
            ERR_INVALID_ARGUMENT, d.field,
            arena_printf(arena, "%s nests more than %d messages deep", d.field, WIRE_MAX_DEPTH));
    return err_about(ERR_INVALID_ARGUMENT, "request",
                     "the request is not a valid message of its type");
}
