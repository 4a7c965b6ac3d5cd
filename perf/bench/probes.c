/* See probes.h. */
#include "perf/bench/probes.h"

#include "perf/bench/instructions.h"
#include "perf/bench/measure.h"
#include "perf/bench/meter.h"
#include "perf/bench/native_redis.h"
#include "perf/bench/ratios.h"
#include "perf/load/client.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { IDLE_SECONDS = 5, SETTLE_SECONDS = 1, WORKERS = 2, POLLERS = 1, OTHERS = 1 };

/* Threads of a bare server that are not gRPC's: the one that waits for signals, the one that
 * serves. */
enum { BARE_OWN_THREADS = 2 };

static const double tick_ns = 1e7;

/* ---- instructions ---- */

static bool count(struct ratios *ratios, enum server_kind kind, const char *operation,
                  double *value)
{
    fprintf(stderr, "callgrind: %s %s\n", server_name(kind), operation);
    return instructions_per_call(&ratios->lab, kind, operation, value);
}

static bool count_store(struct ratios *ratios, double *value)
{
    if (ratios->prism_store_instructions == 0 &&
        !count(ratios, SERVER_PRISM, "store", &ratios->prism_store_instructions))
        return false;
    *value = ratios->prism_store_instructions;
    return true;
}

static bool compare(struct ratios *ratios, enum server_kind kind, const char *operation,
                    struct record *record)
{
    if (!count_store(ratios, &record->ours) || !count(ratios, kind, operation, &record->baseline))
        return false;
    record->ratio = record->ratio_min = record->ratio_max = record->ours / record->baseline;
    record->rounds = 1;
    return true;
}

bool probe_instructions_cpp(struct ratios *ratios, const struct target *target,
                            struct record *record)
{
    (void)target;
    snprintf(record->note, sizeof record->note,
             "Store against libgrpc++ async Store that stores nothing; callgrind, user level");
    return compare(ratios, SERVER_CPP_ASYNC, "store", record);
}

bool probe_instructions_bare(struct ratios *ratios, const struct target *target,
                             struct record *record)
{
    (void)target;
    snprintf(record->note, sizeof record->note,
             "Store against the bare echo; callgrind, user level");
    return compare(ratios, SERVER_BARE, "echo", record);
}

bool probe_consolidated(struct ratios *ratios, const struct target *target, struct record *record)
{
    (void)target;
    snprintf(record->note, sizeof record->note,
             "Store against the deprecated Set of the same server; callgrind, user level");
    return compare(ratios, SERVER_PRISM, "deprecated-set", record);
}

/* ---- an idle server ---- */

/* A number of /proc/PID/status: "VmRSS:" in kB, "Threads:". Negative when it cannot be read. */
static double process_status(pid_t pid, const char *name)
{
    char path[64], line[256];
    double value = -1;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), "%lf", &value);
    }
    if (f != NULL)
        fclose(f);
    return value;
}

/* `child` may end only through server_stop() when this succeeds. */
static bool start(struct ratios *ratios, enum server_kind kind, struct server *server)
{
    struct server_options options = {
        .kind = kind,
        .cpu = ratios->lab.cpu_server,
        .redis_cpu = ratios->lab.cpu_client,
    };

    return server_start(&ratios->lab, &options, server);
}

/* gRPC's threads come and go with its timers; it names each of them (the kernel keeps 15
 * characters). */
static double count_grpc_threads(pid_t pid)
{
    static const char *const names[] = {"default-executo", "resolver-execut", "grpc_global_tim",
                                        "event_engine", "timer_manager"};
    char path[64], thread[300], name[32];
    double count = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e = tasks ? readdir(tasks) : NULL; e != NULL; e = readdir(tasks)) {
        snprintf(thread, sizeof thread, "%.40s/%.20s/comm", path, e->d_name);
        FILE *f = fopen(thread, "r");
        if (f != NULL && fscanf(f, "%31s", name) == 1) {
            for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
                count += strcmp(name, names[i]) == 0;
        }
        if (f != NULL)
            fclose(f);
    }
    if (tasks != NULL)
        closedir(tasks);
    return count;
}

static bool measure_idle(struct ratios *ratios)
{
    struct idle_figures *idle = &ratios->idle;
    struct server server;

    if (idle->known)
        return true;
    fprintf(stderr, "idle: %d s\n", IDLE_SECONDS);
    if (!start(ratios, SERVER_PRISM, &server))
        return false;
    pid_t pid = server.child->pid;
    bool fine = lab_let_run(&ratios->lab, server.child, SETTLE_SECONDS);
    uint64_t before = meter_process_cpu_ns(pid);
    fine = fine && lab_let_run(&ratios->lab, server.child, IDLE_SECONDS);
    uint64_t used = meter_process_cpu_ns(pid) - before;
    idle->ticks = floor((double)used / tick_ns);
    idle->threads = process_status(pid, "Threads:");
    idle->grpc_threads = count_grpc_threads(pid);
    idle->resident_mb = process_status(pid, "VmRSS:") * 1024 / 1e6;
    idle->known = server_stop(&ratios->lab, &server) && fine;
    return idle->known;
}

static void absolute(struct record *record, double ours, double baseline)
{
    record->ours = ours;
    record->baseline = baseline;
    record->ratio = record->ratio_min = record->ratio_max = NAN;
    record->rounds = 1;
}

bool probe_idle_cpu(struct ratios *ratios, const struct target *target, struct record *record)
{
    (void)target;
    snprintf(record->note, sizeof record->note, "of 10 ms, user + system, after 1 s of settling");
    if (!measure_idle(ratios))
        return false;
    absolute(record, ratios->idle.ticks, NAN);
    return true;
}

bool probe_idle_threads(struct ratios *ratios, const struct target *target, struct record *record)
{
    (void)target;
    if (!measure_idle(ratios))
        return false;
    record->ours = ratios->idle.threads;
    record->baseline = ratios->idle.grpc_threads + POLLERS + WORKERS + OTHERS;
    record->ratio = record->ratio_min = record->ratio_max = record->ours / record->baseline;
    record->rounds = 1;
    snprintf(record->note, sizeof record->note,
             "baseline = gRPC's own %.0f + %d poller + %d workers + %d", ratios->idle.grpc_threads,
             POLLERS, WORKERS, OTHERS);
    return true;
}

bool probe_idle_memory(struct ratios *ratios, const struct target *target, struct record *record)
{
    (void)target;
    snprintf(record->note, sizeof record->note, "resident, without a key");
    if (!measure_idle(ratios))
        return false;
    absolute(record, ratios->idle.resident_mb, NAN);
    return true;
}

/* ---- memory per key ---- */

enum { MEMORY_KEYS = 1000000, WARM_KEYS = 1000, WARM_CALLS = 3000 };

/* gRPC's and the arenas' buffers reach their size before the keys come, so they do not count as
 * keys. */
static bool warm_up(struct ratios *ratios, const struct server *server)
{
    struct run_plan plan = ratios_plan(ratios, server, "store-batch", WARM_KEYS);
    struct run_result result;

    plan.connections = 1;
    plan.in_flight = 4;
    plan.calls = WARM_CALLS;
    return measure(&ratios->lab, run_load, &plan, &result);
}

static bool fill_prism(struct ratios *ratios, const struct server *server, double *bytes)
{
    struct run_plan plan = ratios_plan(ratios, server, "store-batch", MEMORY_KEYS);
    struct run_result result;
    pid_t pid = server->child->pid;

    if (!warm_up(ratios, server))
        return false;
    double before = process_status(pid, "VmRSS:");
    if (!measure(&ratios->lab, run_preload, &plan, &result))
        return false;
    *bytes = (process_status(pid, "VmRSS:") - before) * 1024 / (MEMORY_KEYS - WARM_KEYS);
    return true;
}

static bool prism_bytes_per_key(struct ratios *ratios, double *bytes)
{
    struct server server;

    if (!start(ratios, SERVER_PRISM, &server))
        return false;
    bool fine = fill_prism(ratios, &server, bytes);
    if (!fine) {
        lab_stop(&ratios->lab, server.child);
        return false;
    }
    return server_stop(&ratios->lab, &server);
}

static bool redis_bytes_per_key(struct ratios *ratios, double *bytes)
{
    const struct native_redis_job job = {.command = "fill", .keys = MEMORY_KEYS, .in_flight = 256};
    struct server server;
    struct run_result result;
    double before = 0, after = 0;

    if (!start(ratios, SERVER_REDIS, &server))
        return false;
    bool fine = native_redis_memory(&ratios->lab, &server, &before) &&
                native_redis_run(&ratios->lab, &server, &job, &result) &&
                native_redis_memory(&ratios->lab, &server, &after);
    if (!fine) {
        lab_stop(&ratios->lab, server.child);
        return false;
    }
    *bytes = (after - before) / MEMORY_KEYS;
    return server_stop(&ratios->lab, &server);
}

bool probe_memory_per_key(struct ratios *ratios, const struct target *target, struct record *record)
{
    (void)target;
    fprintf(stderr, "memory: %d keys\n", MEMORY_KEYS);
    snprintf(record->note, sizeof record->note,
             "%d keys; growth of resident memory against growth of Redis's used_memory",
             MEMORY_KEYS);
    if (!prism_bytes_per_key(ratios, &record->ours) ||
        !redis_bytes_per_key(ratios, &record->baseline))
        return false;
    record->ratio = record->ratio_min = record->ratio_max = record->ours / record->baseline;
    record->rounds = 1;
    return true;
}
