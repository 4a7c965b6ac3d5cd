/* Write coalescing: the replies of one drained batch leave in one system call per connection. Why
 * and how: coalesce.c.
 *
 * Only connections of our own listeners are touched (sockets.h), and those only between
 * coalesce_begin and coalesce_end. */
#ifndef PRISM_RPC_COALESCE_H
#define PRISM_RPC_COALESCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum coalesce_level {
    COALESCE_OFF,
    COALESCE_MORE,  /* MSG_MORE: the kernel holds the bytes */
    COALESCE_BUFFER /* one buffer per connection holds them, at most COALESCE_HELD_BYTES */
};

enum { COALESCE_HELD_BYTES = 256 * 1024 };

struct coalesce_stats {
    uint64_t writes;                  /* sendmsg calls taken in */
    uint64_t flushes;                 /* system calls made instead */
    uint64_t stalls;                  /* flushes that a full socket cut short */
    uint64_t held_bytes, connections; /* gauges */
};

/* Process-wide, before the first listener. Returns what sockets_init returns. */
int coalesce_init(enum coalesce_level level);

/* The window of one drained batch, on this thread. */
void coalesce_begin(void);
void coalesce_end(void);

struct coalesce_stats coalesce_stats(void);

/* ---- for sockets.c; fd is a connection that was adopted ---- */

void coalesce_adopt(int fd);
ssize_t coalesce_send(int fd, const struct msghdr *message, int flags);

/* The client does not take what is sent as fast as it comes. Without a coalescer: false. thread:
 * any. */
bool coalesce_full(int fd);

/* Before the end of the stream is sent. False: bytes are held; they leave later, and then the end
 * of the stream. */
bool coalesce_end_stream(int fd);

/* Closes it, at once or when what is held has left. */
void coalesce_close(int fd);

void coalesce_writable(int fd);
void coalesce_tick(void); /* ends those that have lingered too long */

#endif
