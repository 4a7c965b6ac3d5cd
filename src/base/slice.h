/* A borrowed, length-delimited view of bytes. Passed by value; owns nothing.
 * Keys and values are binary: they may hold any byte, NUL included. */
#ifndef PRISM_BASE_SLICE_H
#define PRISM_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL only when len is 0 */
    size_t len;          /* bytes */
};

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){.data = data, .len = len};
}

/* View of a NUL-terminated string, without its NUL. NULL gives the empty slice. */
static inline struct slice slice_str(const char *text)
{
    return slice_of(text, text ? strlen(text) : 0);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* Byte-wise order, a shorter prefix first; as memcmp: < 0, 0, > 0. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n == 0 ? 0 : memcmp(a.data, b.data, n);

    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

/* FNV-1a, its halves folded together, so that the low bits serve alone. The same in every process
 * and for ever: data is kept by it. */
static inline uint32_t slice_hash(struct slice s)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ s.data[i]) * 16777619u;
    return hash ^ hash >> 16;
}

#endif
