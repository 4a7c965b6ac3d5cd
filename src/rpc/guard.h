/* The connection guard: how many connections the listeners accept. Why and how: guard.c.
 *
 * thread: any. */
#ifndef PRISM_RPC_GUARD_H
#define PRISM_RPC_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct guard_options {
    uint32_t max_connections;          /* 0: no bound */
    uint32_t max_connections_per_peer; /* of one address; 0: no bound */
};

enum guard_refusal {
    GUARD_REFUSED_CONNECTIONS, /* max_connections */
    GUARD_REFUSED_PEER,        /* max_connections_per_peer */
    GUARD_REFUSED_DESCRIPTORS, /* the process, or the machine, has none left */
    GUARD_REFUSALS
};

struct guard_stats {
    uint64_t connections; /* open, with those that gRPC has closed and that still send */
    uint64_t max_connections;
    uint64_t refused[GUARD_REFUSALS];
};

/* Process-wide, before the first listener. */
void guard_init(const struct guard_options *options);

/* False while a new connection would be refused. */
bool guard_accepting(void);

struct guard_stats guard_stats(void);

/* ---- for sockets.c ---- */

/* As accept4, of one of our listeners. */
int guard_accept(int listener, struct sockaddr *address, socklen_t *length, int flags);

void guard_listener_closed(int fd);
void guard_closed(int fd); /* the descriptor is about to be closed */
void guard_tick(void);

#endif
