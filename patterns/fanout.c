/* happy path   run -> fill: a permit, start(i), until `width` are in flight
 *              -> item_done: the permit back, fill again -> all_done
 * no permit    fill leaves a waiter behind and returns; whoever releases one hands it over in
 *              granted(), which goes on filling. */
#include "patterns/fanout.h"

#include "src/base/container.h"

#include <stdlib.h>

static void granted(struct semaphore_waiter *waiter);

static void start_next(struct fanout *fanout)
{
    fanout->start(fanout, fanout->started++);
}

static bool wants_more(const struct fanout *fanout)
{
    return fanout->started < fanout->n && fanout->started - fanout->finished < fanout->width;
}

static void finish_if_over(struct fanout *fanout)
{
    struct op_group *group = fanout->group;

    if (fanout->finished < fanout->n)
        return;
    fanout->all_done(fanout);
    op_group_leave(group);
}

/* `permit`: one is held already, for the first item. */
static void fill(struct fanout *fanout, bool permit)
{
    fanout->filling = true;
    while (permit || (wants_more(fanout) && semaphore_try(fanout->semaphore))) {
        permit = false;
        start_next(fanout);
    }
    fanout->filling = false;
    if (wants_more(fanout) && fanout->waiter.next == NULL) {
        fanout->waiter.granted = granted;
        semaphore_wait(fanout->semaphore, &fanout->waiter);
    }
    finish_if_over(fanout);
}

/* Nothing is started while the waiter is queued, so a permit that arrives always finds an item and
 * room within `width`. */
static void granted(struct semaphore_waiter *waiter)
{
    fill(CONTAINER_OF(waiter, struct fanout, waiter), true);
}

void fanout_run(struct fanout *fanout)
{
    if (fanout->width == 0)
        abort();
    fanout->started = fanout->finished = 0;
    fanout->waiter = (struct semaphore_waiter){0};
    op_group_enter(fanout->group);
    fill(fanout, false);
}

/* Who waited before the release has either been granted by it, and filled, or waits on. */
void fanout_item_done(struct fanout *fanout)
{
    bool settled = fanout->filling || fanout->waiter.next != NULL;

    fanout->finished++;
    semaphore_release(fanout->semaphore);
    if (!settled)
        fill(fanout, false);
}
