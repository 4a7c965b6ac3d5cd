/* What Flush waits for. Messages that an instance accepts belong to its current epoch; Flush ends
 * the epoch and waits until all messages of this one and of earlier ones are settled. Messages
 * accepted later belong to a later epoch and hold nobody up. An epoch ends only if it has unsettled
 * messages, so there are never more epochs than those.
 *
 * thread: home worker. */
#ifndef PRISM_PATTERNS_PRODUCER_EPOCH_H
#define PRISM_PATTERNS_PRODUCER_EPOCH_H

#include "src/base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epoch;

struct epochs {
    struct arena *memory;
    struct epoch *free;
    struct epoch *first, *ended, *current; /* oldest; the last before current, or NULL; newest */
};

/* Who waits for the end of an epoch. Embedded. */
struct epoch_waiter {
    void (*over)(struct epoch_waiter *); /* everything is settled */
    /* out, for over() and after epoch_give_up: messages that were unsettled when the wait began */
    uint64_t flushed; /* settled since */
    uint64_t failed;  /* of these: not stored, or with an unknown outcome */
    uint64_t pending; /* still unsettled */
    /* private */
    struct epochs *epochs;
    struct epoch *epoch; /* NULL: not waiting */
    struct epoch_waiter *next;
};

/* Epochs live in `memory`. */
void epochs_init(struct epochs *epochs, struct arena *memory);

/* n messages are accepted. Returns their epoch. */
struct epoch *epoch_accept(struct epochs *epochs, uint64_t n);

/* n of them are settled, of which `failed` were not stored or have an unknown outcome. */
void epoch_settle(struct epochs *epochs, struct epoch *epoch, uint64_t n, uint64_t failed);

/* Ends the current epoch. True: nothing is unsettled, nobody has to wait. False: over() will be
 * called from epoch_settle, unless epoch_give_up comes first. */
bool epoch_wait(struct epochs *epochs, struct epoch_waiter *waiter);
void epoch_give_up(struct epoch_waiter *waiter);

#endif
