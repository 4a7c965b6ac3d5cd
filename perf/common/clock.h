/* Clocks of the benches, beside clock_now_ns(). Every time is in nanoseconds. */
#ifndef PRISM_PERF_COMMON_CLOCK_H
#define PRISM_PERF_COMMON_CLOCK_H

#include "src/base/clock.h"

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_ns(clockid_t clock)
{
    struct timespec t = {0};

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* User and system time that this process has used so far. */
static inline uint64_t clock_own_cpu_ns(void)
{
    return clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
