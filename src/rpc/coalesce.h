/* Write coalescing: the replies of one drained batch leave in one system call per connection. Why
 * and how: coalesce.c.
 *
 * Off this interface nothing changes: only descriptors accepted by a listener that was opened
 * inside coalesce_listen_begin/end are ever touched, and those only between coalesce_begin and
 * coalesce_end. */
#ifndef PRISM_RPC_COALESCE_H
#define PRISM_RPC_COALESCE_H

#include <stdint.h>

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

/* Process-wide, once, before the first listener. Returns an epoll descriptor that is readable while
 * a stalled connection can be written again (see coalesce_flush_stalled), or -1 for COALESCE_OFF.
 */
int coalesce_init(enum coalesce_level level);

/* Listeners that this thread opens in between are ours. */
void coalesce_listen_begin(void);
void coalesce_listen_end(void);

/* The window of one drained batch, on this thread. */
void coalesce_begin(void);
void coalesce_end(void);

/* Writes out what stalled connections still hold, as far as they take it. thread: any; never
 * blocks. */
void coalesce_flush_stalled(void);

struct coalesce_stats coalesce_stats(void);

#endif
