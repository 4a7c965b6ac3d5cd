/* Memory is bounded by the request's bytes, as any field costs at most some 16 bytes for its own
 * two, except for the elements of repeated fields: an empty item of a batch is two bytes on the
 * wire and a hundred here, with its place in an array that has grown by doubling. So these are
 * counted (next_element) before they get their memory.
 *
 * A message field that occurs again is merged: its fields are decoded onto what is there. */
#include "src/rpc/decode.h"

#include "src/base/utf8.h"
#include "src/rpc/wire.h"
#include "src/rpc/wire_read.h"

#include <stdbool.h>
#include <string.h>

/* Messages inside messages; the same bound as other protobuf runtimes have. Decoding recurses. */
enum { MAX_DEPTH = 100 };

enum decode_result {
    DECODE_OK,
    DECODE_MALFORMED,
    DECODE_NOT_TEXT,
    DECODE_TOO_DEEP,
    DECODE_TOO_MANY,
};

struct decoder {
    struct arena *arena;
    size_t elements_left;
    const char *field; /* of the last fault */
};

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

enum { WORD = sizeof(uint64_t) };

/* A word of octets that are all ASCII and not NUL. */
static inline bool plain_word(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, WORD);
    return ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0;
}

/* By words, the last of which may look at octets again; what is not plain, or too short, octet by
 * octet. */
static bool is_text(struct slice text)
{
    size_t at = 0;

    while (text.len - at >= WORD && plain_word(text.data + at))
        at += WORD;
    if (at == text.len)
        return true;
    if (text.len - at < WORD && text.len > WORD && plain_word(text.data + text.len - WORD))
        return true;
    text = slice_of(text.data + at, text.len - at);
    return memchr(text.data, 0, text.len) == NULL && utf8_valid(text);
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
static enum decode_result put_fields(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                     ProtobufCMessage *out, struct slice bytes, unsigned depth);

static bool take_element(struct decoder *d, const ProtobufCFieldDescriptor *field)
{
    if (d->elements_left == 0) {
        d->field = field->name;
        return false;
    }
    d->elements_left--;
    return true;
}

static enum decode_result put_message(struct decoder *d, void *out,
                                      const ProtobufCFieldDescriptor *field, struct slice content,
                                      unsigned depth)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    ProtobufCMessage *message;

    if (depth == MAX_DEPTH) {
        d->field = field->name;
        return DECODE_TOO_DEEP;
    }
    message = arena_alloc(d->arena, type->sizeof_message);
    memcpy(out, &message, sizeof message);
    return decode_into(d, type, message, content, depth + 1);
}

/* `chosen` of the oneof that the field belongs to, else NULL. Taking turns in a oneof leaves dead
 * messages behind, so each turn counts as an element. */
static enum decode_result put_single_message(struct decoder *d, void *out, uint32_t *chosen,
                                             const ProtobufCFieldDescriptor *field,
                                             struct slice content, unsigned depth)
{
    ProtobufCMessage *before;

    if (chosen != NULL && *chosen != field->id) {
        if (*chosen != 0 && !take_element(d, field))
            return DECODE_TOO_MANY;
        *chosen = field->id;
        return put_message(d, out, field, content, depth);
    }
    memcpy(&before, out, sizeof before);
    if (before == NULL)
        return put_message(d, out, field, content, depth);
    return put_fields(d, field->descriptor, before, content, depth + 1);
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
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return put_single_message(d, at, chosen, field, item->content, depth);
    if (oneof)
        *chosen = field->id;
    else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0)
        *(protobuf_c_boolean *)member(out, field->quantifier_offset) = 1;
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

/* Full exactly when it has FIRST elements, or twice as many, or ...: so nothing has to remember how
 * much room there is. */
enum { FIRST = 4 };

static bool is_full(size_t n)
{
    return n == 0 || (n >= FIRST && (n & (n - 1)) == 0);
}

static __attribute__((noinline)) char *grow(struct arena *arena, const char *array, size_t n,
                                            size_t bytes)
{
    char *larger = arena_alloc(arena, (n == 0 ? FIRST : 2 * n) * bytes);

    if (n > 0)
        memcpy(larger, array, n * bytes);
    return larger;
}

/* Room for one more element, which is then counted in the message. NULL: too many. */
static inline char *next_element(struct decoder *d, ProtobufCMessage *out,
                                 const ProtobufCFieldDescriptor *field)
{
    size_t *n = member(out, field->quantifier_offset), bytes = element_bytes(field->type);
    char *array;

    if (!take_element(d, field))
        return NULL;
    memcpy(&array, member(out, field->offset), sizeof array);
    if (is_full(*n)) {
        array = grow(d->arena, array, *n, bytes);
        memcpy(member(out, field->offset), &array, sizeof array);
    }
    return array + (*n)++ * bytes;
}

static enum decode_result put_packed(struct decoder *d, ProtobufCMessage *out,
                                     const ProtobufCFieldDescriptor *field, struct slice content)
{
    struct reader r = {content.data, content.data + content.len};
    uint64_t value;

    while (r.at < r.end) {
        char *at = next_element(d, out, field);

        if (at == NULL)
            return DECODE_TOO_MANY;
        if (!read_number(&r, wire_of(field->type), &value))
            return DECODE_MALFORMED;
        put_number(at, field->type, value);
    }
    return DECODE_OK;
}

/* This element, and those of the field that follow it side by side, as they do in a batch: r is
 * moved behind them. */
static enum decode_result put_run(struct decoder *d, ProtobufCMessage *out,
                                  const ProtobufCFieldDescriptor *field, struct slice content,
                                  struct reader *r, unsigned depth)
{
    for (;;) {
        const uint8_t *next;
        char *at = next_element(d, out, field);

        if (at == NULL)
            return DECODE_TOO_MANY;

        enum decode_result result = field->type == PROTOBUF_C_TYPE_MESSAGE
                                        ? put_message(d, at, field, content, depth)
                                        : put_content(d, at, field, content);

        if (result != DECODE_OK)
            return result;
        next = short_item(r->at, r->end, &content);
        if (next == NULL || r->at[0] >> 3 != field->id)
            return DECODE_OK;
        r->at = next;
    }
}

/* r stands behind the item. */
static enum decode_result put_repeated(struct decoder *d, ProtobufCMessage *out,
                                       const ProtobufCFieldDescriptor *field,
                                       const struct item *item, struct reader *r, unsigned depth)
{
    char *at;

    if (is_packed(field, item))
        return put_packed(d, out, field, item->content);
    if (item->wire != wire_of(field->type))
        return DECODE_MALFORMED;
    if (item->wire == WIRE_BYTES)
        return put_run(d, out, field, item->content, r, depth);
    at = next_element(d, out, field);
    if (at == NULL)
        return DECODE_TOO_MANY;
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

/* The field at r, whatever it is. */
static __attribute__((noinline)) enum decode_result put_field(
    struct decoder *d, const ProtobufCMessageDescriptor *type, ProtobufCMessage *out,
    struct reader *r, unsigned depth)
{
    const ProtobufCFieldDescriptor *field;
    struct item item;

    if (!read_item(r, &item))
        return DECODE_MALFORMED;
    field = find_field(type, item.number);
    if (field == NULL)
        return DECODE_OK; /* of a newer client */
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return put_repeated(d, out, field, &item, r, depth);
    return put_singular(d, out, field, &item, depth);
}

/* Onto an initialised message. The reader is put together only for what is not plain content, so
 * that the rest stays in registers. */
static enum decode_result put_fields(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                     ProtobufCMessage *out, struct slice bytes, unsigned depth)
{
    const uint8_t *at = bytes.data, *end = bytes.data + bytes.len;
    enum decode_result result = DECODE_OK;

    while (result == DECODE_OK && at < end) {
        struct slice content;
        const uint8_t *next = short_item(at, end, &content);
        const ProtobufCFieldDescriptor *field = next != NULL ? find_field(type, at[0] >> 3) : NULL;

        if (field != NULL && is_plain_content(field)) {
            result = put_content(d, member(out, field->offset), field, content);
            at = next;
        } else {
            struct reader r = {at, end};

            result = put_field(d, type, out, &r, depth);
            at = r.at;
        }
    }
    return result;
}

static enum decode_result decode_into(struct decoder *d, const ProtobufCMessageDescriptor *type,
                                      ProtobufCMessage *out, struct slice bytes, unsigned depth)
{
    type->message_init(out);
    return put_fields(d, type, out, bytes, depth);
}

/* ---- the whole ---- */

static struct err fault(const struct decoder *d, enum decode_result result, uint32_t max_elements)
{
    const char *subject = d->field, *text = NULL;

    switch (result) {
    case DECODE_NOT_TEXT:
        text = arena_printf(d->arena, "%s must be UTF-8 text without NUL bytes", d->field);
        break;
    case DECODE_TOO_DEEP:
        text = arena_printf(d->arena, "%s nests more than %d messages deep", d->field, MAX_DEPTH);
        break;
    case DECODE_TOO_MANY:
        text = arena_printf(d->arena, "%s: too many elements in one request; at most %u are taken",
                            d->field, max_elements);
        break;
    case DECODE_OK:
    case DECODE_MALFORMED:
        subject = "request";
        text = "the request is not a valid message of its type";
        break;
    }
    return err_about(ERR_INVALID_ARGUMENT, subject, text);
}

struct err decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                          struct slice bytes, uint32_t max_elements,
                          const ProtobufCMessage **message)
{
    struct decoder d = {.arena = arena,
                        .elements_left = max_elements > 0 ? max_elements : SIZE_MAX};
    ProtobufCMessage *out = arena_alloc(arena, type->sizeof_message);
    enum decode_result result = decode_into(&d, type, out, bytes, 1);

    *message = result == DECODE_OK ? out : NULL;
    return result == DECODE_OK ? ERR_NONE : fault(&d, result, max_elements);
}
