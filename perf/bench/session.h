/* What a closed and an open loop have in common: a client, a workload, a meter, a histogram. */
#ifndef PRISM_PERF_BENCH_SESSION_H
#define PRISM_PERF_BENCH_SESSION_H

#include "perf/bench/meter.h"
#include "perf/bench/run.h"
#include "perf/histogram.h"
#include "perf/load/client.h"

struct session {
    const struct run_plan *plan;
    struct run_result *result; /* emptied by session_open() */
    struct client *client;
    struct workload workload;
    struct meter meter;
    struct histogram latencies;
};

/* Connects; every end of a call goes to `end` with `arg`. False with result->error set.
 * session_close() is due in either case. */
bool session_open(struct session *s, unsigned calls_per_connection, client_end_fn *end, void *arg);

/* Adds one measured call to the result. */
void session_count(struct session *s, const struct client_end *end);

/* `fine` = the loop came through. Completes the result; returns whether it holds. */
bool session_close(struct session *s, bool fine);

#endif
