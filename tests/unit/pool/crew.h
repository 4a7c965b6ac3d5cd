/* A pool for the tests that need threads. */
#ifndef PRISM_TESTS_UNIT_POOL_CREW_H
#define PRISM_TESTS_UNIT_POOL_CREW_H

#include "pool/worker.h"
#include "tests/unit/pool/fixture.h"

#include <dlfcn.h>

static inline struct pool *start(unsigned workers, uint32_t intake_depth)
{
    struct pool_options options = {.workers = workers, .intake_depth = intake_depth};
    struct pool *pool = NULL;

    assert_int_equal(pool_start(&pool, &options).code, ERR_OK);
    return pool;
}

/* ---- jobs ---- */

struct task {
    struct job job;
    struct log *log;
    unsigned name;
};

struct log {
    unsigned names[4096];
    size_t len;
    sem_t done; /* one for each that ran */
};

static inline void run_task(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);
    struct log *log = task->log;

    log->names[log->len++] = task->name;
    sem_post(&log->done);
}

static inline void log_open(struct log *log, struct task *tasks, unsigned n)
{
    log->len = 0;
    sem_init(&log->done, 0, 0);
    for (unsigned i = 0; i < n; i++)
        tasks[i] = (struct task){.job.run = run_task, .log = log, .name = i};
}

static inline void log_await(struct log *log, unsigned n)
{
    while (n-- > 0)
        assert_true(gate_pass(&log->done));
}

/* Holds its worker until it is let go. */
struct hold {
    struct job job;
    sem_t reached, go;
};

static inline void run_hold(struct job *job)
{
    struct hold *hold = CONTAINER_OF(job, struct hold, job);

    sem_post(&hold->reached);
    if (!gate_pass(&hold->go))
        abort();
}

/* run ends with run_hold(). */
static inline void hold_worker_by(struct worker *worker, struct hold *hold,
                                  void (*run)(struct job *))
{
    hold->job.run = run;
    sem_init(&hold->reached, 0, 0);
    sem_init(&hold->go, 0, 0);
    worker_land(worker, &hold->job);
    assert_true(gate_pass(&hold->reached));
}

static inline void hold_worker(struct worker *worker, struct hold *hold)
{
    hold_worker_by(worker, hold, run_hold);
}

/* ---- looking and meddling ---- */

/* For becomes(): has the worker nothing to do? */
static inline bool sleeps(void *arg)
{
    struct worker *worker = arg;

    return atomic_load(&worker->sleeping);
}

/* What libuv itself would do, for a test that stands between the pool and libuv. */
static inline void *libuv(const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);

    assert_non_null(fn);
    return fn;
}

#endif
