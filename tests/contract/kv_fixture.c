/* Runs operations for the suite. The test's thread hands one job to the worker; the job starts all
 * operations in one group; the group's idle() tells the test's thread. A worker without a thread is
 * driven by the waiting side. */
#include "tests/contract/kv_contract.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

struct kv_batch_run {
    struct job job;
    struct op_group group;
    struct kv_fixture *fixture;
    struct backend *backend;
    const struct kv_step *steps;
    size_t n, done;
    bool starting;
};

struct call_run {
    struct job job;
    struct kv_fixture *fixture;
    void (*run)(void *arg);
    void *arg;
};

uint64_t kv_clock_ms(void)
{
    return clock_now_ns() / NS_PER_MS;
}

void kv_fixture_init(struct kv_fixture *fixture)
{
    pthread_condattr_t attributes;

    arena_init(&fixture->arena, NULL);
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&fixture->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!fixture->threaded)
        worker_set_current(fixture->worker);
}

void kv_fixture_clear(struct kv_fixture *fixture)
{
    arena_clear(&fixture->arena);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->lock);
    if (!fixture->threaded)
        worker_set_current(NULL);
}

int kv_forget(void **state)
{
    struct kv_fixture *fixture = *state;

    arena_clear(&fixture->arena);
    return 0;
}

/* ---- waiting ---- */

static void set_idle(struct kv_fixture *fixture, bool idle)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->idle = idle;
    pthread_cond_signal(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static bool wait_threaded(struct kv_fixture *fixture)
{
    uint64_t until_ns = clock_now_ns() + KV_PATIENCE_MS * NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                             .tv_nsec = (long)(until_ns % NS_PER_S)};
    int error = 0;

    pthread_mutex_lock(&fixture->lock);
    while (!fixture->idle && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until);

    bool idle = fixture->idle;

    pthread_mutex_unlock(&fixture->lock);
    return idle;
}

static bool drive(struct kv_fixture *fixture)
{
    uint64_t give_up_ms = kv_clock_ms() + KV_PATIENCE_MS;

    while (!fixture->idle && kv_clock_ms() < give_up_ms) {
        worker_drain(fixture->worker, 0);
        worker_end_batch(fixture->worker);
    }
    return fixture->idle;
}

/* What is under way points into the caller's frames: if it does not end, nothing can go on. */
static void wait_idle(struct kv_fixture *fixture)
{
    if (fixture->threaded ? wait_threaded(fixture) : drive(fixture))
        return;
    print_error("kv contract: an operation is not done after %d ms\n", (int)KV_PATIENCE_MS);
    abort();
}

void kv_pass(struct kv_fixture *fixture, unsigned ms)
{
    if (fixture->pass_ms != NULL)
        fixture->pass_ms(fixture, ms);
    else
        poll(NULL, 0, (int)ms);
    if (!fixture->threaded) {
        worker_drain(fixture->worker, 0);
        worker_end_batch(fixture->worker);
    }
}

/* ---- operations ---- */

static void on_idle(struct op_group *group)
{
    struct kv_batch_run *run = CONTAINER_OF(group, struct kv_batch_run, group);

    if (run->done != run->n)
        run->fixture->fault = "the group fell idle before every operation was done";
    set_idle(run->fixture, true); /* the last touch: the run lives in the waiting frame */
}

static void on_done(struct op *op)
{
    struct kv_batch_run *run = CONTAINER_OF(op->group, struct kv_batch_run, group);

    run->done++;
    if (run->starting)
        run->fixture->fault = "done() came inside the method";
    if (op->err.code != ERR_OK && op->err.text == NULL)
        run->fixture->fault = "an error without a text";
}

static void start_all(struct job *job)
{
    struct kv_batch_run *run = CONTAINER_OF(job, struct kv_batch_run, job);
    uint64_t deadline_ns = clock_now_ns() + KV_PATIENCE_MS / 2 * NS_PER_MS;

    op_group_init(&run->group, run->fixture->worker, &run->fixture->arena, deadline_ns);
    run->group.idle = on_idle;
    op_group_enter(&run->group);
    run->starting = true;
    for (size_t i = 0; i < run->n; i++) {
        op_start(run->steps[i].op, &run->group, on_done);
        run->steps[i].start(run->backend, run->steps[i].op);
    }
    run->starting = false;
    op_group_leave(&run->group);
}

void kv_run(struct kv_fixture *fixture, struct backend *backend, const struct kv_step *steps,
            size_t n)
{
    struct kv_batch_run run = {
        .job.run = start_all, .fixture = fixture, .backend = backend, .steps = steps, .n = n};

    fixture->fault = NULL;
    set_idle(fixture, false);
    worker_land(fixture->worker, &run.job);
    wait_idle(fixture);
    if (fixture->fault != NULL)
        fail_msg("%s", fixture->fault);
}

struct err kv_do(struct kv_fixture *fixture, kv_start_fn *start, struct op *op)
{
    struct kv_step step = {.start = start, .op = op};

    kv_run(fixture, fixture->backend, &step, 1);
    return op->err;
}

static void run_call(struct job *job)
{
    struct call_run *call = CONTAINER_OF(job, struct call_run, job);

    call->run(call->arg);
    set_idle(call->fixture, true);
}

void kv_on_worker(struct kv_fixture *fixture, void (*run)(void *arg), void *arg)
{
    struct call_run call = {.job.run = run_call, .fixture = fixture, .run = run, .arg = arg};

    set_idle(fixture, false);
    worker_land(fixture->worker, &call.job);
    wait_idle(fixture);
}

/* ---- instances ---- */

struct open_call {
    struct kv_fixture *fixture;
    struct backend_store *store;
    struct backend *backend;
};

static void open_instance(void *arg)
{
    struct open_call *call = arg;

    call->backend = call->store->type->open(call->store, call->fixture->worker);
}

struct backend *kv_open(struct kv_fixture *fixture, struct backend_store *store)
{
    struct open_call call = {.fixture = fixture, .store = store};

    kv_on_worker(fixture, open_instance, &call);
    return call.backend;
}

static void instance_closed(void *arg)
{
    set_idle(arg, true);
}

struct close_call {
    struct job job;
    struct kv_fixture *fixture;
    struct backend *backend;
};

static void close_instance(struct job *job)
{
    struct close_call *call = CONTAINER_OF(job, struct close_call, job);

    call->backend->type->close(call->backend, instance_closed, call->fixture);
}

void kv_close(struct kv_fixture *fixture, struct backend *backend)
{
    struct close_call call = {.job.run = close_instance, .fixture = fixture, .backend = backend};

    set_idle(fixture, false);
    worker_land(fixture->worker, &call.job);
    wait_idle(fixture);
}
