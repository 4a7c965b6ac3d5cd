/* Hashes of names that clients choose. With a seed of the table's own nobody can choose names that
 * meet in one bucket. thread: any. */
#ifndef PRISM_SRC_BASE_HASH_H
#define PRISM_SRC_BASE_HASH_H

#include "src/base/slice.h"

#include <stdint.h>

/* FNV-1a with its bits mixed at the end: low and high bits serve alone. */
static inline uint64_t hash_seeded(uint64_t seed, struct slice bytes)
{
    uint64_t h = 14695981039346656037ull ^ seed;

    for (size_t i = 0; i < bytes.len; i++)
        h = (h ^ bytes.data[i]) * 1099511628211ull;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93ull;
    return h ^ h >> 32;
}

/* A new seed, from the kernel. */
uint64_t hash_seed(void);

#endif
