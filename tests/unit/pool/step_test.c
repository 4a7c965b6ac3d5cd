/* Between any two instructions the scheduler may let another thread run. Here it happens at each of
 * them in turn: a thread is single-stepped (by x86's trap flag) through its part of the sleeping
 * protocol, and after its n-th instruction stands still while the other part takes place as a
 * whole; for every n there is. Nobody may sleep over a job.
 *
 * What a processor reorders cannot be seen this way; wake_test.c leaves that to chance. */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <ucontext.h>

#if defined(__x86_64__) && !UNDER_TSAN /* ThreadSanitizer delivers signals when it likes */
enum { CAN_STEP = 1 };
#define FLAGS(context) (((ucontext_t *)(context))->uc_mcontext.gregs[REG_EFL])
#else
enum { CAN_STEP = 0 };
static long long no_flags;
#define FLAGS(context) (no_flags)
#endif

/* ---- single steps; one thread at a time makes them ---- */

enum { TRAP_FLAG = 0x100, VERY_MANY = 1u << 20 };

/* Under a sanitizer and without optimisation most instructions are of no interest. */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
enum { STRIDE = 1 };
#else
enum { STRIDE = 7 };
#endif

static volatile unsigned steps_left;
static void (*on_last_step)(void);

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code == SI_TKILL) { /* begin_steps */
        FLAGS(context) |= TRAP_FLAG;
        return;
    }
    if (steps_left > 0 && --steps_left > 0)
        return;
    FLAGS(context) &= ~TRAP_FLAG;
    if (on_last_step != NULL)
        on_last_step();
}

static void begin_steps(unsigned n, void (*then)(void))
{
    steps_left = n;
    on_last_step = then;
    raise(SIGTRAP);
}

/* They ended before the last one. */
static void end_steps(void)
{
    on_last_step = NULL;
    steps_left = 0;
}

static void allow_steps(void *arg)
{
    sigset_t trap;

    (void)arg;
    sigemptyset(&trap);
    sigaddset(&trap, SIGTRAP);
    pthread_sigmask(SIG_UNBLOCK, &trap, NULL);
}

/* ---- the stage ---- */

enum walk { WALKING, STANDS, MAY_GO, ARRIVED };

static struct {
    struct pool *pool;
    struct worker *worker;
    int stat;       /* /proc/.../stat of its thread */
    bool by_intake; /* how jobs are handed over */

    struct job prelude, job;
    _Atomic bool begun, let_go, ran;
    _Atomic enum walk walk;
    unsigned step;
} stage;

/* Is the worker's thread asleep, as the kernel sees it? */
static bool blocked(void)
{
    char text[256];
    ssize_t n = pread(stage.stat, text, sizeof text - 1, 0);

    if (n <= 0)
        return false;
    text[n] = '\0';

    const char *name_end = strrchr(text, ')');

    return name_end != NULL && name_end[2] == 'S';
}

static void find_stat(void *arg)
{
    char path[64];

    (void)arg;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", gettid());
    stage.stat = open(path, O_RDONLY);
}

static void run_job(struct job *job)
{
    (void)job;
    atomic_store(&stage.ran, true);
}

static void hand_over(void)
{
    if (!stage.by_intake) {
        worker_land(stage.worker, &stage.job);
        return;
    }
    if (!worker_submit(stage.worker, &stage.job))
        abort();
    worker_kick(stage.worker);
}

static bool job_ran(void *arg)
{
    (void)arg;
    return atomic_load(&stage.ran);
}

static bool is_blocked(void *arg)
{
    (void)arg;
    return blocked();
}

static void set_stage(void (*prelude)(struct job *))
{
    assert_true(becomes(is_blocked, NULL));
    stage.prelude.run = prelude;
    stage.job.run = run_job;
    atomic_store(&stage.begun, false);
    atomic_store(&stage.let_go, false);
    atomic_store(&stage.ran, false);
    atomic_store(&stage.walk, WALKING);
    worker_land(stage.worker, &stage.prelude);
}

static int open_stage(void **state)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    (void)state;
    sigaction(SIGTRAP, &action, NULL);
    stage.pool = start(1, 2);
    stage.worker = pool_worker(stage.pool, 0);
    worker_run_sync(stage.worker, allow_steps, NULL);
    worker_run_sync(stage.worker, find_stat, NULL);
    return stage.stat >= 0 ? 0 : -1;
}

static int close_stage(void **state)
{
    (void)state;
    pool_stop(stage.pool);
    close(stage.stat);
    return 0;
}

/* ---- the worker walks, the producer strikes ---- */

static void worker_stands_still(void)
{
    enum walk walking = WALKING;

    if (!atomic_compare_exchange_strong(&stage.walk, &walking, STANDS))
        return;
    while (atomic_load(&stage.walk) == STANDS)
        sched_yield();
}

/* The worker's last job before it looks for more and goes to sleep. */
static void walk_to_bed(struct job *job)
{
    (void)job;
    atomic_store(&stage.begun, true);
    begin_steps(stage.step, worker_stands_still);
}

static bool stands_or_sleeps(void *arg)
{
    (void)arg;
    return atomic_load(&stage.walk) == STANDS || (atomic_load(&stage.begun) && blocked());
}

/* False: the worker was asleep before its n-th step. */
static bool strike_at(unsigned n)
{
    enum walk walking = WALKING;

    stage.step = n;
    set_stage(walk_to_bed);
    assert_true(becomes(stands_or_sleeps, NULL));

    bool stood = !atomic_compare_exchange_strong(&stage.walk, &walking, ARRIVED);

    hand_over();
    if (stood)
        atomic_store(&stage.walk, MAY_GO);
    assert_true(becomes(job_ran, NULL));
    return stood;
}

/* ---- the producer walks, the worker goes to sleep ---- */

/* The worker is busy until the producer stands still. */
static void linger(struct job *job)
{
    (void)job;
    atomic_store(&stage.begun, true);
    while (!atomic_load(&stage.let_go))
        sched_yield();
}

static bool has_begun(void *arg)
{
    (void)arg;
    return atomic_load(&stage.begun);
}

static void producer_stands_still(void)
{
    atomic_store(&stage.walk, STANDS);
    atomic_store(&stage.let_go, true);
    becomes(is_blocked, NULL);
}

/* False: the producer was through before its n-th step. */
static bool stand_at(unsigned n)
{
    set_stage(linger);
    assert_true(becomes(has_begun, NULL));
    begin_steps(n, producer_stands_still);
    hand_over();
    end_steps();

    bool stood = atomic_load(&stage.walk) == STANDS;

    atomic_store(&stage.let_go, true);
    assert_true(becomes(job_ran, NULL));
    return stood;
}

/* ---- tests ---- */

static _Atomic bool stepped;

static void note_step(void)
{
    atomic_store(&stepped, true);
}

static void need_steps(void)
{
    if (CAN_STEP) {
        begin_steps(3, note_step);
        blocked(); /* anything */
        end_steps();
    }
    if (!atomic_load(&stepped))
        skip();
}

static void at_every_step(bool (*round)(unsigned n), bool by_intake)
{
    unsigned n = 1;

    need_steps();
    stage.by_intake = by_intake;
    round(1); /* the dynamic linker has its say only once */
    round(VERY_MANY);
    while (round(n))
        n += STRIDE;
    assert_in_range(n, 50, VERY_MANY);
}

static void test_landing_at_every_step_to_bed(void **state)
{
    (void)state;
    at_every_step(strike_at, false);
}

static void test_submit_at_every_step_to_bed(void **state)
{
    (void)state;
    at_every_step(strike_at, true);
}

static void test_falling_asleep_at_every_step_of_a_landing(void **state)
{
    (void)state;
    at_every_step(stand_at, false);
}

static void test_falling_asleep_at_every_step_of_a_submit(void **state)
{
    (void)state;
    at_every_step(stand_at, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_landing_at_every_step_to_bed),
        cmocka_unit_test(test_submit_at_every_step_to_bed),
        cmocka_unit_test(test_falling_asleep_at_every_step_of_a_landing),
        cmocka_unit_test(test_falling_asleep_at_every_step_of_a_submit),
    };

    return cmocka_run_group_tests(tests, open_stage, close_stage);
}
