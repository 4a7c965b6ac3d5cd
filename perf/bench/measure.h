/* Runs one load in a process of its own, pinned to the client's core: every measurement starts from
 * the same clean state, its CPU is its own, and gRPC's threads of a stock client never meet a fork.
 * The lab's process itself must not have called grpc_init(). */
#ifndef PRISM_PERF_BENCH_MEASURE_H
#define PRISM_PERF_BENCH_MEASURE_H

#include "perf/bench/lab.h"
#include "perf/bench/run.h"

/* A load: run_load, run_preload. */
typedef bool measure_fn(const struct run_plan *plan, struct run_result *result);

/* False with lab->error set when the load failed or had a single error. */
bool measure(struct lab *lab, measure_fn *load, const struct run_plan *plan,
             struct run_result *result);

#endif
