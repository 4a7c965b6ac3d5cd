/* Client of the Consumer pattern: messages out of topics.
 *
 * A subscription is one member of a group. It gets deliveries; each is settled once: done, failed
 * and to be repeated, given back, a dead letter, or dropped. What it does not settle goes to
 * another member or comes again, so an application sees a message at least once, and settles a
 * delivery after the work for it is done, not before.
 *
 * Connections. When the server goes away, restarts or drains, the subscription begins anew by
 * itself until it is stopped, with the waits of the channel's prism_retry but without a bound on
 * attempts. Deliveries of before are then no longer its own: settling one of them is ABORTED and
 * settles nothing, and the message comes again. A subscription without a group begins where its
 * options say, so it may miss messages or see them twice; prism_subscription_stats counts how often
 * it began.
 *
 * Memory. The server sends no more than max_in_flight messages and max_in_flight_bytes bytes that
 * are not settled; the library keeps what was sent and not yet taken, and at most two frames of it
 * decoded.
 *
 * Threads. prism_receive, prism_consume and prism_subscription_close of one subscription belong to
 * one thread at a time; prism_settle, prism_extend, prism_subscription_stats and
 * prism_subscription_stop may be called on any thread. Everything else: <prism/prism.h>. `error`
 * may be NULL. */
#ifndef PRISM_CONSUMER_H
#define PRISM_CONSUMER_H

#include <prism/prism.h>
#include <prism/producer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the client object ---- */

struct prism_consumer;

/* Asks the server for its capabilities and keeps the answer. Free with prism_consumer_close.
 * errors: UNAVAILABLE, DEADLINE_EXCEEDED (server not reached), UNIMPLEMENTED (the namespace has no
 * Consumer pattern), NOT_FOUND (no such namespace), and what any call may return. */
PRISM_API enum prism_code prism_consumer_open(struct prism_channel *channel,
                                              struct prism_consumer **consumer,
                                              struct prism_error *error);

/* Its subscriptions must have been closed. NULL is accepted. The channel stays open. */
PRISM_API void prism_consumer_close(struct prism_consumer *consumer);

/* Texts are never NULL. */
struct prism_consumer_capabilities {
    const char *backend_type; /* of the slot message_source: "memstore" */
    const char *ack_means;    /* of a settled message, for people; "" = not stated */
    bool supports_groups;
    bool supports_settling; /* deliveries can be settled; else a message counts as done at once */
    bool supports_replay;   /* PRISM_START_EARLIEST can be used */
    bool supports_dead_letters; /* PRISM_DEAD_LETTER, dead_letters and prism_redrive can be used */
    bool supports_ordering;     /* PRISM_ORDER_PER_KEY can be used */
    int32_t max_attempts;       /* 0 = without end */
    int64_t lease_ms;           /* 0 = a delivery is kept as long as its subscription stands */
    const struct prism_operation *operations;
    size_t operation_count;
};

/* Owned by the client object, and valid as long as it. Never NULL. */
PRISM_API const struct prism_consumer_capabilities *prism_consumer_capabilities(
    const struct prism_consumer *consumer);

/* ---- subscribing ---- */

enum prism_start {
    PRISM_START_COMMITTED, /* where the group stopped; a new group: the oldest message */
    PRISM_START_EARLIEST,  /* the oldest message, once; COMMITTED when the connection was lost */
    PRISM_START_LATEST     /* the next message; COMMITTED when the connection was lost */
};

enum prism_order {
    PRISM_ORDER_NONE,     /* as messages are ready */
    PRISM_ORDER_PER_KEY,  /* those of one ordering_key one after the other, each settled before */
    PRISM_ORDER_PARTITION /* as in the partition; a repetition holds all that follow */
};

/* All zero is valid and means the server's defaults. Copied. */
struct prism_subscribe_options {
    const char *group;       /* NULL or "": the namespace's default; without one every message */
    const char *consumer_id; /* NULL or "": the server makes one up */
    enum prism_start start;
    enum prism_order order;
    bool settle_automatically;   /* by the server, when the transport has taken the bytes */
    bool dead_letters;           /* of this topic and group, instead of the topic */
    uint32_t max_in_flight;      /* messages sent and not settled; 0 = the server's default */
    int64_t max_in_flight_bytes; /* likewise */
    int64_t max_inline_bytes;    /* larger payloads come as a reference alone; 0 = default */
    uint32_t lease_ms;           /* a delivery is kept so long; 0 = default */
};

struct prism_subscription;

/* Prepares a subscription; the first prism_receive connects. Free with prism_subscription_close.
 * errors: INVALID_ARGUMENT (topic), UNIMPLEMENTED (what the capabilities refuse). */
PRISM_API enum prism_code prism_subscribe(struct prism_consumer *consumer, const char *topic,
                                          const struct prism_subscribe_options *options,
                                          struct prism_subscription **subscription,
                                          struct prism_error *error);

/* Names a delivery; may be copied, and outlives it. */
struct prism_receipt {
    uint64_t sequence;
    uint64_t connection; /* private */
};

/* Borrowed from the subscription until its next prism_receive. Texts are never NULL. */
struct prism_delivery {
    struct prism_receipt receipt;
    const char *topic, *message_id;
    const char *position; /* as the source writes it, opaque; "" = not told */
    struct prism_bytes payload;
    struct prism_bytes ordering_key; /* data NULL = none */
    const struct prism_header *headers;
    size_t header_count;
    int64_t offset;       /* -1 = not told */
    int32_t partition;    /* -1 = not told */
    int64_t timestamp_ms; /* since 1970-01-01T00:00:00Z; -1 = not known */
    int32_t attempt;      /* from 1; 0 = not counted */
    bool null_payload;    /* a tombstone, or a reference alone */
    bool claim_checked;   /* a reference: the payload is larger than max_inline_bytes */
};

/* Waits for the next delivery, at most timeout_ms; UINT32_MAX = without end. Also sends what was
 * settled and keeps the connection.
 * errors: DEADLINE_EXCEEDED (nothing came in time; call again), CANCELLED
 * (prism_subscription_stop),
 *   and for good: INVALID_ARGUMENT, UNIMPLEMENTED, NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED,
 *   FAILED_PRECONDITION, OUT_OF_RANGE, ABORTED (a newer member of the same name took over). */
PRISM_API enum prism_code prism_receive(struct prism_subscription *subscription,
                                        uint32_t timeout_ms, struct prism_delivery *delivery,
                                        struct prism_error *error);

/* Whether the server has said that the subscription stands: it reads its source, and what is there
 * comes. False: it has not yet, or no longer. why: how the stream ended whose place the next one
 * takes; PRISM_OK = none has since the subscription stood. NULL = not told.
 * thread: the one that receives. */
PRISM_API bool prism_subscription_stands(const struct prism_subscription *subscription,
                                         struct prism_error *why);

/* Ends the waiting of prism_receive and prism_consume, now and later. thread: any; not from a
 * signal handler. */
PRISM_API void prism_subscription_stop(struct prism_subscription *subscription);

/* ---- settling ---- */

enum prism_disposition {
    PRISM_DONE,
    PRISM_RETRY,       /* failed: it comes again, until max_attempts */
    PRISM_RELEASE,     /* not failed: it is given back, and comes again at once */
    PRISM_DEAD_LETTER, /* to the dead letter queue at once */
    PRISM_DROP         /* removed for the group */
};

struct prism_settle_options {
    int64_t delay_ms;   /* of PRISM_RETRY; 0 = the namespace's default */
    const char *reason; /* kept with a dead letter, at most 1024 bytes; NULL = none */
};

/* Says what became of a delivery. The settlement leaves with the next send, which begins at once
 * unless one is under way; whether it was carried out too late is counted in
 * prism_subscription_stats. thread: any.   options: NULL = all zero; copied.
 * errors: ABORTED (the connection of the delivery is gone: the message comes again),
 *   FAILED_PRECONDITION (settled automatically, so nothing but PRISM_DONE can be said of it, which
 *   does nothing), INVALID_ARGUMENT (no such delivery, or no such disposition). */
PRISM_API enum prism_code prism_settle(struct prism_subscription *subscription,
                                       struct prism_receipt receipt,
                                       enum prism_disposition disposition,
                                       const struct prism_settle_options *options,
                                       struct prism_error *error);

/* Keeps a delivery for lease_ms from now on. thread: any. As prism_settle. */
PRISM_API enum prism_code prism_extend(struct prism_subscription *subscription,
                                       struct prism_receipt receipt, uint32_t lease_ms,
                                       struct prism_error *error);

/* Sends what was settled, gives back the rest, and waits for the server's word that it took all of
 * it, at most the channel's deadline. Frees the subscription in every case. NULL is accepted.
 * errors: as the stream ended; DEADLINE_EXCEEDED, UNAVAILABLE: settlements may be lost, and their
 *   messages come again. */
PRISM_API enum prism_code prism_subscription_close(struct prism_subscription *subscription,
                                                   struct prism_error *error);

struct prism_subscription_stats {
    uint64_t connections; /* times that the subscription began */
    uint64_t received, settled;
    uint64_t late;    /* settlements that the server refused: taken away, or settled before */
    uint64_t revoked; /* deliveries taken away, as far as they were told one by one */
    uint64_t gaps;    /* times that messages were removed before this group got them */
    uint64_t dropped; /* messages that the server removed as they were not settled in time */
};

/* thread: any. */
PRISM_API struct prism_subscription_stats prism_subscription_stats(
    struct prism_subscription *subscription);

/* ---- a loop ---- */

/* What became of the delivery. It is borrowed until the function returns. */
typedef enum prism_disposition prism_consume_fn(void *context,
                                                const struct prism_delivery *delivery);

/* Receives and settles until prism_subscription_stop, which is PRISM_OK here, or an error for good.
 * thread: the function runs on the calling thread. */
PRISM_API enum prism_code prism_consume(struct prism_subscription *subscription,
                                        prism_consume_fn *consume, void *context,
                                        struct prism_error *error);

/* ---- where a group stands ---- */

enum { PRISM_STALLED_BYTES = 256 };

/* Asks what is to be mended before anything comes to the group, though messages of the topic wait.
 * reason: "" = something does, nothing waits, members hold all they may, or the server does not
 * know. group: NULL or "" = the namespace's default.
 * deadline_ms: 0 = the channel's. errors: as any read. */
PRISM_API enum prism_code prism_stalled(struct prism_consumer *consumer, const char *topic,
                                        const char *group, uint32_t deadline_ms,
                                        char reason[PRISM_STALLED_BYTES],
                                        struct prism_error *error);

/* ---- dead letters ---- */

/* Publishes the oldest dead letters of topic and group again, at most `most`; 0 = all that are
 * there. `redriven` counts them, also after an error.
 * errors: UNIMPLEMENTED (no dead letters), and those of any call; after them some may have been
 *   published. */
PRISM_API enum prism_code prism_redrive(struct prism_consumer *consumer, const char *topic,
                                        const char *group, uint64_t most, uint64_t *redriven,
                                        struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
