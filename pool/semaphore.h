/* Bounded concurrency without a blocked thread: who finds no permit leaves a waiter behind and is
 * called back, in FIFO order, when one is released.
 *
 * thread: one worker; a semaphore belongs to it. Waiters are embedded by their owners. */
#ifndef PRISM_POOL_SEMAPHORE_H
#define PRISM_POOL_SEMAPHORE_H

#include "src/base/metrics.h"

#include <stdbool.h>

struct semaphore_waiter {
    struct semaphore_waiter *next, *prev; /* private; next == NULL: not waiting */
    /* It holds a permit now; runs inside semaphore_release. */
    void (*granted)(struct semaphore_waiter *);
};

struct semaphore {
    unsigned limit, held;
    struct semaphore_waiter waiters; /* list head */
    struct counter acquired, waited;
};

void semaphore_init(struct semaphore *semaphore, unsigned limit);

/* A permit now, or none. Refuses also when others already wait: no overtaking. */
bool semaphore_try(struct semaphore *semaphore);

/* Queues a waiter that is not queued yet; call only after semaphore_try refused. */
void semaphore_wait(struct semaphore *semaphore, struct semaphore_waiter *waiter);

/* Takes a waiter out again, which is not granted then. False: it was not waiting. */
bool semaphore_leave(struct semaphore *semaphore, struct semaphore_waiter *waiter);

/* Returns a permit; the first waiter gets it. */
void semaphore_release(struct semaphore *semaphore);

#endif
