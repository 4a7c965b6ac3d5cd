/* Messages, as all messaging interfaces take and hand them over.
 *
 *   topic.h    publish, subscribe; at most once, no memory
 *   stream.h   append to a log, groups that read it, settlement by delivery
 *   queue.h    push, take, settle; what is settled is gone
 *
 * All three have a sink (below: messages go out, one operation a frame) and a source
 * (subscription.h: messages come in, in batches, within a credit). One operation carries many
 * messages and one batch carries many: for each message there is no allocation of ours, no timer,
 * no lock and no wake-up.
 *
 * null and empty   A key, id, payload or header value whose data is NULL is absent (null); one
 *                  with len 0 and data that is not NULL is empty. message_empty() makes the
 *                  latter. A sink says whether it can tell them apart. */
#ifndef PRISM_BACKENDS_MESSAGE_H
#define PRISM_BACKENDS_MESSAGE_H

#include "pool/job.h"
#include "pool/op.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backend;
struct block; /* bytes that many threads share, counted by reference */
struct subscription;

enum {
    MESSAGE_TOPIC_BYTES = 249,    /* longest topic and group; a backend may allow less */
    MESSAGE_KEY_BYTES = 65536,    /* longest key and id */
    MESSAGE_HEADERS = 256,        /* of one message */
    MESSAGE_HEADER_BYTES = 65536, /* names and values of one message's headers together */
    MESSAGE_POSITION_BYTES = 64,  /* longest position */
};

static inline struct slice message_null(void)
{
    return (struct slice){.data = NULL, .len = 0};
}

static inline struct slice message_empty(void)
{
    return slice_of("", 0);
}

static inline bool message_is_null(struct slice bytes)
{
    return bytes.data == NULL;
}

/* Copies; null stays null and empty stays empty. */
static inline struct slice message_copy(struct arena *arena, struct slice bytes)
{
    return bytes.len > 0 ? arena_copy(arena, bytes) : bytes.data != NULL ? message_empty() : bytes;
}

/* Bytes as they are, in the order in which they were written; names may repeat. */
struct header {
    struct slice name, value; /* value: may be null */
};

/* ---- going out ---- */

/* What an acknowledged message has reached is the backend's `ack` (backend.h), or the topic's own
 * where stream_describe tells. */
struct outgoing {
    /* in: borrowed until done() */
    struct slice topic;
    struct slice key;     /* null: none. Equal keys keep their order where the sink is `keyed` */
    struct slice id;      /* null: none. Compared where the sink `dedups`; else carried along */
    struct slice payload; /* may be null where the sink is `null_payload` */
    struct block *shared; /* NULL, or holds payload: then a backend that keeps the payload takes a
                             reference instead of a copy */
    const struct header *headers;
    size_t n_headers;
    uint64_t delay_ms; /* queues that `delay` only: not taken before; 0 = at once */
    /* out: meaningful when op.err is ERR_OK. position, if any, lives in op_arena() */
    struct err err; /* ERR_OK: acknowledged. Else err.effect says whether the message may be there
                       all the same: an answer that was lost is EFFECT_UNKNOWN, not failed */
    bool deduplicated;     /* the id was known: nothing was written; the position is the first's */
    int32_t partition;     /* -1: none */
    int64_t offset;        /* -1: none */
    int32_t receivers;     /* topics: who was reached; -1: the backend cannot tell */
    struct slice position; /* null: partition and offset say it all. Opaque, printable ASCII,
                              <= MESSAGE_POSITION_BYTES: for stream_seek and for clients */
};

#define PUBLISH_ALL UINT32_MAX

/* One frame of messages.
 *
 *   thread   home worker of the backend instance
 *   n        1..sink.max_items; together at most sink.max_frame_bytes (message_out_bytes)
 *   order    of one key (`keyed` sinks): as in the frame; frames in the order of their starts.
 *            Several topics may stand in one frame
 *   op.err   ERR_OK: every item has an outcome of its own, good or bad, in its place. Otherwise
 *            it holds for all items (ERR_UNAVAILABLE: never sent; nothing was written)
 *   cancel   messages that were not sent fail; those that were become unknown
 *   atomic   only where sink.atomic_items says so: all items are there, or none, and no reader sees
 *            a part. One topic; at most sink.atomic_items; they stand in the frame's order, with
 *            keys and without, also where the sink is not `keyed`. op.err is the outcome of all:
 *            with ERR_OK each item is acknowledged; with EFFECT_UNKNOWN either all are there or
 *            none is. Where one item is the reason, `culprit` is its index
 *
 * Errors of an item: ERR_INVALID_ARGUMENT about "topic", "payload" (too long), "headers" or "key"
 * (what cannot be carried is refused, never changed), ERR_NOT_FOUND about "topic",
 * ERR_PERMISSION_DENIED, ERR_RESOURCE_EXHAUSTED (full, or too much under way: nothing was written;
 * retry_after_ms is set, unless it is one queue's bound: that has room once somebody receives from
 * it), ERR_ALREADY_EXISTS about "message_id" (same id, other content, where that
 * is compared), ERR_UNAVAILABLE and ERR_DEADLINE_EXCEEDED (look at the effect), ERR_ABORTED (an
 * earlier item of its key failed: not sent, so that it cannot overtake what its client may send
 * again; where items have keys and the sink is `keyed`). A hopeless item fails at once and takes no
 * neighbour of another key with it. See failed_keys.h. */
struct publish {
    struct op op;
    struct outgoing *items;
    size_t n;
    bool atomic;
    uint32_t culprit; /* atomic; in: PUBLISH_ALL. out: whom op.err is about, or as it was */
    uint32_t left;    /* the backend's own */
};

/* Where messages can go: part of struct topic, stream and queue. */
struct message_sink {
    uint32_t max_items;         /* of one publish */
    uint64_t max_frame_bytes;   /* of one publish, as message_out_bytes counts */
    uint64_t max_message_bytes; /* one message: key, headers and payload; 0 = the frame's. The
                                   store's message_bytes holds as well */
    uint32_t atomic_items;      /* of one atomic publish, <= max_items, in max_frame_bytes as any
                                   other; 0: there are none. Sinks that dedup have none */
    uint32_t width;             /* publishes of one caller under way at a time that pay off, where
                                   that is many: a sink that waits for messages to gather them has
                                   no use for those that wait in front of it. 0: the pattern's */
    bool keyed;                 /* order of equal keys is kept, retries of the client included */
    bool dedups;                /* an id met again within the window is written once */
    bool dedup_compares;        /* ... and refused with other content */
    bool dedup_survives;        /* the memory of ids survives a restart of the server */
    bool bare; /* a message is its topic and payload: a key, an id and headers are refused */
    bool tells_receivers; /* outgoing.receivers is told: topics only */
    bool null_payload, null_header_values;
    bool binary_headers;      /* names and values may hold any byte */
    bool many_topics;         /* one costs about as much as a message: there may be a million; a
                                 pattern that wants one for each of many things looks here */
    uint64_t dedup_window_ms; /* 0: unknown, or not dedups */
    uint64_t dedup_max_ids;   /* 0: no bound by count */
    const char *ack_means;    /* for clients: what has happened when an item is ERR_OK */
    const char *partitioner;  /* for clients: how keys choose partitions; NULL: there are none */

    /* ERR_INVALID_ARGUMENT about "topic": this can be no name of a topic here. The pattern has
     * checked that it is neither empty nor longer than MESSAGE_TOPIC_BYTES. No I/O. thread: any. */
    struct err (*check_topic)(struct slice topic);
    void (*publish)(struct backend *, struct publish *);
};

/* What a message counts in byte budgets. */
static inline size_t message_out_bytes(const struct outgoing *m)
{
    size_t bytes = m->topic.len + m->key.len + m->id.len + m->payload.len;

    for (size_t i = 0; i < m->n_headers; i++)
        bytes += m->headers[i].name.len + m->headers[i].value.len;
    return bytes;
}

/* ---- coming in ---- */

enum {
    BATCH_MESSAGES = 224,     /* of one batch, at most */
    BATCH_BYTES = 256u << 10, /* of one batch: the message that passes this is its last */
};

/* All slices point into the batch and stay until its release. */
struct incoming {
    struct slice topic; /* the one it was published to: behind a wildcard there are many */
    struct slice key, id, payload;
    const struct header *headers;
    struct block *block;   /* NULL, or holds payload: who needs it for longer than the batch takes a
                              reference (a send, an append elsewhere) */
    int64_t offset;        /* -1: none */
    struct slice position; /* as outgoing.position */
    uint64_t timestamp_ms; /* Unix time at which the source got it; 0 = not told */
    uint64_t token;        /* names this delivery in settle and extend; 0: nothing to settle */
    int32_t partition;     /* -1: none */
    uint32_t attempt;      /* 1 = first delivery, as far as the source knows; 0 = it does not */
    uint32_t n_headers;
};

_Static_assert(BATCH_MESSAGES * sizeof(struct incoming) <= 31u << 10,
               "with a backend's word for each, a full batch fills a class of the allocator's");

/* What it counts in byte budgets. */
static inline size_t message_in_bytes(const struct incoming *m)
{
    size_t bytes = m->key.len + m->payload.len;

    for (size_t i = 0; i < m->n_headers; i++)
        bytes += m->headers[i].name.len + m->headers[i].value.len;
    return bytes;
}

/* Belongs to the receiver once handed over. The receiver counts `left` down; at 0 it calls release,
 * on the subscription's home worker, at any time before the backend instance is closed, also after
 * the subscription was. Settling does not release, and releasing does not settle. */
struct incoming_batch {
    struct job landing;                /* the holder's: how it travels */
    void *holder;                      /* the receiver's own */
    struct subscription *subscription; /* NULL: it has sharers */
    struct incoming *items;
    /* NULL; or n subscriptions of one bundle, for each of which the one item has come: its topic is
     * null, for each has another. The receiver sets a place to NULL, at the latest when that
     * subscription is closed, and may do so before. */
    struct subscription **sharers;
    uint32_t n;    /* 1..BATCH_MESSAGES; with sharers: of them, 1.. */
    uint32_t left; /* n when handed over */
    size_t bytes;  /* what it counts against the credit: keys, headers and payloads */
    void (*release)(struct incoming_batch *);
};

#endif
