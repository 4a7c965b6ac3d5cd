/* Order within a key, parallel between keys: a key's hash chooses a lane, and of a lane one item is
 * under way. Two keys in one lane cost parallelism, never order: there are as many lanes as there
 * are items, up to a bound. An item without a key is in no lane.
 *
 * A retry keeps its lane: the item is done when it is settled for good.
 *
 * thread: the owner's. */
#ifndef PRISM_PATTERNS_MESSAGING_LANES_H
#define PRISM_PATTERNS_MESSAGING_LANES_H

#include "src/base/arena.h"
#include "src/base/prefetch.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* The first item is under way, the others wait. */
struct lane {
    struct lane_item *first, *last;
};

struct lane_item {
    struct lane_item *next, *prev; /* private, here and below */
    uint32_t hash;
    bool keyed;
    bool started;
    bool in; /* false: in no lane */
};

struct lanes {
    struct arena *arena;
    void (*start)(struct lane_item *);
    struct lane *lanes;
    uint32_t n, most;
    uint64_t seed;
    size_t items;   /* in lanes */
    size_t waiting; /* of them: not started */
};

/* n, most: powers of two; lanes at first, and at most. The arena lives as long. The seed is the
 * owner's, so that nobody can choose keys that share a lane. start: must not call lanes_done or
 * lanes_put: later, from an outcome. */
void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint32_t most, uint64_t seed,
                void (*start)(struct lane_item *));

/* Before it is put. key: null or empty = no lane. Lanes are more memory than a cache keeps: who
 * chooses them for many items before the first is put has them in the cache by then. */
void lanes_choose(const struct lanes *lanes, struct slice key, struct lane_item *item);

/* Starts it, now if its lane is free. More lanes may start others. */
void lanes_put(struct lanes *lanes, struct lane_item *item);

/* lanes_done comes soon: asks for the memory that it will need. */
PREFETCHING void lanes_expect(const struct lanes *lanes, const struct lane_item *item)
{
    prefetch_write(&lanes->lanes[item->hash & (lanes->n - 1)], 1);
    prefetch_write(item->next, 1);
}

/* It was started, and is over: the next one of its lane starts. */
void lanes_done(struct lanes *lanes, struct lane_item *item);

/* Takes out one that waits. False: it was started (or is in no lane). */
bool lanes_remove(struct lanes *lanes, struct lane_item *item);

#endif
