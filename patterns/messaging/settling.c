#include "patterns/messaging/settling.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_PLACES = 8 }; /* many subscriptions wait for most of the time */

static uint32_t power_of_two(uint64_t at_least)
{
    uint32_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
}

static void **ring_new(uint32_t places)
{
    void **ring = calloc(places, sizeof *ring);

    if (ring == NULL)
        abort();
    return ring;
}

void settling_init(struct settling *settling, uint32_t max_unsettled)
{
    assert(max_unsettled > 0 && max_unsettled <= 1u << 20);
    *settling = (struct settling){
        .first = 1,
        .next = 1,
        .max_unsettled = max_unsettled,
        .max_places = power_of_two((uint64_t)max_unsettled * SETTLING_SPAN),
    };
    settling->places = power_of_two(max_unsettled < FIRST_PLACES ? max_unsettled : FIRST_PLACES);
    settling->ring = ring_new(settling->places);
}

void settling_clear(struct settling *settling)
{
    free(settling->ring);
}

static void **place(const struct settling *settling, uint64_t sequence)
{
    return &settling->ring[sequence & (settling->places - 1)];
}

static bool full(const struct settling *settling)
{
    return settling->next - settling->first == settling->places;
}

bool settling_room(const struct settling *settling)
{
    return settling->unsettled < settling->max_unsettled &&
           (!full(settling) || settling->places < settling->max_places);
}

static void grow(struct settling *settling)
{
    struct settling larger = *settling;

    larger.places *= 2;
    larger.ring = ring_new(larger.places);
    for (uint64_t i = settling->first; i < settling->next; i++)
        *place(&larger, i) = *place(settling, i);
    free(settling->ring);
    *settling = larger;
}

uint64_t settling_add(struct settling *settling, void *message, size_t bytes)
{
    assert(settling_room(settling));
    if (full(settling))
        grow(settling);
    *place(settling, settling->next) = message;
    settling->unsettled++;
    settling->bytes += bytes;
    return settling->next++;
}

void *settling_find(const struct settling *settling, uint64_t sequence)
{
    if (sequence < settling->first || sequence >= settling->next)
        return NULL;
    return *place(settling, sequence);
}

bool settling_take(struct settling *settling, uint64_t sequence, size_t bytes)
{
    if (settling_find(settling, sequence) == NULL)
        return false;
    *place(settling, sequence) = NULL;
    settling->unsettled--;
    settling->bytes -= bytes;
    while (settling->first < settling->next && *place(settling, settling->first) == NULL)
        settling->first++;
    return true;
}

uint64_t settling_next(const struct settling *settling, uint64_t from)
{
    if (from < settling->first)
        from = settling->first;
    for (; from < settling->next; from++) {
        if (*place(settling, from) != NULL)
            return from;
    }
    return 0;
}
