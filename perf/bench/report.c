/* See report.h. */
#include "perf/bench/report.h"

#include "perf/load/client.h"

void report_open(struct report *r, bool as_json, const char *server, const struct run_plan *p)
{
    const char *loop = p->rate > 0 ? "open" : "closed";
    const char *client = p->client == &client_stock ? "stock" : "lean";
    struct json *j = &r->json;

    r->as_json = as_json;
    r->has_head = false;
    r->start_delay_max_ns = 0;
    if (!as_json) {
        printf("%s, %s loop, %s client, %u connections, ", server, loop, client, p->connections);
        if (p->rate > 0)
            printf("%.0f calls/s", p->rate);
        else
            printf("%u calls in flight", p->in_flight);
        printf(", %u keys of %u B, values of %u B\n", p->workload.keys, p->workload.key_bytes,
               p->workload.value_bytes);
        return;
    }
    json_init(j, stdout);
    json_open(j, NULL, '{');
    json_text(j, "server", server);
    json_text(j, "loop", loop);
    json_text(j, "client", client);
    json_number(j, "connections", p->connections);
    json_number(j, "in_flight", p->in_flight);
    if (p->rate > 0)
        json_number(j, "rate", p->rate);
    json_number(j, "keys", p->workload.keys);
    json_number(j, "key_bytes", p->workload.key_bytes);
    json_number(j, "value_bytes", p->workload.value_bytes);
    json_open(j, "results", '[');
}

static void add_json(struct json *j, const struct run_plan *p, const struct run_result *r)
{
    double calls = (double)r->calls, items = (double)r->items;

    json_open(j, NULL, '{');
    json_text(j, "operation", p->operation->name);
    json_number(j, "batch", p->operation->batched ? p->workload.batch : 1);
    json_number(j, "seconds", r->seconds);
    json_number(j, "calls", calls);
    json_number(j, "items", items);
    json_number(j, "hits", (double)r->hits);
    json_number(j, "errors", (double)r->errors);
    json_number(j, "calls_per_s", calls / r->seconds);
    json_number(j, "items_per_s", items / r->seconds);
    json_open(j, "latency_us", '{');
    json_number(j, "min", (double)r->min_ns / 1e3);
    json_number(j, "mean", r->mean_ns / 1e3);
    json_number(j, "p50", (double)r->p50_ns / 1e3);
    json_number(j, "p90", (double)r->p90_ns / 1e3);
    json_number(j, "p99", (double)r->p99_ns / 1e3);
    json_number(j, "p999", (double)r->p999_ns / 1e3);
    json_number(j, "max", (double)r->max_ns / 1e3);
    json_close(j, '}');
    if (p->server_pid != 0)
        json_number(j, "server_cpu_us_per_call", r->server_cpu_ns / 1e3 / calls);
    else
        json_null(j, "server_cpu_us_per_call");
    json_number(j, "client_cpu_us_per_call", r->client_cpu_ns / 1e3 / calls);
    if (r->server_instructions >= 0)
        json_number(j, "server_instructions_per_call", r->server_instructions / calls);
    else
        json_null(j, "server_instructions_per_call");
    if (p->rate > 0) {
        json_number(j, "start_delay_p99_us", r->start_delay_p99_ns / 1e3);
        json_number(j, "start_delay_max_us", r->start_delay_max_ns / 1e3);
    }
    json_number(j, "disturbance", r->disturbance);
    json_close(j, '}');
}

static void add_row(struct report *report, const struct run_plan *p, const struct run_result *r)
{
    double calls = (double)r->calls;
    char instructions[24] = "n/a", cpu[24] = "n/a";

    if (!report->has_head)
        printf("%-17s %9s %10s %8s %8s %8s %8s %9s %9s %9s %9s %5s %7s\n", "operation", "calls/s",
               "items/s", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "server us",
               "client us", "instr", "hit", "others");
    report->has_head = true;
    if (p->server_pid != 0)
        snprintf(cpu, sizeof cpu, "%.2f", r->server_cpu_ns / 1e3 / calls);
    if (r->server_instructions >= 0)
        snprintf(instructions, sizeof instructions, "%.0f", r->server_instructions / calls);
    printf("%-17s %9.0f %10.0f %8.1f %8.1f %8.1f %8.1f %9.1f %9s %9.2f %9s %5.2f %6.0f%%\n",
           p->operation->name, calls / r->seconds, (double)r->items / r->seconds,
           (double)r->p50_ns / 1e3, (double)r->p90_ns / 1e3, (double)r->p99_ns / 1e3,
           (double)r->p999_ns / 1e3, (double)r->max_ns / 1e3, cpu, r->client_cpu_ns / 1e3 / calls,
           instructions, r->items ? (double)r->hits / (double)r->items : 0.0, r->disturbance * 100);
    fflush(stdout);
}

void report_add(struct report *r, const struct run_plan *plan, const struct run_result *result)
{
    if (result->start_delay_max_ns > r->start_delay_max_ns)
        r->start_delay_max_ns = result->start_delay_max_ns;
    if (r->as_json)
        add_json(&r->json, plan, result);
    else
        add_row(r, plan, result);
}

void report_close(struct report *r)
{
    if (!r->as_json) {
        if (r->has_head)
            puts("CPU is user + system per call; instr is user level, n/a where the machine does "
                 "not count them;\nothers is what other processes used of the machine meanwhile");
        if (r->start_delay_max_ns > 0)
            printf("the client itself sent calls up to %.0f us after they were due\n",
                   r->start_delay_max_ns / 1e3);
        return;
    }
    json_close(&r->json, ']');
    json_close(&r->json, '}');
}
