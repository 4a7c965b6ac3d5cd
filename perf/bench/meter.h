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
    uint64_t began_ns, server_ns, client_ns;
    int counters[METER_THREADS_MAX]; /* one perf event per thread of the server */
    unsigned counter_count;
};

/* Finds the server's clock and, where the machine has them, its instruction counters.
 * False with result->error set when the process cannot be read. pid 0 = no server to meter. */
bool meter_open(struct meter *m, pid_t pid, struct run_result *result);

void meter_start(struct meter *m);

/* Fills seconds, server_cpu_ns, client_cpu_ns and server_instructions. */
void meter_stop(struct meter *m, struct run_result *result);

void meter_close(struct meter *m);

/* CPU of another process so far; UINT64_MAX when it is gone. */
uint64_t meter_process_cpu_ns(pid_t pid);

#endif
