/* The gRPC server: listener, poller, method table. The only folder that knows gRPC.
 *
 * Order of life: rpc_server_new -> rpc_server_poller (bind patterns for it) -> rpc_server_bind.. ->
 * rpc_server_start -> rpc_server_drain -> rpc_server_destroy. All from the main thread. */
#ifndef PRISM_RPC_SERVER_H
#define PRISM_RPC_SERVER_H

#include "src/base/err.h"
#include "src/base/metrics.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct rpc_server;
struct worker;

enum rpc_coalesce { RPC_COALESCE_OFF, RPC_COALESCE_MORE, RPC_COALESCE_BUFFER };
enum rpc_dispatch { RPC_DISPATCH_AUTO, RPC_DISPATCH_RING };

struct rpc_tls {
    const char *cert_file, *key_file; /* PEM; NULL: no TLS */
    const char *client_ca_file;       /* PEM; not NULL: clients must show a certificate it signed */
};

struct rpc_options {
    const char *listen; /* "127.0.0.1:8980", "[::]:8980", "unix:/path"; port 0 = any free one */
    const char *listen_shown; /* in errors; NULL: listen itself */
    enum rpc_coalesce coalesce;
    enum rpc_dispatch dispatch;
    struct rpc_tls tls;
    uint32_t max_message_bytes;        /* of one request */
    uint32_t max_inflight_calls;       /* unary calls and open streams, all connections */
    uint32_t connection_share_percent; /* of the two, for one connection; 0 = all */
    uint32_t max_general_streams;      /* of services without a pattern; 0 = no bound */
    uint32_t request_timeout_ms;       /* a request that is not complete by then ends; 0 = never */
    uint32_t unread_answer_ms;   /* a client that takes no answer for so long loses it; 0 = never */
    uint64_t max_inflight_bytes; /* encoded requests, and answers that clients have not taken */
    uint32_t max_streams_per_connection;
    uint32_t max_connections, max_connections_per_peer; /* 0 = no bound */
    uint32_t max_metadata_bytes; /* of one request, as HTTP/2 counts them; 0 = gRPC's default */
    uint64_t transport_bytes;    /* quota for gRPC's own buffers; 0 = none */
    uint32_t keepalive_ms, keepalive_timeout_ms, min_ping_interval_ms; /* 0 = gRPC's default */
    uint32_t max_connection_idle_ms, max_connection_age_ms,
        max_connection_age_grace_ms; /* 0 = never */
    bool deprecated_services;
};

/* Registers every method of the services. `services` must outlive the server. */
struct err rpc_server_new(struct rpc_server **server, const struct rpc_options *options,
                          struct pool *pool, const struct service *const *services,
                          size_t service_count);

/* The poller's worker: in-process backends and patterns are bound for it too. */
struct worker *rpc_server_poller(struct rpc_server *server);

/* The instances of `service` in namespace `name`: one for each worker of the pool by id, then one
 * for the poller (its pattern may be NULL: nothing of this namespace runs on the poller). Copied.
 * Services that were bound under no namespace answer UNIMPLEMENTED; bound with name NULL, they
 * serve whatever the namespace is. */
void rpc_server_bind(struct rpc_server *server, const struct service *service, const char *name,
                     const struct rpc_instance *instances);

/* Opens the listener and starts the poller. */
struct err rpc_server_start(struct rpc_server *server);

/* The port in use (after start); 0 for a unix socket. */
int rpc_server_port(const struct rpc_server *server);

/* Runs fn(arg) on the poller's thread and waits for it: binding and closing of the poller's
 * instances. thread: main. */
void rpc_server_on_poller(struct rpc_server *server, void (*fn)(void *arg), void *arg);

/* Re-reads the TLS files for connections accepted from now on; a bad file keeps the old certificate
 * (and is returned). thread: any. */
struct err rpc_server_reload_tls(struct rpc_server *server);

/* New calls get UNAVAILABLE from now on; streams are told by call_on_drain. */
void rpc_server_refuse(struct rpc_server *server);

struct rpc_drain_report {
    uint64_t in_flight;    /* when the drain began: finished + abandoned */
    uint64_t finished;     /* of those, with an answer of their own that the client has taken */
    uint64_t abandoned;    /* cancelled when the time was up */
    uint64_t unsent_bytes; /* of finished calls, for readers that were too slow */
    uint64_t refused;      /* calls that came during the drain */
    uint64_t incomplete;   /* streams when the drain began whose request had not come whole: they
                              are in no other number */
    uint32_t took_ms;
};

/* Refuses, lets calls in flight finish for at most timeout_ms, cancels the rest, shuts the
 * listener. Unary calls of services without a pattern (health) are answered to the last. When it
 * returns, no call is left: patterns may be unbound. Blocking; calls meanwhile(arg), if not NULL,
 * every few milliseconds. */
void rpc_server_drain(struct rpc_server *server, uint32_t timeout_ms,
                      struct rpc_drain_report *report, void (*meanwhile)(void *arg), void *arg);

/* Ends the poller and gRPC; drains with no time first, if nobody has. Workers may still be running,
 * and may still look at the poller's lanes: the memory stays until rpc_server_destroy. NULL is
 * accepted. */
void rpc_server_stop(struct rpc_server *server);

/* After the pool has stopped. Stops first, if nobody has. NULL is accepted. */
void rpc_server_destroy(struct rpc_server *server);

/* The library versions and so on for build info. */
const char *rpc_library_version(void);

void rpc_server_render(void *server, struct metrics_page *page); /* metrics_render_fn */

/* Health by the readiness of the listener: true between start and drain. thread: any. */
bool rpc_server_serving(const struct rpc_server *server);

/* False while new connections are refused: there are max_connections, or no descriptors are left.
 * thread: any. */
bool rpc_server_accepting(const struct rpc_server *server);

/* Stalled sockets (bytes held for slow readers by the write coalescer) and connections that pause:
 * an epoll descriptor that is readable when some can go on; call rpc_server_flush_stalled then.
 * thread: main. */
int rpc_server_stalled_fd(const struct rpc_server *server);
void rpc_server_flush_stalled(struct rpc_server *server);

#endif
