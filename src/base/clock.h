/* The two clocks. Deadlines and latencies use the monotonic one; expiry that a client sees uses
 * seconds and milliseconds relative to now, so it is kept on the monotonic clock as well. */
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

/* Wall clock, ms since 1970. */
static inline int64_t clock_unix_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + (int64_t)t.tv_nsec / 1000000;
}

#endif
