/* What a subscription holds for a time: retries that wait, and deliveries with a lease. A heap of
 * places, the earliest first, so that what is due is found without looking at the rest. Each knows
 * where it stands in it, and leaves it when its time is changed or it is let go of. */
#include "backends/redis/redis_stream.h"

#include <stdlib.h>

static struct redis_held *at(const struct redis_holds *holds, uint32_t i)
{
    return &holds->places[holds->due[i]];
}

static void put(struct redis_holds *holds, uint32_t i, uint32_t place)
{
    holds->due[i] = place;
    holds->places[place].due_at = (i + 1) & HELD_MOST;
    holds->due_steps++;
}

static void rise(struct redis_holds *holds, uint32_t i)
{
    uint32_t place = holds->due[i];
    uint64_t due_ms = at(holds, i)->due_ms;

    while (i > 0 && at(holds, (i - 1) / 2)->due_ms > due_ms) {
        put(holds, i, holds->due[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(holds, i, place);
}

static void sink(struct redis_holds *holds, uint32_t i)
{
    uint32_t place = holds->due[i];
    uint64_t due_ms = at(holds, i)->due_ms;

    for (uint32_t child; (child = 2 * i + 1) < holds->n_due; i = child) {
        if (child + 1 < holds->n_due && at(holds, child + 1)->due_ms < at(holds, child)->due_ms)
            child++;
        if (at(holds, child)->due_ms >= due_ms)
            break;
        put(holds, i, holds->due[child]);
    }
    put(holds, i, place);
}

static void leave(struct redis_holds *holds, struct redis_held *held)
{
    uint32_t i = held->due_at - 1, last = holds->due[--holds->n_due];

    held->due_at = 0;
    if (i == holds->n_due)
        return;
    holds->due[i] = last;
    sink(holds, i);
    rise(holds, holds->places[last].due_at - 1);
}

void redis_due_pause(struct redis_holds *holds, struct redis_held *held)
{
    if (held->due_at != 0)
        leave(holds, held);
}

void redis_due_set(struct redis_holds *holds, struct redis_held *held, uint64_t due_ns)
{
    uint64_t due_ms = due_ns / NS_PER_MS + (due_ns % NS_PER_MS != 0);

    redis_due_pause(holds, held);
    held->due_ms = due_ms < HELD_MOST_MS ? due_ms & HELD_MOST_MS : HELD_MOST_MS;
    if (due_ns == 0)
        return;
    if (holds->n_due == holds->due_room) {
        holds->due_room = holds->room;
        holds->due = realloc(holds->due, holds->due_room * sizeof *holds->due);
        if (holds->due == NULL)
            abort();
    }
    holds->due[holds->n_due++] = (uint32_t)(held - holds->places);
    rise(holds, holds->n_due - 1);
}

struct redis_held *redis_due_first(const struct redis_holds *holds)
{
    return holds->n_due > 0 ? at(holds, 0) : NULL;
}
