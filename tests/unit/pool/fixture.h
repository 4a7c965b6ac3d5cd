/* Shared by the tests of pool/. No test waits by letting time pass: it waits for a condition, and
 * PATIENCE_S bounds how long before it calls the condition lost. */
#ifndef PRISM_TESTS_UNIT_POOL_FIXTURE_H
#define PRISM_TESTS_UNIT_POOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 60 };

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifdef UNDER_TSAN
enum { STRESS = 1 }; /* how much of a stress test's work is done */
#else
enum { STRESS = 5 };
#undef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

/* Does fn abort? In a child, whose output is not ours and which leaves no core file. */
static inline bool aborts(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0};

        setrlimit(RLIMIT_CORE, &none);
        close(STDERR_FILENO);
        fn();
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* A semaphore that loses patience: false means that what should have opened it never came. */
static inline bool gate_pass(sem_t *gate)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    while (sem_timedwait(gate, &until) != 0) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

/* Looks until it is true; false when patience ends. */
static inline bool becomes(bool (*condition)(void *arg), void *arg)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_S * NS_PER_S;

    while (!condition(arg)) {
        if (clock_now_ns() > until_ns)
            return condition(arg);
        sched_yield();
    }
    return true;
}

/* Repeatable: a failure can be looked at again. */
struct dice {
    uint64_t state;
};

static inline uint64_t dice_roll(struct dice *dice, uint64_t sides)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return dice->state % sides;
}

/* Runs n jobs, no more: in one turn, unless it is up before. Waits for nothing. */
static inline void drain_by(struct worker *worker, unsigned n)
{
    unsigned ran = 0;

    while (ran < n) {
        size_t more = worker_drain(worker, n - ran);

        assert_in_range(more, 1, n - ran);
        ran += (unsigned)more;
    }
}

#endif
