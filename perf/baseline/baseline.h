/* What the baseline servers share: fair settings and the contract with prism-bench.
 *
 * Contract: the port is the only argument (0 or none = a free one), the server listens on
 * 127.0.0.1, prints one line "listening PORT" on standard output when it is ready, and ends with
 * status 0 on SIGTERM or SIGINT. Usable from C and C++. */
#ifndef PRISM_PERF_BASELINE_BASELINE_H
#define PRISM_PERF_BASELINE_BASELINE_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BASELINE_FEW = 100
}; /* messages for one that a stream hands back, if that is what is asked for */

#ifdef __cplusplus
extern "C" {
#endif

/* absl::SetMutexDeadlockDetectionMode(kIgnore). Debian builds abseil without NDEBUG, which switches
 * lock-order tracking on: 7 to 27 % of an RPC server's CPU. Prism switches it off, so the baselines
 * do too; weak, for an abseil of another name has the tracking off anyway. */
extern void _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(int mode)
    __attribute__((weak));

static inline void baseline_switch_off_lock_tracking(void)
{
    if (_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE)
        _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(0);
}

/* Blocks the signals that end a server. Call it first: threads inherit the mask. */
static inline void baseline_block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigprocmask(SIG_BLOCK, set, NULL);
}

/* -1 when the argument is not a port. */
static inline int baseline_port(int argc, char **argv)
{
    char *end = NULL;

    if (argc < 2)
        return 0;
    long port = strtol(argv[1], &end, 10);
    return end == argv[1] || *end != '\0' || port < 0 || port > 65535 ? -1 : (int)port;
}

static inline void baseline_announce(int port)
{
    printf("listening %d\n", port);
    fflush(stdout);
}

#ifdef __cplusplus
}
#endif

#endif
