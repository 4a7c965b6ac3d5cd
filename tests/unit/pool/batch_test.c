/* What happens once a batch: hooks; and errands, for which somebody waits. */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

/* ---- batches ---- */

struct press {
    struct batch_hook hook;
    struct worker *worker;
    unsigned queued, printed; /* the worker's */
    _Atomic unsigned out;     /* what the outside sees */
    struct job job;
};

static void queue_page(struct job *job)
{
    CONTAINER_OF(job, struct press, job)->queued++;
}

static void print(struct batch_hook *hook)
{
    struct press *press = CONTAINER_OF(hook, struct press, hook);

    press->printed = press->queued;
    atomic_store(&press->out, press->printed);
}

static void install(void *arg)
{
    struct press *press = arg;

    worker_add_hook(press->worker, &press->hook);
}

static void uninstall(void *arg)
{
    struct press *press = arg;

    worker_remove_hook(press->worker, &press->hook);
}

/* What a batch queued is out before the worker sleeps again, and not only with the next batch. */
static void test_hooks_run_before_the_worker_sleeps(void **state)
{
    struct pool *pool = start(1, 2);
    struct press press = {.hook.run = print, .worker = pool_worker(pool, 0), .job.run = queue_page};

    (void)state;
    worker_run_sync(press.worker, install, &press);
    for (unsigned i = 1; i <= 200; i++) {
        assert_true(becomes(sleeps, press.worker));
        worker_land(press.worker, &press.job);
        while (atomic_load(&press.out) < i)
            assert_true(becomes(sleeps, press.worker) || atomic_load(&press.out) == i);
    }
    worker_run_sync(press.worker, uninstall, &press);
    pool_stop(pool);
    assert_int_equal(press.printed, 200);
}

struct ledger {
    struct batch_hook hook;
    struct worker *worker;
    const struct log *log;
    size_t entries, seen, largest; /* jobs of one batch, at most */
};

static void enter(struct batch_hook *hook)
{
    struct ledger *ledger = CONTAINER_OF(hook, struct ledger, hook);
    size_t n = ledger->log->len - ledger->seen;

    ledger->seen = ledger->log->len;
    ledger->entries += n > 0;
    if (n > ledger->largest)
        ledger->largest = n;
}

static void open_ledger(void *arg)
{
    struct ledger *ledger = arg;

    worker_add_hook(ledger->worker, &ledger->hook);
}

/* However full the lanes are, a batch ends in time for its hooks. */
static void test_full_lanes_are_cut_into_batches(void **state)
{
    enum { N = 1024 };
    struct pool *pool = start(1, N);
    struct task *tasks = calloc(2 * N, sizeof *tasks);
    struct log log;
    struct ledger ledger = {.hook.run = enter, .worker = pool_worker(pool, 0), .log = &log};
    struct hold hold;

    (void)state;
    assert_non_null(tasks);
    log_open(&log, tasks, 2 * N);
    worker_run_sync(ledger.worker, open_ledger, &ledger);
    hold_worker(ledger.worker, &hold);
    for (unsigned i = 0; i < N; i++) {
        assert_true(worker_submit(ledger.worker, &tasks[i].job));
        worker_land(ledger.worker, &tasks[N + i].job);
    }
    sem_post(&hold.go);
    log_await(&log, 2 * N);
    pool_stop(pool);
    assert_int_equal(ledger.seen, 2 * N);
    assert_in_range(ledger.entries, 4, N);
    assert_in_range(ledger.largest, 2, N);
    free(tasks);
}

static void add_one(void *arg)
{
    ++*(unsigned *)arg;
}

static void test_run_sync_returns_after_it_ran(void **state)
{
    struct pool *pool = start(2, 2);
    unsigned sum = 0; /* plain: the two threads never meet */

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        worker_run_sync(pool_worker(pool, i % 2), add_one, &sum);
        assert_int_equal(sum, i + 1);
    }
    pool_stop(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hooks_run_before_the_worker_sleeps),
        cmocka_unit_test(test_full_lanes_are_cut_into_batches),
        cmocka_unit_test(test_run_sync_returns_after_it_ran),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
