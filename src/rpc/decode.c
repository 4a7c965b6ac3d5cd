/* The shapes that our protocol has are decoded here: scalars, strings, bytes, messages, repeated
 * fields (packed or not), maps, oneofs. A shape that is rare (a message field that occurs twice and
 * has to be merged, a proto2 `required`) is left to protobuf-c, after wire_check: DECODE_RARE.
 *
 * A repeated field is counted where it first occurs, to the end of the message, so it gets its
 * exact array, and repeated messages lie side by side. */
#include "src/rpc/decode.h"

#include "src/base/utf8.h"
#include "src/rpc/wire.h"
#include "src/rpc/wire_check.h"

#include <stdbool.h>
#include <string.h>

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

/* One octet: tags and short lengths. Two: lengths up to 16 KiB. */
static inline bool read_varint(struct reader *r, uint64_t *value)
{
    if (r->at < r->end && r->at[0] < 0x80) {
        *value = *r->at++;
        return true;
    }
    if (r->end - r->at >= 2 && r->at[1] < 0x80) {
        *value = (r->at[0] & 0x7fu) | (uint64_t)r->at[1] << 7;
        r->at += 2;
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

static bool read_number(struct reader *r, unsigned wire, uint64_t *value)
{
    switch (wire) {
    case WIRE_VARINT:
        return read_varint(r, value);
    case WIRE_64:
        return read_fixed(r, 8, value);
    case WIRE_32:
        return read_fixed(r, 4, value);
    default:
        return false; /* groups are gone from the language */
    }
}

static inline bool read_item(struct reader *r, struct item *item)
{
    uint64_t tag;

    if (!read_varint(r, &tag) || tag > UINT32_MAX || tag < 8)
        return false;
    item->number = (uint32_t)(tag >> 3);
    item->wire = (enum wire_type)(tag & 7);
    if (item->wire == WIRE_BYTES)
        return read_bytes(r, &item->content);
    return read_number(r, item->wire, &item->value);
}

/* What nearly all bytes of a request stand in: a key, a value, an item of a batch. Field number
 * below 16, content below 16 KiB; anything else, and what is malformed, is NULL, and left to
 * read_item. Returns the end of the item. */
static inline const uint8_t *short_item(const uint8_t *at, const uint8_t *end,
                                        struct slice *content)
{
    size_t len;

    if (end - at < 2 || (at[0] & 0x87) != WIRE_BYTES || at[0] < 8)
        return NULL;
    len = at[1];
    at += 2;
    if (len >= 0x80) {
        if (at == end || at[0] >= 0x80)
            return NULL;
        len = (len & 0x7f) | (size_t)*at++ << 7;
    }
    if (len > (size_t)(end - at))
        return NULL;
    *content = slice_of(at, len);
    return at + len;
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

static enum decode_result put_text(struct decoder *d, char **out,
                                   const ProtobufCFieldDescriptor *field, struct slice content)
{
    if (!is_text(content)) {
        d->field = field->name;
        return DECODE_NOT_TEXT;
    }
    *out = arena_strdup(d->arena, content);
    return DECODE_OK;
}

static inline enum decode_result put_content(struct decoder *d, void *out,
                                             const ProtobufCFieldDescriptor *field,
                                             struct slice content)
{
    if (field->type != PROTOBUF_C_TYPE_BYTES)
        return put_text(d, out, field, content);
    *(ProtobufCBinaryData *)out = (ProtobufCBinaryData){
        .len = content.len, .data = content.len > 0 ? (uint8_t *)(uintptr_t)content.data : NULL};
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

static size_t packed_count(enum wire_type wire, struct slice content)
{
    size_t n = 0;

    if (wire != WIRE_VARINT)
        return content.len / (wire == WIRE_64 ? 8 : 4);
    for (size_t i = 0; i < content.len; i++)
        n += content.data[i] < 0x80;
    return n;
}

/* Elements of the field in `item` and in the rest of the message, which may turn out malformed
 * later: then the array is of no use, but is not too short either. */
static size_t count_from(struct reader rest, const ProtobufCFieldDescriptor *field,
                         struct item item)
{
    bool packed = wire_of(field->type) != WIRE_BYTES;
    size_t n = 0;

    for (;;) {
        const uint8_t *next;
        struct slice content;

        if (item.number == field->id)
            n += is_packed(field, &item) ? packed_count(wire_of(field->type), item.content) : 1;
        while (!packed && (next = short_item(rest.at, rest.end, &content)) != NULL) {
            n += rest.at[0] >> 3 == field->id;
            rest.at = next;
        }
        if (rest.at == rest.end || !read_item(&rest, &item))
            return n;
    }
}

static enum decode_result put_packed(char *array, size_t *n, const ProtobufCFieldDescriptor *field,
                                     struct slice content)
{
    struct reader r = {content.data, content.data + content.len};
    uint64_t value;

    while (r.at < r.end) {
        if (!read_number(&r, wire_of(field->type), &value))
            return DECODE_MALFORMED;
        put_number(array + (*n)++ * element_bytes(field->type), field->type, value);
    }
    return DECODE_OK;
}

/* `rest` is what follows the item. */
static enum decode_result put_repeated(struct decoder *d, ProtobufCMessage *out,
                                       const ProtobufCFieldDescriptor *field,
                                       const struct item *item, struct reader rest, unsigned depth)
{
    size_t *n = member(out, field->quantifier_offset), bytes = element_bytes(field->type);
    char *array;

    memcpy(&array, member(out, field->offset), sizeof array);
    if (array == NULL) {
        array = arena_alloc(d->arena, count_from(rest, field, *item) * bytes);
        memcpy(member(out, field->offset), &array, sizeof array);
    }
    if (is_packed(field, item))
        return put_packed(array, n, field, item->content);
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

/* A key or a value: most of what is sent, and nothing to record about its presence. */
static inline bool is_plain_content(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_NONE &&
           (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 &&
           (field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_STRING);
}

/* `rest` is what follows the item. */
static enum decode_result put_field(struct decoder *d, ProtobufCMessage *out,
                                    const ProtobufCFieldDescriptor *field, const struct item *item,
                                    struct reader rest, unsigned depth)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return put_repeated(d, out, field, item, rest, depth);
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return DECODE_RARE;
    return put_singular(d, out, field, item, depth);
}

/* Recursion is bounded by WIRE_MAX_DEPTH. */
static enum decode_result decode_into(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                      ProtobufCMessage *out, struct slice bytes, unsigned depth)
{
    struct reader r = {bytes.data, bytes.data + bytes.len};
    enum decode_result result = DECODE_OK;

    if (type->message_init == NULL)
        return DECODE_RARE;
    type->message_init(out);
    while (result == DECODE_OK && r.at < r.end) {
        struct item item = {.wire = WIRE_BYTES};
        const uint8_t *next = short_item(r.at, r.end, &item.content);

        if (next != NULL) {
            item.number = r.at[0] >> 3;
            r.at = next;
        } else if (!read_item(&r, &item)) {
            return DECODE_MALFORMED;
        }

        const ProtobufCFieldDescriptor *field = find_field(type, item.number);

        if (field == NULL)
            continue; /* of a newer client */
        if (item.wire == WIRE_BYTES && is_plain_content(field))
            result = put_content(d, member(out, field->offset), field, item.content);
        else
            result = put_field(d, out, field, &item, r, depth);
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
