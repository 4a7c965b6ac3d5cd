/* /metrics of connections: how many there are, what the guard did, what the coalescer saved. */
#include "src/rpc/coalesce.h"
#include "src/rpc/guard.h"
#include "src/rpc/inflow.h"
#include "src/rpc/rpc_priv.h"

static void sample(struct metrics_page *page, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    metrics_family(page, name, type, help);
    metrics_sample_u64(page, name, NULL, value);
}

static void sample_by_reason(struct metrics_page *page, const char *name,
                             const char *const *reasons, const uint64_t *values, int n)
{
    for (int i = 0; i < n; i++)
        metrics_sample_u64(page, name, (const char *[]){"reason", reasons[i], NULL}, values[i]);
}

static void render_accepted(struct metrics_page *page)
{
    static const char *const reasons[GUARD_REFUSALS] = {
        [GUARD_REFUSED_CONNECTIONS] = "max_connections",
        [GUARD_REFUSED_PEER] = "max_connections_per_peer",
        [GUARD_REFUSED_DESCRIPTORS] = "descriptors"};
    struct guard_stats s = guard_stats();

    sample(page, "prism_connections", "gauge",
           "Open client connections, with those that are closed and still send.", s.connections);
    sample(page, "prism_connections_max", "gauge",
           "Client connections beyond which new ones are refused; 0: no bound.", s.max_connections);
    metrics_family(page, "prism_connections_refused_total", "counter",
                   "Connections that were closed as soon as they were accepted, by the limit.");
    sample_by_reason(page, "prism_connections_refused_total", reasons, s.refused, GUARD_REFUSALS);
}

static void render_inflow(struct metrics_page *page)
{
    static const char *const ends[INFLOW_ENDS] = {[INFLOW_TOO_MANY_STREAMS] = "streams",
                                                  [INFLOW_LONG_HEADERS] = "headers",
                                                  [INFLOW_INCOMPLETE] = "incomplete",
                                                  [INFLOW_OVERDUE] = "overdue",
                                                  [INFLOW_UNREAD] = "unread"};
    static const char *const expenses[METER_EXPENSES] = {METER_EXPENSE_NAMES};
    struct inflow_stats s = inflow_stats();

    sample(page, "prism_streams_open", "gauge", "Open HTTP/2 streams, from their headers on.",
           s.open_streams);
    sample(page, "prism_requests_incomplete", "gauge",
           "Open streams whose first message is not complete.", s.incomplete);
    sample(page, "prism_requests_incomplete_bytes", "gauge",
           "Bytes of messages that are not complete.", s.part_bytes);
    sample(page, "prism_requests_overdue_total", "counter",
           "Streams that were ended as a message was not complete in time.", s.overdue_streams);
    sample(page, "prism_connections_paused", "gauge",
           "Connections that are not read for a moment, as they flood.", s.paused);
    metrics_family(page, "prism_connections_slowed_total", "counter",
                   "Pauses of connections that flood, by what they sent too much of.");
    sample_by_reason(page, "prism_connections_slowed_total", expenses, s.slowed, METER_EXPENSES);
    metrics_family(page, "prism_connections_ended_total", "counter",
                   "Connections that were ended as they held too much, by what.");
    sample_by_reason(page, "prism_connections_ended_total", ends, s.ended, INFLOW_ENDS);
}

static void render_coalescing(struct metrics_page *page)
{
    struct coalesce_stats s = coalesce_stats();

    sample(page, "prism_coalesced_writes_total", "counter",
           "Writes of gRPC taken in by the coalescer.", s.writes);
    sample(page, "prism_coalesced_flushes_total", "counter",
           "System calls made for coalesced writes.", s.flushes);
    sample(page, "prism_coalesced_stalls_total", "counter", "Flushes cut short by a full socket.",
           s.stalls);
    sample(page, "prism_coalesced_held_bytes", "gauge", "Bytes held for slow readers.",
           s.held_bytes);
}

void render_connections(struct metrics_page *page)
{
    render_accepted(page);
    render_inflow(page);
    render_coalescing(page);
}
