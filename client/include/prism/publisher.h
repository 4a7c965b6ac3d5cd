/* A publisher: one PublishStream on which messages follow each other in frames, without a round
 * trip for each.
 *
 *   prism_publisher_put   copies a message, and waits for room if there is none
 *   the publisher         fills a frame while the one before is on its way, within the window that
 *                         the server grants, and begins a new stream when one is lost
 *   settled()             tells what became of each message: once, in the order of putting; only
 *                         what is ABORTED because a stream ended comes before its turn
 *
 * Budget: max_messages and max_bytes of messages that are not settled; more is not taken.
 *
 * A lost stream. What had been sent and was not settled is told as unknown, and is not sent again:
 * the backend may have it. What had not been sent goes out on the next stream. A server that drains
 * settles what it has read and says so: then the rest goes to the next one, and nothing is unknown.
 *
 * Order. Messages of one topic with the same ordering_key are stored in the order of putting. After
 * one that failed, or is unknown, what was put behind it is not stored but told as ABORTED, until
 * prism_publisher_resume: of its key; of every key, once the stream has ended on which it was.
 *
 * Threads: every function may be called on any thread, but close once and alone. settled() runs on
 * the publisher's own thread: it must not block, and may put with a timeout of 0. */
#ifndef PRISM_PUBLISHER_H
#define PRISM_PUBLISHER_H

#include <prism/producer.h>

#ifdef __cplusplus
extern "C" {
#endif

struct prism_publisher;

/* What becomes of messages behind one that has failed. */
enum prism_after_failure {
    PRISM_STOP_KEY, /* those with its key are told as ABORTED; see above */
    PRISM_STOP_ALL, /* all are */
    PRISM_CONTINUE  /* they are published: order is not kept */
};

/* result: borrowed until the function returns. Without `positions` a stored message's result tells
 * no identifier and no place. */
typedef void prism_settled_fn(void *context, void *tag, const struct prism_publish_result *result);

/* 0 = default. */
struct prism_publisher_options {
    enum prism_after_failure after_failure;
    uint32_t max_messages;     /* not settled; default 10,000 */
    uint64_t max_bytes;        /* of them; default 64 MiB. One message may exceed it alone */
    uint32_t frame_messages;   /* default 500, and at most what the server takes as a batch */
    bool positions;            /* results tell message_id, position, offset, partition, .. */
    prism_settled_fn *settled; /* NULL: prism_publisher_stats alone tells */
    void *context;
};

/* Totals since the publisher began. */
struct prism_publisher_stats {
    uint64_t put, stored, not_stored, unknown;
    uint64_t deduplicated; /* of stored; only with `positions` */
    uint64_t streams;      /* begun */
    uint64_t unsettled;    /* now: put = stored + not_stored + unknown + unsettled */
};

/* Begins a publisher and its thread; the first stream begins with the first message. Free with
 * prism_publisher_close, before the producer.
 * options: NULL = all zero.   errors: INVALID_ARGUMENT. */
PRISM_API enum prism_code prism_publisher_open(struct prism_producer *producer,
                                               const struct prism_publisher_options *options,
                                               struct prism_publisher **publisher,
                                               struct prism_error *error);

/* Takes a message, which is copied, and will be settled with the tag. Whatever the code is but OK,
 * the message was not taken.
 * timeout_ms: how long to wait for room. 0: not at all; UINT32_MAX: until there is some.
 * errors: INVALID_ARGUMENT (as prism_publish, and a payload over max_message_bytes), UNIMPLEMENTED
 *   (ordering_key), RESOURCE_EXHAUSTED (no room), ABORTED (behind a failure: resume first),
 *   CANCELLED (it is being closed), and the code with which the server has refused the stream, for
 *   good: NOT_FOUND, PERMISSION_DENIED, .. */
PRISM_API enum prism_code prism_publisher_put(struct prism_publisher *publisher,
                                              const struct prism_message *message, void *tag,
                                              uint32_t timeout_ms, struct prism_error *error);

/* Everything goes on, beginning with the next message that is put. */
PRISM_API void prism_publisher_resume(struct prism_publisher *publisher);

/* Waits until everything that was put before is settled. Not from settled().
 * errors: DEADLINE_EXCEEDED (some of it is not). */
PRISM_API enum prism_code prism_publisher_flush(struct prism_publisher *publisher,
                                                uint32_t timeout_ms, struct prism_error *error);

PRISM_API struct prism_publisher_stats prism_publisher_stats(struct prism_publisher *publisher);

/* Waits until all is settled; after timeout_ms what was sent is told as unknown, and the rest as
 * not stored. Then frees the publisher, whatever the code. NULL is accepted. errors:
 * DEADLINE_EXCEEDED (it came to that). */
PRISM_API enum prism_code prism_publisher_close(struct prism_publisher *publisher,
                                                uint32_t timeout_ms, struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
