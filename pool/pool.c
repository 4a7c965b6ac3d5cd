/* The fixed workers: a thread and a libuv loop each.
 *
 * One turn: run at most TURN jobs of the intake lane and all that landed, end the batch (timers, hooks, wakes), let the
 * loop handle ready descriptors; block in the loop only when the lanes are empty. */
#include "pool/worker.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <uv.h>

enum { TURN = 256 };

struct pool_worker {
    struct worker worker;
    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t timer;
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

static size_t run_intake(struct worker *worker)
{
    size_t n = 0;
    struct job *job;

    while (n < TURN && (job = ring_pop(worker->intake)) != NULL) {
        job->run(job);
        n++;
    }
    if (n > 0)
        counter_add(&worker->stats.jobs, n);
    return n;
}

/* Blocks until a descriptor, a deadline or a producer has something to say. */
static void sleep_in_loop(struct pool_worker *self)
{
    struct worker *worker = &self->worker;
    int wait_ms = timer_wheel_wait_ms(&worker->timers, worker->now_ns);

    atomic_store(&worker->sleeping, true);
    ring_full_fence();
    if (worker_idle(worker) && !atomic_load(&self->stopping)) {
        counter_add(&worker->stats.sleeps, 1);
        uv_update_time(&self->loop);
        if (wait_ms >= 0)
            uv_timer_start(&self->timer, on_timer, (uint64_t)wait_ms, 0);
        uv_run(&self->loop, UV_RUN_ONCE);
        uv_timer_stop(&self->timer);
    }
    atomic_store_explicit(&worker->sleeping, false, memory_order_relaxed);
}

static void *worker_main(void *arg)
{
    struct pool_worker *self = arg;
    struct worker *worker = &self->worker;

    worker_set_current(worker);
    for (;;) {
        worker->now_ns = clock_now_ns();

        size_t ran = run_intake(worker) + worker_drain(worker);

        worker_end_batch(worker);
        if (ran > 0)
            counter_add(&worker->stats.batches, 1);
        if (!worker_idle(worker)) {
            uv_run(&self->loop, UV_RUN_NOWAIT);
            continue;
        }
        if (atomic_load(&self->stopping))
            break;
        sleep_in_loop(self);
    }
    uv_close((uv_handle_t *)&self->async, NULL);
    uv_close((uv_handle_t *)&self->timer, NULL);
    uv_run(&self->loop, UV_RUN_DEFAULT);
    return NULL;
}

static int worker_open(struct pool_worker *self, unsigned id, uint32_t intake_depth)
{
    worker_init(&self->worker, id, wake);
    self->worker.intake = ring_new(intake_depth);
    if (uv_loop_init(&self->loop) != 0)
        return -1;
    self->worker.loop = &self->loop;
    uv_async_init(&self->loop, &self->async, on_async);
    uv_timer_init(&self->loop, &self->timer);
    return pthread_create(&self->thread, NULL, worker_main, self);
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
        if (worker_open(&pool->workers[i], i, options->intake_depth) != 0)
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

void pool_stop(struct pool *pool)
{
    if (pool == NULL)
        return;
    for (unsigned i = 0; i < pool->count; i++) {
        struct pool_worker *self = &pool->workers[i];

        atomic_store(&self->stopping, true);
        uv_async_send(&self->async);
        pthread_join(self->thread, NULL);
        if (uv_loop_close(&self->loop) != 0)
            abort(); /* a backend left a handle behind */
        worker_clear(&self->worker);
    }
    free(pool->workers);
    free(pool);
}
