/* What every worker has, with a thread of its own or not. Sleeping and waking, in words:
 *
 *   the worker   sleeping = true; full fence; look at the lanes again; block; sleeping = false
 *   a producer   push; full fence; if sleeping: clear it, and whoever cleared it wakes
 *
 * Either the worker sees the job or the producer sees `sleeping`: no wake-up is lost, and a running
 * worker costs the producer one load. */
#include "pool/worker.h"

#include "pool/turn.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCKS_KEPT = 512 };

static _Thread_local struct worker *current;

struct worker *worker_current(void)
{
    return current;
}

void worker_set_current(struct worker *worker)
{
    current = worker;
}

void worker_assert_home(const struct worker *worker)
{
    if (current != worker)
        abort();
}

void worker_init(struct worker *worker, unsigned id, void (*wake)(struct worker *))
{
    memset(worker, 0, sizeof *worker);
    worker->id = id;
    worker->wake = wake;
    worker->now_ns = clock_now_ns();
    landing_init(&worker->landing);
    job_list_init(&worker->local);
    timer_wheel_init(&worker->timers, worker->now_ns);
    arena_cache_init(&worker->arenas, ARENA_BLOCKS_KEPT);
}

void worker_clear(struct worker *worker)
{
    arena_cache_clear(&worker->arenas);
    ring_destroy(worker->intake);
    worker->intake = NULL;
}

bool worker_submit(struct worker *worker, struct job *job)
{
    if (ring_push(worker->intake, job))
        return true;
    counter_add(&worker->stats.refused, 1);
    return false;
}

void worker_kick(struct worker *worker)
{
    ring_full_fence();
    if (!atomic_load_explicit(&worker->sleeping, memory_order_relaxed))
        return;
    if (!atomic_exchange(&worker->sleeping, false))
        return;
    counter_add_shared(&worker->stats.wakes, 1);
    worker->wake(worker);
}

/* Wakes cost more than what they announce: those of a batch are sent at its end, one for each
 * worker. */
static void kick_later(struct worker *from, struct worker *to)
{
    for (unsigned i = 0; i < from->kick_count; i++) {
        if (from->kicks[i] == to)
            return;
    }
    if (from->kick_count == ARRAY_LEN(from->kicks))
        worker_kick(to); /* more workers than one pool has: early, but not lost */
    else
        from->kicks[from->kick_count++] = to;
}

static void wake_after_push(struct worker *from, struct worker *to)
{
    if (from != NULL)
        kick_later(from, to);
    else
        worker_kick(to);
}

void worker_land(struct worker *worker, struct job *job)
{
    struct worker *from = current;

    if (from == worker) {
        job_list_push(&worker->local, job);
        return;
    }
    landing_push(&worker->landing, job);
    wake_after_push(from, worker);
}

void worker_land_chain(struct worker *worker, struct job *first, struct job *last)
{
    struct worker *from = current;

    if (from == worker) {
        job_list_push_chain(&worker->local, first, last);
        return;
    }
    landing_push_chain(&worker->landing, first, last);
    wake_after_push(from, worker);
}

static void take_landed(struct worker *worker)
{
    if (!landing_empty(&worker->landing))
        landing_take(&worker->landing, &worker->local);
}

/* What lands meanwhile is looked at once no local job is left. */
static bool has_work(struct worker *worker)
{
    if (worker->local.head == NULL)
        take_landed(worker);
    return worker->local.head != NULL || worker->timers.due != NULL;
}

static bool run_job(struct worker *worker)
{
    struct job *job = job_list_pop(&worker->local);

    if (job != NULL)
        job->run(job);
    return job != NULL;
}

static bool run_next(struct worker *worker)
{
    worker->timer_next = !worker->timer_next;
    if (worker->timer_next)
        return timer_wheel_fire(&worker->timers) || run_job(worker);
    return run_job(worker) || timer_wheel_fire(&worker->timers);
}

/* Local jobs may go on for ever, each landing another: what has landed must not wait for their end,
 * so it is taken in first. The poller drains after each event and mostly finds nothing: then no
 * clock is read. */
size_t worker_drain(struct worker *worker, unsigned max)
{
    size_t ran = 0;

    take_landed(worker);
    if (!has_work(worker))
        return 0;

    struct turn turn = turn_begin(max);

    while (run_next(worker)) {
        ran++;
        if (!has_work(worker) || (max != 0 && turn_over(&turn)))
            break;
    }
    counter_add(&worker->stats.landings, ran);
    return ran;
}

bool worker_idle(const struct worker *worker)
{
    return worker->local.head == NULL && worker->timers.due == NULL &&
           landing_empty(&worker->landing) &&
           (worker->intake == NULL || ring_depth(worker->intake) == 0);
}

void worker_end_batch(struct worker *worker)
{
    worker->now_ns = clock_now_ns();
    timer_wheel_advance(&worker->timers, worker->now_ns);
    for (struct batch_hook *hook = worker->hooks, *next; hook != NULL; hook = next) {
        next = hook->next;
        hook->run(hook);
    }
    for (unsigned i = 0; i < worker->kick_count; i++)
        worker_kick(worker->kicks[i]);
    worker->kick_count = 0;
}

struct errand {
    struct job job;
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static void run_errand(struct job *job)
{
    struct errand *errand = CONTAINER_OF(job, struct errand, job);

    errand->fn(errand->arg);
    sem_post(&errand->done);
}

void worker_run_sync(struct worker *worker, void (*fn)(void *arg), void *arg)
{
    struct errand errand = {.job.run = run_errand, .fn = fn, .arg = arg};

    if (current != NULL)
        abort(); /* a worker that waits for a worker */
    sem_init(&errand.done, 0, 0);
    worker_land(worker, &errand.job);
    while (sem_wait(&errand.done) != 0)
        ;
    sem_destroy(&errand.done);
}

void worker_add_hook(struct worker *worker, struct batch_hook *hook)
{
    hook->next = worker->hooks;
    worker->hooks = hook;
}

void worker_remove_hook(struct worker *worker, struct batch_hook *hook)
{
    for (struct batch_hook **at = &worker->hooks; *at != NULL; at = &(*at)->next) {
        if (*at == hook) {
            *at = hook->next;
            return;
        }
    }
}
