/* The target `ttl`: what it costs prismd that a million keys expire by themselves, against what it
 * costs to remove as many by RemoveBatch(100).
 *
 * Both are CPU of the server process. Ours is counted from the end of the filling, while nothing
 * calls the server, until two seconds after the last key was due; the timer's ticks in between are
 * in it. That the keys are gone is asked afterwards. The baseline holds what a request costs, so
 * the part "table" of perf/table_bench tells the same of the table alone. */
#include "perf/bench/probes.h"

#include "perf/bench/measure.h"
#include "perf/bench/meter.h"
#include "perf/bench/ratios.h"
#include "perf/common/clock.h"

#include <stdio.h>

enum { TTL_KEYS = 1000000, TTL_SECONDS = 15, AFTER_SECONDS = 2, TTL_ROUNDS_MAX = 3 };

/* A server that answers `retrieve` for these keys with no single hit has none of them. */
static bool all_gone(struct ratios *ratios, const struct server *server)
{
    struct run_plan plan = ratios_plan(ratios, server, "remove", TTL_KEYS);
    struct run_result result;

    plan.calls = 1000;
    if (!measure(&ratios->lab, run_load, &plan, &result))
        return false;
    if (result.hits != 0)
        return lab_fail(&ratios->lab, NULL, "%llu of 1000 keys have not expired",
                        (unsigned long long)result.hits);
    return true;
}

static bool expire(struct ratios *ratios, const struct server *server, double *us_per_key)
{
    struct run_plan plan = ratios_plan(ratios, server, "store-batch", TTL_KEYS);
    struct run_result result;
    uint64_t begin = clock_now_ns();

    plan.workload.ttl_seconds = TTL_SECONDS;
    if (!measure(&ratios->lab, run_preload, &plan, &result))
        return false;
    double filled = (double)(clock_now_ns() - begin) / 1e9;
    if (filled > TTL_SECONDS - 1)
        return lab_fail(&ratios->lab, NULL, "filling took %.0f s: keys expired meanwhile", filled);
    uint64_t before = meter_process_cpu_ns(server->child->pid);
    if (!lab_let_run(&ratios->lab, server->child, TTL_SECONDS + AFTER_SECONDS))
        return false;
    uint64_t after = meter_process_cpu_ns(server->child->pid);
    *us_per_key = (double)(after - before) / 1e3 / TTL_KEYS;
    return all_gone(ratios, server);
}

static bool remove_all(struct ratios *ratios, const struct server *server, double *us_per_key)
{
    struct run_plan plan = ratios_plan(ratios, server, "store-batch", TTL_KEYS);
    struct run_result result;

    if (!measure(&ratios->lab, run_preload, &plan, &result))
        return false;
    plan.operation = operation_find("remove-batch");
    plan.workload.sequential = true;
    plan.calls = TTL_KEYS / plan.workload.batch;
    if (!measure(&ratios->lab, run_load, &plan, &result))
        return false;
    *us_per_key = result.server_cpu_ns / 1e3 / TTL_KEYS;
    return all_gone(ratios, server);
}

typedef bool side_fn(struct ratios *ratios, const struct server *server, double *us_per_key);

static bool on_fresh_server(struct ratios *ratios, side_fn *side, double *us_per_key)
{
    struct lab *lab = &ratios->lab;
    struct server_options options = {.kind = SERVER_PRISM, .cpu = lab->cpu_server};
    struct server server;

    if (!server_start(lab, &options, &server))
        return false;
    if (side(ratios, &server, us_per_key))
        return server_stop(lab, &server);
    lab_stop(lab, server.child);
    return false;
}

bool probe_ttl(struct ratios *ratios, const struct target *target, struct record *record)
{
    double ours[TTL_ROUNDS_MAX], baseline[TTL_ROUNDS_MAX], ratio[TTL_ROUNDS_MAX];
    unsigned rounds = ratios->rounds < TTL_ROUNDS_MAX ? ratios->rounds : TTL_ROUNDS_MAX;

    (void)target;
    snprintf(record->note, sizeof record->note,
             "%d keys expire by themselves, against RemoveBatch(100) of as many", TTL_KEYS);
    for (unsigned i = 0; i < rounds; i++) {
        fprintf(stderr, "ttl %u/%u: %d s\n", i + 1, rounds, TTL_SECONDS + AFTER_SECONDS);
        if (!on_fresh_server(ratios, expire, &ours[i]) ||
            !on_fresh_server(ratios, remove_all, &baseline[i]))
            return false;
        ratio[i] = ours[i] / baseline[i];
    }
    record->rounds = rounds;
    record->ours = ratios_median(ours, rounds);
    record->baseline = ratios_median(baseline, rounds);
    record->ratio = ratios_median(ratio, rounds);
    record->ratio_min = ratio[0];
    record->ratio_max = ratio[rounds - 1];
    return true;
}
