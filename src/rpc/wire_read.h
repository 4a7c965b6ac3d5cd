/* Encoded messages, field by field. Every function is false or NULL for what is malformed; the
 * reader is of no use then. */
#ifndef PRISM_RPC_WIRE_READ_H
#define PRISM_RPC_WIRE_READ_H

#include "src/base/slice.h"
#include "src/rpc/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct reader {
    const uint8_t *at, *end;
};

/* One field as it stands on the wire. */
struct item {
    uint32_t number;
    enum wire_type wire;
    uint64_t value;       /* WIRE_VARINT, WIRE_64, WIRE_32; else 0 */
    struct slice content; /* WIRE_BYTES */
};

static inline bool read_varint_slow(struct reader *r, uint64_t *value)
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

static inline bool read_fixed(struct reader *r, unsigned bytes, uint64_t *value)
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

static inline bool read_number(struct reader *r, unsigned wire, uint64_t *value)
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
    item->value = 0;
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

#endif
