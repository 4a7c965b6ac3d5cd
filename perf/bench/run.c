/* What the loops share; see run.h. */
#include "perf/bench/run.h"

#include "perf/histogram.h"
#include "perf/load/client.h"

#include <stdarg.h>
#include <stdio.h>

/* Batches that a server accepts with its default limits. */
enum { PRELOAD_BATCH_MAX = 100, PRELOAD_CALL_BYTES = 1 << 18, PRELOAD_IN_FLIGHT = 4 };

const char *run_check(const struct run_plan *p)
{
    const char *bad = workload_check(&p->workload);

    if (bad != NULL)
        return bad;
    if (p->connections == 0 || p->connections > CLIENT_CONNECTIONS_MAX)
        return "connections must be between 1 and 1024";
    if (p->in_flight < p->connections)
        return "in-flight must be at least the number of connections";
    if (p->in_flight / p->connections >= CLIENT_CALLS_MAX)
        return "in-flight must be below 65536 per connection";
    if (!(p->seconds > 0) && p->calls == 0)
        return "seconds must be above 0";
    if (p->warmup_seconds < 0)
        return "warmup must not be negative";
    if (p->rate < 0)
        return "rate must not be negative";
    if (p->client == &client_stock && p->operation->streams)
        return "the stock client makes unary calls only";
    if (p->operation->needs_ids && p->workload.id_count == 0)
        return "session-get needs session-ids";
    return NULL;
}

bool run_load(const struct run_plan *plan, struct run_result *result)
{
    return plan->rate > 0 ? run_open(plan, result) : run_closed(plan, result);
}

bool run_preload(const struct run_plan *plan, struct run_result *result)
{
    struct run_plan p = *plan;
    uint32_t entry_bytes = plan->workload.key_bytes + plan->workload.value_bytes;
    uint32_t batch = PRELOAD_CALL_BYTES / entry_bytes;

    if (batch > PRELOAD_BATCH_MAX)
        batch = PRELOAD_BATCH_MAX;
    if (batch > p.workload.keys)
        batch = p.workload.keys;
    p.operation = operation_find("store-batch");
    p.workload.sequential = true;
    p.workload.batch = batch == 0 ? 1 : batch;
    p.calls = (p.workload.keys + p.workload.batch - 1) / p.workload.batch;
    p.connections = 1;
    p.in_flight = PRELOAD_IN_FLIGHT;
    return run_closed(&p, result);
}

void run_take_latencies(struct run_result *r, const struct histogram *h)
{
    r->min_ns = histogram_min(h);
    r->p50_ns = histogram_percentile(h, 50);
    r->p90_ns = histogram_percentile(h, 90);
    r->p99_ns = histogram_percentile(h, 99);
    r->p999_ns = histogram_percentile(h, 99.9);
    r->max_ns = histogram_max(h);
    r->mean_ns = histogram_mean(h);
}

bool run_fail(struct run_result *r, const char *format, ...)
{
    va_list args;

    if (r->error[0] != '\0')
        return false;
    va_start(args, format);
    vsnprintf(r->error, sizeof r->error, format, args);
    va_end(args);
    return false;
}
