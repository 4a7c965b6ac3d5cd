/* Allocation for the benches: aborts when memory is gone, since a measurement under such
 * conditions has no meaning. The result of each function is released with free(). */
#ifndef PRISM_PERF_COMMON_MEMORY_H
#define PRISM_PERF_COMMON_MEMORY_H

#include <stdlib.h>

static inline void *memory_zalloc(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes ? bytes : 1);

    if (p == NULL)
        abort();
    return p;
}

static inline void *memory_grow(void *old, size_t bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);

    if (p == NULL)
        abort();
    return p;
}

#endif
