#include "patterns/producer/epoch.h"

struct epoch {
    struct epoch *next;
    uint64_t unsettled;
    uint64_t settled, failed; /* since the epoch was ended, and those of forgotten older ones */
    struct epoch_waiter *waiters;
};

struct totals {
    uint64_t settled, failed, unsettled;
};

static struct epoch *epoch_new(struct epochs *epochs)
{
    struct epoch *epoch = epochs->free;

    if (epoch == NULL)
        return arena_zalloc(epochs->memory, sizeof *epoch);
    epochs->free = epoch->next;
    *epoch = (struct epoch){0};
    return epoch;
}

void epochs_init(struct epochs *epochs, struct arena *memory)
{
    *epochs = (struct epochs){.memory = memory};
    epochs->first = epochs->current = epoch_new(epochs);
}

struct epoch *epoch_accept(struct epochs *epochs, uint64_t n)
{
    epochs->current->unsettled += n;
    return epochs->current;
}

/* Of an epoch and all that are older. */
static struct totals totals_of(const struct epochs *epochs, const struct epoch *last)
{
    struct totals totals = {0};

    for (const struct epoch *epoch = epochs->first;; epoch = epoch->next) {
        totals.settled += epoch->settled;
        totals.failed += epoch->failed;
        totals.unsettled += epoch->unsettled;
        if (epoch == last)
            return totals;
    }
}

/* The waiter's fields hold the totals of when it began. */
static void tell(struct epoch_waiter *waiter)
{
    struct totals now = totals_of(waiter->epochs, waiter->epoch);

    waiter->flushed = now.settled - waiter->flushed;
    waiter->failed = now.failed - waiter->failed;
    waiter->pending = now.unsettled;
    waiter->epoch = NULL;
}

static void forget_first(struct epochs *epochs)
{
    struct epoch *epoch = epochs->first;

    epoch->next->settled += epoch->settled;
    epoch->next->failed += epoch->failed;
    if (epoch->next == epochs->current) { /* nobody waits for the current one */
        epoch->next->settled = epoch->next->failed = 0;
        epochs->ended = NULL;
    }
    epochs->first = epoch->next;
    epoch->next = epochs->free;
    epochs->free = epoch;
}

static void end_those_over(struct epochs *epochs)
{
    while (epochs->first != epochs->current && epochs->first->unsettled == 0) {
        struct epoch_waiter *waiters = epochs->first->waiters;

        for (struct epoch_waiter *waiter = waiters; waiter != NULL; waiter = waiter->next)
            tell(waiter);
        forget_first(epochs);
        for (struct epoch_waiter *waiter = waiters, *next; waiter != NULL; waiter = next) {
            next = waiter->next;
            waiter->over(waiter); /* may be gone now */
        }
    }
}

void epoch_settle(struct epochs *epochs, struct epoch *epoch, uint64_t n, uint64_t failed)
{
    epoch->unsettled -= n;
    if (epoch == epochs->current)
        return;
    epoch->settled += n;
    epoch->failed += failed;
    end_those_over(epochs);
}

bool epoch_wait(struct epochs *epochs, struct epoch_waiter *waiter)
{
    waiter->epochs = epochs;
    waiter->epoch = NULL;
    waiter->flushed = waiter->failed = waiter->pending = 0;
    if (epochs->current->unsettled > 0) {
        epochs->ended = epochs->current;
        epochs->current = epochs->ended->next = epoch_new(epochs);
    }
    if (epochs->ended == NULL)
        return true;

    struct totals now = totals_of(epochs, epochs->ended);

    waiter->flushed = now.settled;
    waiter->failed = now.failed;
    waiter->epoch = epochs->ended;
    waiter->next = epochs->ended->waiters;
    epochs->ended->waiters = waiter;
    return false;
}

void epoch_give_up(struct epoch_waiter *waiter)
{
    if (waiter->epoch == NULL)
        return;

    struct epoch_waiter **at = &waiter->epoch->waiters;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    tell(waiter);
}
