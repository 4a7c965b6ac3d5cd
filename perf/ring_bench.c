/* The lanes of pool/ring.h against what one would write without them: a list under a mutex.
 *
 *   intake      bounded single-producer single-consumer ring
 *   landing     many producers, one consumer, never full
 *   mutex       the baseline, same jobs
 *
 * "same thread": push and take in turn, the cost of the lane itself. "two threads": one thread
 * pushes as fast as it can, the other takes; both spin, so no wake-up is in the figure. "wake" is
 * the cost of one futex wake of a sleeping thread to the thread that wakes, which is why
 * pool/worker.h wakes once for each batch. Order and number of the jobs are checked.
 *
 * usage: prism-ring-bench [--output json] */
#include "pool/ring.h"

#include "perf/bench/json.h"
#include "perf/common/clock.h"
#include "perf/common/memory.h"
#include "perf/common/samples.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { JOBS = 1 << 20, DEPTH = 1024, BATCH = 64, ROUNDS = 5, WAKES = 2000 };

struct numbered {
    struct job job;
    uint32_t number;
};

struct mutex_lane {
    pthread_mutex_t lock;
    struct job_list list;
};

enum figure {
    INTAKE_ALONE,
    LANDING_ALONE,
    MUTEX_ALONE,
    INTAKE_ACROSS,
    LANDING_ACROSS,
    MUTEX_ACROSS,
    WAKE,
    FIGURES
};

static const char *const names[FIGURES] = {
    [INTAKE_ALONE] = "intake_same_thread_ns",
    [LANDING_ALONE] = "landing_same_thread_ns",
    [MUTEX_ALONE] = "mutex_same_thread_ns",
    [INTAKE_ACROSS] = "intake_two_threads_ns",
    [LANDING_ACROSS] = "landing_two_threads_ns",
    [MUTEX_ACROSS] = "mutex_two_threads_ns",
    [WAKE] = "wake_ns",
};

static struct numbered *jobs;
static struct ring *intake;
static struct landing landing;
static struct mutex_lane mutex_lane = {.lock = PTHREAD_MUTEX_INITIALIZER};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "prism-ring-bench: %s\n", what);
    exit(1);
}

static void expect(const struct job *job, uint32_t number)
{
    if (job == NULL || ((const struct numbered *)job)->number != number)
        fail("a job is lost or out of order");
}

/* ---- the three lanes: push one, take what there is; take returns how many ---- */

static void intake_push(struct job *job)
{
    while (!ring_push(intake, job))
        sched_yield();
}

static uint32_t intake_take(uint32_t next)
{
    uint32_t count = 0;

    for (struct job *job = ring_pop(intake); job != NULL; job = ring_pop(intake))
        expect(job, next + count++);
    return count;
}

static void land(struct job *job)
{
    landing_push(&landing, job);
}

static uint32_t landing_take_all(uint32_t next)
{
    struct job_list list;
    uint32_t count = 0;

    job_list_init(&list);
    landing_take(&landing, &list);
    for (struct job *job = job_list_pop(&list); job != NULL; job = job_list_pop(&list))
        expect(job, next + count++);
    return count;
}

static void mutex_push(struct job *job)
{
    pthread_mutex_lock(&mutex_lane.lock);
    job_list_push(&mutex_lane.list, job);
    pthread_mutex_unlock(&mutex_lane.lock);
}

static uint32_t mutex_take(uint32_t next)
{
    uint32_t count = 0;

    for (;;) {
        pthread_mutex_lock(&mutex_lane.lock);
        struct job *job = job_list_pop(&mutex_lane.list);
        pthread_mutex_unlock(&mutex_lane.lock);
        if (job == NULL)
            return count;
        expect(job, next + count++);
    }
}

struct lane {
    void (*push)(struct job *job);
    uint32_t (*take)(uint32_t next);
};

static const struct lane intake_lane = {intake_push, intake_take};
static const struct lane landing_lane = {land, landing_take_all};
static const struct lane locked_lane = {mutex_push, mutex_take};

/* ---- measurements: nanoseconds per job ---- */

static double alone(const struct lane *lane)
{
    uint64_t since = clock_now_ns();

    for (uint32_t i = 0; i < JOBS; i += BATCH) {
        for (uint32_t j = i; j < i + BATCH; j++)
            lane->push(&jobs[j].job);
        if (lane->take(i) != BATCH)
            fail("a job is missing");
    }
    return (double)(clock_now_ns() - since) / JOBS;
}

static void *push_all(void *arg)
{
    const struct lane *lane = arg;

    for (uint32_t i = 0; i < JOBS; i++)
        lane->push(&jobs[i].job);
    return NULL;
}

static double across(const struct lane *lane)
{
    pthread_t producer;
    uint32_t taken = 0;
    uint64_t since = clock_now_ns();

    if (pthread_create(&producer, NULL, push_all, (void *)(uintptr_t)lane) != 0)
        fail("cannot start a thread");
    while (taken < JOBS) {
        uint32_t count = lane->take(taken);
        taken += count;
        if (count == 0)
            sched_yield(); /* the producer may need this very core */
    }
    double took = (double)(clock_now_ns() - since) / JOBS;
    pthread_join(producer, NULL);
    return took;
}

/* ---- a wake-up ---- */

static _Atomic uint32_t turn; /* odd: the sleeper may run */
static _Atomic bool sleeps;

static long futex(uint32_t operation, uint32_t value)
{
    return syscall(SYS_futex, &turn, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *sleep_and_wake(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < WAKES; i++) {
        atomic_store(&sleeps, true);
        while (atomic_load(&turn) == i)
            futex(FUTEX_WAIT, i);
    }
    return NULL;
}

static double wake(void)
{
    pthread_t sleeper;
    uint64_t spent = 0;

    atomic_store(&turn, 0);
    if (pthread_create(&sleeper, NULL, sleep_and_wake, NULL) != 0)
        fail("cannot start a thread");
    for (uint32_t i = 0; i < WAKES; i++) {
        while (!atomic_exchange(&sleeps, false))
            sched_yield();
        for (int settle = 0; settle < 100; settle++) /* it is about to sleep: let it */
            sched_yield();
        uint64_t since = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
        atomic_fetch_add(&turn, 1);
        futex(FUTEX_WAKE, 1);
        spent += clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - since;
    }
    pthread_join(sleeper, NULL);
    return (double)spent / WAKES;
}

/* ---- all ---- */

static void measure(double samples[FIGURES][ROUNDS], unsigned round)
{
    samples[INTAKE_ALONE][round] = alone(&intake_lane);
    samples[LANDING_ALONE][round] = alone(&landing_lane);
    samples[MUTEX_ALONE][round] = alone(&locked_lane);
    samples[INTAKE_ACROSS][round] = across(&intake_lane);
    samples[LANDING_ACROSS][round] = across(&landing_lane);
    samples[MUTEX_ACROSS][round] = across(&locked_lane);
    samples[WAKE][round] = wake();
}

static void print(double samples[FIGURES][ROUNDS], bool as_json)
{
    struct json json;

    json_init(&json, stdout);
    if (as_json)
        json_open(&json, NULL, '{');
    for (unsigned f = 0; f < FIGURES; f++) {
        double median = samples_median(samples[f], ROUNDS);
        if (as_json)
            json_number(&json, names[f], median);
        else
            printf("%-26s %9.1f\n", names[f], median);
    }
    if (as_json)
        json_close(&json, '}');
}

int main(int argc, char **argv)
{
    static double samples[FIGURES][ROUNDS];
    bool as_json = argc == 3 && strcmp(argv[1], "--output") == 0 && strcmp(argv[2], "json") == 0;

    if (argc != 1 && !as_json) {
        fprintf(stderr, "usage: %s [--output json]\n", argv[0]);
        return 2;
    }
    jobs = memory_zalloc(JOBS, sizeof *jobs);
    for (uint32_t i = 0; i < JOBS; i++)
        jobs[i].number = i;
    intake = ring_new(DEPTH);
    landing_init(&landing);
    job_list_init(&mutex_lane.list);
    for (unsigned round = 0; round < ROUNDS; round++)
        measure(samples, round);
    print(samples, as_json);
    ring_destroy(intake);
    free(jobs);
    return 0;
}
