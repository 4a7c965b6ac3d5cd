/* Numbers by chance for delays, which nobody gains anything by guessing: xorshift. Identifiers come
 * from the system's generator instead. */
#ifndef PRISM_BASE_RANDOM_H
#define PRISM_BASE_RANDOM_H

#include "src/base/clock.h"

#include <stdint.h>

/* `own` tells this state from others that begin at the same time. Never 0. */
static inline uint64_t random_begin(const void *own)
{
    return (clock_now_ns() ^ (uint64_t)(uintptr_t)own) | 1;
}

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Half of it and up to all of it: those that failed together do not come back together. */
static inline uint64_t random_delay(uint64_t *state, uint64_t delay)
{
    return delay / 2 + random_next(state) % (delay / 2 + 1);
}

#endif
