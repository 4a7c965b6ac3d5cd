/* Bump memory for one call: request, request structs, outputs, error texts. Nothing is freed
 * singly; one arena_clear frees all of it and runs the dispose hooks of foreign memory that was
 * adopted.
 *
 * Blocks of the standard size come from and go back to a cache that belongs to one thread (the
 * worker's), so the steady state allocates nothing. An arena without a cache begins with a block of
 * 1 KiB, and blocks double up to the standard size: for things that live long. Under
 * AddressSanitizer blocks are really freed, so that a use after the call shows.
 *
 * thread: an arena and its cache are used by one thread at a time. Allocation failure aborts. */
#ifndef PRISM_BASE_ARENA_H
#define PRISM_BASE_ARENA_H

#include "src/base/slice.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

enum { ARENA_BLOCK_BYTES = 8192 - 16 }; /* of data */

struct arena_block;

struct arena_cache {
    struct arena_block *free;
    unsigned count, max; /* blocks kept, at most */
};

struct arena {
    char *at, *end; /* free room of the newest block */
    struct arena_block *blocks;
    struct arena_adopted *adopted;
    struct arena_cache *cache; /* may be NULL: then malloc and free */
    size_t bytes;              /* asked for since init or clear */
};

void arena_cache_init(struct arena_cache *cache, unsigned max_blocks);
void arena_cache_clear(struct arena_cache *cache);

void arena_init(struct arena *arena, struct arena_cache *cache);

/* Runs the hooks, newest first, then gives all memory back. The arena may be used again. */
void arena_clear(struct arena *arena);

void *arena_alloc_slow(struct arena *arena, size_t bytes); /* private */

/* Aligned for any type; never NULL, also for 0 bytes. Contents undefined. */
static inline void *arena_alloc(struct arena *arena, size_t bytes)
{
    size_t room = (size_t)(arena->end - arena->at);
    size_t taken = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);

    if (taken > room || taken < bytes || room == 0)
        return arena_alloc_slow(arena, bytes);

    void *out = arena->at;

    arena->at += taken;
    arena->bytes += taken;
    return out;
}

void *arena_zalloc(struct arena *arena, size_t bytes);

/* n * size, zeroed; aborts on overflow. */
void *arena_array(struct arena *arena, size_t n, size_t size);

struct slice arena_copy(struct arena *arena, struct slice from);

/* NUL-terminated copy. */
static inline char *arena_strdup(struct arena *arena, struct slice from)
{
    char *out = arena_alloc(arena, from.len + 1);

    if (from.len > 0)
        memcpy(out, from.data, from.len);
    out[from.len] = '\0';
    return out;
}

char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The number in decimal. */
char *arena_decimal(struct arena *arena, int64_t number);

/* Ties foreign memory to the arena: dispose(ptr) runs in arena_clear. */
void arena_adopt(struct arena *arena, void *ptr, void (*dispose)(void *));

#endif
