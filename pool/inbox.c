#include "pool/inbox.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdlib.h>

/* Whoever turns `queued` on lands the turn. The exchange comes after the push and orders it. */
static void ask_for_turn(struct inbox *inbox)
{
    if (!atomic_exchange(&inbox->queued, true))
        worker_land(inbox->home, &inbox->turn);
}

/* The exchange reads what the last producer wrote that found the inbox queued: that producer's jobs
 * are seen below. A later producer finds it not queued and lands the turn itself. */
static void rest(struct inbox *inbox)
{
    atomic_exchange(&inbox->queued, false);
    ring_full_fence();
    if (!landing_empty(&inbox->landing))
        ask_for_turn(inbox);
}

static void run_turn(struct job *job)
{
    struct inbox *inbox = CONTAINER_OF(job, struct inbox, turn);
    struct job *next;

    landing_take(&inbox->landing, &inbox->waiting);
    for (unsigned n = 0; n < inbox->per_turn; n++) {
        next = job_list_pop(&inbox->waiting);
        if (next == NULL)
            break;
        inbox->take(inbox, next);
    }
    if (inbox->waiting.head != NULL)
        worker_land(inbox->home, &inbox->turn);
    else
        rest(inbox);
}

void inbox_init(struct inbox *inbox, struct worker *home, inbox_take_fn *take, unsigned per_turn)
{
    if (per_turn == 0)
        abort();
    inbox->home = home;
    inbox->take = take;
    inbox->per_turn = per_turn;
    inbox->turn.run = run_turn;
    landing_init(&inbox->landing);
    job_list_init(&inbox->waiting);
    atomic_init(&inbox->queued, false);
}

void inbox_put(struct inbox *inbox, struct job *first, struct job *last)
{
    landing_push_chain(&inbox->landing, first, last);
    ask_for_turn(inbox);
}

bool inbox_idle(const struct inbox *inbox)
{
    return !atomic_load(&inbox->queued);
}
