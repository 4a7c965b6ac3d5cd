/* Prints what was measured: one run after the other, as a table or as JSON. thread: one. */
#ifndef PRISM_PERF_BENCH_REPORT_H
#define PRISM_PERF_BENCH_REPORT_H

#include "perf/bench/json.h"
#include "perf/bench/run.h"

struct report {
    bool as_json;
    struct json json;
    bool has_head; /* the table's */
    double start_delay_max_ns;
};

/* `server` is how the server is called in the output. */
void report_open(struct report *r, bool as_json, const char *server, const struct run_plan *plan);
void report_add(struct report *r, const struct run_plan *plan, const struct run_result *result);
void report_close(struct report *r);

#endif
