/* Bounded fan-out: the emulation of "many" by "one". start(i) is called for each item in order of
 * i, at most `width` of them in flight, each under a permit of the pattern's semaphore; all_done
 * once every item has ended. Items may end in any order; who collects results does so by index.
 *
 * Call depth is 1 whatever n: op_finish never runs done() inline, and an item that ends inside its
 * own start() is counted by the loop that started it.
 *
 * thread: the group's home worker. The fan-out keeps the group busy from run to all_done, also
 * while it waits for a permit with nothing in flight. */
#ifndef PRISM_PATTERNS_FANOUT_H
#define PRISM_PATTERNS_FANOUT_H

#include "pool/op.h"
#include "pool/semaphore.h"

#include <stdbool.h>
#include <stddef.h>

struct fanout {
    size_t n, width; /* width >= 1 */
    struct op_group *group;
    struct semaphore *semaphore; /* of the home worker; bounds all fan-outs of the instance */
    void (*start)(struct fanout *, size_t i);
    void (*all_done)(struct fanout *); /* the fan-out may be gone when it returns */
    size_t started, finished;          /* private */
    bool filling;                      /* private */
    struct semaphore_waiter waiter;    /* private */
};

/* n may be 0: then all_done runs before this returns. */
void fanout_run(struct fanout *fanout);

/* From the item's last continuation, or from start(). Once for each item. */
void fanout_item_done(struct fanout *fanout);

#endif
