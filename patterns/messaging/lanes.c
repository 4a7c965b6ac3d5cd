#include "patterns/messaging/lanes.h"

#include "src/base/hash.h"

#include <assert.h>

void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint32_t most, uint64_t seed,
                void (*start)(struct lane_item *))
{
    assert(n > 0 && (n & (n - 1)) == 0 && n <= most);
    *lanes = (struct lanes){.arena = arena,
                            .start = start,
                            .lanes = arena_array(arena, n, sizeof *lanes->lanes),
                            .n = n,
                            .most = most,
                            .seed = seed};
}

static struct lane *lane_of(const struct lanes *lanes, const struct lane_item *item)
{
    return &lanes->lanes[item->hash & (lanes->n - 1)];
}

static void append(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = lane_of(lanes, item);

    item->in = true;
    item->next = NULL;
    item->prev = lane->last;
    lane->last = item;
    if (item->prev == NULL)
        lane->first = item;
    else
        item->prev->next = item;
}

static void start(const struct lanes *lanes, struct lane_item *item)
{
    item->started = true;
    lanes->start(item);
}

static void start_next(struct lanes *lanes, struct lane_item *item)
{
    lanes->waiting--;
    start(lanes, item);
}

/* The items of one lane stand in two then, in their order. The old lanes stay in the arena: all of
 * them together take no more than the new ones. */
static void grow(struct lanes *lanes)
{
    struct lane *old = lanes->lanes;
    uint32_t n = lanes->n;

    lanes->n = 2 * n;
    lanes->lanes = arena_array(lanes->arena, lanes->n, sizeof *lanes->lanes);
    for (uint32_t i = 0; i < n; i++) {
        for (struct lane_item *item = old[i].first, *next; item != NULL; item = next) {
            next = item->next;
            append(lanes, item);
        }
    }
    for (uint32_t i = 0; i < 2 * n; i++) {
        struct lane_item *first = lanes->lanes[i].first;

        if (first != NULL && !first->started)
            start_next(lanes, first);
    }
}

void lanes_choose(const struct lanes *lanes, struct slice key, struct lane_item *item)
{
    *item = (struct lane_item){.keyed = key.len > 0};
    if (!item->keyed)
        return;
    item->hash = (uint32_t)hash_seeded(lanes->seed, key);
    __builtin_prefetch(lane_of(lanes, item), 1);
}

void lanes_put(struct lanes *lanes, struct lane_item *item)
{
    if (!item->keyed) {
        start(lanes, item);
        return;
    }
    if (++lanes->items > lanes->n && lanes->n < lanes->most)
        grow(lanes);
    append(lanes, item);
    if (item->prev == NULL)
        start(lanes, item);
    else
        lanes->waiting++;
}

void lanes_done(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = lane_of(lanes, item);
    struct lane_item *next = item->next;

    if (!item->in)
        return;
    assert(lane->first == item);
    item->in = false;
    lanes->items--;
    lane->first = next;
    if (next == NULL) {
        lane->last = NULL;
        return;
    }
    next->prev = NULL;
    start_next(lanes, next);
}

bool lanes_remove(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = lane_of(lanes, item);

    if (!item->in || lane->first == item)
        return false;
    item->prev->next = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    else
        lane->last = item->prev;
    item->in = false;
    lanes->items--;
    lanes->waiting--;
    return true;
}
