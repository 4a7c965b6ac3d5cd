#include "patterns/messaging/lanes.h"

#include "src/base/hash.h"

#include <assert.h>

void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint32_t most, uint64_t seed,
                void (*start)(struct lane_item *))
{
    assert(n > 0 && (n & (n - 1)) == 0 && n <= most);
    *lanes = (struct lanes){.arena = arena,
                            .start = start,
                            .buckets = arena_array(arena, n, sizeof(struct lane_item *)),
                            .n = n,
                            .most = most,
                            .seed = seed};
}

static struct lane_item **bucket_of(const struct lanes *lanes, const struct lane_item *item)
{
    return &lanes->buckets[item->hash & (lanes->n - 1)];
}

/* Where the first item of its lane is held. What it points to is NULL: there is no lane. */
static struct lane_item **find(const struct lanes *lanes, const struct lane_item *item)
{
    struct lane_item **at = bucket_of(lanes, item);

    while (*at != NULL && (*at)->hash != item->hash)
        at = &(*at)->beside;
    return at;
}

/* The old buckets stay in the arena: all of them together take no more than the new ones. */
static void grow(struct lanes *lanes)
{
    struct lane_item **old = lanes->buckets;
    uint32_t n = lanes->n;

    lanes->n = 2 * n;
    lanes->buckets = arena_array(lanes->arena, lanes->n, sizeof *lanes->buckets);
    for (uint32_t i = 0; i < n; i++) {
        for (struct lane_item *first = old[i], *beside; first != NULL; first = beside) {
            struct lane_item **at = bucket_of(lanes, first);

            beside = first->beside;
            first->beside = *at;
            *at = first;
        }
    }
}

void lanes_choose(const struct lanes *lanes, struct slice key, struct lane_item *item)
{
    *item = (struct lane_item){.keyed = key.len > 0};
    if (!item->keyed)
        return;
    item->hash = (uint32_t)hash_seeded(lanes->seed, key);
    __builtin_prefetch(bucket_of(lanes, item), 1);
}

static void open_lane(struct lanes *lanes, struct lane_item *item)
{
    struct lane_item **at;

    if (++lanes->lanes > lanes->n && lanes->n < lanes->most)
        grow(lanes);
    at = bucket_of(lanes, item);
    item->prev = item;
    item->beside = *at;
    *at = item;
    lanes->start(item);
}

static void wait_behind(struct lanes *lanes, struct lane_item *first, struct lane_item *item)
{
    item->prev = first->prev;
    item->prev->next = item;
    first->prev = item;
    lanes->waiting++;
}

void lanes_put(struct lanes *lanes, struct lane_item *item)
{
    struct lane_item *first;

    if (!item->keyed) {
        lanes->start(item);
        return;
    }
    item->in = true;
    item->next = NULL;
    first = *find(lanes, item);
    if (first == NULL)
        open_lane(lanes, item);
    else
        wait_behind(lanes, first, item);
}

void lanes_done(struct lanes *lanes, struct lane_item *item)
{
    struct lane_item **at, *next = item->next;

    if (!item->in)
        return;
    for (at = bucket_of(lanes, item); *at != item; at = &(*at)->beside)
        assert(*at != NULL);
    item->in = false;
    if (next == NULL) {
        *at = item->beside;
        lanes->lanes--;
        return;
    }
    next->prev = item->prev;
    next->beside = item->beside;
    *at = next;
    lanes->waiting--;
    lanes->start(next);
}

bool lanes_remove(struct lanes *lanes, struct lane_item *item)
{
    struct lane_item *first;

    if (!item->in)
        return false;
    first = *find(lanes, item);
    if (first == item)
        return false;
    item->prev->next = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    else
        first->prev = item->prev;
    item->in = false;
    lanes->waiting--;
    return true;
}
