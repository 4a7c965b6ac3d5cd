/* Numbers as they stand in a protobuf message: seven bits a byte, the lowest first. */
#ifndef PRISM_BASE_VARINT_H
#define PRISM_BASE_VARINT_H

#include "src/base/slice.h"

#include <stddef.h>
#include <stdint.h>

enum { VARINT_BYTES = 10 }; /* of the longest */

static inline size_t varint_bytes(uint64_t v)
{
    return v < 0x80 ? 1 : (size_t)(63 - __builtin_clzll(v)) / 7 + 1;
}

/* Returns the end. */
static inline uint8_t *varint_write(uint8_t *at, uint64_t v)
{
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

/* Returns how many bytes it takes; 0: these are no number. */
static inline size_t varint_read(struct slice from, uint64_t *v)
{
    *v = 0;
    for (size_t i = 0; i < from.len && i < VARINT_BYTES; i++) {
        *v |= (uint64_t)(from.data[i] & 0x7f) << (7 * i);
        if (from.data[i] < 0x80)
            return i + 1;
    }
    return 0;
}

#endif
