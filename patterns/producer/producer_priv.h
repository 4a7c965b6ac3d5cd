/* What the files of this folder share: the instance with its plan, reading of messages, and their
 * outcomes. Messages on their way have outbox.h, Flush has epoch.h.
 *
 * thread: everything here runs on the instance's home worker. */
#ifndef PRISM_PATTERNS_PRODUCER_PRODUCER_PRIV_H
#define PRISM_PATTERNS_PRODUCER_PRODUCER_PRIV_H

#include "backends/kv.h"
#include "backends/message.h"
#include "patterns/messages.h"
#include "patterns/messaging/claim_gzip.h"
#include "patterns/messaging/retention.h"
#include "patterns/messaging/topics.h"
#include "patterns/pattern.h"
#include "patterns/producer/epoch.h"
#include "patterns/producer/latency.h"
#include "patterns/producer/messages.h"
#include "patterns/trouble.h"
#include "pool/op.h"
#include "pool/semaphore.h"
#include "src/base/arena.h"
#include "src/base/log.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOT_SINK, SLOT_STATE, SLOT_OBJECT, SLOT_COUNT };

enum { PRODUCER_ID_BYTES = 256 }; /* longest message_id */

/* ---- plan.c: what is executed, and what GetCapabilities prints ---- */

struct producer_plan {
    const struct message_sink *sink; /* never NULL in a bound instance */
    const struct stream *stream;     /* of the sink; NULL: a queue or a topic */
    bool keeps;                      /* the sink is a stream or a queue: messages are kept */
    uint32_t max_items;              /* of one publish operation */
    uint32_t width;                  /* publish operations of one call under way */
    /* An instance's own are smaller, by what its server says and by the settings. */
    uint64_t max_message_bytes;
    uint64_t claim_threshold;      /* larger payloads go to the object store */
    bool dedups_by_state;          /* the sink does not, and a state store is bound */
    const struct kv_basic *object; /* NULL: no claim checks */
};

/* By slot index; NULL: empty. */
struct producer_plan producer_plan_make(const struct backend_interfaces *const *slots);

/* The operations in the order of the service; the plain form of each has variant NULL. */
struct producer_operation {
    const char *name, *variant;
    enum producer_need {
        NEED_NOTHING,
        NEED_KEYED,
        NEED_HEADERS,
        NEED_DEDUP,
        NEED_NULL_PAYLOAD,
        NEED_CLAIM,
        NEED_ATOMIC,
        NEED_COUNT
    } need;
    bool writes, many;
};

extern const struct producer_operation producer_operation_table[]; /* ends with .name = NULL */

enum pattern_how producer_how(const struct producer_plan *plan,
                              const struct producer_operation *row);
const struct need *producer_need_of(enum producer_need need);

size_t producer_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max);

/* ---- producer.c: the instance ---- */

struct producer_settings {
    uint32_t window, max_batch_items, width, permits;
    uint64_t window_bytes;
    uint64_t retry_for_ms;
    uint64_t dedup_window_ms, claim_threshold, claim_ttl_ms;
    bool dedup_content, claim_gzip;
};

struct producer_stats { /* written on the home worker */
    struct counter stored, deduplicated, failed, unknown;
    struct counter bytes; /* of stored payloads */
    struct counter frames, retries;
    struct counter unsettled, unsettled_bytes; /* gauges */
    struct counter last_ms;                    /* Unix time of the last stored message */
    struct counter forgotten; /* identifiers that could not be remembered or given up */
    struct counter orphans;   /* objects that could not be removed */
    /* Of what may be in the object store: `written` less all others are on their way. */
    struct counter objects_written, objects_referred, objects_removed, objects_unknown;
};

struct producer {
    struct pattern base;
    struct arena memory; /* holds the instance itself */
    struct pattern_binding binding;
    struct backend *sink, *state, *object; /* the latter two may be NULL */
    struct producer_settings settings;
    struct topics topics;
    uint32_t facts; /* pattern_facts, that the plan was made from */
    struct producer_plan plan;
    struct semaphore semaphore;     /* publish operations */
    struct semaphore before, after; /* steps of prepare.c */
    struct semaphore compressing;   /* one payload at a time: claim_gzip.h */
    struct producer_stats stats;
    /* Of what has to be done even when the call is over: without a deadline. */
    struct op_group background;
    struct latency latency;
    struct epochs epochs;
    struct log_budget orphan_log;
    struct trouble put_trouble, del_trouble; /* of the object store */
    struct producer *next;                   /* of the namespace's other workers: shared.c */

    /* retention.c */
    struct asking *asking; /* under way */
    unsigned n_asking;
    uint64_t *asked;            /* hashes of topics that need not be asked about any more */
    void (*stopped)(void *arg); /* set: tell when the last question is over */
    void *stopped_arg;
    struct job stopping;

    /* caps.c */
    struct arena caps_memory;
    ProtobufCMessage *caps; /* ready to be sent; NULL: to be built */
    bool caps_lossy;        /* they say that the retention is */
    int caps_ack;           /* they say what an acknowledgement means: enum backend_ack */
    int64_t generation;     /* of caps */
};

/* The call's instance, with a plan that is up to date. */
struct producer *producer_of(const struct call *call);

/* ---- shared.c: the instances of one namespace on all workers ---- */

struct pattern_shared *producer_open_shared(const struct pattern_sharing *sharing);
void producer_close_shared(struct pattern_shared *shared);
void producer_join(struct producer *producer);
void producer_leave(struct producer *producer);

/* Calls fn for every instance of the namespace, under a lock: fn may read counters and land jobs.
 * The same ones in the same order while calls are in flight. thread: any. */
void producer_each(struct producer *producer, void (*fn)(struct producer *, void *arg), void *arg);

/* What is known of the topics' retention; NULL: nothing is asked. thread: any. */
struct retention_book *producer_retention(const struct producer *producer);

/* strict_retention. thread: any. */
bool producer_is_strict(const struct backend_value *values);

/* ---- retention.c ---- */

void producer_retention_init(struct producer *producer);
void producer_retention_stop(struct producer *producer, void (*stopped)(void *arg), void *arg);

/* ---- caps.c ---- */

void producer_caps_build(struct producer *producer);

/* Of the capabilities as they are now. */
int64_t producer_generation(struct producer *producer);

/* ---- read.c: before the first effect ---- */

/* Reads the messages of one request. Consecutive ones mostly have the same topic: it is looked at
 * once. Made by reader_of. */
struct reader {
    const struct producer *producer;
    struct arena *arena; /* for what is not borrowed from the request */
    struct header trace; /* the call's; value empty: it has none, or the sink carries no headers */
    struct slice topic;  /* for messages that name none */
    struct slice last_topic, last_full;
    struct err last_err;
    bool has_last;
};

struct reader reader_of(const struct producer *producer, const struct call *call,
                        struct arena *arena);

/* ERR_NONE and a message that can be sent, or what is wrong with it. Texts are static or in the
 * arena. */
struct err reader_read(struct reader *reader, const pb_publish_request *request,
                       struct outgoing *out);

/* The largest payload that is taken: it fits a message of the server, on its way in and out, and
 * the sink, or the object store that takes it instead. */
uint64_t producer_max_payload(const struct producer *producer);

/* The largest one that a message carries itself. */
uint64_t producer_max_carried(const struct producer *producer);

/* What the message, as it was read, counts in the sink's budgets. */
size_t producer_sink_bytes(const struct producer *producer, const struct outgoing *message);

/* Does the payload go to the object store? */
static inline bool producer_claims(const struct producer *producer, const struct outgoing *message)
{
    return producer->plan.object != NULL && message->payload.len > producer->plan.claim_threshold;
}

/* What the compressed payload may take beside the payload itself. */
static inline size_t producer_gzip_bytes(const struct producer *producer,
                                         const struct outgoing *message)
{
    return producer->settings.claim_gzip && producer_claims(producer, message)
               ? claim_gzip_room(message->payload.len)
               : 0;
}

/* ---- outcome.c ---- */

pb_outcome outcome_of(const struct outgoing *message);

/* The response of one message. Texts are the message's own or in `arena`. */
void outcome_fill(const struct producer *producer, struct arena *arena,
                  const struct outgoing *message, pb_publish_response *response);

/* A failure that is the request's fault, or the call's end: a status where a call has one message.
 */
bool outcome_is_status(const struct outgoing *message);

/* ---- stats.c ---- */

/* Notes the time of day. */
void producer_stored_now(struct producer *producer);

void producer_render(struct pattern *const *instances, size_t n, struct metrics_page *page);

/* ---- deprecated.c ---- */

extern const struct service producer_old_pubsub;

/* ---- handlers ---- */

call_handler_fn producer_get_capabilities, producer_publish, producer_publish_batch,
    producer_publish_stream, producer_flush, producer_get_stats;

#endif
