/* Workers with their threads: start, the intake lane, stop. */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <uv.h>

/* The pool's calls of uv_async_send pass by here: a test learns that pool_stop has told the first
 * worker. */
static _Atomic(sem_t *) opens_on_async;

int uv_async_send(uv_async_t *async)
{
    int (*real)(uv_async_t *);
    sem_t *gate = atomic_exchange(&opens_on_async, NULL);

    *(void **)&real = libuv("uv_async_send");
    if (gate != NULL)
        sem_post(gate);
    return real(async);
}

/* ---- start and stop ---- */

struct witness {
    struct worker *current;
    pthread_t thread;
    sigset_t blocked;
};

static void look_around(void *arg)
{
    struct witness *witness = arg;

    witness->current = worker_current();
    witness->thread = pthread_self();
    pthread_sigmask(SIG_SETMASK, NULL, &witness->blocked);
}

static void test_each_worker_has_its_own_thread(void **state)
{
    struct pool *pool = start(3, 16);
    struct witness seen[3];

    (void)state;
    assert_int_equal(pool_size(pool), 3);
    for (unsigned i = 0; i < 3; i++) {
        struct worker *worker = pool_worker(pool, i);

        assert_int_equal(worker->id, i);
        assert_non_null(worker->loop);
        assert_int_equal((uintptr_t)worker % 64, 0);
        worker_run_sync(worker, look_around, &seen[i]);
        assert_ptr_equal(seen[i].current, worker);
        assert_false(pthread_equal(seen[i].thread, pthread_self()));
        assert_int_equal(sigismember(&seen[i].blocked, SIGTERM), 1);
    }
    assert_false(pthread_equal(seen[0].thread, seen[1].thread));
    assert_false(pthread_equal(seen[1].thread, seen[2].thread));
    assert_null(worker_current());
    pool_stop(pool);
    pool_stop(NULL);
}

static void no_workers(void)
{
    start(0, 16);
}

static void too_many_workers(void)
{
    start(WORKER_MAX + 1, 16);
}

static void odd_depth(void)
{
    start(1, 3);
}

static void test_impossible_options_abort(void **state)
{
    (void)state;
    assert_true(aborts(no_workers));
    assert_true(aborts(too_many_workers));
    assert_true(aborts(odd_depth));
}

/* The process has no descriptors left for the last loops: what was started is stopped again, all of
 * it (the leak check of AddressSanitizer looks on). */
static void test_start_without_descriptors_fails_whole(void **state)
{
    struct pool_options options = {.workers = 16, .intake_depth = 16};
    struct pool *pool = NULL;
    struct rlimit before, few;
    int next;

    (void)state;
    pool_stop(start(1, 16)); /* what libuv opens once for the process is open now */
    next = open("/dev/null", O_RDONLY);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)next + 9, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);

    struct err err = pool_start(&pool, &options);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(err.code, ERR_RESOURCE_EXHAUSTED);
    assert_non_null(err.text);
    assert_null(pool);
    assert_int_equal(open("/dev/null", O_RDONLY), next); /* no descriptor was left behind */
    close(next);
}

/* ---- intake ---- */

enum { DEPTH = 16 };

static void test_submit_until_full(void **state)
{
    struct pool *pool = start(1, DEPTH);
    struct worker *worker = pool_worker(pool, 0);
    struct task tasks[DEPTH + 3];
    struct log log;
    struct hold hold;

    (void)state;
    log_open(&log, tasks, DEPTH + 3);
    hold_worker(worker, &hold);
    for (unsigned i = 0; i < DEPTH + 3; i++)
        assert_int_equal(worker_submit(worker, &tasks[i].job), i < DEPTH);
    worker_kick(worker);
    assert_int_equal(counter_read(&worker->stats.refused), 3);
    sem_post(&hold.go);
    log_await(&log, DEPTH);
    assert_true(worker_submit(worker, &tasks[DEPTH].job));
    worker_kick(worker);
    log_await(&log, 1);
    pool_stop(pool);
    assert_int_equal(log.len, DEPTH + 1);
    for (unsigned i = 0; i < log.len; i++)
        assert_int_equal(log.names[i], i);
}

/* Lands many jobs, and then holds the worker: the backlog is there before anything is offered. */
struct flood {
    struct hold hold;
    struct task *tasks;
    unsigned n;
};

static void run_flood(struct job *job)
{
    struct flood *flood = CONTAINER_OF(job, struct flood, hold.job);

    for (unsigned i = 0; i < flood->n; i++)
        worker_land(worker_current(), &flood->tasks[i].job);
    run_hold(job);
}

/* So a lane that is not emptied fills, and refuses. */
static void test_nothing_is_begun_behind_a_backlog(void **state)
{
    enum { LOCAL = 2000, TURN = 256 };
    struct pool *pool = start(1, DEPTH);
    struct worker *worker = pool_worker(pool, 0);
    struct task *tasks = calloc(LOCAL + DEPTH, sizeof *tasks);
    struct flood flood = {.tasks = tasks, .n = LOCAL};
    struct log log;
    unsigned before = 0;

    (void)state;
    assert_non_null(tasks);
    log_open(&log, tasks, LOCAL + DEPTH);
    hold_worker_by(worker, &flood.hold, run_flood);
    for (unsigned i = 0; i < DEPTH; i++)
        assert_true(worker_submit(worker, &tasks[LOCAL + i].job));
    sem_post(&flood.hold.go);
    log_await(&log, LOCAL + DEPTH);
    pool_stop(pool);
    while (log.names[before] < LOCAL)
        before++;
    assert_in_range(before, LOCAL - TURN + 1, LOCAL);
    free(tasks);
}

/* ---- stopping ---- */

/* Asked to stop while both lanes are full of work: all of it is done. */
static void test_stop_does_what_is_queued(void **state)
{
    enum { N = 1024 };
    struct pool *pool = start(1, N);
    struct worker *worker = pool_worker(pool, 0);
    struct task *tasks = calloc(2 * N, sizeof *tasks);
    struct log log;
    struct hold hold;

    (void)state;
    assert_non_null(tasks);
    log_open(&log, tasks, 2 * N);
    hold_worker(worker, &hold);
    for (unsigned i = 0; i < N; i++)
        assert_true(worker_submit(worker, &tasks[i].job));
    for (unsigned i = N; i < 2 * N; i++)
        worker_land(worker, &tasks[i].job);
    atomic_store(&opens_on_async, &hold.go); /* pool_stop tells the worker by it */
    pool_stop(pool);
    assert_int_equal(log.len, 2 * N);
    free(tasks);
}

/* A backend whose closing takes a moment of the loop, and lands a job at its end. */
struct closing {
    uv_timer_t timer;
    struct worker *home;
    struct job last;
    bool closed; /* read after the worker has left */
};

static void closed(struct job *job)
{
    CONTAINER_OF(job, struct closing, last)->closed = true;
}

static void on_closed(uv_handle_t *handle)
{
    struct closing *closing = handle->data;

    worker_land(closing->home, &closing->last);
}

static void on_close_timer(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, on_closed);
}

static void begin_closing(void *arg)
{
    struct closing *closing = arg;

    uv_timer_init(closing->home->loop, &closing->timer);
    closing->timer.data = closing;
    uv_timer_start(&closing->timer, on_close_timer, 20, 0);
}

static void test_stop_waits_for_handles_of_the_loop(void **state)
{
    struct pool *pool = start(1, 2);
    struct closing closing = {.home = pool_worker(pool, 0), .last.run = closed};

    (void)state;
    worker_run_sync(closing.home, begin_closing, &closing);
    pool_stop(pool);
    assert_true(closing.closed);
}

/* A worker that still works lands a job on one that has left already. */
struct straggler {
    struct job job, reply;
    struct worker *gone;
    char gone_path[64];
    sem_t reached, go;
    bool replied;
};

static bool has_left(void *arg)
{
    return access(((struct straggler *)arg)->gone_path, F_OK) != 0;
}

static void straggle(struct job *job)
{
    struct straggler *straggler = CONTAINER_OF(job, struct straggler, job);

    sem_post(&straggler->reached);
    if (!gate_pass(&straggler->go) || !becomes(has_left, straggler))
        abort();
    worker_land(straggler->gone, &straggler->reply);
}

static void replied(struct job *job)
{
    struct straggler *straggler = CONTAINER_OF(job, struct straggler, reply);

    assert_ptr_equal(worker_current(), straggler->gone);
    straggler->replied = true;
}

static void find_thread(void *arg)
{
    struct straggler *straggler = arg;

    snprintf(straggler->gone_path, sizeof straggler->gone_path, "/proc/self/task/%d", gettid());
}

static void test_stop_loses_nothing_between_workers(void **state)
{
    struct pool *pool = start(2, 2);
    struct straggler straggler = {
        .job.run = straggle, .reply.run = replied, .gone = pool_worker(pool, 0)};

    (void)state;
    sem_init(&straggler.reached, 0, 0);
    sem_init(&straggler.go, 0, 0);
    worker_run_sync(straggler.gone, find_thread, &straggler);
    assert_true(becomes(sleeps, straggler.gone));
    worker_land(pool_worker(pool, 1), &straggler.job);
    assert_true(gate_pass(&straggler.reached));
    atomic_store(&opens_on_async, &straggler.go);
    pool_stop(pool);
    assert_true(straggler.replied);
    assert_null(worker_current());
}

static void leave_a_handle(void *arg)
{
    struct closing *closing = arg;

    uv_timer_init(closing->home->loop, &closing->timer); /* never active, never closed */
}

static void stop_with_a_forgotten_handle(void)
{
    struct pool *pool = start(1, 2);
    struct closing *closing = calloc(1, sizeof *closing);

    closing->home = pool_worker(pool, 0);
    worker_run_sync(closing->home, leave_a_handle, closing);
    pool_stop(pool);
}

static void test_a_forgotten_handle_aborts(void **state)
{
    (void)state;
    assert_true(aborts(stop_with_a_forgotten_handle));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_worker_has_its_own_thread),
        cmocka_unit_test(test_impossible_options_abort),
        cmocka_unit_test(test_start_without_descriptors_fails_whole),
        cmocka_unit_test(test_submit_until_full),
        cmocka_unit_test(test_nothing_is_begun_behind_a_backlog),
        cmocka_unit_test(test_stop_does_what_is_queued),
        cmocka_unit_test(test_stop_waits_for_handles_of_the_loop),
        cmocka_unit_test(test_stop_loses_nothing_between_workers),
        cmocka_unit_test(test_a_forgotten_handle_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
