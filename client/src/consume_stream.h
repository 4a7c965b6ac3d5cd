/* The present Consume stream of a subscription, and the subscription that both files know.
 *
 * Its tags are one send, one receive, and the status. The receiving thread drives them; other
 * threads only add settlements, and start a send if none is under way. */
#ifndef PRISM_CLIENT_CONSUME_STREAM_H
#define PRISM_CLIENT_CONSUME_STREAM_H

#include "client/src/consumer_priv.h"
#include "client/src/settlements.h"

#include <pthread.h>

struct prism_subscription {
    struct prism_consumer *consumer;
    char *topic, *group, *consumer_id;
    struct prism_subscribe_options options;
    grpc_completion_queue *queue;

    pthread_mutex_t lock;
    pthread_cond_t stopping; /* CLOCK_MONOTONIC */
    /* Under the lock. */
    bool stopped;
    grpc_call *call; /* NULL: there is no stream */
    bool sending, half_closed;
    int64_t received, unsettled; /* on this stream */
    struct settlements settlements;
    struct prism_subscription_stats stats;

    /* The receiving thread's. */
    int tags; /* of gRPC's that will come back; without the send's */
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *incoming;
    grpc_status_code status;
    grpc_slice status_text;
    Prism__Patterns__Consumer__ConsumeResponse *frame; /* in hand; NULL: none */
    size_t next;                                       /* message of it */
    struct prism_header *headers;
    size_t headers_room;
    int64_t dropped; /* that this stream told */
    bool draining, started;
    unsigned failures; /* since a stream stood */
    uint64_t retry_at_ns;
    struct prism_error ended; /* how the last stream did */
    bool for_good;
};

/* ---- the receiving thread's ---- */

void stream_begin(struct prism_subscription *subscription);

/* There is one, or its last events are to come. */
bool stream_stands(struct prism_subscription *subscription);

/* Sends what waits. Leaves, if it may: what is not settled goes back. */
void stream_go_on(struct prism_subscription *subscription, bool leave);

/* Handles one event: the frame in hand may be new, or the stream has ended and `ended` says how.
 * False: none came until the time. There is no frame in hand. */
bool stream_event(struct prism_subscription *subscription, uint64_t until_ns);

void stream_drop_frame(struct prism_subscription *subscription);

/* ---- any thread; the caller holds the lock ---- */

bool stream_may_send(const struct prism_subscription *subscription);
void stream_send_settlements(struct prism_subscription *subscription);
void stream_send_what_waits(struct prism_subscription *subscription);

#endif
