#include "pool/semaphore.h"

#include <stddef.h>
#include <stdlib.h>

void semaphore_init(struct semaphore *semaphore, unsigned limit)
{
    *semaphore = (struct semaphore){.limit = limit};
    semaphore->waiters.next = semaphore->waiters.prev = &semaphore->waiters;
}

static bool has_waiters(const struct semaphore *semaphore)
{
    return semaphore->waiters.next != &semaphore->waiters;
}

bool semaphore_try(struct semaphore *semaphore)
{
    if (semaphore->held >= semaphore->limit || has_waiters(semaphore))
        return false;
    semaphore->held++;
    counter_add(&semaphore->acquired, 1);
    return true;
}

void semaphore_wait(struct semaphore *semaphore, struct semaphore_waiter *waiter)
{
    struct semaphore_waiter *head = &semaphore->waiters;

    if (waiter->next != NULL)
        abort(); /* queued already */
    waiter->next = head;
    waiter->prev = head->prev;
    head->prev->next = waiter;
    head->prev = waiter;
    counter_add(&semaphore->waited, 1);
}

static void unlink_waiter(struct semaphore_waiter *waiter)
{
    waiter->prev->next = waiter->next;
    waiter->next->prev = waiter->prev;
    waiter->next = waiter->prev = NULL;
}

/* Who waits behind it has no more right to a permit than before: all are held. */
bool semaphore_leave(struct semaphore *semaphore, struct semaphore_waiter *waiter)
{
    (void)semaphore;
    if (waiter->next == NULL)
        return false;
    unlink_waiter(waiter);
    return true;
}

void semaphore_release(struct semaphore *semaphore)
{
    struct semaphore_waiter *first = semaphore->waiters.next;

    if (semaphore->held == 0)
        abort(); /* released more often than acquired */
    if (!has_waiters(semaphore)) {
        semaphore->held--;
        return;
    }
    unlink_waiter(first); /* the permit changes hands */
    counter_add(&semaphore->acquired, 1);
    first->granted(first);
}
