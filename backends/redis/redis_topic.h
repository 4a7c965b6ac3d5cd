/* Topics: PUBLISH among the commands of all calls; SUBSCRIBE on a connection of its own for each
 * worker, made when the first subscription is opened and kept. One SUBSCRIBE for each channel,
 * whatever the number of subscriptions. All of it belongs to the worker. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_TOPIC_H
#define PRISM_BACKENDS_REDIS_REDIS_TOPIC_H

#include "backends/redis/redis_registry.h"
#include "backends/redis/redis_session.h"
#include "backends/redis/redis_spread.h"
#include "backends/topic.h"
#include "src/base/block.h"

extern const struct topic redis_topic;

/* What waits for one subscription, beyond which the oldest is dropped; a single message may be
 * larger. */
enum { REDIS_BACKLOG_BYTES = 1 << 20 };

/* ---- what waits (redis_backlog.c) ---- */

/* One message for all subscriptions of its channel. */
struct redis_message {
    struct block block; /* holds the payload */
    struct slice topic;
    uint8_t bytes[];
};

/* One reference, the caller's. */
struct redis_message *redis_message_new(struct slice topic, struct slice payload);

struct redis_backlog {
    struct redis_message **ring; /* with a reference each; NULL: here the connection was lost */
    size_t room, head, held;     /* room: 0 or a power of two */
    size_t bytes;
    uint64_t dropped; /* not told yet */
    bool broken;      /* a lost connection is not told yet */
};

/* Takes a reference of its own. */
void redis_backlog_push(struct redis_backlog *backlog, struct redis_message *message);
void redis_backlog_break(struct redis_backlog *backlog); /* the connection was lost */
void redis_backlog_clear(struct redis_backlog *backlog);

/* Is there something to tell or to hand over? */
static inline bool redis_backlog_waits(const struct redis_backlog *backlog)
{
    return backlog->held > 0 || backlog->dropped > 0 || backlog->broken;
}

/* Takes messages within the credit, up to one batch or the next break. NULL: none. */
struct incoming_batch *redis_backlog_take(struct redis_backlog *backlog,
                                          struct subscription *subscription);

/* ---- who listens (redis_listen.c) ---- */

struct redis_channel;

struct redis_listener {
    struct redis_listener *next, **at; /* of its channel */
    struct redis_channel *channel;     /* NULL: it listens no more */
    struct redis_listening *listening;
    struct subscription *subscription;
    struct job job;
    bool landed; /* job is under way */
    bool opened; /* redis has confirmed */
    bool told;   /* ... and the subscription was told */
    bool ended;  /* its job ends it, with err */
    struct err err;
    struct redis_backlog backlog;
};

/* A command that is not answered yet. */
struct redis_asked;

struct redis_listening {
    struct redis connection;
    bool started;
    unsigned listeners;             /* not freed yet */
    unsigned under_way;             /* of their jobs: nothing is read until these have run */
    void *tree;                     /* of channels, by name (search.h) */
    struct redis_channel *channels; /* the same in a list */
    struct redis_asked *first, **last;
    struct timer watch;
    redisReplyObjectFunctions functions;
    /* The answer that is being read. */
    int kind;
    struct redis_channel *named; /* NULL: nobody listens to it any more */
    struct err refused;          /* ERR_OK, or why the connection is given up */
};

struct redis_instance {
    struct redis shared;           /* first */
    struct redis_cluster *cluster; /* NULL: one server */
    struct redis_scripted_name registry_names[REDIS_REGISTRY_SCRIPTS];
    struct redis_scripted_name session_names[REDIS_SESSION_SCRIPTS];
    struct redis_session_sweep sweep;
    struct redis_spreads spreads; /* of a cluster */
    struct redis_listening listening;
    void (*closed)(void *);
    void *closed_arg;
};

static inline struct redis_instance *redis_instance_of(struct backend *backend)
{
    return CONTAINER_OF(redis_of(backend), struct redis_instance, shared);
}

/* Connects. Once. */
void redis_listening_start(struct redis_listening *listening, struct backend *backend);

/* listener->opened is set, and its job landed, once redis has confirmed: at once, later, or never.
 */
void redis_listen(struct redis_listening *listening, struct redis_listener *listener,
                  struct slice topic);
void redis_unlisten(struct redis_listener *listener);

/* Lands the listener's job, unless it is under way. */
void redis_listener_wake(struct redis_listener *listener);

#endif
