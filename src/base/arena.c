#include "src/base/arena.h"

#include "src/base/decimal.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_RECYCLES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_RECYCLES 0
#endif
#endif
#ifndef ARENA_RECYCLES
#define ARENA_RECYCLES 1
#endif

struct arena_block {
    struct arena_block *next;
    size_t bytes; /* of data */
    alignas(max_align_t) char data[];
};

_Static_assert(sizeof(struct arena_block) + ARENA_BLOCK_BYTES == 8192,
               "a block is two pages: more would take a larger class of the allocator's");

struct arena_adopted {
    struct arena_adopted *next;
    void *ptr;
    void (*dispose)(void *);
};

enum { ALIGN = alignof(max_align_t), FIRST_BYTES = 1024 - sizeof(struct arena_block) };

static struct arena_block *block_new(struct arena_cache *cache, size_t bytes)
{
    struct arena_block *block;

    if (cache != NULL && bytes == ARENA_BLOCK_BYTES && cache->free != NULL) {
        block = cache->free;
        cache->free = block->next;
        cache->count--;
        return block;
    }
    block = malloc(sizeof *block + bytes);
    if (block == NULL)
        abort();
    block->bytes = bytes;
    return block;
}

static void block_free(struct arena_cache *cache, struct arena_block *block)
{
    if (ARENA_RECYCLES && cache != NULL && block->bytes == ARENA_BLOCK_BYTES &&
        cache->count < cache->max) {
        block->next = cache->free;
        cache->free = block;
        cache->count++;
        return;
    }
    free(block);
}

void arena_cache_init(struct arena_cache *cache, unsigned max_blocks)
{
    *cache = (struct arena_cache){.max = max_blocks};
}

void arena_cache_clear(struct arena_cache *cache)
{
    while (cache->free != NULL) {
        struct arena_block *block = cache->free;

        cache->free = block->next;
        free(block);
    }
    cache->count = 0;
}

void arena_init(struct arena *arena, struct arena_cache *cache)
{
    *arena = (struct arena){.cache = cache};
}

void arena_clear(struct arena *arena)
{
    for (struct arena_adopted *a = arena->adopted; a != NULL; a = a->next)
        a->dispose(a->ptr);
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;

        arena->blocks = block->next;
        block_free(arena->cache, block);
    }
    arena_init(arena, arena->cache);
}

/* Without a cache: what begins small lives long, as a rule, and there are many of it. Behind what
 * an arena begins with there is room for small things. */
static size_t block_bytes(const struct arena *arena, size_t bytes)
{
    const struct arena_block *newest = arena->blocks;
    size_t most = ARENA_BLOCK_BYTES, wanted = most;

    if (arena->cache == NULL && newest == NULL)
        wanted = bytes > FIRST_BYTES / 2 ? bytes + FIRST_BYTES / 2 : FIRST_BYTES;
    else if (arena->cache == NULL && newest->bytes < most / 2)
        wanted = 2 * (newest->bytes + sizeof *newest) - sizeof *newest;
    if (wanted > most)
        wanted = most;
    return bytes > wanted ? bytes : wanted;
}

/* A request larger than a quarter of a block gets a block of its own behind the current one, so
 * that the room left in the current block is not lost. */
void *arena_alloc_slow(struct arena *arena, size_t bytes)
{
    struct arena_block *block;

    if (bytes > SIZE_MAX / 2)
        abort();
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    arena->bytes += bytes;
    if (bytes > ARENA_BLOCK_BYTES / 4 && arena->blocks != NULL) {
        block = block_new(arena->cache, bytes);
        block->next = arena->blocks->next;
        arena->blocks->next = block;
        return block->data;
    }
    block = block_new(arena->cache, block_bytes(arena, bytes));
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = block->data + bytes;
    arena->end = block->data + block->bytes;
    return block->data;
}

void *arena_zalloc(struct arena *arena, size_t bytes)
{
    void *out = arena_alloc(arena, bytes);

    return memset(out, 0, bytes);
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
    if (size != 0 && n > SIZE_MAX / 2 / size)
        abort();
    return arena_zalloc(arena, n * size);
}

struct slice arena_copy(struct arena *arena, struct slice from)
{
    void *out = arena_alloc(arena, from.len);

    if (from.len > 0)
        memcpy(out, from.data, from.len);
    return slice_of(out, from.len);
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        abort();

    char *out = arena_alloc(arena, (size_t)n + 1);

    vsnprintf(out, (size_t)n + 1, format, again);
    va_end(again);
    return out;
}

char *arena_decimal(struct arena *arena, int64_t number)
{
    char text[DECIMAL_BYTES];

    return arena_strdup(arena, slice_of(text, decimal_write(text, number)));
}

void arena_adopt(struct arena *arena, void *ptr, void (*dispose)(void *))
{
    struct arena_adopted *a = arena_alloc(arena, sizeof *a);

    *a = (struct arena_adopted){.next = arena->adopted, .ptr = ptr, .dispose = dispose};
    arena->adopted = a;
}
