/* The target `ttl`: what it costs that a million keys expire by themselves, against what it costs
 * to remove as many.
 *
 * Part "table": memstore's table alone, in one process and alternately, by prism-table-bench.
 * Part "server": CPU of prismd. Ours is counted from the end of the filling, while nothing calls
 * the server, until five seconds after the last key was due, the timer's ticks in between included;
 * that the keys are gone is asked afterwards. The baseline is RemoveBatch(100), so what a request
 * costs is in it: the part "table" is the stricter one. */
#include "perf/bench/probes.h"

#include "perf/bench/measure.h"
#include "perf/bench/meter.h"
#include "perf/bench/ratios.h"
#include "perf/common/clock.h"
#include "perf/common/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TTL_KEYS = 1000000,
    TTL_SECONDS = 15,
    AFTER_SECONDS = 5,
    TTL_ROUNDS_MAX = 3,
    PATH_BYTES = 400
};

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

bool probe_ttl_server(struct ratios *ratios, const struct target *target, struct record *record)
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
    record->ours = samples_median(ours, rounds);
    record->baseline = samples_median(baseline, rounds);
    record->ratio = samples_median(ratio, rounds);
    record->ratio_min = ratio[0];
    record->ratio_max = ratio[rounds - 1];
    return true;
}

/* ---- the table alone ---- */

/* The number behind the name in a table that a bench has printed; 0 = it is not there. */
static double number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at != NULL ? strtod(at + strlen(name), NULL) : 0;
}

bool probe_ttl_table(struct ratios *ratios, const struct target *target, struct record *record)
{
    struct lab *lab = &ratios->lab;
    char program[PATH_BYTES], keys[24], rounds[24], output[2048];
    const char *const argv[] = {program, keys, rounds, NULL};

    (void)target;
    fprintf(stderr, "ttl: the table alone\n");
    snprintf(record->note, sizeof record->note,
             "prism-table-bench: %d keys swept after their expiry, against removed at random",
             TTL_KEYS);
    snprintf(program, sizeof program, "%s/prism-table-bench", lab->bin_folder);
    snprintf(keys, sizeof keys, "%d", TTL_KEYS);
    snprintf(rounds, sizeof rounds, "%u", ratios->rounds);
    if (!lab_run(lab, argv, lab->cpu_server, output, sizeof output))
        return false;
    record->ours = number_after(output, "\nexpire_ns") / 1e3;
    record->baseline = number_after(output, "\nremove_ns") / 1e3;
    record->ratio = number_after(output, "\nexpire_to_remove");
    record->ratio_min = number_after(output, "\nexpire_to_remove_min");
    record->ratio_max = number_after(output, "\nexpire_to_remove_max");
    record->rounds = ratios->rounds;
    return record->ratio_min > 0 ? true : lab_fail(lab, NULL, "prism-table-bench tells nothing");
}
