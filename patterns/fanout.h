/* Bounded fan-out: the emulation of "many" by "one". start(i) is called for each item, at most `width` of them in flight,
 * each under a permit of the pattern's semaphore; all_done once every item has ended. Items may end in any order; who
 * collects results does so by index.
 *
 * op_finish never runs done() inline, so there is no recursion: call depth is 1 whatever n. */
#ifndef PRISM_PATTERNS_FANOUT_H
#define PRISM_PATTERNS_FANOUT_H

#include "pool/semaphore.h"

#include <stddef.h>

struct fanout {
    size_t n, width;
    struct semaphore *semaphore; /* of the home worker; bounds all fan-outs of the instance together */
    void (*start)(struct fanout *, size_t i);
    void (*all_done)(struct fanout *);
    size_t started, finished;        /* private */
    struct semaphore_waiter waiter;  /* private */
};

/* n may be 0: then all_done runs before this returns. */
void fanout_run(struct fanout *fanout);

/* From the item's last continuation. */
void fanout_item_done(struct fanout *fanout);

#endif
