/* The table of one shard: open addressing in 8-byte buckets, each a 20-bit tag and a 44-bit
 * address.
 *
 * The tag is the top of the key's hash (below the bits that chose the shard), and buckets stand in
 * the order of their tags. From that follow: a table grows or shrinks by one walk over its buckets
 * that touches no entry; a walk meets keys in the order of their hashes, whatever the size of the
 * table, so a tag is a scan's position; a search for an absent key ends at the first larger tag. A
 * different key with the same tag costs one look at its entry: with n keys in a shard that happens
 * n / 2^20 times in a search.
 *
 * An entry belongs at home(tag) or in the unbroken run of buckets behind it.
 *
 * thread: whoever holds the shard's lock. Allocation failure aborts. */
#ifndef PRISM_BACKENDS_MEMSTORE_INDEX_H
#define PRISM_BACKENDS_MEMSTORE_INDEX_H

#include "src/base/prefetch.h"

#include <stddef.h>
#include <stdint.h>

enum { INDEX_TAG_BITS = 20, INDEX_TAGS = 1 << INDEX_TAG_BITS };

struct index {
    uint64_t *buckets; /* NULL until the first insert */
    uint32_t homes;    /* the first so many buckets are home to tags */
    uint32_t room;     /* buckets in all; the last is always empty */
    uint32_t count;
};

void index_init(struct index *index);
void index_clear(struct index *index); /* frees the table, not the entries */

/* Entries are aligned to 16 bytes. Positions hold until the next insert or remove. */
void index_insert(struct index *index, uint32_t tag, void *entry);
void index_remove(struct index *index, size_t at);
void index_replace(struct index *index, size_t at, void *entry);

/* ---- a search: the entries with one tag are those from index_first on while index_tag is equal
 * ---- */

static inline void *index_entry(const struct index *index, size_t at)
{
    return (void *)(uintptr_t)(index->buckets[at] << INDEX_TAG_BITS >> (INDEX_TAG_BITS - 4));
}

/* UINT32_MAX: the bucket is empty. */
static inline uint32_t index_tag(const struct index *index, size_t at)
{
    uint64_t bucket = index->buckets[at];

    return bucket == 0 ? UINT32_MAX : (uint32_t)(bucket >> (64 - INDEX_TAG_BITS));
}

static inline size_t index_home(const struct index *index, uint32_t tag)
{
    return (size_t)((uint64_t)tag * index->homes >> INDEX_TAG_BITS);
}

/* Where the run of this tag begins, or, if there is none, where it would: an empty bucket or a
 * larger tag. The table must not be empty (index->buckets). */
static inline size_t index_first(const struct index *index, uint32_t tag)
{
    size_t at = index_home(index, tag);

    while (index->buckets[at] != 0 && index->buckets[at] >> (64 - INDEX_TAG_BITS) < tag)
        at++;
    return at;
}

/* Asks for the memory where a search for this tag will begin. thread: any, without the lock: what
 * it reads may be out of date, and so may be the address, which nobody follows. */
static inline __attribute__((no_sanitize("thread"))) void index_prefetch(const struct index *index,
                                                                         uint32_t tag)
{
    const volatile struct index *now = index;
    uintptr_t buckets = (uintptr_t)now->buckets; /* NULL in an empty shard */
    uint64_t homes = now->homes;

    __builtin_prefetch(
        (const void *)(buckets + (tag * homes >> INDEX_TAG_BITS) * sizeof *now->buckets));
}

/* Asks for the first cache lines of the first entry with this tag: nearly always the key's. */
PREFETCHING void index_bring(const struct index *index, uint32_t tag, int lines)
{
    if (index->buckets == NULL)
        return;

    size_t at = index_first(index, tag);

    if (index_tag(index, at) == tag)
        prefetch_write(index_entry(index, at), (size_t)lines * PREFETCH_LINE);
}

/* ---- a walk: for (at = index_from(index, tag); at < index->room; at = index_skip(index, at + 1))
 * ---- */

/* The first used bucket at or behind `at`; index->room if there is none. */
size_t index_skip(const struct index *index, size_t at);

/* The first entry whose tag is at least `tag`; index->room if there is none. */
size_t index_from(const struct index *index, uint32_t tag);

#endif
