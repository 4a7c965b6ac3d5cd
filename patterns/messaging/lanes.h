/* Order within a key, parallel between keys: a key has a lane while items of it are there, and of a
 * lane one item is under way. Two keys never wait for each other, unless they hash to the same 32
 * bits. An item without a key is in no lane.
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

/* The first item of a lane is under way and stands for the lane; the others wait behind it. */
struct lane_item {
    struct lane_item *next;   /* private, here and below: in its lane */
    struct lane_item *prev;   /* likewise; of the first: the last */
    struct lane_item *beside; /* of the first: that of the next lane in the bucket */
    uint32_t hash;
    bool keyed;
    bool in; /* false: in no lane */
};

struct lanes {
    struct arena *arena;
    void (*start)(struct lane_item *);
    struct lane_item **buckets; /* first items, by hash */
    uint32_t n, most;
    uint64_t seed;
    size_t lanes;
    size_t waiting; /* items that are not started */
};

/* n, most: powers of two; buckets at first, and at most. There may be any number of lanes: beyond
 * `most` they are looked for one after the other in a bucket. The arena lives as long. The seed is
 * the owner's, so that nobody can choose keys that share a bucket. start: must not call lanes_done
 * or lanes_put: later, from an outcome. */
void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint32_t most, uint64_t seed,
                void (*start)(struct lane_item *));

/* Before it is put. key: null or empty = no lane. Buckets are more memory than a cache keeps: who
 * chooses for many items before the first is put has them in the cache by then. */
void lanes_choose(const struct lanes *lanes, struct slice key, struct lane_item *item);

/* Starts it, now if nothing of its key is under way. */
void lanes_put(struct lanes *lanes, struct lane_item *item);

/* lanes_done comes soon: asks for the memory that it will need. */
PREFETCHING void lanes_expect(const struct lanes *lanes, const struct lane_item *item)
{
    prefetch_write(&lanes->buckets[item->hash & (lanes->n - 1)], 1);
    prefetch_write(item->next, 1);
}

/* It was started, and is over: the next one of its lane starts. */
void lanes_done(struct lanes *lanes, struct lane_item *item);

/* Takes out one that waits. False: it was started (or is in no lane). */
bool lanes_remove(struct lanes *lanes, struct lane_item *item);

#endif
