/* What connections send us: turns between them, a pause for those that flood, an end for those that
 * hold too much. Why and how: inflow.c.
 *
 * thread: any. */
#ifndef PRISM_RPC_INFLOW_H
#define PRISM_RPC_INFLOW_H

#include "src/rpc/http2_meter.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct inflow_options {
    struct meter_limits each; /* connection */
    uint32_t max_incomplete;  /* streams of all connections whose request is not complete */
    uint64_t max_part_bytes;  /* of their messages that are not complete; 0: no bound */
    uint32_t
        request_timeout_ms; /* for a request to become complete, a quarter more at most; 0: never */
    bool encrypted;         /* HTTP/2 is seen by inflow_decrypted and inflow_encrypting */
};

enum inflow_end {
    INFLOW_TOO_MANY_STREAMS,
    INFLOW_LONG_HEADERS,
    INFLOW_INCOMPLETE, /* it held the most of max_incomplete or max_part_bytes */
    INFLOW_OVERDUE,    /* a request of it was not complete in twice request_timeout_ms */
    INFLOW_UNREAD,     /* it took no answer: inflow_end_peer */
    INFLOW_ENDS
};

struct inflow_stats {
    uint64_t open_streams, incomplete, part_bytes, paused; /* gauges */
    uint64_t slowed[METER_EXPENSES], ended[INFLOW_ENDS];
    uint64_t overdue_streams; /* ended for their age, their connection lives on */
};

/* Process-wide, before the first listener. */
void inflow_init(const struct inflow_options *options);

struct inflow_stats inflow_stats(void);

/* Ends the one connection of this peer, as gRPC names it, for an answer that it does not take.
 * False: there is none, or more than one, as clients of a unix socket have no names. thread: any.
 */
bool inflow_end_peer(const char *peer);

/* ---- for sockets.c; fd is a connection ---- */

void inflow_adopt(int fd, const struct sockaddr *peer); /* peer may be NULL */

/* As recvmsg. */
ssize_t inflow_receive(int fd, struct msghdr *message, int flags);

/* The first `bytes` of the message were taken for sending. */
void inflow_sent(int fd, const struct msghdr *message, size_t bytes);

void inflow_left(int fd);    /* gRPC closes it: it is not looked at any more */
void inflow_turn(int ready); /* gRPC has found so many descriptors that are ready */
void inflow_tick(void);

/* ---- tls_calls.c ---- */

/* Has the library's calls taken in. Before the first handshake; again is harmless. */
void tls_calls_open(void);

/* The connection that this thread has read from last; 0: none. Names one connection for ever. */
uint64_t inflow_current(void);

void inflow_decrypted(uint64_t connection, uint8_t *bytes, size_t len);

/* What the library is to have read before its next bytes; 0: nothing. It goes to inflow_decrypted
 * like all else. */
size_t inflow_decrypted_for_overdue(uint64_t connection, uint8_t *bytes, size_t room);
void inflow_encrypting(uint64_t connection, const uint8_t *bytes, size_t len);

#endif
