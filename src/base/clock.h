/* The clock of deadlines and latencies: the monotonic one. Expiry that a client sees uses seconds
 * and milliseconds relative to now, so it is kept on this clock as well. */
#ifndef PRISM_BASE_CLOCK_H
#define PRISM_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

/* CLOCK_MONOTONIC, ns. Never 0. */
static inline uint64_t clock_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The same clock as of the kernel's last tick, some milliseconds ago at most: for bounds that may
 * be that coarse, at a quarter of the cost. */
static inline uint64_t clock_coarse_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* So many milliseconds after a moment: a client's number may be too large to be added. */
static inline uint64_t clock_after_ms(uint64_t ns, uint64_t ms)
{
    return ms < (UINT64_MAX - ns) / NS_PER_MS ? ns + ms * NS_PER_MS : UINT64_MAX;
}

#endif
