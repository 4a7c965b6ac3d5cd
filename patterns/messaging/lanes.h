/* Order within a key, parallel between keys: a key's hash chooses one of a fixed number of lanes,
 * and of a lane one item is under way. Two keys in one lane cost parallelism, never order. An item
 * without a key is in no lane.
 *
 * A retry keeps its lane: the item is done when it is settled for good.
 *
 * thread: the owner's. */
#ifndef PRISM_PATTERNS_MESSAGING_LANES_H
#define PRISM_PATTERNS_MESSAGING_LANES_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct lane;

struct lane_item {
    struct lane *lane; /* private; NULL: in none */
    struct lane_item *next, *prev;
    void (*start)(struct lane_item *); /* must not call lanes_done or lanes_put: later, from an
                                          outcome */
};

struct lanes {
    struct lane *lanes;
    uint32_t mask;
    uint64_t seed;
    size_t waiting; /* items that were put and not started */
};

/* n: a power of two. The seed is the owner's, so that nobody can choose keys that share a lane. */
void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint64_t seed);

/* Starts it, now if its lane is free. key: null or empty = no lane. item->start is set. */
void lanes_put(struct lanes *lanes, struct slice key, struct lane_item *item);

/* It was started, and is over: the next one of its lane starts. */
void lanes_done(struct lanes *lanes, struct lane_item *item);

/* Takes out one that waits. False: it was started (or is in no lane). */
bool lanes_remove(struct lanes *lanes, struct lane_item *item);

#endif
