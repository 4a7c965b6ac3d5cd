/* One measurement: a load of one operation against one server, and what came of it. */
#ifndef PRISM_PERF_BENCH_RUN_H
#define PRISM_PERF_BENCH_RUN_H

#include "perf/load/operation.h"
#include "perf/load/workload.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { RUN_ERROR_BYTES = 256 };

struct client_type;

struct run_plan {
    const struct operation *operation;
    struct workload_options workload;
    uint64_t seed;
    const char *host; /* numeric IPv4 address */
    uint16_t port;
    pid_t server_pid; /* 0 = unknown: no server CPU, no instructions */
    pid_t beside_pid; /* a server that ours uses, 0 = none: no stranger to the measurement */
    const struct client_type *client; /* client_lean or client_stock */
    unsigned connections;
    unsigned in_flight;    /* closed loop: always this many; open loop: at most this many */
    double rate;           /* calls/s of the open loop; 0 = closed loop */
    double warmup_seconds; /* load without measuring first */
    double seconds;        /* measured; ignored when calls is not 0 */
    uint64_t calls;        /* closed loop: end after exactly this many, warm-up included */
};

/* Plain data: it crosses a pipe between processes. Latencies are in nanoseconds; in an open loop
 * they are counted from the moment at which the call was due, not from the one at which it was
 * sent. */
struct run_result {
    char error[RUN_ERROR_BYTES]; /* empty = the figures below hold */
    uint64_t calls, items, hits; /* that ended (closed) or were due (open) while measuring */
    uint64_t errors;             /* over the whole run, warm-up and drain included */
    double seconds;              /* really measured */
    double server_cpu_ns, client_cpu_ns;
    double server_instructions; /* user level; negative = this machine cannot count them */
    double disturbance;         /* share of the machine's CPU that others used meanwhile, 0 to 1 */
    double start_delay_max_ns;  /* open loop: how late the client itself started a call, at worst */
    double start_delay_p99_ns; /* 99 % of its starts were not later; waits for in_flight excluded */
    uint64_t min_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns;
    double mean_ns;
};

struct histogram;

/* Each fills *result and returns result->error[0] == '\0'. thread: one per process. */
bool run_closed(const struct run_plan *plan, struct run_result *result);
bool run_open(const struct run_plan *plan, struct run_result *result);

/* The open loop when the plan has a rate, else the closed one. */
bool run_load(const struct run_plan *plan, struct run_result *result);

/* Stores the whole key space of the plan through StoreBatch, each key once. */
bool run_preload(const struct run_plan *plan, struct run_result *result);

/* NULL when the plan can be run, else why not (static text). */
const char *run_check(const struct run_plan *plan);

/* The rest is shared by the loops. */
void run_take_latencies(struct run_result *result, const struct histogram *h);
__attribute__((format(printf, 2, 3))) bool run_fail(struct run_result *result, const char *format,
                                                    ...);

#endif
