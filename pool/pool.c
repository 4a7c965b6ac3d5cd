/* The fixed workers: a thread and a libuv loop each.
 *
 * One batch: a turn (turn.h) for the jobs of the intake lane and one for those that landed, each of
 * at most TURN jobs; end the batch (timers, hooks, wakes), let the loop handle ready descriptors;
 * block in the loop only when the lanes are empty.
 *
 * The choice to block, and for how long, is made inside uv_run, in a prepare callback: uv_run first
 * calls timers that are due, ours as well. Were the choice made before, what they land would wait
 * for the end of the sleep, and a wake-up timer that came due in between (the thread was preempted)
 * would be spent before the sleep began. */
#include "pool/worker.h"

#include "pool/turn.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

enum { TURN = 256 };

struct pool_worker {
    struct worker worker;
    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t timer;     /* ends the sleep */
    uv_prepare_t prepare; /* begins it; active only when the worker wants to sleep */
    pthread_t thread;
    _Atomic bool stopping;
};

struct pool {
    unsigned count;
    struct pool_worker *workers; /* 64-byte aligned: landing lanes do not share lines */
};

static void on_async(uv_async_t *async)
{
    (void)async; /* its work is to have ended the poll */
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* likewise; the wheel is advanced at the end of the batch */
}

static void wake(struct worker *worker)
{
    struct pool_worker *self = CONTAINER_OF(worker, struct pool_worker, worker);

    uv_async_send(&self->async);
}

/* Nothing new is begun while there is as much to go on with: else the lane would be emptied into a
 * list that refuses nobody. */
static size_t run_intake(struct worker *worker)
{
    size_t ran = 0, backlog = worker->local.count;
    struct job *job;

    if (backlog >= TURN)
        return 0;

    struct turn turn = turn_begin(TURN - (unsigned)backlog);

    while ((job = ring_pop(worker->intake)) != NULL) {
        job->run(job);
        ran++;
        if (turn_over(&turn))
            break;
    }
    if (ran > 0)
        counter_add(&worker->stats.jobs, ran);
    return ran;
}

/* Lets uv_run block until a descriptor, a deadline or a producer has something to say, unless there
 * is work. */
static void before_block(uv_prepare_t *prepare)
{
    struct pool_worker *self = CONTAINER_OF(prepare, struct pool_worker, prepare);
    struct worker *worker = &self->worker;
    int wait_ms;

    atomic_store(&worker->sleeping, true);
    ring_full_fence();
    if (!worker_idle(worker) || worker->kick_count > 0) {
        uv_stop(&self->loop);
        return;
    }
    counter_add(&worker->stats.sleeps, 1);
    wait_ms = timer_wheel_wait_ms(&worker->timers, worker->now_ns);
    if (wait_ms >= 0)
        uv_timer_start(&self->timer, on_timer, (uint64_t)wait_ms, 0);
}

static void sleep_in_loop(struct pool_worker *self)
{
    uv_prepare_start(&self->prepare, before_block);
    uv_run(&self->loop, UV_RUN_ONCE);
    uv_prepare_stop(&self->prepare);
    uv_timer_stop(&self->timer);
    atomic_store_explicit(&self->worker.sleeping, false, memory_order_relaxed);
}

/* pool_stop sends the async after it set `stopping`: a worker that goes to sleep just then wakes at
 * once. */
static bool may_leave(struct pool_worker *self)
{
    if (!atomic_load(&self->stopping))
        return false;
    uv_unref((uv_handle_t *)&self->async);
    return uv_loop_alive(&self->loop) == 0;
}

static void name_thread(const struct worker *worker)
{
    char name[16];

    snprintf(name, sizeof name, "prism-worker-%u", worker->id);
    pthread_setname_np(pthread_self(), name);
}

static void *worker_main(void *arg)
{
    struct pool_worker *self = arg;
    struct worker *worker = &self->worker;

    name_thread(worker);
    worker_set_current(worker);
    for (;;) {
        worker->now_ns = clock_now_ns();

        size_t ran = run_intake(worker) + worker_drain(worker, TURN);

        worker_end_batch(worker);
        if (ran > 0)
            counter_add(&worker->stats.batches, 1);
        if (!worker_idle(worker))
            uv_run(&self->loop, UV_RUN_NOWAIT);
        else if (may_leave(self))
            return NULL;
        else
            sleep_in_loop(self);
    }
}

/* thread: the pool's owner; the worker's thread does not run. */
static void worker_close(struct pool_worker *self)
{
    uv_close((uv_handle_t *)&self->async, NULL);
    uv_close((uv_handle_t *)&self->timer, NULL);
    uv_close((uv_handle_t *)&self->prepare, NULL);
    uv_run(&self->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&self->loop) != 0)
        abort(); /* a backend left a handle behind */
    worker_clear(&self->worker);
}

static bool worker_open(struct pool_worker *self, unsigned id, uint32_t intake_depth)
{
    worker_init(&self->worker, id, wake);
    self->worker.intake = ring_new(intake_depth);
    if (uv_loop_init(&self->loop) != 0) {
        worker_clear(&self->worker);
        return false;
    }
    self->worker.loop = &self->loop;
    if (uv_async_init(&self->loop, &self->async, on_async) != 0)
        abort(); /* the loop has its descriptor for this already */
    uv_timer_init(&self->loop, &self->timer);
    uv_prepare_init(&self->loop, &self->prepare);
    if (pthread_create(&self->thread, NULL, worker_main, self) == 0)
        return true;
    worker_close(self);
    return false;
}

struct err pool_start(struct pool **out, const struct pool_options *options)
{
    struct pool *pool = calloc(1, sizeof *pool);
    sigset_t all, before;

    if (pool == NULL || options->workers == 0 || options->workers > WORKER_MAX)
        abort();
    pool->workers = aligned_alloc(64, (sizeof *pool->workers + 63) / 64 * 64 * options->workers);
    if (pool->workers == NULL)
        abort();
    memset(pool->workers, 0, sizeof *pool->workers * options->workers);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (unsigned i = 0; i < options->workers; i++) {
        if (!worker_open(&pool->workers[i], i, options->intake_depth))
            break;
        pool->count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool->count < options->workers) {
        pool_stop(pool);
        return err_make(ERR_RESOURCE_EXHAUSTED, "cannot start the worker threads");
    }
    *out = pool;
    return ERR_NONE;
}

unsigned pool_size(const struct pool *pool)
{
    return pool->count;
}

struct worker *pool_worker(struct pool *pool, unsigned i)
{
    return &pool->workers[i].worker;
}

/* Workers leave one by one; those that stay longer may land work on those that have gone. */
static void run_leftovers(struct pool *pool)
{
    bool again = true;

    while (again) {
        again = false;
        for (unsigned i = 0; i < pool->count; i++) {
            struct worker *worker = &pool->workers[i].worker;

            if (worker_idle(worker))
                continue;
            worker_set_current(worker);
            run_intake(worker);
            worker_drain(worker, 0);
            worker_end_batch(worker);
            worker_set_current(NULL);
            again = true;
        }
    }
}

void pool_stop(struct pool *pool)
{
    if (pool == NULL)
        return;
    for (unsigned i = 0; i < pool->count; i++) {
        atomic_store(&pool->workers[i].stopping, true);
        uv_async_send(&pool->workers[i].async);
    }
    for (unsigned i = 0; i < pool->count; i++)
        pthread_join(pool->workers[i].thread, NULL);
    run_leftovers(pool);
    /* Only now: to the last, a worker may be waking another. */
    for (unsigned i = 0; i < pool->count; i++)
        worker_close(&pool->workers[i]);
    free(pool->workers);
    free(pool);
}
