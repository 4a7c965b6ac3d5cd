/* The socket calls of gRPC, taken in.
 *
 * The executable defines sendmsg, recvmsg, accept4, close and a few more itself: gRPC's calls bind
 * to them by ordinary resolution of symbols. They act only on listeners that were opened between
 * sockets_listen_begin and sockets_listen_end and on the connections accepted there. All other
 * descriptors of the process (backend clients, the admin endpoint) pass through untouched.
 *
 * guard.c handles what a listener accepts, inflow.c what a connection sends us, coalesce.c what we
 * send. All call the system through socket_next. */
#ifndef PRISM_RPC_SOCKETS_H
#define PRISM_RPC_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { SOCKETS_MAX_FD = 1 << 16 }; /* descriptors are numbers below this */

enum socket_role {
    SOCKET_OTHER,
    SOCKET_LISTENER,
    SOCKET_CONNECTION,
    SOCKET_LINGERING /* closed by gRPC; the coalescer's until what it holds has left */
};

/* The next definitions in line: libc's, or a sanitizer's interceptors. */
extern struct socket_calls {
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    ssize_t (*recvmsg)(int, struct msghdr *, int);
    int (*shutdown)(int, int);
    int (*close)(int);
    int (*listen)(int, int);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*epoll_ctl)(int, int, int, struct epoll_event *);
    int (*epoll_wait)(int, struct epoll_event *, int, int);
} socket_next;

/* Once, before the first listener; again is harmless. Returns an epoll descriptor that is readable
 * while sockets_run has something to do. */
int sockets_init(void);

/* Stalled writes that can go on, connections whose pause is over. thread: any; never blocks. */
void sockets_run(void);

/* Has sockets_run called within about this time. thread: any. */
void sockets_run_within(uint32_t ms);

/* Listeners that this thread opens in between are ours. */
void sockets_listen_begin(void);
void sockets_listen_end(void);

enum socket_role sockets_role(int fd);
void sockets_set_role(int fd, enum socket_role role);

/* Waits in our own epoll set until fd can be written, once. `again`: fd is in the set already. */
bool sockets_await_writable(int fd, bool again);

/* Has gRPC look at fd again, if there is something to read or accept: fd is edge-triggered, and
 * gRPC was told EAGAIN, or is about to be, although the socket had more. False: gRPC does not watch
 * fd. The caller has made sure that nobody closes fd meanwhile. */
bool sockets_rearm(int fd);

/* Has gRPC read fd, whether there is something or not, at its next look at what is ready. False:
 * gRPC does not watch fd, or too many wait for this. As for sockets_rearm, nobody closes fd. */
bool sockets_have_read(int fd);

/* gRPC's poller forgets fd. */
void sockets_unwatch(int fd);

/* Ends the life of a connection's descriptor. */
void sockets_close(int fd);

#endif
