/* Random bytes, texts and numbers, the same in every run: for what writes messages. */
#ifndef PRISM_TESTS_UNIT_PATTERNS_SOME_H
#define PRISM_TESTS_UNIT_PATTERNS_SOME_H

#include "src/base/arena.h"
#include "src/base/utf8.h"

#include <stdint.h>
#include <string.h>

static inline unsigned below(unsigned n)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 32) % n;
}

/* Mostly ASCII; now and then a letter of two bytes, a byte that is none, a NUL. */
static inline struct slice some_bytes(struct arena *arena, size_t most)
{
    size_t len = below((unsigned)most + 1);
    uint8_t *bytes = arena_alloc(arena, len + 1);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)('a' + below(26));
    if (len > 1 && below(4) == 0)
        memcpy(bytes + below((unsigned)len - 1), "\xc3\xa9", 2);
    if (len > 0 && below(8) == 0)
        bytes[below((unsigned)len)] = below(2) == 0 ? 0 : 0xff;
    return slice_of(bytes, len);
}

static inline struct slice some_text(struct arena *arena, size_t least)
{
    struct slice text;

    do {
        text = some_bytes(arena, 40);
    } while (text.len < least || !utf8_valid(text) || memchr(text.data, 0, text.len) != NULL);
    return text;
}

#endif
