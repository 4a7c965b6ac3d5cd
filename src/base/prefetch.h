/* Memory that is asked for before it is needed. A function that does nothing but that is
 * PREFETCHING: GCC takes it for one without effect, and leaves out calls that it does not inline.
 */
#ifndef PRISM_BASE_PREFETCH_H
#define PRISM_BASE_PREFETCH_H

#include <stddef.h>

#define PREFETCHING static inline __attribute__((always_inline))

enum { PREFETCH_LINE = 64 };

/* To be read. bytes: 1 or more. at: may be NULL. */
PREFETCHING void prefetch(const void *at, size_t bytes)
{
    __builtin_prefetch(at);
    for (size_t i = PREFETCH_LINE; i < bytes; i += PREFETCH_LINE)
        __builtin_prefetch((const char *)at + i);
}

/* To be written. Likewise. */
PREFETCHING void prefetch_write(const void *at, size_t bytes)
{
    __builtin_prefetch(at, 1);
    for (size_t i = PREFETCH_LINE; i < bytes; i += PREFETCH_LINE)
        __builtin_prefetch((const char *)at + i, 1);
}

#endif
