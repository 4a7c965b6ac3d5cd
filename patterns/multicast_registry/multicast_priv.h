/* What the files of this folder share: the instance with its plan, and the ways between the
 * protocol's messages and identities, documents, filters and topics.
 *
 * thread: everything here runs on the instance's home worker. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_MULTICAST_PRIV_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_MULTICAST_PRIV_H

#include "backends/queue.h"
#include "backends/registry.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "patterns/messages.h"
#include "patterns/messaging/letters.h"
#include "patterns/multicast_registry/messages.h"
#include "patterns/multicast_registry/travel.h"
#include "patterns/pattern.h"
#include "pool/semaphore.h"
#include "src/base/arena.h"
#include "src/base/log.h"
#include "src/filter/filter.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOT_REGISTRY, SLOT_MESSAGING, SLOT_DURABILITY, SLOT_DEAD, SLOT_COUNT };

enum {
    MULTICAST_ID_BYTES = 256, /* longest message_id */
    MULTICAST_COLLAPSE_BYTES = 256,
    MULTICAST_PREFIX_BYTES = 128 /* longest topic_prefix and queue_prefix */
};

#define MULTICAST_GROUP "prism.multicast" /* reads the stream of an identity */

/* ---- plan.c: what is executed, and what GetCapabilities prints ---- */

struct multicast_plan {
    /* Of the registry's backend: remembers what was sent under a message_id. NULL: it cannot. */
    const struct backend_interfaces *memory;
    const struct registry *registry; /* neither is NULL in a bound instance */
    const struct topic *topic;
    bool one_topic; /* for all identities, which are the keys in it: topics are costly there */
    /* The durability slot's queues, else its streams; NULL: it is empty. */
    const struct message_sink *kept_sink;
    const struct message_source *kept_source;
    const struct message_settling *settling;
    const struct message_sink *dead; /* of the slot for dead letters; NULL: it is empty */
    bool dead_in_stream;             /* where who reads them needs a group */
    bool kept_in_stream;             /* read by one group */
    uint64_t max_payload_bytes;      /* of either way */
    bool confirms;                   /* the sender can wait for what receivers confirm */
    bool carries_headers;            /* identifier, media type and time travel with the payload */
};

/* By slot index; NULL: empty. */
struct multicast_plan multicast_plan_make(const struct backend_interfaces *const *slots,
                                          const uint32_t *emulate);

/* The operations in the order of the service; the plain form of each has variant NULL. */
struct multicast_operation {
    const char *name, *variant;
    enum multicast_need {
        NEED_NOTHING,
        NEED_SORTING, /* done here: all matches are looked at */
        NEED_HEADERS,
        NEED_RECEIVERS,
        NEED_COLLAPSING, /* done here: what waits together for a frame, or for a slow receiver */
        NEED_POLICY,     /* done here: what waits for a slow receiver */
        NEED_IDEMPOTENCE,
        NEED_DURABILITY,
        NEED_CONFIRMATION,
        NEED_DEAD_LETTER,
        NEED_COUNT
    } need;
    bool writes, many, sends;
};

extern const struct multicast_operation multicast_operation_table[]; /* ends with .name = NULL */

enum pattern_how multicast_how(const struct multicast_plan *plan,
                               const struct multicast_operation *row);
const struct need *multicast_need_of(enum multicast_need need);

size_t multicast_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                            struct pattern_operation *out, size_t max);

/* ---- what becomes of messages for a receiver that is too slow; the protocol's numbers ---- */

enum full_policy {
    FULL_NAMESPACE, /* what the settings say */
    FULL_OLDEST,
    FULL_NEWEST,
    FULL_LATEST,
    FULL_END,
    FULL_POLICIES
};

enum drop_reason {
    DROP_NONE,
    DROP_OLDEST,
    DROP_NEWEST,
    DROP_REPLACED,
    DROP_GAP,
    DROP_GIVEN_UP,
    DROP_ENDED,
    DROP_REASONS
};

/* FULL_NAMESPACE: it is none of the names. */
enum full_policy multicast_full_policy(const char *name);

/* ---- multicast_registry.c: the instance ---- */

struct multicast_settings {
    struct slice topic_prefix, queue_prefix;
    uint64_t default_ttl_ms; /* 0 = never */
    uint64_t max_identities; /* 0 = no bound */
    uint64_t max_sorted;     /* matches of an Enumerate with sort_by */
    uint64_t max_targets;    /* of a request that names none; 0 = no bound */
    uint32_t attempts, permits, max_attached, max_in_flight, max_deliveries;
    uint64_t retry_delay_ms;
    uint64_t memory_ms;                   /* how long a message_id is remembered */
    enum full_policy when_full;           /* never FULL_NAMESPACE */
    uint64_t queue_messages, queue_bytes; /* that wait for one identity of a receiver */
    struct filter_limits filter;
};

struct multicast_stats { /* written on the home worker */
    struct counter registered, unregistered, heartbeats, missing;
    struct counter multicasts;
    struct histogram walks, pages;
    struct counter delivered, no_receiver, pending, skipped, failed, timed_out, retries;
    struct counter attached, received, waiting; /* attached, waiting: gauges */
    struct counter dropped[DROP_REASONS];
    struct counter confirmed, unsettled; /* unsettled: a gauge */
    struct counter forgotten;            /* multicasts whose outcome could not be written down */
    struct counter untold; /* confirmations that did not reach a sender who waits for them */
    struct counter expired, replaced, given_up;
    struct counter sorts_refused; /* calls of Enumerate with sort_by, by a full line */
};

struct receiver;
struct line;

/* ---- hub.c: the one topic of all identities, dealt out to leads ---- */

enum { HUB_BUCKETS = 4096 };

struct hub {
    struct subscription subscription;
    enum { HUB_IDLE, HUB_OPENING, HUB_RUNNING, HUB_CLOSING } state;
    struct line **table;  /* HUB_BUCKETS chains, by identity */
    struct line *parting; /* of leads that are closed when the subscription is */
    size_t leads;         /* in the table */
    char topic[MESSAGE_TOPIC_BYTES + 1];
};

struct multicast {
    struct pattern base;
    struct arena memory; /* holds the instance itself */
    uint64_t seed;       /* of the tables of identities, which clients choose */
    struct pattern_binding binding;
    struct backend *registry, *messaging;
    struct backend *durability, *dead; /* NULL: none is bound */
    struct letters letters;
    struct multicast_settings settings;
    uint32_t facts; /* pattern_facts, that the plan was made from */
    struct multicast_plan plan;
    struct semaphore semaphore; /* publish operations */
    struct semaphore sorting;   /* walks for an Enumerate with sort_by */
    size_t sorting_waits;
    struct multicast_stats stats;
    struct receiver *receivers;
    struct hub hub;

    /* caps.c */
    struct arena caps_memory;
    ProtobufCMessage *caps; /* ready to be sent; NULL: to be built */
};

/* The call's instance, with a plan that is up to date. */
struct multicast *multicast_of(const struct call *call);

/* ---- caps.c ---- */

void multicast_caps_build(struct multicast *multicast);

/* ---- convert.c: before the first effect. Texts are static or in the arena ---- */

struct err convert_identity(const char *text, const char *subject, struct slice *out);

/* Absent or zero: `otherwise`. */
struct err convert_ttl(const pb_duration *ttl, uint64_t otherwise, uint64_t *ms);

struct err convert_tags(struct arena *arena, char *const *tags, size_t n, struct slice *out);

/* The other way. `entry` has its document and tags, unless they were not asked for. */
pb_identity *convert_entry(struct arena *arena, const struct registry_entry *entry);

/* The topic of an identity: the prefix and the identity, where every byte but letters, digits and
 * "-" is "_" and two hexadecimal digits; where that is longer than MESSAGE_TOPIC_BYTES, "__" and
 * the SHA-256 of the identity. Nobody can name a wildcard, a level or a second topic. */
struct slice convert_topic(struct slice prefix, struct arena *arena, struct slice identity);

/* The topic is the prefix and the identity as it is. */
bool convert_is_plain(struct slice prefix, struct slice identity);
struct slice convert_plain_topic(struct slice prefix, struct arena *arena, struct slice identity);

/* ---- hub.c ---- */

void hub_init(struct multicast *multicast);
struct slice hub_topic(const struct multicast *multicast);

/* A source for leads: open, grant and close; each reads what is for its identity. */
extern const struct message_source hub_source;

/* ---- shared.c: the instances of a namespace ---- */

/* the first settings */
enum { BEHAVIOR_TOPIC_PREFIX, BEHAVIOR_QUEUE_PREFIX, BEHAVIOR_WHEN_FULL };

void multicast_check(const struct pattern_proposal *proposal, struct backend_faults *faults);
struct pattern_shared *multicast_open_shared(const struct pattern_sharing *sharing);
void multicast_close_shared(struct pattern_shared *shared);
void multicast_share(struct multicast *multicast);

/* On that worker; NULL: there is none. */
struct multicast *multicast_on(const struct multicast *multicast, unsigned worker);

/* ---- stats.c ---- */

void multicast_render(struct pattern *const *instances, size_t n, struct metrics_page *page);

/* ---- handlers ---- */

call_handler_fn multicast_get_capabilities, multicast_register, multicast_register_batch,
    multicast_heartbeat, multicast_unregister, multicast_update_metadata, multicast_enumerate,
    multicast_multicast, multicast_multicast_stream, multicast_subscribe, multicast_attach,
    multicast_acknowledge;

#endif
