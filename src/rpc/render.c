/* /metrics of the server: calls by method and code, latency, in flight, refusals, lanes,
 * connections. */
#include "src/rpc/rpc_priv.h"

#include <stdio.h>

static const char *api_of(const struct row *row)
{
    if (row->method->replaced_by != NULL)
        return "deprecated";
    return row->service->service->pattern != NULL ? "pattern" : "general";
}

static const char *method_name(const struct row *row)
{
    return strrchr(row->method->path, '/') + 1;
}

static void render_counts(const struct rpc_server *server, struct metrics_page *page)
{
    metrics_family(page, "prism_rpc_total", "counter",
                   "Calls answered, by service, method, gRPC status code and API generation.");
    for (size_t i = 0; i < server->row_count; i++) {
        const struct row *row = &server->rows[i];

        for (int code = 0; code < ERR_CODE_COUNT; code++) {
            uint64_t n = counter_read(&row->metrics.codes[code]);
            const char *labels[] = {
                "service", row->service->service->name,        "method", method_name(row),
                "code",    err_code_name((enum err_code)code), "api",    api_of(row),
                NULL};

            if (n > 0)
                metrics_sample_u64(page, "prism_rpc_total", labels, n);
        }
    }
}

static void render_latency(const struct rpc_server *server, struct metrics_page *page)
{
    metrics_family(page, "prism_rpc_duration_seconds", "histogram",
                   "From the arrival of a call to its answer, as the server sees it.");
    for (size_t i = 0; i < server->row_count; i++) {
        const struct row *row = &server->rows[i];
        const struct histogram *parts[] = {&row->metrics.latency};
        const char *labels[] = {"service", row->service->service->name, "method", method_name(row),
                                NULL};

        if (counter_read(&row->metrics.started) > 0)
            metrics_histogram(page, "prism_rpc_duration_seconds", labels, parts, 1);
    }
}

static void render_bytes(const struct rpc_server *server, struct metrics_page *page)
{
    metrics_family(page, "prism_rpc_bytes_total", "counter", "Encoded messages, by direction.");
    for (size_t i = 0; i < server->row_count; i++) {
        const struct row *row = &server->rows[i];
        const char *in[] = {"service",   row->service->service->name,
                            "method",    method_name(row),
                            "direction", "request",
                            NULL};
        const char *out[] = {"service",   row->service->service->name,
                             "method",    method_name(row),
                             "direction", "response",
                             NULL};

        if (counter_read(&row->metrics.started) == 0)
            continue;
        metrics_sample_u64(page, "prism_rpc_bytes_total", in,
                           counter_read(&row->metrics.request_bytes));
        metrics_sample_u64(page, "prism_rpc_bytes_total", out,
                           counter_read(&row->metrics.response_bytes));
    }
}

static void sample(struct metrics_page *page, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    metrics_family(page, name, type, help);
    metrics_sample_u64(page, name, NULL, value);
}

static void render_refusals(const struct rpc_server *server, struct metrics_page *page)
{
    const struct {
        const char *why;
        const struct counter *n;
    } rows[] = {
        {"admission", &server->refused_admission},    {"answers", &server->refused_answers},
        {"connection_share", &server->refused_share}, {"decoded", &server->refused_decoded},
        {"intake_full", &server->refused_intake},     {"draining", &server->refused_draining}};

    metrics_family(page, "prism_rpc_refused_total", "counter",
                   "Calls refused by reason: answers after a read, decoded requests before the "
                   "first operation, all else on arrival.");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *labels[] = {"reason", rows[i].why, NULL};

        metrics_sample_u64(page, "prism_rpc_refused_total", labels, counter_read(rows[i].n));
    }
    sample(page, "prism_rpc_unread_answers_total", "counter",
           "Answers dropped because their clients did not take them in time.",
           counter_read(&server->unread_answers));
    sample(page, "prism_rpc_expired_in_queue_total", "counter",
           "Calls that were over, by deadline or cancellation, before they were taken up: not "
           "carried out.",
           counter_read(&server->expired));
    sample(page, "prism_rpc_held_bytes", "gauge",
           "Bytes that requests, messages of streams and answers in flight hold.",
           memory_held(server));
    sample(page, "prism_rpc_receives_waiting", "gauge",
           "Streams whose next message waits until there is memory for it.",
           counter_read(&server->hungry_count));
    sample(page, "prism_rpc_in_flight", "gauge", "Calls accepted and not yet answered.",
           counter_read(&server->in_flight_count));
    sample(page, "prism_rpc_unknown_method_total", "counter",
           "Calls of methods that are not served.", counter_read(&server->unknown_methods));
}

static void render_generations(const struct rpc_server *server, struct metrics_page *page)
{
    const char *old[] = {"api", "deprecated", NULL}, *fresh[] = {"api", "pattern", NULL};

    metrics_family(page, "prism_api_calls_total", "counter",
                   "Use of deprecated against pattern services.");
    metrics_sample_u64(page, "prism_api_calls_total", old, counter_read(&server->deprecated_calls));
    metrics_sample_u64(page, "prism_api_calls_total", fresh, counter_read(&server->pattern_calls));
}

/* ---- lanes ---- */

static struct worker *worker_at(const struct rpc_server *server, unsigned i)
{
    return i < pool_size(server->pool) ? pool_worker(server->pool, i)
                                       : (struct worker *)(uintptr_t)&server->poller;
}

static void worker_name(const struct rpc_server *server, unsigned i, char *name, size_t size)
{
    if (i < pool_size(server->pool))
        snprintf(name, size, "%u", i);
    else
        snprintf(name, size, "poller");
}

static void render_worker_counter(const struct rpc_server *server, struct metrics_page *page,
                                  const char *name, const char *help, size_t offset)
{
    metrics_family(page, name, "counter", help);
    for (unsigned i = 0; i <= pool_size(server->pool); i++) {
        char id[16];
        const char *labels[] = {"worker", id, NULL};
        const char *stats = (const char *)&worker_at(server, i)->stats;

        worker_name(server, i, id, sizeof id);
        metrics_sample_u64(page, name, labels,
                           counter_read((const struct counter *)(const void *)(stats + offset)));
    }
}

static void render_lanes(const struct rpc_server *server, struct metrics_page *page)
{
    metrics_family(page, "prism_lane_depth", "gauge", "Jobs waiting in a worker's intake lane.");
    for (unsigned i = 0; i < pool_size(server->pool); i++) {
        char id[16];
        const char *labels[] = {"lane", "intake", "worker", id, NULL};

        worker_name(server, i, id, sizeof id);
        metrics_sample_u64(page, "prism_lane_depth", labels,
                           ring_depth(worker_at(server, i)->intake));
    }
    render_worker_counter(server, page, "prism_lane_refused_total",
                          "Jobs refused by a full intake lane.",
                          offsetof(struct worker_stats, refused));
    render_worker_counter(server, page, "prism_worker_jobs_total",
                          "Jobs taken from the intake lane.", offsetof(struct worker_stats, jobs));
    render_worker_counter(server, page, "prism_worker_landings_total",
                          "Completions run on their home worker.",
                          offsetof(struct worker_stats, landings));
    render_worker_counter(server, page, "prism_worker_batches_total", "Drained batches.",
                          offsetof(struct worker_stats, batches));
    render_worker_counter(server, page, "prism_worker_sleeps_total",
                          "Times the worker went to sleep.", offsetof(struct worker_stats, sleeps));
    render_worker_counter(server, page, "prism_worker_wakes_total", "Wake-ups sent to the worker.",
                          offsetof(struct worker_stats, wakes));
    render_worker_counter(server, page, "prism_deadlines_total",
                          "Operations ended by their deadline.",
                          offsetof(struct worker_stats, deadlines));
}

void rpc_server_render(void *arg, struct metrics_page *page)
{
    const struct rpc_server *server = arg;

    render_counts(server, page);
    render_latency(server, page);
    render_bytes(server, page);
    render_refusals(server, page);
    render_generations(server, page);
    render_lanes(server, page);
    render_connections(page);
}
