/* The rounds of `prism-bench ratios`.
 *
 * The machine's speed drifts by a factor of almost two within minutes, so absolute figures of two
 * servers measured one after the other say little. Each round visits every server once, in rotated
 * order; a target's ratio is the median of the ratios within the rounds. A server is started anew
 * in each round, so that one lucky memory layout does not decide. A single failed call makes the
 * subject a failure: none of its figures is printed. */
#include "perf/bench/ratios.h"

#include "perf/bench/commands.h"
#include "perf/bench/measure.h"
#include "perf/bench/native_redis.h"
#include "perf/common/samples.h"
#include "perf/load/client.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FILL_IN_FLIGHT = 256 };

static const double warmup_share = 0.3; /* of the measured time */

struct run_plan ratios_plan(const struct ratios *ratios, const struct server *server,
                            const char *operation, uint32_t keys)
{
    struct run_plan plan = {
        .operation = operation_find(operation),
        .workload = workload_defaults(),
        .seed = 1,
        .host = "127.0.0.1",
        .port = server->port,
        .server_pid = server->child->pid,
        .beside_pid = server->redis != NULL ? server->redis->pid : 0,
        .client = &client_lean,
        .connections = 4,
        .in_flight = 64,
        .warmup_seconds = ratios->seconds * warmup_share,
        .seconds = ratios->seconds,
    };

    plan.workload.keys = keys != 0 ? keys : 1;
    return plan;
}

/* ---- one visit ---- */

static bool run_native(struct ratios *ratios, const struct server *redis, const char *command,
                       unsigned in_flight, struct run_result *result)
{
    const struct native_redis_job job = {
        .command = command,
        .in_flight = in_flight,
        .keys = subject_setup(SUBJECT_HIREDIS)->keys,
        .seconds = ratios->seconds,
    };

    return native_redis_run(&ratios->lab, redis, &job, result);
}

static bool fill(struct ratios *ratios, enum subject subject, const struct server *server)
{
    const struct subject_setup *setup = subject_setup(subject);
    struct run_result result;

    if (setup->keys == 0)
        return true;
    if (subject == SUBJECT_HIREDIS)
        return run_native(ratios, server, "fill", FILL_IN_FLIGHT, &result);
    struct run_plan plan = ratios_plan(ratios, server, "store-batch", setup->keys);
    return measure(&ratios->lab, run_preload, &plan, &result);
}

static bool run_shape(struct ratios *ratios, enum shape_id id, const struct server *server,
                      unsigned round)
{
    const struct shape *shape = shape_of(id);
    struct run_result *result = &ratios->results[id][round];

    if (shape->subject == SUBJECT_HIREDIS)
        return run_native(ratios, server, shape->operation, shape->in_flight, result);
    struct run_plan plan =
        ratios_plan(ratios, server, shape->operation, subject_setup(shape->subject)->keys);
    plan.client = shape->stock ? &client_stock : &client_lean;
    plan.connections = shape->connections;
    plan.in_flight = shape->in_flight;
    if (shape->half_of != id) {
        const struct run_result *full = &ratios->results[shape->half_of][round];
        plan.rate = (double)full->calls / full->seconds / 2;
    }
    if (!measure(&ratios->lab, run_load, &plan, result))
        return false;
    return result->calls != 0 ? true
                              : lab_fail(&ratios->lab, NULL, "%s: no call ended", shape->operation);
}

static bool run_shapes(struct ratios *ratios, enum subject subject, const struct server *server,
                       unsigned round)
{
    for (unsigned id = 0; id < SHAPES; id++) {
        if (!ratios->wanted[id] || shape_of(id)->subject != subject)
            continue;
        if (!run_shape(ratios, id, server, round))
            return false;
    }
    return true;
}

static bool visit(struct ratios *ratios, enum subject subject, unsigned round)
{
    const struct subject_setup *setup = subject_setup(subject);
    struct lab *lab = &ratios->lab;
    struct server_options options = {
        .kind = setup->kind,
        .cpu = setup->on_client_cpu ? lab->cpu_client : lab->cpu_server,
        .redis_cpu = setup->redis_on_server_cpu ? lab->cpu_server : lab->cpu_client,
    };
    struct server server;

    if (!server_start(lab, &options, &server))
        return false;
    bool fine = fill(ratios, subject, &server) && run_shapes(ratios, subject, &server, round);
    if (fine)
        return server_stop(lab, &server);
    lab_stop(lab, server.child);
    lab_stop(lab, server.redis);
    return false;
}

/* ---- rounds ---- */

static void want(struct ratios *ratios, enum shape_id id)
{
    ratios->wanted[id] = true;
    ratios->wanted[shape_of(id)->half_of] = true;
}

static void choose_shapes(struct ratios *ratios)
{
    size_t count;
    const struct target *targets = targets_all(&count);

    for (size_t i = 0; i < count; i++) {
        if (targets[i].probe != NULL || !list_has(ratios->only, targets[i].name))
            continue;
        want(ratios, targets[i].ours);
        want(ratios, targets[i].baseline);
    }
}

static bool is_wanted(const struct ratios *ratios, enum subject subject)
{
    for (unsigned id = 0; id < SHAPES; id++) {
        if (ratios->wanted[id] && shape_of(id)->subject == subject)
            return true;
    }
    return false;
}

static bool go_round_once(struct ratios *ratios, unsigned round)
{
    for (unsigned i = 0; i < SUBJECTS; i++) {
        enum subject subject = (i + round) % SUBJECTS;
        char *broken = ratios->broken[subject];

        if (!is_wanted(ratios, subject) || broken[0] != '\0')
            continue;
        fprintf(stderr, "round %u/%u: %s\n", round + 1, ratios->rounds,
                subject_setup(subject)->name);
        if (visit(ratios, subject, round))
            continue;
        if (lab_interrupted())
            return false;
        memcpy(broken, ratios->lab.error, sizeof ratios->broken[subject]);
        fprintf(stderr, "%s: %s\n", subject_setup(subject)->name, broken);
    }
    return true;
}

/* Of the 99th percentile of either side, how much the client's own lateness explains, at most. */
static double client_share(const struct run_result *ours, const struct run_result *baseline)
{
    return fmax(ours->start_delay_p99_ns / fmax((double)ours->p99_ns, 1),
                baseline->start_delay_p99_ns / fmax((double)baseline->p99_ns, 1));
}

static void judge(const struct ratios *ratios, const struct target *t, struct record *record)
{
    double ours[RATIOS_ROUNDS_MAX], baseline[RATIOS_ROUNDS_MAX], ratio[RATIOS_ROUNDS_MAX];
    double share[RATIOS_ROUNDS_MAX];
    const char *bad = ratios->broken[shape_of(t->ours)->subject];

    if (bad[0] == '\0')
        bad = ratios->broken[shape_of(t->baseline)->subject];
    snprintf(record->error, sizeof record->error, "%s", bad);
    snprintf(record->note, sizeof record->note, "%s", t->note);
    record->rounds = ratios->rounds;
    for (unsigned i = 0; i < ratios->rounds && bad[0] == '\0'; i++) {
        ours[i] = t->metric(&ratios->results[t->ours][i]);
        baseline[i] = t->metric(&ratios->results[t->baseline][i]);
        ratio[i] = ours[i] / baseline[i];
    }
    if (bad[0] != '\0')
        return;
    for (unsigned i = 0; i < ratios->rounds; i++) {
        const struct run_result *a = &ratios->results[t->ours][i];
        const struct run_result *b = &ratios->results[t->baseline][i];

        share[i] = client_share(a, b);
        record->disturbance = fmax(record->disturbance, fmax(a->disturbance, b->disturbance));
    }
    record->client_share = samples_median(share, ratios->rounds);
    record->ours = samples_median(ours, ratios->rounds);
    record->baseline = samples_median(baseline, ratios->rounds);
    record->ratio = samples_median(ratio, ratios->rounds);
    record->ratio_min = ratio[0];
    record->ratio_max = ratio[ratios->rounds - 1];
}

bool ratios_go_round(struct ratios *ratios)
{
    size_t count;
    const struct target *targets = targets_all(&count);

    choose_shapes(ratios);
    for (unsigned round = 0; round < ratios->rounds; round++) {
        if (!go_round_once(ratios, round))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (targets[i].probe == NULL && list_has(ratios->only, targets[i].name))
            judge(ratios, &targets[i], &ratios->records[i]);
    }
    return true;
}
