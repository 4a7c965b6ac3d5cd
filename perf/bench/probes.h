/* Targets that are not a load in rounds: instructions, an idle server, memory, expiry. Each is a
 * probe_fn (targets.h). Counts repeat to about 1 %, so one measurement of each is enough; what is
 * CPU time is measured in as many rounds as the loads, and its ratio is the median. */
#ifndef PRISM_PERF_BENCH_PROBES_H
#define PRISM_PERF_BENCH_PROBES_H

#include "perf/bench/targets.h"

probe_fn probe_instructions_cpp, probe_instructions_bare, probe_consolidated;
probe_fn probe_idle_cpu, probe_idle_threads, probe_idle_memory;
probe_fn probe_memory_per_key, probe_ttl_table, probe_ttl_server;

#endif
