#include "src/rpc/encode.h"

#include "src/base/varint.h"
#include "src/rpc/wire.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- scalars ---- */

static uint32_t load_32(const void *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof v);
    return v;
}

static uint64_t load_64(const void *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof v);
    return v;
}

static uint32_t zigzag_32(uint32_t v)
{
    return (v << 1) ^ (0 - (v >> 31));
}

static uint64_t zigzag_64(uint64_t v)
{
    return (v << 1) ^ (0 - (v >> 63));
}

/* The number as it stands on the wire, before it is written as a varint or as fixed bytes. */
static uint64_t load_number(const void *at, ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        return (uint64_t)(int64_t)(int32_t)load_32(at);
    case PROTOBUF_C_TYPE_SINT32:
        return zigzag_32(load_32(at));
    case PROTOBUF_C_TYPE_BOOL:
        return load_32(at) != 0;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return load_32(at);
    case PROTOBUF_C_TYPE_SINT64:
        return zigzag_64(load_64(at));
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return load_64(at);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break; /* no numbers */
    }
    return 0;
}

static size_t number_bytes(uint64_t v, unsigned wire)
{
    return wire == WIRE_VARINT ? varint_bytes(v) : wire == WIRE_64 ? 8 : 4;
}

static uint8_t *write_number(uint8_t *at, uint64_t v, unsigned wire)
{
    if (wire == WIRE_VARINT)
        return varint_write(at, v);

    unsigned bytes = wire == WIRE_64 ? 8 : 4;

    for (unsigned i = 0; i < bytes; i++)
        *at++ = (uint8_t)(v >> (8 * i));
    return at;
}

/* ---- what is written ---- */

static inline const void *member(const ProtobufCMessage *message, size_t offset)
{
    return (const char *)message + offset;
}

struct content {
    const void *data;
    size_t len;
};

static struct content load_content(const void *at, ProtobufCType type)
{
    if (type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *bytes = at;

        return (struct content){bytes->data, bytes->len};
    }
    const char *text = *(const char *const *)at;

    return (struct content){text, text != NULL ? strlen(text) : 0};
}

/* As protobuf-c: a oneof's member when it is the chosen one (a pointer must be set); a proto2
 * optional when it is set; a proto3 field when it is not zero. */
static bool is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const void *at = member(message, field->offset);
    bool pointer = field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING;
    const void *target = pointer ? *(const void *const *)at : NULL;

    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        if (*(const uint32_t *)member(message, field->quantifier_offset) != field->id)
            return false;
        return !pointer || (target != NULL && target != field->default_value);
    }
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL)
        return pointer
                   ? target != NULL && target != field->default_value
                   : *(const protobuf_c_boolean *)member(message, field->quantifier_offset) != 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return target != NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return target != NULL && *(const char *)target != '\0';
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)at)->len > 0;
    return load_number(at, field->type) != 0;
}

static size_t tag_bytes(const ProtobufCFieldDescriptor *field)
{
    return varint_bytes((uint64_t)field->id << 3);
}

static uint8_t *write_tag(uint8_t *at, const ProtobufCFieldDescriptor *field, unsigned wire)
{
    return varint_write(at, (uint64_t)field->id << 3 | wire);
}

static bool is_packed(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0 && wire_of(field->type) != WIRE_BYTES;
}

/* ---- measuring ---- */

static size_t remember(struct encode_plan *plan)
{
    if (plan->count == plan->room) {
        size_t room = plan->room * 4;
        uint32_t *nested = malloc(room * sizeof *nested);

        if (nested == NULL)
            abort();
        memcpy(nested, plan->nested, plan->count * sizeof *nested);
        if (plan->nested != plan->first)
            free(plan->nested);
        plan->nested = nested;
        plan->room = room;
    }
    return plan->count++;
}

static size_t measure(struct encode_plan *plan, const ProtobufCMessage *message);

static size_t measure_length(struct encode_plan *plan, const void *at, ProtobufCType type)
{
    size_t len;

    if (type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *nested = *(const ProtobufCMessage *const *)at;
        size_t slot = remember(plan);

        len = nested != NULL ? measure(plan, nested) : 0;
        plan->nested[slot] = (uint32_t)len;
    } else {
        len = load_content(at, type).len;
    }
    return varint_bytes(len) + len;
}

static size_t measure_value(struct encode_plan *plan, const void *at,
                            const ProtobufCFieldDescriptor *field)
{
    unsigned wire = wire_of(field->type);

    if (wire == WIRE_BYTES)
        return measure_length(plan, at, field->type);
    return number_bytes(load_number(at, field->type), wire);
}

static size_t measure_messages(struct encode_plan *plan, const ProtobufCMessage *const *array,
                               size_t n)
{
    size_t bytes = 0, one = 0;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || array[i] != array[i - 1])
            one = measure_length(plan, &array[i], PROTOBUF_C_TYPE_MESSAGE);
        bytes += one;
    }
    return bytes;
}

static size_t measure_repeated(struct encode_plan *plan, const ProtobufCMessage *message,
                               const ProtobufCFieldDescriptor *field)
{
    size_t n = *(const size_t *)member(message, field->quantifier_offset), bytes = 0;
    const char *array = *(const char *const *)member(message, field->offset);
    size_t step = element_bytes(field->type), slot;

    if (n == 0)
        return 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return measure_messages(plan, (const ProtobufCMessage *const *)(const void *)array, n) +
               n * tag_bytes(field);
    for (size_t i = 0; i < n; i++)
        bytes += measure_value(plan, array + i * step, field);
    if (!is_packed(field))
        return bytes + n * tag_bytes(field);

    slot = remember(plan); /* which may move what it is put into */
    plan->nested[slot] = (uint32_t)bytes;
    return tag_bytes(field) + varint_bytes(bytes) + bytes;
}

/* Bytes that stand for fields of their own: a message that was packed before (protobuf-c does the
 * same). */
static size_t measure_unknown(const ProtobufCMessage *message)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < message->n_unknown_fields; i++)
        bytes += varint_bytes((uint64_t)message->unknown_fields[i].tag << 3) +
                 message->unknown_fields[i].len;
    return bytes;
}

/* Messages nest as deep as our own code builds them. */
static size_t measure(struct encode_plan *plan, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    size_t bytes = measure_unknown(message);

    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            bytes += measure_repeated(plan, message, field);
        else if (is_present(message, field))
            bytes += tag_bytes(field) + measure_value(plan, member(message, field->offset), field);
    }
    return bytes;
}

void encode_measure(struct encode_plan *plan, const ProtobufCMessage *message)
{
    plan->nested = plan->first;
    plan->count = 0;
    plan->room = sizeof plan->first / sizeof plan->first[0];
    plan->bytes = measure(plan, message);
    plan->count = 0;
}

/* ---- writing, in the same order ---- */

static uint8_t *write_message(struct encode_plan *plan, const ProtobufCMessage *message,
                              uint8_t *at);

static uint8_t *write_value(struct encode_plan *plan, const void *from,
                            const ProtobufCFieldDescriptor *field, uint8_t *at)
{
    unsigned wire = wire_of(field->type);

    if (wire != WIRE_BYTES)
        return write_number(at, load_number(from, field->type), wire);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *nested = *(const ProtobufCMessage *const *)from;

        at = varint_write(at, plan->nested[plan->count++]);
        return nested != NULL ? write_message(plan, nested, at) : at;
    }
    struct content content = load_content(from, field->type);

    at = varint_write(at, content.len);
    if (content.len > 0)
        memcpy(at, content.data, content.len);
    return at + content.len;
}

static uint8_t *write_messages(struct encode_plan *plan, const ProtobufCMessage *const *array,
                               size_t n, const ProtobufCFieldDescriptor *field, uint8_t *at)
{
    const uint8_t *before = at; /* the last one that was encoded, tag included */
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        if (i > 0 && array[i] == array[i - 1]) {
            memcpy(at, before, bytes);
            at += bytes;
            continue;
        }
        before = at;
        at = write_tag(at, field, WIRE_BYTES);
        at = write_value(plan, &array[i], field, at);
        bytes = (size_t)(at - before);
    }
    return at;
}

static uint8_t *write_repeated(struct encode_plan *plan, const ProtobufCMessage *message,
                               const ProtobufCFieldDescriptor *field, uint8_t *at)
{
    size_t n = *(const size_t *)member(message, field->quantifier_offset);
    const char *array = *(const char *const *)member(message, field->offset);
    unsigned wire = wire_of(field->type);
    size_t step = element_bytes(field->type);

    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return write_messages(plan, (const ProtobufCMessage *const *)(const void *)array, n, field,
                              at);
    if (n > 0 && is_packed(field)) {
        at = write_tag(at, field, WIRE_BYTES);
        at = varint_write(at, plan->nested[plan->count++]);
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_packed(field))
            at = write_tag(at, field, wire);
        at = write_value(plan, array + i * step, field, at);
    }
    return at;
}

static uint8_t *write_unknown(const ProtobufCMessage *message, uint8_t *at)
{
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *field = &message->unknown_fields[i];

        at = varint_write(at, (uint64_t)field->tag << 3 | (uint64_t)field->wire_type);
        memcpy(at, field->data, field->len);
        at += field->len;
    }
    return at;
}

static uint8_t *write_message(struct encode_plan *plan, const ProtobufCMessage *message,
                              uint8_t *at)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;

    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            at = write_repeated(plan, message, field, at);
        } else if (is_present(message, field)) {
            at = write_tag(at, field, wire_of(field->type));
            at = write_value(plan, member(message, field->offset), field, at);
        }
    }
    return write_unknown(message, at);
}

void encode_write(struct encode_plan *plan, const ProtobufCMessage *message, uint8_t *out)
{
    write_message(plan, message, out);
    if (plan->nested != plan->first)
        free(plan->nested);
}
