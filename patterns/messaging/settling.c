#include "patterns/messaging/settling.h"

#include <assert.h>

static uint32_t power_of_two(uint64_t at_least)
{
    uint32_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
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
    settling->places = power_of_two(max_unsettled < SETTLING_FEW ? max_unsettled : SETTLING_FEW);
    settling->ring = settling->few;
    arena_init(&settling->memory, NULL);
}

void settling_clear(struct settling *settling)
{
    arena_clear(&settling->memory);
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

/* The ring before goes at once. */
static void grow(struct settling *settling)
{
    uint32_t places = 2 * settling->places;
    struct arena memory;
    void **ring;

    arena_init(&memory, NULL);
    ring = arena_zalloc(&memory, places * sizeof *ring);
    for (uint64_t i = settling->first; i < settling->next; i++)
        ring[i & (places - 1)] = *place(settling, i);
    arena_clear(&settling->memory);
    settling->memory = memory;
    settling->ring = ring;
    settling->places = places;
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
