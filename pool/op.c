#include "pool/op.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>

static void op_bug(const char *what)
{
    fprintf(stderr, "prism: operation contract broken: %s\n", what);
    abort();
}

void op_group_init(struct op_group *group, struct worker *home, struct arena *arena,
                   uint64_t deadline_ns)
{
    *group = (struct op_group){.home = home, .arena = arena, .deadline_ns = deadline_ns};
}

void op_group_enter(struct op_group *group)
{
    group->pending++;
}

void op_group_leave(struct op_group *group)
{
    if (group->pending == 0)
        op_bug("leave without enter");
    if (--group->pending == 0 && group->idle != NULL)
        group->idle(group);
}

static void unpark(struct op *op)
{
    if (op->cancel == NULL)
        return;
    *op->at = op->next;
    if (op->next != NULL)
        op->next->at = op->at;
    op->cancel = NULL;
    timer_disarm(&op->group->home->timers, &op->timer);
}

/* On the home worker. The group may be gone after leave. */
static void op_land(struct job *job)
{
    struct op *op = CONTAINER_OF(job, struct op, landing);
    struct op_group *group = op->group;

    unpark(op);
    op->state = OP_IDLE;
    op->done(op);
    op_group_leave(group);
}

void op_start(struct op *op, struct op_group *group, op_done_fn *done)
{
    if (op->state != OP_IDLE)
        op_bug("started twice");
    op->landing.run = op_land;
    op->group = group;
    op->arena = group->arena;
    op->done = done;
    op->cancel = NULL;
    op->timer.at = NULL;
    op->err = ERR_NONE;
    op->state = OP_STARTED;
    group->pending++;
}

static void deadline_passed(struct timer *timer)
{
    struct op *op = CONTAINER_OF(timer, struct op, timer);
    op_cancel_fn *cancel = op->cancel;

    counter_add(&op->group->home->stats.deadlines, 1);
    unpark(op);
    cancel(op,
           err_make(ERR_DEADLINE_EXCEEDED, "the deadline passed while the backend was at work"));
}

void op_park(struct op *op, op_cancel_fn *cancel)
{
    struct op_group *group = op->group;

    if (op->state != OP_STARTED || op->cancel != NULL)
        op_bug("parked twice, or not between start and finish");
    if (cancel == NULL)
        return;
    if (group->cancelled.code != ERR_OK) {
        cancel(op, group->cancelled);
        return;
    }
    op->cancel = cancel;
    op->next = group->parked;
    op->at = &group->parked;
    if (op->next != NULL)
        op->next->at = &op->next;
    group->parked = op;
    if (group->deadline_ns == 0)
        return;
    if (group->deadline_ns <= group->home->now_ns)
        deadline_passed(&op->timer);
    else
        timer_arm(&group->home->timers, &op->timer, group->deadline_ns, deadline_passed);
}

void op_group_cancel(struct op_group *group, struct err why)
{
    if (group->cancelled.code != ERR_OK)
        return;
    group->cancelled = why;
    while (group->parked != NULL) {
        struct op *op = group->parked;
        op_cancel_fn *cancel = op->cancel;

        unpark(op);
        cancel(op, why);
    }
}

void op_finish(struct op *op, struct err err)
{
    if (op->state != OP_STARTED)
        op_bug("finished twice, or never started");

    struct worker *home = op->group->home;

    if (worker_current() == home)
        unpark(op); /* the backend has let go: nobody asks it again until done() has run */
    op->state = OP_FINISHED;
    op->err = err;
    worker_land(home, &op->landing);
}
