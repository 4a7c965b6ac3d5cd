/* An asynchronous operation: first member of every request struct, embedded by the caller, so
 * starting one allocates nothing. One road for every outcome: op_finish lands done() on the home
 * worker, later, exactly once, also for an operation that failed at once.
 *
 *   caller   op_start(op, group, done)   then backend method(backend, request)
 *   backend  finishes at once            op_finish(op, err)
 *      or    has to wait                 op_park(op, cancel): arms the deadline
 *                                        later op_finish from any thread
 *
 * Cancel is a wish: when the deadline passes or the call is cancelled, cancel(op, why) runs on the
 * home worker and the backend lets go of the op soon, by op_finish; done() comes once in every
 * case. A backend that cannot recall what it sent keeps a record of its own and drops the late
 * answer.
 *
 * cancel never comes after an op_finish on the home worker. It may come at the same time as one on
 * another thread, or after it, until done() has run: a backend that finishes elsewhere decides by a
 * flag of its own who was first. */
#ifndef PRISM_POOL_OP_H
#define PRISM_POOL_OP_H

#include "pool/job.h"
#include "pool/timer.h"
#include "src/base/arena.h"
#include "src/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct op;
struct worker;

typedef void op_done_fn(struct op *);
typedef void op_cancel_fn(struct op *, struct err why);

/* What the ops of one call share. thread: home. */
struct op_group {
    struct worker *home;
    struct arena *arena;             /* where outputs of its ops live, unless an op has its own */
    uint64_t deadline_ns;            /* CLOCK_MONOTONIC, 0 = none */
    unsigned pending;                /* ops started and not yet done, and open enters */
    struct op *parked;               /* those that can be cancelled */
    struct err cancelled;            /* set once the group is cancelled: later ops fail at park */
    void (*idle)(struct op_group *); /* pending fell to zero, after the last done(); may be NULL */
};

struct op {
    struct job landing; /* first: carries done() home */
    struct op_group *group;
    op_done_fn *done;
    struct arena *arena;   /* its outputs; the group's, unless the caller, after op_start, gave it
                              another that lives longer than the op. thread: home */
    op_cancel_fn *cancel;  /* NULL: not parked */
    struct op *next, **at; /* in group->parked */
    struct timer timer;
    void *backend_data; /* the backend's own until it finishes: how cancel() finds what it sent */
    uint64_t backend_word;                           /* likewise */
    struct err err;                                  /* the outcome, valid in done() */
    enum { OP_IDLE, OP_STARTED, OP_FINISHED } state; /* asserted */
};

void op_group_init(struct op_group *group, struct worker *home, struct arena *arena,
                   uint64_t deadline_ns);

/* Keeps the group busy while code outside any done() works on it (a handler's first step). The last
 * leave calls idle. thread: home. */
void op_group_enter(struct op_group *group);
void op_group_leave(struct op_group *group);

/* Asks every parked op to let go; ops parked later are asked at once. Repeats are ignored. thread:
 * home. */
void op_group_cancel(struct op_group *group, struct err why);

/* thread: home. The op may be used again after its done(). */
void op_start(struct op *op, struct op_group *group, op_done_fn *done);

/* thread: home, between start and finish, and before another thread can finish it. cancel may be
 * NULL (cannot be cancelled; the deadline is then the backend's own affair). If the deadline has
 * passed or the group is cancelled already, cancel is called before op_park returns. */
void op_park(struct op *op, op_cancel_fn *cancel);

/* thread: any. Exactly once for each started op (asserted). */
void op_finish(struct op *op, struct err err);

/* Memory for the outputs of this op. thread: home. */
static inline struct arena *op_arena(const struct op *op)
{
    return op->arena;
}

static inline uint64_t op_deadline_ns(const struct op *op)
{
    return op->group->deadline_ns;
}

#endif
