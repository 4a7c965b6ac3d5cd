/* Queues: a message is taken by one, and gone once it is settled.
 *
 * want.topic names the queue; groups, start and gaps do not exist here. A taken message is
 * invisible to others for its lease (visibility). Dead letters are kept beside the queue, with the
 * original bytes, until they are redriven or purged.
 *
 * An instance may bound what one queue holds, waiting and taken, in messages, bytes and the age of
 * the oldest: then the bound is looked at in one step with the write, what is new is refused and
 * what is there stays. Dead letters are not counted.
 *
 * An atomic publish (message.h) fits into the bounds as a whole or is refused; once it is there,
 * its messages are taken and settled one by one, as any others. */
#ifndef PRISM_BACKENDS_QUEUE_H
#define PRISM_BACKENDS_QUEUE_H

#include "backends/subscription.h"

struct queue_count {
    struct op op;
    struct slice queue;
    /* out; -1: unknown */
    int64_t ready, taken, delayed, dead;
};

struct dead_letter {
    struct incoming message; /* as it was pushed; token 0; slices in op_arena() */
    struct slice handle;     /* names it in redrive and purge; opaque, printable, <= 64 bytes */
    struct slice reason;
    uint64_t died_ms; /* Unix time */
};

/* A page of dead letters, oldest first. */
struct dead_list {
    struct op op;
    struct slice queue;
    struct slice cursor; /* null = from the start; else next_cursor; not ours:
                            ERR_INVALID_ARGUMENT about "cursor" */
    uint32_t max_items;  /* 1..1000 */
    uint64_t max_bytes;  /* stop after the item that passes it */
    /* out; in op_arena() */
    struct dead_letter *items;
    size_t n;
    bool more;
    struct slice next_cursor;
};

/* Puts dead letters back into the queue as new messages (attempt 1), or removes them. */
struct dead_move {
    struct op op;
    struct slice queue;
    const struct slice *handles;
    size_t n; /* 0: all that are there now */
    bool purge;
    uint64_t moved; /* out: those that were still there */
};

struct queue {
    struct message_sink sink;
    struct message_source source;
    struct message_settling settling;
    bool delays; /* outgoing.delay_ms is honoured */
    void (*count)(struct backend *, struct queue_count *);
    void (*dead_list)(struct backend *, struct dead_list *); /* NULL: no SETTLE_DEAD either */
    void (*dead_move)(struct backend *, struct dead_move *);
};

#endif
