/* See wire.h. */
#include "perf/load/wire.h"

#include <string.h>

enum { TYPE_VARINT = 0, TYPE_FIXED64 = 1, TYPE_LENGTH = 2, TYPE_FIXED32 = 5 };

uint8_t *wire_put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

uint8_t *wire_put_uint(uint8_t *out, unsigned field, uint64_t value)
{
    *out++ = (uint8_t)(field << 3 | TYPE_VARINT);
    return wire_put_varint(out, value);
}

uint8_t *wire_put_length(uint8_t *out, unsigned field, size_t bytes)
{
    *out++ = (uint8_t)(field << 3 | TYPE_LENGTH);
    return wire_put_varint(out, bytes);
}

uint8_t *wire_put_bytes(uint8_t *out, unsigned field, const void *data, size_t bytes)
{
    out = wire_put_length(out, field, bytes);
    memcpy(out, data, bytes);
    return out + bytes;
}

size_t wire_varint_bytes(uint64_t value)
{
    size_t bytes = 1;

    while (value >= 0x80) {
        value >>= 7;
        bytes++;
    }
    return bytes;
}

void wire_read(struct wire_reader *r, const uint8_t *data, size_t bytes)
{
    r->at = data;
    r->end = data + bytes;
    r->malformed = false;
}

static bool read_varint(struct wire_reader *r, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return true;
    }
    r->malformed = true;
    return false;
}

static bool skip_bytes(struct wire_reader *r, uint64_t bytes)
{
    if (bytes > (uint64_t)(r->end - r->at)) {
        r->malformed = true;
        return false;
    }
    r->at += bytes;
    return true;
}

static bool read_length(struct wire_reader *r, struct wire_field *field)
{
    uint64_t bytes;

    if (!read_varint(r, &bytes))
        return false;
    field->data = r->at;
    field->bytes = (size_t)bytes;
    return skip_bytes(r, bytes);
}

bool wire_next(struct wire_reader *r, struct wire_field *field)
{
    uint64_t tag;

    if (r->malformed || r->at == r->end || !read_varint(r, &tag))
        return false;
    *field = (struct wire_field){.number = (unsigned)(tag >> 3)};
    switch (tag & 7) {
    case TYPE_VARINT:
        return read_varint(r, &field->value);
    case TYPE_LENGTH:
        return read_length(r, field);
    case TYPE_FIXED64:
        return skip_bytes(r, 8);
    case TYPE_FIXED32:
        return skip_bytes(r, 4);
    default:
        r->malformed = true;
        return false;
    }
}
