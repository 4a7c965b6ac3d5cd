/* Workers without a thread of their own: what the lanes, wakes and hooks do, step by step. With
 * threads: pool_test.c. */
#include "pool/worker.h"

#include "tests/unit/pool/fixture.h"

#include <pthread.h>

/* ---- helpers ---- */

struct desk {
    struct worker worker;
    unsigned woken;
    char order[64]; /* names of what ran */
    size_t len;
};

struct task {
    struct job job;
    struct desk *desk;
    char name;
    struct task *lands;   /* by run_task, on the desk of that task */
    unsigned more_rounds; /* lands itself again so often */
};

static void wake(struct worker *worker)
{
    CONTAINER_OF(worker, struct desk, worker)->woken++;
}

static void note(struct desk *desk, char name)
{
    assert_true(desk->len + 1 < sizeof desk->order);
    desk->order[desk->len++] = name;
}

static void run_task(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);

    assert_ptr_equal(worker_current(), &task->desk->worker);
    note(task->desk, task->name);
    if (task->lands != NULL)
        worker_land(&task->lands->desk->worker, &task->lands->job);
    if (task->more_rounds > 0) {
        task->more_rounds--;
        worker_land(&task->desk->worker, &task->job);
    }
}

static struct desk *desks_new(unsigned n)
{
    struct desk *desks = aligned_alloc(64, n * sizeof *desks);

    assert_non_null(desks);
    memset(desks, 0, n * sizeof *desks);
    for (unsigned i = 0; i < n; i++)
        worker_init(&desks[i].worker, i, wake);
    return desks;
}

static void desks_free(struct desk *desks, unsigned n)
{
    worker_set_current(NULL);
    for (unsigned i = 0; i < n; i++)
        worker_clear(&desks[i].worker);
    free(desks);
}

static struct task task_of(struct desk *desk, char name)
{
    return (struct task){.job.run = run_task, .desk = desk, .name = name};
}

static void sleep_now(struct desk *desk)
{
    atomic_store(&desk->worker.sleeping, true);
}

/* ---- wakes ---- */

static void test_kick_wakes_a_sleeper_once(void **state)
{
    struct desk *desk = desks_new(1);

    (void)state;
    worker_kick(&desk->worker);
    assert_int_equal(desk->woken, 0);
    sleep_now(desk);
    worker_kick(&desk->worker);
    worker_kick(&desk->worker);
    assert_int_equal(desk->woken, 1);
    assert_false(atomic_load(&desk->worker.sleeping));
    assert_int_equal(counter_read(&desk->worker.stats.wakes), 1);
    desks_free(desk, 1);
}

static void test_landing_from_outside_wakes_at_once(void **state)
{
    struct desk *desk = desks_new(1);
    struct task a = task_of(desk, 'a'), b = task_of(desk, 'b');

    (void)state;
    sleep_now(desk);
    worker_land(&desk->worker, &a.job);
    assert_int_equal(desk->woken, 1);
    worker_land(&desk->worker, &b.job);
    assert_int_equal(desk->woken, 1);
    assert_string_equal(desk->order, ""); /* never inline */
    worker_set_current(&desk->worker);
    assert_int_equal(worker_drain(&desk->worker, 0), 2);
    assert_string_equal(desk->order, "ab");
    desks_free(desk, 1);
}

/* A chain of jobs that never ends, and one that lands from outside meanwhile. */
static void test_chains_do_not_keep_others_out(void **state)
{
    struct desk *desk = desks_new(1);
    struct task a = task_of(desk, 'a'), b = task_of(desk, 'b');

    (void)state;
    a.more_rounds = 20;
    worker_set_current(&desk->worker);
    worker_land(&desk->worker, &a.job);
    drain_by(&desk->worker, 4);
    worker_set_current(NULL);
    worker_land(&desk->worker, &b.job);
    worker_set_current(&desk->worker);
    drain_by(&desk->worker, 4);
    assert_string_equal(desk->order, "aaaaabaa");
    worker_drain(&desk->worker, 0);
    desks_free(desk, 1);
}

/* What a batch lands on another worker is announced once, at the end of the batch. */
static void test_landing_from_a_worker_wakes_at_the_end(void **state)
{
    struct desk *desks = desks_new(3);
    struct task a = task_of(&desks[1], 'a'), b = task_of(&desks[1], 'b'),
                c = task_of(&desks[2], 'c');

    (void)state;
    sleep_now(&desks[1]);
    worker_set_current(&desks[0].worker);
    worker_land(&desks[1].worker, &a.job);
    worker_land(&desks[1].worker, &b.job);
    worker_land(&desks[2].worker, &c.job);
    assert_int_equal(desks[1].woken, 0);
    worker_end_batch(&desks[0].worker);
    assert_int_equal(desks[1].woken, 1);
    assert_int_equal(desks[2].woken, 0); /* it was awake */
    sleep_now(&desks[1]);
    worker_end_batch(&desks[0].worker);
    assert_int_equal(desks[1].woken, 1); /* an old batch is no news */
    worker_set_current(&desks[1].worker);
    assert_int_equal(worker_drain(&desks[1].worker, 0), 2);
    worker_set_current(&desks[2].worker);
    assert_int_equal(worker_drain(&desks[2].worker, 0), 1);
    desks_free(desks, 3);
}

static void test_landing_much_on_one_worker_wakes_it_once(void **state)
{
    enum { MANY = 3 * WORKER_MAX };
    struct desk *desks = desks_new(2);
    struct task tasks[MANY];

    (void)state;
    worker_set_current(&desks[0].worker);
    sleep_now(&desks[1]);
    for (unsigned i = 0; i < MANY; i++) {
        tasks[i] = task_of(&desks[1], 'x');
        worker_land(&desks[1].worker, &tasks[i].job);
    }
    assert_int_equal(desks[0].worker.kick_count, 1);
    assert_int_equal(desks[1].woken, 0);
    worker_end_batch(&desks[0].worker);
    assert_int_equal(desks[1].woken, 1);
    desks_free(desks, 2);
}

/* More sleepers than a pool has workers (several pools, pollers): none is forgotten. */
static void test_a_batch_for_very_many_workers(void **state)
{
    enum { MANY = 3 * WORKER_MAX };
    struct desk *desks = desks_new(MANY + 1);
    struct task tasks[MANY + 1];

    (void)state;
    worker_set_current(&desks[0].worker);
    for (unsigned i = 1; i <= MANY; i++) {
        tasks[i] = task_of(&desks[i], 'x');
        sleep_now(&desks[i]);
        worker_land(&desks[i].worker, &tasks[i].job);
    }
    worker_end_batch(&desks[0].worker);
    for (unsigned i = 1; i <= MANY; i++) {
        assert_int_equal(desks[i].woken, 1);
        worker_set_current(&desks[i].worker);
        assert_int_equal(worker_drain(&desks[i].worker, 0), 1);
    }
    desks_free(desks, MANY + 1);
}

/* ---- lanes ---- */

static void test_landing_at_home_is_local(void **state)
{
    struct desk *desk = desks_new(1);
    struct task a = task_of(desk, 'a'), b = task_of(desk, 'b'), c = task_of(desk, 'c');

    (void)state;
    sleep_now(desk);
    worker_set_current(&desk->worker);
    assert_true(worker_idle(&desk->worker));
    a.lands = &c; /* jobs of jobs run in the same drain, behind those that are there */
    worker_land(&desk->worker, &a.job);
    worker_land(&desk->worker, &b.job);
    assert_false(worker_idle(&desk->worker));
    assert_string_equal(desk->order, "");
    assert_true(landing_empty(&desk->worker.landing)); /* no locked instruction */
    assert_int_equal(worker_drain(&desk->worker, 0), 3);
    assert_string_equal(desk->order, "abc");
    assert_int_equal(desk->woken, 0);
    assert_true(worker_idle(&desk->worker));
    assert_int_equal(counter_read(&desk->worker.stats.landings), 3);
    assert_int_equal(worker_drain(&desk->worker, 0), 0);
    desks_free(desk, 1);
}

/* A chain of jobs that goes on and on is cut, so that timers, descriptors and other workers get
 * their turn. */
static void test_drain_can_be_bounded(void **state)
{
    struct desk *desk = desks_new(1);
    struct task chain = task_of(desk, 'a'), other = task_of(desk, 'b');

    (void)state;
    worker_set_current(&desk->worker);
    chain.more_rounds = 9;
    worker_land(&desk->worker, &chain.job);
    drain_by(&desk->worker, 4);
    assert_false(worker_idle(&desk->worker));
    worker_land(&desk->worker, &other.job);
    drain_by(&desk->worker, 2);
    assert_string_equal(desk->order, "aaaaab");
    assert_int_equal(worker_drain(&desk->worker, 0), 5);
    assert_int_equal(worker_drain(&desk->worker, 4), 0);
    assert_int_equal(counter_read(&desk->worker.stats.landings), 11);
    desks_free(desk, 1);
}

static void test_submit_refuses_when_full(void **state)
{
    struct desk *desk = desks_new(1);
    struct task tasks[5];

    (void)state;
    desk->worker.intake = ring_new(4);
    sleep_now(desk);
    for (unsigned i = 0; i < 5; i++) {
        tasks[i] = task_of(desk, (char)('a' + i));
        assert_int_equal(worker_submit(&desk->worker, &tasks[i].job), i < 4);
    }
    assert_int_equal(desk->woken, 0); /* the producer kicks when its batch is complete */
    assert_int_equal(counter_read(&desk->worker.stats.refused), 1);
    assert_false(worker_idle(&desk->worker));
    for (unsigned i = 0; i < 4; i++)
        assert_ptr_equal(ring_pop(desk->worker.intake), &tasks[i].job);
    assert_true(worker_idle(&desk->worker));
    assert_true(worker_submit(&desk->worker, &tasks[4].job));
    desks_free(desk, 1);
}

/* ---- the end of a batch ---- */

struct tell {
    struct batch_hook hook;
    struct desk *desk;
    char name;
    bool leaves;
    struct desk *wakes;
    struct task *task;
};

static void run_tell(struct batch_hook *hook)
{
    struct tell *tell = CONTAINER_OF(hook, struct tell, hook);

    note(tell->desk, tell->name);
    if (tell->leaves)
        worker_remove_hook(&tell->desk->worker, hook);
    if (tell->wakes != NULL)
        worker_land(&tell->wakes->worker, &tell->task->job);
}

struct bell {
    struct timer timer;
    struct desk *desk;
};

static void ring_bell(struct timer *timer)
{
    note(CONTAINER_OF(timer, struct bell, timer)->desk, 't');
}

static void test_hooks(void **state)
{
    struct desk *desk = desks_new(1);
    struct tell a = {.hook.run = run_tell, .desk = desk, .name = 'a'}, b = a, c = a;

    (void)state;
    b.name = 'b';
    c.name = 'c';
    b.leaves = true;
    worker_set_current(&desk->worker);
    worker_add_hook(&desk->worker, &c.hook);
    worker_add_hook(&desk->worker, &b.hook);
    worker_add_hook(&desk->worker, &a.hook);
    worker_end_batch(&desk->worker);
    assert_string_equal(desk->order, "abc");
    worker_end_batch(&desk->worker);
    assert_string_equal(desk->order, "abcac");
    worker_remove_hook(&desk->worker, &b.hook); /* gone already */
    worker_remove_hook(&desk->worker, &a.hook);
    worker_remove_hook(&desk->worker, &c.hook);
    worker_end_batch(&desk->worker);
    assert_string_equal(desk->order, "abcac");
    desks_free(desk, 1);
}

/* Timers fall due, but are fired with the next drain; then hooks, then wakes: those of a hook are
 * not late. */
static void test_order_of_the_end(void **state)
{
    struct desk *desks = desks_new(2);
    struct task task = task_of(&desks[1], 'x');
    struct tell tell = {
        .hook.run = run_tell, .desk = desks, .name = 'h', .wakes = &desks[1], .task = &task};
    struct bell bell = {.desk = desks};

    (void)state;
    worker_set_current(&desks->worker);
    sleep_now(&desks[1]);
    worker_add_hook(&desks->worker, &tell.hook);
    desks->worker.timers.tick = 0; /* time has passed since 1970 */
    timer_arm(&desks->worker.timers, &bell.timer, 1, ring_bell);
    desks->worker.now_ns = 0;
    worker_end_batch(&desks->worker);
    assert_string_equal(desks->order, "h");
    assert_int_equal(desks[1].woken, 1);
    assert_true(desks->worker.now_ns > 0);
    assert_false(worker_idle(&desks->worker));
    assert_int_equal(worker_drain(&desks->worker, 0), 1);
    assert_string_equal(desks->order, "ht");
    worker_set_current(&desks[1].worker);
    worker_drain(&desks[1].worker, 0);
    desks_free(desks, 2);
}

/* ---- who am I ---- */

static void *current_elsewhere(void *arg)
{
    (void)arg;
    return worker_current();
}

static void test_current_is_the_thread_s_own(void **state)
{
    struct desk *desk = desks_new(1);
    pthread_t thread;
    void *elsewhere = desk;

    (void)state;
    assert_null(worker_current());
    worker_set_current(&desk->worker);
    worker_assert_home(&desk->worker);
    assert_int_equal(pthread_create(&thread, NULL, current_elsewhere, NULL), 0);
    pthread_join(thread, &elsewhere);
    assert_null(elsewhere);
    desks_free(desk, 1);
}

static void not_at_home(void)
{
    struct desk *desk = desks_new(1);

    worker_assert_home(&desk->worker);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void worker_waits_for_worker(void)
{
    struct desk *desks = desks_new(2);

    worker_set_current(&desks[0].worker);
    worker_run_sync(&desks[1].worker, nothing, NULL);
}

static void test_misuse_aborts(void **state)
{
    (void)state;
    assert_true(aborts(not_at_home));
    assert_true(aborts(worker_waits_for_worker));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kick_wakes_a_sleeper_once),
        cmocka_unit_test(test_landing_from_outside_wakes_at_once),
        cmocka_unit_test(test_chains_do_not_keep_others_out),
        cmocka_unit_test(test_landing_from_a_worker_wakes_at_the_end),
        cmocka_unit_test(test_landing_much_on_one_worker_wakes_it_once),
        cmocka_unit_test(test_a_batch_for_very_many_workers),
        cmocka_unit_test(test_landing_at_home_is_local),
        cmocka_unit_test(test_drain_can_be_bounded),
        cmocka_unit_test(test_submit_refuses_when_full),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_order_of_the_end),
        cmocka_unit_test(test_current_is_the_thread_s_own),
        cmocka_unit_test(test_misuse_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
