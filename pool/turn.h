/* How long one lane may keep a worker from its other lane, its loop, its timers and its hooks: for
 * a number of jobs, and until the kernel's coarse clock has moved, which is at most some
 * milliseconds (CONFIG_HZ; 4 ms on Debian). Most jobs take a microsecond or two, and a look at that
 * clock costs a few nanoseconds, so every job is looked at. What is left waits for the next turn.
 */
#ifndef PRISM_POOL_TURN_H
#define PRISM_POOL_TURN_H

#include "src/base/clock.h"

#include <stdbool.h>
#include <stdint.h>

/* One lane in one batch. */
struct turn {
    uint64_t begun_ns; /* by the coarse clock */
    unsigned left;     /* jobs */
};

/* max: jobs, at least 1. */
static inline struct turn turn_begin(unsigned max)
{
    return (struct turn){.begun_ns = clock_coarse_ns(), .left = max};
}

/* Asked after each job, which it counts. So a lane runs at least one job in each batch. */
static inline bool turn_over(struct turn *turn)
{
    return --turn->left == 0 || clock_coarse_ns() != turn->begun_ns;
}

#endif
