/* Unsigned numbers in records that are kept: little-endian, of as many bytes as their field has, 1
 * to 8. thread: any. */
#ifndef PRISM_BASE_NUMBER_H
#define PRISM_BASE_NUMBER_H

#include <stdint.h>

static inline void number_put(uint8_t *out, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> 8 * i);
}

static inline uint64_t number_get(const uint8_t *from, int bytes)
{
    uint64_t number = 0;

    for (int i = 0; i < bytes; i++)
        number |= (uint64_t)from[i] << 8 * i;
    return number;
}

#endif
