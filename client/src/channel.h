/* A channel from inside: one gRPC channel, what every call needs to know, and a store of completion
 * queues for calls that block. */
#ifndef PRISM_CLIENT_CHANNEL_H
#define PRISM_CLIENT_CHANNEL_H

#include "prism/prism.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

enum { CHANNEL_IDLE_QUEUES = 64 };

struct async;

struct prism_channel {
    /* Constant after open. */
    grpc_channel *grpc;
    char *target; /* as gRPC tells it for calls that never reached a connection */
    grpc_metadata metadata[1];
    size_t metadata_count;
    bool tls;
    uint32_t max_message_bytes; /* of an answer */
    bool deadline_given;        /* by the application: no call has another of its own accord */
    uint32_t deadline_ms;
    struct prism_retry retry; /* no zeroes left */
    prism_log_fn *log;
    void *log_context;

    _Atomic uint64_t last_ns; /* when an answer came last, CLOCK_MONOTONIC */

    /* Under the lock. */
    pthread_mutex_t lock;
    grpc_completion_queue *idle[CHANNEL_IDLE_QUEUES];
    size_t idle_count;
    struct async *async; /* NULL until the first asynchronous call */
};

/* A completion queue for grpc_completion_queue_pluck by the calling thread. Give it back empty:
 * every tag plucked. */
grpc_completion_queue *channel_take_queue(struct prism_channel *channel);
void channel_give_queue(struct prism_channel *channel, grpc_completion_queue *queue);

/* To the log callback, if there is one. */
void channel_log(const struct prism_channel *channel, enum prism_log_level level,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
