/* Messages of a topic, in the order of their coming, that some listener has not read. It is there
 * while it holds any: most topics wait for messages, and there may be a million of them.
 *
 * thread: whoever holds the topic's lock. Allocation failure aborts. */
#ifndef PRISM_BACKENDS_MEMSTORE_BACKLOG_H
#define PRISM_BACKENDS_MEMSTORE_BACKLOG_H

#include "backends/memstore/kept.h"

struct backlog {
    uint64_t bytes;        /* what they cost */
    uint32_t at, n, room;  /* a ring: the oldest is here, so many of them, places */
    struct kept *places[]; /* each with a reference */
};

/* NULL: it is empty. */
static inline uint32_t backlog_count(const struct backlog *backlog)
{
    return backlog != NULL ? backlog->n : 0;
}

static inline uint64_t backlog_bytes(const struct backlog *backlog)
{
    return backlog != NULL ? backlog->bytes : 0;
}

/* The i-th oldest, of those that are there. */
static inline struct kept *backlog_at(const struct backlog *backlog, uint32_t i)
{
    uint32_t at = backlog->at + i;

    return backlog->places[at < backlog->room ? at : at - backlog->room];
}

/* Takes the reference over. */
void backlog_add(struct backlog **backlog, struct kept *kept);

/* The oldest, with its reference; there is one. */
struct kept *backlog_take(struct backlog **backlog);

#endif
