/* What the files of this folder share: the instance with its plan, and what of it lies beyond one
 * worker. Messages on their way have feed.h, those who get them member.h.
 *
 * thread: everything here runs on the instance's home worker, unless it says otherwise. */
#ifndef PRISM_PATTERNS_CONSUMER_CONSUMER_PRIV_H
#define PRISM_PATTERNS_CONSUMER_CONSUMER_PRIV_H

#include "backends/kv.h"
#include "backends/queue.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "patterns/consumer/messages.h"
#include "patterns/messages.h"
#include "patterns/messaging/letters.h"
#include "patterns/messaging/retention.h"
#include "patterns/messaging/topics.h"
#include "patterns/need.h"
#include "patterns/pattern.h"
#include "patterns/trouble.h"
#include "pool/semaphore.h"
#include "src/base/arena.h"
#include "src/base/log.h"
#include "src/rpc/call.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOT_SOURCE, SLOT_DEAD, SLOT_OBJECT, SLOT_STATE, SLOT_COUNT };

struct feed;
struct member;

/* ---- plan.c: what is executed, and what GetCapabilities prints ---- */

/* How messages of one slot are read. */
struct origin {
    const struct message_source *source;     /* NULL: the slot is empty */
    const struct message_settling *settling; /* NULL: topics, at most once */
    const struct stream *stream;             /* NULL, here and below: not offered */
    const struct queue *queue;               /* it knows no groups */
};

struct consumer_plan {
    struct origin from;              /* source NULL only offline */
    struct origin letters;           /* of the dead letter slot */
    const struct message_sink *sink; /* of the source: where redriven messages go */
    const struct message_sink *dead; /* of the dead letter slot */
    const struct kv_basic *object;   /* of the object slot */
    const struct kv_basic *state;    /* of the state slot; NULL also where the source counts */
};

/* By slot; NULL: empty. */
struct consumer_plan consumer_plan_make(const struct backend_interfaces *const *slots);

enum consumer_need {
    NEED_NOTHING,
    NEED_SETTLING,
    NEED_REPLAY,
    NEED_POSITION,
    NEED_DEAD_LETTER,
    NEED_KEYED,
    NEED_NULL_PAYLOAD,
    NEED_REDRIVE,
    NEED_PARTITION_ORDER,
    NEED_ATTEMPTS,
    NEED_ANYWHERE,
    NEED_COUNT
};

/* The operations in the order of the service; the plain form of each has variant NULL. */
struct consumer_operation {
    const char *name, *variant;
    enum consumer_need need;
};

extern const struct consumer_operation consumer_operation_table[]; /* ends with .name = NULL */

bool consumer_meets(const struct consumer_plan *plan, enum consumer_need need);
enum pattern_how consumer_how(const struct consumer_plan *plan, enum consumer_need need);
const struct need *consumer_need_of(enum consumer_need need);
size_t consumer_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max);

/* ---- consumer.c: the instance ---- */

struct consumer_settings {
    const char *default_group;
    const char *dead_letter_suffix;
    uint32_t max_in_flight, max_frame_messages, max_subscriptions, max_parked, max_attempts;
    uint64_t max_in_flight_bytes, max_frame_bytes;
    uint64_t max_group_bytes, max_message_memory;
    uint64_t retry_delay_ms, max_lease_ms;
    uint64_t max_inline_bytes; /* of a message of the server */
};

struct consumer_stats { /* written on the home worker of the groups */
    struct counter delivered, delivered_bytes, redelivered;
    struct counter settled, retried, released, dropped, dead_letters, given_back;
    struct counter redriven, late, lost, revoked, object_failures;
    struct counter state_failures;
    struct counter subscriptions, unsettled, parked, held_bytes, stalled, lag; /* gauges */
};

static inline void gauge_lower(struct counter *gauge, uint64_t by)
{
    counter_add(gauge, (uint64_t)0 - by);
}

struct consumer {
    struct pattern base;
    struct arena memory; /* holds the instance itself */
    struct pattern_binding binding;
    struct backend *source, *dead, *objects, *states; /* all but the first: NULL = none */
    struct consumer_settings settings;
    struct topics topics;
    uint32_t facts; /* pattern_facts, that the plan was made from */
    struct consumer_plan plan;
    struct consumer_stats stats;
    struct letters letters;     /* dead ones that are written */
    struct semaphore inflating; /* one payload at a time: claim_gzip.h */
    struct trouble state_trouble, object_trouble;
    uint64_t random;   /* for delays */
    uint32_t troubled; /* deliveries whose object was asked for in vain, and is asked for again */
    struct log_budget drop_log, object_log, stall_log, state_log;

    struct feed *feeds;         /* those that live here */
    unsigned starved;           /* of them: waiting for memory */
    uint64_t held;              /* bytes of messages that they hold, and may still be given */
    unsigned redrives;          /* under way */
    void (*stopped)(void *arg); /* set: tell when the last feed has gone */
    void *stopped_arg;
    struct job stopping;

    struct arena caps_memory;
    ProtobufCMessage *caps; /* ready to be sent; NULL: to be built */
    bool caps_lossy;        /* they say that the retention is */
    int64_t generation;
};

/* The call's instance, with a plan that is up to date. */
struct consumer *consumer_of(const struct call *call);

/* strict_retention. thread: any. */
bool consumer_is_strict(const struct backend_value *values);

/* A feed has gone. */
void consumer_feed_gone(struct consumer *consumer);

/* ---- shared.c: the instances of one namespace on all workers ---- */

enum { SUBSCRIPTION_ID_BYTES = 32 }; /* and a NUL */

struct pattern_shared *consumer_open_shared(const struct pattern_sharing *sharing);
void consumer_close_shared(struct pattern_shared *shared);

enum feed_order { ORDER_AS_READY, ORDER_BY_KEY, ORDER_BY_PARTITION };

/* Where to begin in one of several partitions. */
struct feed_place {
    int32_t partition;
    enum stream_start start; /* START_OFFSET or START_POSITION */
    int64_t at;
    struct slice position;
};

/* What a subscription reads. */
struct feed_want {
    struct slice topic; /* the backend's name */
    struct slice group; /* empty: none */
    enum stream_start start, if_none;
    int64_t at;
    int32_t partition;
    struct slice position;
    const struct feed_place *places; /* several partitions: start is START_COMMITTED */
    size_t n_places;
    enum gap_policy on_gap;
    struct slice dead_topic; /* the backend's name of where its dead letters go; null: nowhere */
    bool letters;            /* read from the dead letter slot: topic is the name of that */
    enum feed_order order;
    bool shared; /* others of this topic and group get their part of the same messages */
};

/* The feed that a new member shall belong to, with a reference for it: one that stands on any
 * worker, or a new one here. RESOURCE_EXHAUSTED: there are max_subscriptions. thread: any. */
struct err shared_take_feed(struct consumer *consumer, const struct feed_want *want,
                            struct feed **feed);
/* Gives the reference back. True: it was the last one; nobody finds the feed any more. */
bool shared_drop_feed(struct feed *feed);
/* It ended by itself: nobody new shall find it. */
void shared_hide_feed(struct feed *feed);

/* What is known of the topics' retention. thread: any. */
struct retention_book *shared_retention(const struct consumer *consumer);

/* A name that cannot be guessed; SUBSCRIPTION_ID_BYTES and a NUL. thread: any. */
void shared_make_id(char *id);
/* From now on the member is found by its id. thread: home of its feed, here and below. */
void shared_list(struct member *member);
void shared_unlist(struct member *member);
/* NULL: unknown, or of another home. */
struct member *shared_find(struct consumer *home, const char *id);

/* The instance at which the subscription, or the feed of a group, lives; NULL: there is none.
 * thread: any. */
struct consumer *shared_home_of(struct consumer *consumer, const char *id);
struct consumer *shared_home_of_group(struct consumer *consumer, struct slice topic,
                                      struct slice group);

/* The subscription of the deprecated interface with this topic and name: its home, and its id, of
 * SUBSCRIPTION_ID_BYTES and a NUL. NULL: there is none. thread: any. */
struct consumer *shared_home_of_old(struct consumer *consumer, struct slice topic, const char *name,
                                    char *id);

/* ---- deprecated.c ---- */

extern const struct service consumer_old_pubsub;

/* ---- read.c: before the first effect ---- */

/* What a member asks for. */
struct member_want {
    struct feed_want feed;
    const char *topic;       /* the client's name */
    const char *consumer_id; /* "": made up */
    uint32_t max_in_flight, max_frame_messages;
    uint64_t max_in_flight_bytes, max_frame_bytes;
    uint64_t max_inline_bytes;
    uint64_t max_wait_ms;
    uint64_t lease_ms; /* 0: as long as the member is there */
    bool automatic;    /* settled when the transport has taken them */
    bool ack_tokens;   /* each message comes with one */
    bool alone;        /* in: of no group, not even the default one */
};

/* Texts and slices lie in the arena or in the request. */
struct err consumer_read(const struct consumer *consumer, struct arena *arena,
                         const pb_subscribe_request *request, struct member_want *want);

enum {
    CONSUMER_MAX_DELAY_MS = 7 * 24 * 3600 * 1000,
    CONSUMER_MAX_IDS = 10000, /* named by one request */
    FRAME_FAILURES_BYTES = 65536,
};

struct err consumer_check_delay(int64_t delay_ms);
struct err consumer_check_disposition(pb_disposition disposition);

/* Topic and group of a request about a group. */
struct err consumer_read_group(const struct consumer *consumer, struct arena *arena,
                               const char *topic, const char *group, struct slice *full,
                               struct slice *name);

/* ---- dead_name.c ---- */

/* The topic of a group's dead letters: "topic.groupSUFFIX", or "topicSUFFIX" without a group. Both
 * names are the backend's. INVALID_ARGUMENT about "consumer_group": too long, or nothing that the
 * backend takes. */
struct err dead_topic_of(const struct consumer *consumer, struct arena *arena, struct slice topic,
                         struct slice group, struct slice *name);

/* What went wrong with it. It is named, since the client has named another. */
struct err about_dead_topic(struct arena *arena, struct slice name, struct err err);

/* ---- anywhere.c ---- */

/* Settles by token, wherever the deliveries are, and replies. done: what the call answers. */
void consumer_settle_tokens(struct call *call, const pb_deliveries *deliveries, bool drop);

/* ---- caps.c, stats.c ---- */

void consumer_caps_build(struct consumer *consumer);
int64_t consumer_generation(struct consumer *consumer);
void consumer_render(struct pattern *const *instances, size_t n, struct metrics_page *page);

/* ---- handlers ---- */

call_handler_fn consumer_get_capabilities, consumer_consume, consumer_subscribe,
    consumer_unsubscribe, consumer_acknowledge, consumer_reject, consumer_extend, consumer_seek,
    consumer_redrive, consumer_get_state;

#endif
