/* Redis without Prism: what its native client reaches, what it keeps in memory. */
#ifndef PRISM_PERF_BENCH_NATIVE_REDIS_H
#define PRISM_PERF_BENCH_NATIVE_REDIS_H

#include "perf/bench/run.h"
#include "perf/bench/servers.h"

/* `command` is a word of prism-baseline-hiredis: fill, get, set, mget, mset, del. 16-byte keys,
 * 128-byte values, on the client's core. Fills calls (one for each item), items, hits, seconds,
 * client_cpu_ns and disturbance. False with lab->error set. */
struct native_redis_job {
    const char *command;
    uint32_t keys;
    unsigned in_flight; /* commands */
    double seconds;
};

bool native_redis_run(struct lab *lab, const struct server *redis,
                      const struct native_redis_job *job, struct run_result *result);

/* used_memory of INFO, in bytes. False with lab->error set. */
bool native_redis_memory(struct lab *lab, const struct server *redis, double *bytes);

#endif
