/* Sixteen bytes looked at together, by the compiler's own vectors: names are checked so. A byte of
 * a test's outcome is 0xff where the test holds, and else 0. */
#ifndef PRISM_BASE_SIXTEEN_H
#define PRISM_BASE_SIXTEEN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { SIXTEEN = 16, EIGHT = SIXTEEN / 2 };

typedef uint8_t sixteen __attribute__((vector_size(SIXTEEN)));

static inline sixteen sixteen_at(const uint8_t *at)
{
    sixteen bytes;

    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

/* Eight from here and eight from there. */
static inline sixteen sixteen_of(const uint8_t *here, const uint8_t *there)
{
    sixteen bytes;
    uint8_t both[SIXTEEN];

    memcpy(both, here, EIGHT);
    memcpy(both + EIGHT, there, EIGHT);
    memcpy(&bytes, both, sizeof bytes);
    return bytes;
}

static inline sixteen sixteen_are(sixteen bytes, uint8_t byte)
{
    return (sixteen)(bytes == byte);
}

/* ASCII's. */
static inline sixteen sixteen_are_letters_or_digits(sixteen bytes)
{
    return (sixteen)((bytes | 0x20) - 'a' < 26) | (sixteen)(bytes - '0' < 10);
}

static inline bool sixteen_all(sixteen holds)
{
    uint64_t halves[2];

    memcpy(halves, &holds, sizeof halves);
    return (halves[0] & halves[1]) == UINT64_MAX;
}

#endif
