/* A publisher from inside.
 *
 *   publisher.c       what applications call, and the thread
 *   publish_stream.c  the present stream: frames out, acknowledgements in, its end
 *
 * A message is a `parcel` in one of three lists: waiting -> sent -> settled. The last one belongs
 * to the publisher's thread, which tells the application without the lock. */
#ifndef PRISM_CLIENT_PUBLISHER_PRIV_H
#define PRISM_CLIENT_PUBLISHER_PRIV_H

#include "prism/publisher.h"

#include "client/src/producer_priv.h"

#include <pthread.h>

struct parcel {
    struct parcel *next;
    void *tag;
    size_t bytes; /* of all that the message consists of */
    bool resume;  /* everything goes on with it */
    /* settled */
    struct prism_publish_result result;
    /* points into what follows the parcel */
    wire_message message;
};

struct parcels {
    struct parcel *first, **last;
    size_t n;
    uint64_t bytes;
};

struct prism_publisher {
    struct prism_producer *producer;
    struct prism_publisher_options options; /* no zeroes left */
    grpc_completion_queue *queue;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t work, progress; /* CLOCK_MONOTONIC. For the thread; for applications */
    /* Under the lock. */
    struct parcels waiting, sent;
    size_t unsettled; /* parcels that the application has not been told of */
    uint64_t unsettled_bytes, put_number, settled_number;
    bool closing, gave_up, done;
    bool stopped, resuming;   /* a lost stream: keys, or all, wait for resume */
    bool refused;             /* for good: `ended` says why */
    struct prism_error ended; /* how the last stream did */
    struct prism_publisher_stats stats;
    grpc_call *call; /* NULL: there is no stream */
    bool sending, half_closed, draining;
    int64_t sent_through, resumed_from; /* numbers on the stream */
    bool failed;   /* behind a message of this stream nothing is stored, until resumed */
    size_t window; /* 0: the server has not told yet */
    uint64_t window_bytes;
    wire_message **list; /* of a frame */

    /* The thread's. */
    int tags; /* of gRPC's that will come back; without the send's */
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *incoming;
    grpc_status_code status;
    grpc_slice status_text;
    int64_t settled_through;
    struct parcels settled;
    Prism__Patterns__Producer__PublishAck *ack; /* of which results borrow */
    unsigned failures;                          /* since a stream stood */
    uint64_t retry_at_ns;
};

/* ---- lists ---- */

void parcels_init(struct parcels *parcels);
void parcels_add(struct parcels *parcels, struct parcel *parcel);
struct parcel *parcels_take(struct parcels *parcels); /* the first; NULL: empty */

/* The first goes to the settled ones, with this outcome; `text` is static, or lives as long. */
void publisher_settle(struct prism_publisher *publisher, struct parcels *from,
                      enum prism_outcome outcome, enum prism_code code, const char *text);

/* ---- publish_stream.c ---- */

/* The thread's; the caller holds the lock. */
void publish_stream_begin(struct prism_publisher *publisher);

/* Any thread's; the caller holds the lock. Sends a frame, or half-closes, if it is time to. */
void publish_stream_go_on(struct prism_publisher *publisher);

/* There is one, or its last events are to come. The caller holds the lock. */
bool publish_stream_stands(const struct prism_publisher *publisher);

/* The thread's, without the lock: waits for one event, after which parcels may be settled. */
void publish_stream_event(struct prism_publisher *publisher);

#endif
