/* When which tag is due: the deadlines of one shard's keys, 4 bytes and a little more for each.
 *
 * The wheel is lazy. It holds no pointer and is not told when a key goes or is given more time: the
 * owner looks, when a tag falls due, whether there is anything with that tag to expire. A
 * generation of 3 bits tells the one note that counts for a key from those that an earlier deadline
 * left behind.
 *
 * Five levels of 64 slots; a slot of level n spans 64^n ticks. A note waits in the slot that holds
 * its tick and moves down a level as that slot begins, at most 13 at a step; within a slot it
 * remembers its place to 1/512, rounded up: a note is handed out never early and late by less than
 * 1/512 of the time it had to wait (further off than 2^30 ticks: early, to be noted again). Ticks
 * without notes cost nothing.
 *
 * thread: whoever holds the shard's lock. Ticks are the owner's; time never goes back. Allocation
 * failure aborts. */
#ifndef PRISM_BACKENDS_MEMSTORE_WHEEL_H
#define PRISM_BACKENDS_MEMSTORE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WHEEL_LEVELS = 5, WHEEL_SLOTS = 64, WHEEL_GENERATIONS = 8 };

struct wheel_chunk;

struct wheel {
    uint64_t tick; /* notes for earlier ticks have been handed out or are in `due` */
    uint64_t next; /* no slot begins before this tick; UINT64_MAX: all are empty */
    uint32_t notes;
    uint32_t chunks;
    uint32_t reviewed;       /* next slot of wheel_review */
    struct wheel_chunk *due; /* to be handed out now */
    struct wheel_chunk *spare;
    uint64_t occupied[WHEEL_LEVELS]; /* a bit for each slot */
    struct wheel_chunk *slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

struct wheel_note {
    uint32_t tag;        /* 20 bits */
    uint32_t generation; /* 3 bits */
};

void wheel_init(struct wheel *wheel, uint64_t now_tick);
void wheel_clear(struct wheel *wheel);

/* A tick that has passed: due now. */
void wheel_add(struct wheel *wheel, struct wheel_note note, uint64_t due_tick);

enum wheel_step {
    WHEEL_IDLE,  /* nothing is due */
    WHEEL_MOVED, /* some notes moved down a level: step on */
    WHEEL_DUE    /* *note was due and is gone */
};

/* One bounded step: at most 13 notes are touched. */
enum wheel_step wheel_step(struct wheel *wheel, uint64_t now_tick, struct wheel_note *note);

/* Makes one slot's notes due at once, the next in turn: how an owner gets rid of notes that no
 * longer count. */
void wheel_review(struct wheel *wheel);

/* No step has anything to do before this tick; 0 = now, UINT64_MAX = the wheel is empty. */
static inline uint64_t wheel_next_tick(const struct wheel *wheel)
{
    return wheel->due != NULL ? 0 : wheel->next;
}

size_t wheel_bytes(const struct wheel *wheel);

#endif
