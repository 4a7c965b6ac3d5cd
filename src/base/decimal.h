/* Numbers as text, in a tenth of the time of printf: for what is written once for each message. */
#ifndef PRISM_BASE_DECIMAL_H
#define PRISM_BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DECIMAL_BYTES = 20 }; /* 19 digits and a sign */

/* Writes the number in decimal, without a NUL, and returns how many bytes it has. */
static inline size_t decimal_write(char out[DECIMAL_BYTES], int64_t number)
{
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char text[DECIMAL_BYTES], *end = text + DECIMAL_BYTES, *at = end;

    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0)
        *--at = '-';
    memcpy(out, at, (size_t)(end - at));
    return (size_t)(end - at);
}

#endif
