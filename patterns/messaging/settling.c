#include "patterns/messaging/settling.h"

#include <assert.h>

enum { FIRST_PLACES = 8 }; /* many subscriptions wait for most of the time */

static uint32_t power_of_two(uint64_t at_least)
{
    uint32_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
}

void settling_init(struct settling *settling, struct arena *arena, uint32_t max_unsettled)
{
    assert(max_unsettled > 0 && max_unsettled <= 1u << 20);
    *settling = (struct settling){
        .arena = arena,
        .first = 1,
        .next = 1,
        .max_unsettled = max_unsettled,
        .max_places = power_of_two((uint64_t)max_unsettled * SETTLING_SPAN),
    };
    settling->places = power_of_two(max_unsettled < FIRST_PLACES ? max_unsettled : FIRST_PLACES);
    settling->ring = arena_array(arena, settling->places, sizeof *settling->ring);
}

static struct settling_place *place(const struct settling *settling, uint64_t sequence)
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

/* The old ring stays in the arena: all of them together take no more than the newest. */
static void grow(struct settling *settling)
{
    struct settling larger = *settling;

    larger.places *= 2;
    larger.ring = arena_array(settling->arena, larger.places, sizeof *larger.ring);
    for (uint64_t i = settling->first; i < settling->next; i++)
        *place(&larger, i) = *place(settling, i);
    *settling = larger;
}

static size_t bytes_of(const struct incoming *message)
{
    size_t bytes = message->key.len + message->payload.len;

    for (size_t i = 0; i < message->n_headers; i++)
        bytes += message->headers[i].name.len + message->headers[i].value.len;
    return bytes;
}

uint64_t settling_add(struct settling *settling, struct incoming_batch *batch,
                      struct incoming *message)
{
    assert(settling_room(settling));
    if (full(settling))
        grow(settling);
    *place(settling, settling->next) = (struct settling_place){.batch = batch, .message = message};
    settling->unsettled++;
    settling->bytes += bytes_of(message);
    return settling->next++;
}

struct settling_place *settling_find(const struct settling *settling, uint64_t sequence)
{
    if (sequence < settling->first || sequence >= settling->next)
        return NULL;

    struct settling_place *found = place(settling, sequence);

    return found->message != NULL ? found : NULL;
}

bool settling_take(struct settling *settling, uint64_t sequence, struct settling_place *taken)
{
    struct settling_place *found = settling_find(settling, sequence);

    if (found == NULL)
        return false;
    *taken = *found;
    found->message = NULL;
    settling->unsettled--;
    settling->bytes -= bytes_of(taken->message);
    while (settling->first < settling->next && place(settling, settling->first)->message == NULL)
        settling->first++;
    return true;
}

uint64_t settling_next(const struct settling *settling, uint64_t from)
{
    if (from < settling->first)
        from = settling->first;
    for (; from < settling->next; from++) {
        if (place(settling, from)->message != NULL)
            return from;
    }
    return 0;
}
