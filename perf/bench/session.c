/* See session.h. */
#include "perf/bench/session.h"

bool session_open(struct session *s, unsigned calls_per_connection, client_end_fn *end, void *arg)
{
    const struct run_plan *p = s->plan;
    struct client_options options = {
        .host = p->host,
        .port = p->port,
        .connections = p->connections,
        .calls_per_connection = calls_per_connection,
    };

    *s->result = (struct run_result){.server_instructions = -1};
    histogram_init(&s->latencies);
    workload_init(&s->workload, &p->workload, p->seed);
    if (!meter_open(&s->meter, p, s->result))
        return false;
    s->client = client_open(p->client, &options, end, arg, s->result->error);
    if (s->client == NULL)
        return false;
    client_use(s->client, p->operation, &s->workload);
    return true;
}

void session_count(struct session *s, const struct client_end *end)
{
    s->result->calls++;
    s->result->items += end->outcome.items;
    s->result->hits += end->outcome.hits;
    histogram_record(&s->latencies, end->ended_ns - end->started_ns);
}

bool session_close(struct session *s, bool fine)
{
    struct run_result *r = s->result;

    if (s->client != NULL && s->client->error[0] != '\0')
        run_fail(r, "%s", s->client->error);
    if (!fine || r->errors != 0)
        run_fail(r, "%llu calls failed", (unsigned long long)r->errors);
    run_take_latencies(r, &s->latencies);
    client_close(s->client);
    meter_close(&s->meter);
    workload_clear(&s->workload);
    return r->error[0] == '\0';
}
