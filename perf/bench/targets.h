/* What `prism-bench ratios` measures and judges: subjects (a server and where it runs), shapes (a
 * load on a subject), targets (ours against a baseline, and the bound that the design sets). All
 * constant tables.
 *
 * A target is either a metric of two shapes, taken alternately in rounds, or a probe: a function
 * that measures both sides in its own way. */
#ifndef PRISM_PERF_BENCH_TARGETS_H
#define PRISM_PERF_BENCH_TARGETS_H

#include "perf/bench/run.h"
#include "perf/bench/servers.h"

enum subject {
    SUBJECT_PRISM,
    SUBJECT_RING,
    SUBJECT_BARE,
    SUBJECT_CALLBACK,
    SUBJECT_REDIS_BATCH, /* prismd on Redis, Redis alone on the server's core */
    SUBJECT_REDIS_UNARY, /* prismd on Redis, prismd alone on the server's core */
    SUBJECT_HIREDIS,     /* Redis alone, driven by prism-baseline-hiredis */
    SUBJECTS
};

struct subject_setup {
    const char *name;
    enum server_kind kind;
    bool on_client_cpu;       /* the server itself; else on the server's core */
    bool redis_on_server_cpu; /* the Redis beside it; else on the client's core */
    uint32_t keys;            /* stored before; 0 = the server keeps none */
};

const struct subject_setup *subject_setup(enum subject subject);

enum shape_id {
    PRISM_STORE,
    PRISM_RETRIEVE,
    PRISM_STORE_STOCK,
    PRISM_RETRIEVE_STOCK,
    PRISM_STORE_ALONE,
    PRISM_STORE_HALF,
    PRISM_STORE_BATCH,
    PRISM_CAPABILITIES,
    PRISM_RETRIEVE_256,
    RING_STORE,
    RING_RETRIEVE,
    BARE_ECHO,
    BARE_ECHO_STOCK,
    BARE_ECHO_ALONE,
    BARE_ECHO_HALF,
    CALLBACK_STORE,
    CALLBACK_RETRIEVE,
    CALLBACK_STORE_BATCH,
    REDIS_RETRIEVE_BATCH,
    REDIS_STORE_BATCH,
    REDIS_RETRIEVE_256,
    HIREDIS_GET,
    HIREDIS_SET,
    HIREDIS_MGET,
    HIREDIS_MSET,
    SHAPES
};

struct shape {
    enum subject subject;
    const char *operation; /* of perf/load/operation.h; for HIREDIS a word of its command line */
    bool stock;            /* stock client instead of the lean one */
    unsigned connections, in_flight;
    enum shape_id
        half_of; /* open loop at half the calls/s that this shape reached; itself = closed */
};

const struct shape *shape_of(enum shape_id id);

typedef double metric_fn(const struct run_result *result);

/* One line of the answer. */
struct record {
    double ours, baseline; /* medians, in the target's unit */
    double ratio;          /* median of the ratios of the rounds; NAN = the target is absolute */
    double ratio_min, ratio_max;
    double disturbance;  /* share of the machine that others used meanwhile; worst of the rounds */
    double client_share; /* open loop: of p99, what the client's own late starts explain; median */
    unsigned rounds;
    char note[320];
    char error[LAB_ERROR_BYTES]; /* not empty: nothing above holds */
};

struct ratios;
struct target;

/* Measures both sides and fills ours, baseline, ratio, note. False with lab->error set. */
typedef bool probe_fn(struct ratios *ratios, const struct target *target, struct record *record);

struct target {
    const char *name; /* as the design calls it */
    const char *part; /* which of several figures under that name; "" = the only one */
    const char *unit;
    double limit;
    bool at_least; /* limit is a lower bound */
    bool absolute; /* the bound holds for `ours`, not for the ratio */
    metric_fn *metric;
    enum shape_id ours, baseline;
    probe_fn *probe; /* instead of the three above */
    const char *note;
};

const struct target *targets_all(size_t *count);

/* Can it be judged, or is the tail that of the client itself? Only of a record without error. */
bool target_is_judged(const struct record *record);

/* Does the record meet the target? Only of one that can be judged. */
bool target_holds(const struct target *target, const struct record *record);

#endif
