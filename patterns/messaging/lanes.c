#include "patterns/messaging/lanes.h"

#include <assert.h>

/* The first item is under way, the others wait. */
struct lane {
    struct lane_item *first, *last;
};

void lanes_init(struct lanes *lanes, struct arena *arena, uint32_t n, uint64_t seed)
{
    assert(n > 0 && (n & (n - 1)) == 0);
    *lanes = (struct lanes){
        .lanes = arena_array(arena, n, sizeof *lanes->lanes), .mask = n - 1, .seed = seed};
}

/* FNV-1a, seeded, with its bits mixed at the end. */
static uint64_t hash(uint64_t seed, struct slice key)
{
    uint64_t h = 14695981039346656037ull ^ seed;

    for (size_t i = 0; i < key.len; i++)
        h = (h ^ key.data[i]) * 1099511628211ull;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93ull;
    return h ^ h >> 32;
}

void lanes_put(struct lanes *lanes, struct slice key, struct lane_item *item)
{
    item->lane = NULL;
    item->next = item->prev = NULL;
    if (key.len == 0) {
        item->start(item);
        return;
    }

    struct lane *lane = &lanes->lanes[hash(lanes->seed, key) & lanes->mask];

    item->lane = lane;
    item->prev = lane->last;
    lane->last = item;
    if (item->prev == NULL) {
        lane->first = item;
        item->start(item);
    } else {
        item->prev->next = item;
        lanes->waiting++;
    }
}

void lanes_done(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = item->lane;
    struct lane_item *next = item->next;

    if (lane == NULL)
        return;
    assert(lane->first == item);
    item->lane = NULL;
    lane->first = next;
    if (next == NULL) {
        lane->last = NULL;
        return;
    }
    next->prev = NULL;
    lanes->waiting--;
    next->start(next);
}

bool lanes_remove(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = item->lane;

    if (lane == NULL || lane->first == item)
        return false;
    item->prev->next = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    else
        lane->last = item->prev;
    item->lane = NULL;
    lanes->waiting--;
    return true;
}
