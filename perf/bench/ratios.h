/* One run of `prism-bench ratios`: its options, its lab, and what the rounds have brought. */
#ifndef PRISM_PERF_BENCH_RATIOS_H
#define PRISM_PERF_BENCH_RATIOS_H

#include "perf/bench/targets.h"

enum { RATIOS_ROUNDS_MAX = 99, RATIOS_TARGETS_MAX = 64 };

/* What an empty server costs; measured once for three targets. */
struct idle_figures {
    bool known;
    double ticks, threads, grpc_threads, resident_mb;
};

struct ratios {
    struct lab lab;
    const char *only; /* names of targets, comma-separated; NULL = all */
    unsigned rounds;
    double seconds; /* of each measurement */
    bool as_json, strict;
    bool wanted[SHAPES];
    char broken[SUBJECTS][LAB_ERROR_BYTES]; /* not empty: the subject failed, none of it counts */
    struct run_result results[SHAPES][RATIOS_ROUNDS_MAX];
    struct record records[RATIOS_TARGETS_MAX];
    double prism_store_instructions; /* measured once for three targets; 0 = not yet */
    struct idle_figures idle;
};

/* A plan for the server with the usual workload: 16-byte keys, 128-byte values, batches of 100. */
struct run_plan ratios_plan(const struct ratios *ratios, const struct server *server,
                            const char *operation, uint32_t keys);

/* Marks wanted shapes, visits every subject in rotated order in each round, and fills the records
 * of the targets that have no probe. Progress goes to standard error. False when interrupted. */
bool ratios_go_round(struct ratios *ratios);

/* Prints the records of the chosen targets. */
void ratios_print(const struct ratios *ratios);

#endif
