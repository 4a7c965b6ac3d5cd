/* A worker: one thread that owns calls for their whole life. It drains its lanes, runs its event
 * loop, advances its timers and sleeps when nothing is left. The poller of src/rpc is a worker too
 * (without an event loop), so that no handler can tell where it runs.
 *
 *   intake  (poller -> worker)   bounded; refuses       worker_submit
 *   landing (any thread -> home) never refuses          worker_land
 *   local   (home -> home)       plain list             worker_land from the home thread
 *   due     (timers -> home)     every second turn      timer_arm
 *
 * Work never runs while timers are advanced: a timer that falls due lands in the lane `due`, and
 * its callback runs from there, as a job. Due timers and local jobs take turns one by one, so
 * neither starves the other. A callback that has more than a millisecond of work lands a job for
 * the rest.
 *
 * Wake-ups cost more than the work they announce: a worker is woken only when it sleeps, once for
 * each batch. */
#ifndef PRISM_POOL_WORKER_H
#define PRISM_POOL_WORKER_H

#include "pool/job.h"
#include "pool/ring.h"
#include "pool/timer.h"
#include "src/base/arena.h"
#include "src/base/clock.h"
#include "src/base/err.h"
#include "src/base/metrics.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct uv_loop_s;
struct worker;

enum { WORKER_MAX = 64 };

/* Called at the end of each drained batch, before the worker sleeps: a backend writes out what the
 * batch queued. */
struct batch_hook {
    struct batch_hook *next; /* private */
    void (*run)(struct batch_hook *);
};

struct worker_stats {
    struct counter jobs;     /* taken from intake */
    struct counter landings; /* taken from landing, local and due */
    struct counter batches;
    struct counter sleeps;
    struct counter refused;   /* by intake; written by the producer */
    struct counter wakes;     /* sent to this worker; shared writers */
    struct counter deadlines; /* timers that fired */
};

struct worker {
    unsigned id;            /* index in the pool; the poller has its own, after the last worker */
    struct uv_loop_s *loop; /* descriptors; timers belong to the wheel. NULL on the poller */
    struct ring *intake;    /* NULL on the poller */
    struct landing landing;
    struct job_list local;
    bool timer_next; /* a timer, if one is due, comes before the next job */
    struct timer_wheel timers;
    struct arena_cache arenas;
    struct batch_hook *hooks;
    struct worker *kicks[WORKER_MAX + 1]; /* others that got work of this batch: woken at its end */
    unsigned kick_count;
    struct worker_stats stats;

    void (*wake)(struct worker *); /* thread: any */
    _Atomic bool sleeping;         /* set by the worker before it blocks; whoever clears it wakes */
    uint64_t now_ns; /* the time of this batch: coarse, good for deadlines, not for latencies */
};

/* The worker that runs on this thread; NULL on other threads. */
struct worker *worker_current(void);
void worker_set_current(struct worker *worker);

/* Aborts when called off the worker's own thread. */
void worker_assert_home(const struct worker *worker);

/* A worker without a thread of its own (the poller, tests): the common parts, no loop, no intake.
 */
void worker_init(struct worker *worker, unsigned id, void (*wake)(struct worker *));
void worker_clear(struct worker *worker);

/* thread: the one producer. False (and counted): the intake lane is full and the job still the
 * caller's. Does not wake; the producer calls worker_kick once its batch is complete. */
bool worker_submit(struct worker *worker, struct job *job);

/* thread: any. Wakes the worker if it sleeps. */
void worker_kick(struct worker *worker);

/* Runs job on the worker, later, never inline. thread: any. Never refuses. */
void worker_land(struct worker *worker, struct job *job);

/* The same for jobs first to last, linked by `next`: one atomic step and one look at whether the
 * worker sleeps. They run in this order. thread: any. */
void worker_land_chain(struct worker *worker, struct job *first, struct job *last);

/* Runs what has landed, local jobs and due timers, also what these land, for one turn (turn.h) of
 * at most max jobs; max 0: until nothing is left, for tests and when the worker stops. Returns how
 * many ran. thread: home. */
size_t worker_drain(struct worker *worker, unsigned max);

/* Brings now_ns up to date. The loop calls descriptors' callbacks after it has slept, before a
 * batch begins: one that measures time does this first. thread: home. */
static inline void worker_look_at_clock(struct worker *worker)
{
    worker->now_ns = clock_now_ns();
}

/* Is there anything to run? thread: home. */
bool worker_idle(const struct worker *worker);

/* Advances the timers, runs the hooks, wakes those that the batch landed work on. thread: home; at
 * the end of a batch. */
void worker_end_batch(struct worker *worker);

/* Runs fn(arg) on the worker and waits until it has returned. thread: any but a worker's; the
 * worker must be running. For starting and stopping, never for calls. */
void worker_run_sync(struct worker *worker, void (*fn)(void *arg), void *arg);

/* thread: home. A hook that runs may remove itself, but no other. */
void worker_add_hook(struct worker *worker, struct batch_hook *hook);
void worker_remove_hook(struct worker *worker, struct batch_hook *hook);

/* ---- the fixed pool ---- */

struct pool;

struct pool_options {
    unsigned workers;      /* 1..WORKER_MAX */
    uint32_t intake_depth; /* power of two, 2..2^20 */
};

/* Starts the threads; they block all signals. */
struct err pool_start(struct pool **pool, const struct pool_options *options);

unsigned pool_size(const struct pool *pool);
struct worker *pool_worker(struct pool *pool, unsigned i);

/* Asks each worker to leave once its lanes are empty and its loop has no active handle, and joins.
 * What the last ones land on those that have left runs on the calling thread. Backends must have
 * been closed before: aborts when one left a handle behind, and other threads must not finish, land
 * or kick any more. NULL is accepted. thread: the one that started it. */
void pool_stop(struct pool *pool);

#endif
