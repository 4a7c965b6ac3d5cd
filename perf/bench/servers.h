/* The servers that are compared: prismd in its variants, the baselines, Redis. Each is started
 * fresh on a free loopback port, beside this program in its folder or, for Redis, from $PATH. */
#ifndef PRISM_PERF_BENCH_SERVERS_H
#define PRISM_PERF_BENCH_SERVERS_H

#include "perf/bench/lab.h"

enum server_kind {
    SERVER_PRISM,        /* prismd, KeyValue on memstore, embedded defaults */
    SERVER_PRISM_RING,   /* the same with dispatch: ring */
    SERVER_PRISM_REDIS,  /* prismd, KeyValue on a Redis of its own */
    SERVER_BARE,         /* prism-baseline-bare */
    SERVER_CPP_ASYNC,    /* prism-baseline-cpp-async */
    SERVER_CPP_CALLBACK, /* prism-baseline-cpp-callback */
    SERVER_REDIS,        /* redis-server alone */
    SERVER_KINDS
};

struct server_options {
    enum server_kind kind;
    int cpu;                   /* -1 = not pinned */
    int redis_cpu;             /* of the Redis beside SERVER_PRISM_REDIS */
    const char *callgrind_out; /* NULL = native; else run under callgrind, its counts go there */
};

struct server {
    struct child *child;
    struct child *redis; /* beside it; NULL = none */
    uint16_t port;
};

/* The name by which a server is chosen on the command line. */
const char *server_name(enum server_kind kind);
/* SERVER_KINDS when there is none of that name. */
enum server_kind server_find(const char *name);
/* It serves prism.patterns.keyvalue and keeps what is stored. */
bool server_is_prism(enum server_kind kind);

/* Returns when the server is ready to serve. False with lab->error set, and then nothing runs. */
bool server_start(struct lab *lab, const struct server_options *options, struct server *server);

/* Accepts a zeroed server. False when it did not end by itself with status 0; lab->error says so.
 */
bool server_stop(struct lab *lab, struct server *server);

#endif
