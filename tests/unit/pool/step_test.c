/* Between any two instructions the scheduler may let another thread run. Here it happens at each of
 * them in turn: a thread is single-stepped (by x86's trap flag) through its part of the sleeping
 * protocol, and after its n-th instruction stands still while the other part takes place as a
 * whole; for every n there is. Nobody may sleep over a job.
 *
 * What a processor reorders cannot be seen this way; wake_test.c leaves that to chance. */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

#include <fcntl.h>
#include <poll.h>
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
#if defined(__OPTIMIZE__) && !UNDER_ASAN
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

enum walk { WALKING, STANDS, ARRIVED };

/* A signal handler may read and write a pipe; so those who stand still wait at one. */
struct turnstile {
    int ends[2];
};

static struct {
    struct pool *pool;
    struct worker *worker;
    int stat;       /* /proc/.../stat of its thread */
    bool by_intake; /* how jobs are handed over */
    unsigned step;  /* where the worker stands still */

    struct job prelude, job;
    struct turnstile stands, go;
    sem_t begun, ran;
    _Atomic enum walk walk;
    _Atomic bool let_go;
} stage;

static void open_turnstile(struct turnstile *turnstile)
{
    assert_int_equal(pipe(turnstile->ends), 0);
}

static void pass(struct turnstile *turnstile)
{
    char byte;

    while (read(turnstile->ends[0], &byte, 1) != 1)
        ;
}

static void let_pass(struct turnstile *turnstile)
{
    while (write(turnstile->ends[1], "", 1) != 1)
        ;
}

/* Is the worker's thread asleep, as the kernel sees it? */
static bool is_blocked(void *arg)
{
    char text[256];
    ssize_t n = pread(stage.stat, text, sizeof text - 1, 0);

    (void)arg;
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
    sem_post(&stage.ran);
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

/* Until the worker is in its prelude. */
static void set_stage(void (*prelude)(struct job *))
{
    stage.prelude.run = prelude;
    stage.job.run = run_job;
    atomic_store(&stage.walk, WALKING);
    worker_land(stage.worker, &stage.prelude);
    assert_true(gate_pass(&stage.begun));
}

static int open_stage(void **state)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    (void)state;
    sigaction(SIGTRAP, &action, NULL);
    sem_init(&stage.begun, 0, 0);
    sem_init(&stage.ran, 0, 0);
    open_turnstile(&stage.stands);
    open_turnstile(&stage.go);
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
    for (unsigned i = 0; i < 2; i++) {
        close(stage.stands.ends[i]);
        close(stage.go.ends[i]);
    }
    return 0;
}

/* ---- the worker walks, the producer strikes ---- */

static void worker_stands_still(void)
{
    enum walk walking = WALKING;

    if (!atomic_compare_exchange_strong(&stage.walk, &walking, STANDS))
        return;
    let_pass(&stage.stands);
    pass(&stage.go);
}

/* The worker's last job before it looks for more and goes to sleep. */
static void walk_to_bed(struct job *job)
{
    (void)job;
    sem_post(&stage.begun);
    begin_steps(stage.step, worker_stands_still);
}

/* Waits until the worker stands still; false: it was asleep before its n-th step. */
static bool stands_still(void)
{
    struct pollfd stands = {.fd = stage.stands.ends[0], .events = POLLIN};
    uint64_t until_ns = clock_now_ns() + PATIENCE_S * NS_PER_S;
    enum walk walking = WALKING;

    while (poll(&stands, 1, 1) == 0) {
        if (!is_blocked(NULL) && clock_now_ns() < until_ns)
            continue;
        if (atomic_compare_exchange_strong(&stage.walk, &walking, ARRIVED))
            return false;
    }
    pass(&stage.stands);
    return true;
}

static bool strike_at(unsigned n)
{
    stage.step = n;
    set_stage(walk_to_bed);

    bool stood = stands_still();

    hand_over();
    if (stood)
        let_pass(&stage.go);
    assert_true(gate_pass(&stage.ran));
    return stood;
}

/* ---- the producer walks, the worker goes to sleep ---- */

/* The worker is busy until the producer stands still. */
static void linger(struct job *job)
{
    (void)job;
    sem_post(&stage.begun);
    pass(&stage.go);
    atomic_store(&stage.let_go, true);
}

static bool is_in_bed(void *arg)
{
    return atomic_load(&stage.let_go) && is_blocked(arg);
}

static void producer_stands_still(void)
{
    atomic_store(&stage.walk, STANDS);
    let_pass(&stage.go);
    becomes(is_in_bed, NULL);
}

/* False: the producer was through before its n-th step. */
static bool stand_at(unsigned n)
{
    atomic_store(&stage.let_go, false);
    set_stage(linger);
    begin_steps(n, producer_stands_still);
    hand_over();
    end_steps();

    bool stood = atomic_load(&stage.walk) == STANDS;

    if (!stood)
        let_pass(&stage.go);
    assert_true(gate_pass(&stage.ran));
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
        is_blocked(NULL); /* anything */
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
