/* What a subscription has taken and not settled: places in an array, found by their token, and by
 * the entry's identifier. A token names the place, how often it was used, and the epoch. */
#include "backends/redis/redis_stream.h"

#include <stdlib.h>

enum { PLACE_BITS = 20, EPOCH_MASK = 0xfff, FIRST_ROOM = 64 };

static uint32_t bucket_of(const struct redis_holds *holds, struct redis_id id)
{
    uint64_t hash = (id.ms ^ id.seq * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;

    return (uint32_t)(hash >> 32) & (holds->room - 1);
}

static uint32_t place_of(const struct redis_holds *holds, const struct redis_held *held)
{
    return (uint32_t)(held - holds->places) + 1;
}

static void put_in_bucket(struct redis_holds *holds, struct redis_held *held)
{
    uint32_t *bucket = &holds->buckets[bucket_of(holds, held->id)];

    held->next = *bucket & HELD_MOST;
    *bucket = place_of(holds, held);
}

static void grow(struct redis_holds *holds)
{
    uint32_t room = holds->room == 0 ? FIRST_ROOM : 2 * holds->room;

    holds->places = realloc(holds->places, room * sizeof *holds->places);
    free(holds->buckets);
    holds->buckets = calloc(room, sizeof *holds->buckets);
    if (holds->places == NULL || holds->buckets == NULL)
        abort();
    holds->room = room;
    for (uint32_t i = 0; i < holds->used; i++) {
        if (holds->places[i].state != HELD_FREE)
            put_in_bucket(holds, &holds->places[i]);
    }
}

struct redis_held *redis_hold(struct redis_holds *holds, struct redis_id id)
{
    struct redis_held *held;
    uint32_t generation = 0;

    if (holds->free != 0) {
        held = &holds->places[holds->free - 1];
        holds->free = held->next;
        generation = held->generation;
    } else {
        if (holds->used == holds->room)
            grow(holds);
        held = &holds->places[holds->used++];
    }
    *held = (struct redis_held){
        .id = id, .generation = generation + 1, .attempt = 1, .state = HELD_WAITING};
    put_in_bucket(holds, held);
    holds->count++;
    return held;
}

bool redis_hold_room(const struct redis_holds *holds, uint32_t n)
{
    return holds->count + n < HELD_MOST;
}

uint64_t redis_token(const struct redis_holds *holds, const struct redis_held *held)
{
    return (uint64_t)(holds->epoch & EPOCH_MASK) << (32 + PLACE_BITS) |
           (uint64_t)place_of(holds, held) << 32 | held->generation;
}

struct redis_held *redis_held_by(const struct redis_holds *holds, uint64_t token, bool *of_before)
{
    uint64_t place = token >> 32 & HELD_MOST;
    uint32_t epochs = (holds->epoch - (uint32_t)(token >> (32 + PLACE_BITS))) & EPOCH_MASK;

    *of_before = epochs > 0 && epochs <= holds->epoch - holds->lost_in;
    if (epochs > 0 || place == 0 || place > holds->used)
        return NULL;

    struct redis_held *held = &holds->places[place - 1];

    return held->state != HELD_FREE && held->generation == (uint32_t)token ? held : NULL;
}

struct redis_held *redis_held_find(struct redis_holds *holds, struct redis_id id)
{
    if (holds->room == 0)
        return NULL;
    for (uint32_t at = holds->buckets[bucket_of(holds, id)]; at != 0;) {
        struct redis_held *held = &holds->places[at - 1];

        if (redis_id_compare(held->id, id) == 0)
            return held;
        at = held->next;
    }
    return NULL;
}

void redis_let_go(struct redis_holds *holds, struct redis_held *held)
{
    uint32_t place = place_of(holds, held);
    uint32_t *bucket = &holds->buckets[bucket_of(holds, held->id)];
    struct redis_held *before = NULL;

    for (uint32_t at = *bucket; at != place; at = before->next)
        before = &holds->places[at - 1];
    if (before != NULL)
        before->next = held->next;
    else
        *bucket = held->next;
    redis_due_set(holds, held, 0);
    holds->parked -= held->state == HELD_PARKED;
    held->state = HELD_FREE;
    held->next = holds->free & HELD_MOST;
    holds->free = place;
    holds->count--;
}

void redis_hold_void(struct redis_holds *holds, bool by_seek)
{
    for (uint32_t i = 0; i < holds->used; i++) {
        if (holds->places[i].state != HELD_FREE)
            redis_let_go(holds, &holds->places[i]);
    }
    holds->epoch++;
    if (!by_seek)
        holds->lost_in = holds->epoch;
}

void redis_holds_clear(struct redis_holds *holds)
{
    free(holds->places);
    free(holds->buckets);
    free(holds->due);
    *holds = (struct redis_holds){0};
}
