/* Meters CPU and instructions of a server process and of this one between two moments.
 * thread: one. */
#ifndef PRISM_PERF_BENCH_METER_H
#define PRISM_PERF_BENCH_METER_H

#include "perf/bench/run.h"

enum { METER_THREADS_MAX = 256 };

struct meter {
    pid_t pid;
    clockid_t server_clock;
    bool has_server;
    pid_t beside;
    uint64_t began_ns, server_ns, client_ns, beside_ns;
    uint64_t busy_ticks;             /* of all processors */
    int counters[METER_THREADS_MAX]; /* one perf event per thread of the server */
    unsigned counter_count;
};

/* Finds the clock of the plan's server and, where the machine has them, its instruction counters.
 * False with result->error set when the process cannot be read. */
bool meter_open(struct meter *m, const struct run_plan *plan, struct run_result *result);

void meter_start(struct meter *m);

/* Fills seconds, server_cpu_ns, client_cpu_ns, server_instructions and disturbance. */
void meter_stop(struct meter *m, struct run_result *result);

void meter_close(struct meter *m);

/* CPU of another process so far; UINT64_MAX when it is gone. */
uint64_t meter_process_cpu_ns(pid_t pid);

#endif
