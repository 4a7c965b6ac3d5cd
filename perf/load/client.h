/* A load client: makes gRPC calls on one thread without blocking and reports how each ended.
 *
 * Two exist. client_lean (libnghttp2) costs a few microseconds of CPU per call, so that the server
 * stays the bottleneck. client_stock (gRPC C-core) is what programs really use; it costs as much
 * CPU per call as the server. Neither starts a call by itself: the closed and the open loop
 * (perf/bench/run_closed.c, run_open.c) decide when. thread: one. */
#ifndef PRISM_PERF_LOAD_CLIENT_H
#define PRISM_PERF_LOAD_CLIENT_H

#include "perf/load/operation.h"
#include "perf/load/workload.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLIENT_CONNECTIONS_MAX = 1024, CLIENT_CALLS_MAX = 1 << 16, CLIENT_ERROR_BYTES = 200 };

struct client_options {
    const char *host; /* numeric IPv4 address */
    uint16_t port;
    unsigned connections;          /* 1 to CLIENT_CONNECTIONS_MAX */
    unsigned calls_per_connection; /* most in flight on one connection, 1 to CLIENT_CALLS_MAX */
};

/* How one call ended. */
struct client_end {
    uint64_t started_ns; /* what client_start() was given */
    uint64_t ended_ns;   /* CLOCK_MONOTONIC */
    unsigned connection;
    bool ok; /* status OK and a reply that the operation accepts */
    struct operation_outcome outcome;
};

/* Runs inside client_step(), once per call; may call client_start(). */
typedef void client_end_fn(void *arg, const struct client_end *end);

struct client;

struct client_type {
    bool (*open)(
        struct client *c); /* options, end and end_arg are set; reports with client_fail() */
    bool (*start)(struct client *c, unsigned connection, uint64_t started_ns);
    bool (*flush)(struct client *c);
    bool (*step)(struct client *c, uint64_t timeout_ns);
    void (*close)(struct client *c); /* accepts what a failed open() left */
    size_t bytes;                    /* of the whole object, struct client first */
};

extern const struct client_type client_lean, client_stock;

/* First member of every client. */
struct client {
    const struct client_type *type;
    struct client_options options;
    client_end_fn *end;
    void *end_arg;
    const struct operation *operation;
    struct workload *workload;
    size_t in_flight;               /* calls begun and not ended */
    char error[CLIENT_ERROR_BYTES]; /* the first thing that went wrong, empty when nothing has */
};

/* Connects and waits until every connection is ready, at most 5 s. `end` and `arg` are used until
 * client_close(). NULL on failure, with the reason in error (CLIENT_ERROR_BYTES long). */
struct client *client_open(const struct client_type *type, const struct client_options *options,
                           client_end_fn *end, void *arg, char *error);

/* What calls started from now on are. Both are borrowed until every call of theirs has ended. */
void client_use(struct client *c, const struct operation *operation, struct workload *workload);

/* Begins one call; started_ns comes back in its end, and is what latency is counted from.
 * False when the connection has calls_per_connection in flight already. */
bool client_start(struct client *c, unsigned connection, uint64_t started_ns);

/* Sends what client_start() queued outside client_step(). False when a connection is lost. */
bool client_flush(struct client *c);

/* Waits at most timeout_ns (0 = poll once) for something to happen and handles it. False when a
 * connection is lost: the client is of no further use. */
bool client_step(struct client *c, uint64_t timeout_ns);

/* Accepts NULL. Calls in flight are dropped without an end. */
void client_close(struct client *c);

/* For the clients themselves. Keeps the first error only: later ones are mostly its consequences.
 */
__attribute__((format(printf, 2, 3))) bool client_fail(struct client *c, const char *format, ...);
void client_ended(struct client *c, const struct client_end *end);

#endif
