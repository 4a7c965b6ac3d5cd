/* Identifiers of entries, and what a subscription has taken and not settled: by identifier, by
 * token and by what falls due first. thread: home */
#ifndef PRISM_BACKENDS_REDIS_REDIS_HELD_H
#define PRISM_BACKENDS_REDIS_REDIS_HELD_H

#include "src/base/clock.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- identifiers of entries ---- */

enum { REDIS_ID_BYTES = 44 }; /* two numbers, '-', NUL */

struct redis_id {
    uint64_t ms, seq;
};

/* "ms-seq"; false: it is none. */
bool redis_id_parse(struct slice text, struct redis_id *id);
struct slice redis_id_text(struct redis_id id, char text[REDIS_ID_BYTES]);

static inline int redis_id_compare(struct redis_id a, struct redis_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

/* ---- what a subscription has taken (redis_held.c) ---- */

enum redis_holding {
    HELD_FREE,
    HELD_WAITING,  /* taken, not handed over yet */
    HELD_REFUSED,  /* taken, and more than the reader may keep: goes back */
    HELD_OUT,      /* handed over */
    HELD_PARKED,   /* waits for its retry */
    HELD_AGAIN,    /* ordered readers: waits to be taken again */
    HELD_SETTLING, /* a settlement is under way */
};

enum {
    HELD_MOST = (1 << 20) - 1,    /* of one subscription; what a token can name */
    HELD_ATTEMPTS = (1 << 21) - 1 /* more are not told apart: twice the most that can be set */
};

/* Times are of CLOCK_MONOTONIC. */
#define HELD_MOST_MS ((1ull << 40) - 1)

/* There may be a million: what is added here is paid for each. */
struct redis_held {
    struct redis_id id;
    uint64_t told_ms : 40; /* when redis was last told that it is held */
    uint64_t attempt : 21; /* by redis_held_count */
    uint64_t state : 3;    /* enum redis_holding */
    uint64_t due_ms : 40;  /* by redis_due_set. OUT: its lease, 0 = none; PARKED: its retry */
    uint64_t due_at : 20;  /* redis_due.c */
    uint64_t sure : 1;     /* when redis was told, it was */
    uint64_t noted : 1;    /* somebody says that a ticket has settled it */
    uint32_t generation;
    uint32_t next : 20; /* in its bucket, or of those that are free; 0: none; else place + 1 */
    uint32_t lane : 10; /* ordered readers: of its key; 0: none, or not known yet */
};

_Static_assert(sizeof(struct redis_held) == 40, "as small as it is");

static inline void redis_held_told(struct redis_held *held, uint64_t at_ns, bool sure)
{
    held->told_ms = at_ns / NS_PER_MS & HELD_MOST_MS;
    held->sure = sure;
}

static inline uint64_t redis_told_ns(const struct redis_held *held)
{
    return (uint64_t)held->told_ms * NS_PER_MS;
}

static inline uint64_t redis_due_ns(const struct redis_held *held)
{
    return (uint64_t)held->due_ms * NS_PER_MS;
}

static inline void redis_held_count(struct redis_held *held, uint64_t attempt)
{
    held->attempt = attempt < HELD_ATTEMPTS ? attempt & HELD_ATTEMPTS : HELD_ATTEMPTS;
}

struct redis_holds {
    struct redis_held *places;
    uint32_t *buckets;
    uint32_t room, used, free, count, parked;
    uint32_t *due; /* redis_due.c: places that are OUT or PARKED for a time */
    uint32_t n_due, due_room;
    uint64_t due_steps; /* moves in it, and what was looked at in search of what is due: tests */
    uint32_t epoch;     /* raised when all deliveries become void */
    uint32_t lost_in;   /* the last one that began otherwise than with a seek */
};

/* Its token is redis_token. */
struct redis_held *redis_hold(struct redis_holds *holds, struct redis_id id);
uint64_t redis_token(const struct redis_holds *holds, const struct redis_held *held);
/* NULL: there is none; *of_before: it is of a time before a seek, and nothing but seeks has made
 * deliveries void since. */
struct redis_held *redis_held_by(const struct redis_holds *holds, uint64_t token, bool *of_before);
bool redis_hold_room(const struct redis_holds *holds, uint32_t n);
struct redis_held *redis_held_find(struct redis_holds *holds, struct redis_id id);
void redis_let_go(struct redis_holds *holds, struct redis_held *held);
void redis_hold_void(struct redis_holds *holds, bool by_seek); /* all; theirs was another epoch */
void redis_holds_clear(struct redis_holds *holds);

/* ---- what is held for a time (redis_due.c) ---- */

/* 0: it is not. Only what is OUT or PARKED is. To the next ms, never before it. */
void redis_due_set(struct redis_holds *holds, struct redis_held *held, uint64_t due_ns);
/* It is not while it is being settled; due_ms stays, for it may be set again. */
void redis_due_pause(struct redis_holds *holds, struct redis_held *held);
struct redis_held *redis_due_first(const struct redis_holds *holds); /* NULL: there is none */

#endif
