/* SipHash-1-3: 64 bits of a keyed hash. Chosen over faster mixers because the key is a client's:
 * without the random secret nobody can choose keys that collide, and a 16-byte key costs 10 ns of
 * an operation that takes a microsecond and more by the time it is a call. */
#ifndef PRISM_BACKENDS_MEMSTORE_HASH_H
#define PRISM_BACKENDS_MEMSTORE_HASH_H

#include "src/base/slice.h"

#include <stdint.h>

struct hash_key {
    uint64_t a, b;
};

/* From the kernel's random source; aborts without one. */
struct hash_key hash_key_random(void);

uint64_t hash_bytes(const struct hash_key *key, struct slice bytes);

#endif
