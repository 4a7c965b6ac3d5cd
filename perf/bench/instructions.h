/* Instructions per call, counted by callgrind: what the machine's own counters cannot be asked for
 * on many virtual machines, and repeatable to about 1 % whatever else the machine is doing. */
#ifndef PRISM_PERF_BENCH_INSTRUCTIONS_H
#define PRISM_PERF_BENCH_INSTRUCTIONS_H

#include "perf/bench/servers.h"

/* Runs the server under callgrind twice, with few and with many calls of the operation, and takes
 * the difference: start, preloading and stop cancel out. 64 calls in flight on 4 connections, user
 * level. False with lab->error set. */
bool instructions_per_call(struct lab *lab, enum server_kind kind, const char *operation,
                           double *result);

#endif
