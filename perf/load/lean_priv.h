/* The lean client: shared by lean_client.c (sockets, the loop) and lean_call.c (HTTP/2, calls). */
#ifndef PRISM_PERF_LOAD_LEAN_PRIV_H
#define PRISM_PERF_LOAD_LEAN_PRIV_H

#include "perf/load/client.h"
#include "perf/load/lean_headers.h"

#include <nghttp2/nghttp2.h>

enum { LEAN_MESSAGE_PREFIX = 5 }; /* compressed flag and length before each gRPC message */

struct lean_call {
    struct lean_connection *connection;
    struct lean_call *next_free;
    const struct operation *operation;
    struct workload *workload;
    uint64_t started_ns;
    uint8_t *request; /* with its prefix */
    size_t request_bytes, request_room, sent_bytes;
    uint8_t *reply; /* every DATA byte so far */
    size_t reply_bytes, reply_room;
    int grpc_status; /* -1 until the trailers say */
};

struct lean_connection {
    struct lean_client *client;
    unsigned index;
    int fd;
    nghttp2_session *session;
    struct lean_call *calls; /* calls_per_connection */
    struct lean_call *free;
    uint8_t *out; /* taken from the session, not yet written */
    size_t out_bytes, out_sent, out_room;
    const char *indexed_path; /* see lean_headers.h */
    bool connected;
    bool has_settings;
    bool waits_for_room; /* EPOLLOUT is asked for */
    bool queued;         /* the session may have something to send */
};

struct lean_client {
    struct client base;
    struct lean_connection *connections;
    uint8_t *in; /* receive buffer; a session consumes it whole before the next read */
    int epoll_fd;
};

/* The session of a connection and its calls; false when libnghttp2 refuses. */
bool lean_session_open(struct lean_connection *k);
void lean_session_close(struct lean_connection *k);

/* Writes the HEADERS frame of one of the calls as we want it; at most LEAN_HEADERS_FRAME_MAX bytes.
 */
size_t lean_write_headers(struct lean_connection *k, const uint8_t *frame, uint8_t *out);

/* client_type.start */
bool lean_start(struct client *base, unsigned connection, uint64_t started_ns);

#endif
