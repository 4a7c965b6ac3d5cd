/* Memory that is asked for before it is needed. A function that does nothing but that is
 * PREFETCHING: GCC takes it for one without effect, and leaves out calls that it does not inline.
 */
#ifndef PRISM_BASE_PREFETCH_H
#define PRISM_BASE_PREFETCH_H

#include <stddef.h>

#define PREFETCHING static inline __attribute__((always_inline))

enum { PREFETCH_LINE = 64 };

/* To be read. */
PREFETCHING void prefetch(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PREFETCH_LINE)
        __builtin_prefetch((const char *)at + i);
}

/* To be written. */
PREFETCHING void prefetch_write(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PREFETCH_LINE)
        __builtin_prefetch((const char *)at + i, 1);
}

#endif
