/* One key with its value, in one allocation: 16 bytes, the key, the value. With a 16-byte key and a
 * 128-byte value that is 160 bytes, a size class of its own in jemalloc.
 *
 * thread: whoever holds the shard's lock. */
#ifndef PRISM_BACKENDS_MEMSTORE_ENTRY_H
#define PRISM_BACKENDS_MEMSTORE_ENTRY_H

#include "src/base/slice.h"

#include <stdint.h>
#include <string.h>

enum { ENTRY_KEY_BITS = 21, ENTRY_GENERATION_BITS = 3, ENTRY_EXPIRY_BITS = 40 };

#define ENTRY_KEY_MAX (1u << 20)

/* 34.8 years after the store was opened. */
#define ENTRY_EXPIRY_MAX_MS ((1ull << ENTRY_EXPIRY_BITS) - 1)

/* The longest life that is taken: kept to the millisecond as long as the store has been open for as
 * long at most (17.4 years). */
#define ENTRY_TTL_MAX_MS (ENTRY_EXPIRY_MAX_MS / 2)

struct entry {
    uint64_t meta; /* from the low end: key length, generation of the wheel's note, expiry */
    uint32_t value_len;
    uint32_t version; /* number of the write in its shard; begins again after 2^32 of them */
    uint8_t bytes[];  /* key, value */
};

static inline uint32_t entry_key_len(const struct entry *entry)
{
    return (uint32_t)(entry->meta & ((1u << ENTRY_KEY_BITS) - 1));
}

static inline uint32_t entry_generation(const struct entry *entry)
{
    return entry->meta >> ENTRY_KEY_BITS & ((1u << ENTRY_GENERATION_BITS) - 1);
}

/* ms since the store was opened; the key is gone from that moment on. 0 = it stays. */
static inline uint64_t entry_expiry_ms(const struct entry *entry)
{
    return entry->meta >> (ENTRY_KEY_BITS + ENTRY_GENERATION_BITS);
}

/* generation is taken modulo 8; expiry_ms <= ENTRY_EXPIRY_MAX_MS. */
static inline void entry_set_life(struct entry *entry, uint32_t generation, uint64_t expiry_ms)
{
    uint64_t g = generation & ((1u << ENTRY_GENERATION_BITS) - 1);

    entry->meta = entry_key_len(entry) | g << ENTRY_KEY_BITS |
                  expiry_ms << (ENTRY_KEY_BITS + ENTRY_GENERATION_BITS);
}

static inline struct slice entry_key(const struct entry *entry)
{
    return slice_of(entry->bytes, entry_key_len(entry));
}

static inline struct slice entry_value(const struct entry *entry)
{
    return slice_of(entry->bytes + entry_key_len(entry), entry->value_len);
}

/* Bytes of the allocation. */
static inline size_t entry_size(size_t key_len, size_t value_len)
{
    return (sizeof(struct entry) + key_len + value_len + 15) / 16 * 16;
}

#endif
