/* What each connection holds of the server's limits, so that none of them takes everything.
 *
 * thread: the poller, unless said otherwise. */
#ifndef PRISM_RPC_SHARE_H
#define PRISM_RPC_SHARE_H

#include "src/base/metrics.h"

#include <grpc/grpc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SHARE_BUCKETS = 1024 };

/* Lives as long as a call points to it, and then until another connection needs its place. */
struct share {
    struct share *next; /* of its bucket */
    const void *key;    /* names the connection while one of its calls lives */
    uint32_t users;     /* calls that point here */
    uint32_t calls;     /* of those, the ones that count in limits.max_inflight_calls */
    uint32_t streams;   /* of those, the ones that count in limits.max_general_streams */
    uint32_t hungry;    /* of those, the ones whose receive waits for memory */
    uint32_t unread;    /* of those, the ones whose answer, or message, is on its way */
    uint64_t taken_ns;  /* when it last took an answer, or a message of a stream */
    bool ended;         /* for an answer that it did not take */
    /* As the server's in_flight_bytes and held_bytes (memory.c). Read, and all but `bytes` written,
     * by any thread. */
    struct counter bytes;
    _Atomic uint64_t held_bytes;
    _Atomic uint32_t kept; /* as the server's */
};

struct share_table {
    struct share *buckets[SHARE_BUCKETS];
    struct share *last; /* found last: calls of one connection come in rows */
};

/* The share of the call's connection, used by this call until share_leave. */
struct share *share_enter(struct share_table *table, grpc_call *call);
void share_leave(struct share *share);

/* Bytes that the connection holds. thread: any. */
uint64_t share_bytes(const struct share *share);

void share_clear(struct share_table *table);

#endif
