/* How long one lane may keep a worker from its other lane, its loop, its timers and its hooks: for
 * a number of jobs, and for about a millisecond. What is left waits for the next turn.
 *
 * Most jobs take a microsecond or two and should not pay for a look at the clock, so it is read
 * after every TURN_LOOK jobs only, and the millisecond begins with the first look. Once a turn was
 * up after few jobs, the next batch looks after each of them. */
#ifndef PRISM_POOL_TURN_H
#define PRISM_POOL_TURN_H

#include "src/base/clock.h"

#include <stdbool.h>
#include <stdint.h>

#define TURN_NS NS_PER_MS

enum { TURN_LOOK = 4, TURN_FEW = 16 };

/* A worker's jobs, as it has come to know them. */
struct pace {
    bool slow; /* a turn of the last batch was up after at most TURN_FEW jobs */
    bool next; /* the same, of this batch */
};

/* One lane in one batch. */
struct turn {
    struct pace *pace;
    uint64_t begun_ns; /* 0: nobody has looked yet */
    unsigned ran, look_at, max;
};

/* max: jobs, at least 1. */
struct turn turn_begin(struct pace *pace, unsigned max);

/* Private to turn_over. */
bool turn_look(struct turn *turn);

/* Asked after each job, which it counts. So a lane runs at least one job in each batch. */
static inline bool turn_over(struct turn *turn)
{
    return ++turn->ran >= turn->look_at && turn_look(turn);
}

/* The batch ends: what was learned in it holds for the next one. */
static inline void pace_end_batch(struct pace *pace)
{
    pace->slow = pace->next;
    pace->next = false;
}

#endif
