/* Which messages of one stream of deliveries are settled: a ring of places by the sequence number
 * that the client sees, from 1 on. Each step is O(1), and nothing is allocated for a message.
 *
 * The ring spans from the oldest unsettled message to the newest. One that is worked on for long
 * does not hold up the others: the ring grows, up to SETTLING_SPAN times the messages that may be
 * unsettled at once; then there is no room until the oldest is settled.
 *
 * thread: the owner's. */
#ifndef PRISM_PATTERNS_MESSAGING_SETTLING_H
#define PRISM_PATTERNS_MESSAGING_SETTLING_H

#include "src/base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SETTLING_SPAN = 64,
    SETTLING_FEW = 8 /* many subscriptions wait for most of the time */
};

struct settling {
    void **ring;    /* the owner's messages; NULL: settled */
    uint64_t first; /* the oldest unsettled one; == next: all are settled */
    uint64_t next;
    uint32_t places;     /* of the ring, a power of two */
    uint32_t max_places; /* it grows to */
    uint32_t unsettled, max_unsettled;
    size_t bytes;            /* keys, headers and payloads of unsettled messages */
    void *few[SETTLING_FEW]; /* the ring before it grows */
    struct arena memory;     /* of one that has grown */
};

/* max_unsettled: 1..2^20. It stays where it is from then on. */
void settling_init(struct settling *settling, uint32_t max_unsettled);
void settling_clear(struct settling *settling);

/* Can another one be handed out? */
bool settling_room(const struct settling *settling);

/* Returns its sequence number. There is room. bytes: what it counts. */
uint64_t settling_add(struct settling *settling, void *message, size_t bytes);

/* NULL: never handed out, or settled. */
void *settling_find(const struct settling *settling, uint64_t sequence);

/* It is settled, or given back. bytes: as it was added. False: it was not unsettled. */
bool settling_take(struct settling *settling, uint64_t sequence, size_t bytes);

/* The oldest unsettled one that is not before `from`; 0: there is none. For acknowledgements of
 * all up to a number, and at the end. */
uint64_t settling_next(const struct settling *settling, uint64_t from);

/* All up to this number are settled; 0: none is. */
static inline uint64_t settling_through(const struct settling *settling)
{
    return settling->first - 1;
}

#endif
