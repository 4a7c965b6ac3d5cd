/* Subscriptions of the kafka backend.
 *
 *   kafka_listener.c   open, grant, withdraw, close; what comes next for a listener
 *   kafka_control.c    the group's events, on the home worker
 *   kafka_deeds.c      what the desk does for a listener: calls that may block
 *   kafka_leave.c      and what it does at a listener's end
 *   kafka_resolve.c    where reading begins
 *   kafka_part.c       a partition: what was delivered and is not settled
 *   kafka_take.c       messages, from the client library into batches
 *   kafka_settle.c     settlement, and commits of what is settled
 *
 * A listener is a consumer of the client library, with one queue for each partition, which is
 * forwarded to nothing: the library's joint queue loses messages when partitions move. Queues make
 * the listener's descriptor readable. Credit is kept by not taking from a queue.
 *
 * One deed is under way at a time. While the desk is at it, `busy` is set and the deed's fields
 * belong to the desk; partitions that do not move are read on.
 *
 * A consumer of a group is never closed before its first assignment has come: the library aborts
 * the process then. A listener that is closed earlier is an orphan until it may be closed. */
#ifndef PRISM_BACKENDS_KAFKA_KAFKA_LISTENER_H
#define PRISM_BACKENDS_KAFKA_KAFKA_LISTENER_H

#include "backends/kafka/kafka_priv.h"
#include "pool/timer.h"

enum { KAFKA_VOIDED = 8, KAFKA_COMMIT_MS = 100 };

/* A partition that is ours. Home. */
struct kafka_part {
    struct kafka_part *next;
    int32_t partition;
    uint32_t number;               /* in tokens: which time it is read */
    uint32_t voided[KAFKA_VOIDED]; /* numbers from before seeks; 0: none */
    unsigned n_voided;
    rd_kafka_queue_t *queue;
    rd_kafka_message_t **taken; /* from the queue, not delivered: BATCH_MESSAGES places */
    unsigned taken_n, taken_at;
    size_t average; /* bytes of a message */
    uint64_t drawn; /* bytes taken since the library was asked to go on */
    uint64_t *ring; /* offset * 2 + settled, by sequence */
    uint32_t room;  /* a power of two, or 0 */
    uint64_t first; /* oldest that is not settled */
    uint64_t next_sequence;
    int64_t position;  /* all before it is settled; -1: unknown */
    int64_t saved;     /* given to the library to commit */
    int64_t end;       /* offset after the newest one delivered */
    bool leaving;      /* nothing more is taken */
    bool reset;        /* its place in the log is gone, or the library does not read it */
    uint64_t again_ns; /* it is not looked for before */
    unsigned tries;    /* in vain */
};

/* What the desk finds out, or does, for some partitions. */
struct kafka_place {
    int32_t partition;
    int64_t committed; /* -1: none */
    int64_t low, high;
    int64_t offset; /* where reading begins */
    bool save;      /* the offset is to be committed, though nothing is settled */
    bool gap;
    int64_t missing_from;
    rd_kafka_queue_t *queue;
};

struct kafka_plan {
    size_t n;
    struct kafka_place places[];
};

struct kafka_seeking {
    struct kafka_seeking *next;
    struct job job;
    struct kafka_task task;
    struct kafka_store *store;
    struct stream_seek *seek;
    struct kafka_patience patience;
    char topic[MESSAGE_TOPIC_BYTES + 1], group[MESSAGE_TOPIC_BYTES + 1];
};

struct kafka_listener {
    struct kafka_instance *instance;
    struct kafka_listener *next, **at; /* store->listeners, under its lock */
    struct subscription *subscription;
    char topic[MESSAGE_TOPIC_BYTES + 1], group[MESSAGE_TOPIC_BYTES + 1]; /* group "": alone */
    enum stream_start start, if_none;
    enum gap_policy on_gap;
    int64_t start_at;
    int32_t start_partition;
    uint64_t fetched_bytes; /* its share of what the library fetches ahead */
    bool bare;              /* of a topic, not of a stream: nothing is settled */

    rd_kafka_t *rk;
    uint64_t share_bytes;          /* kafka_share_bytes */
    struct kafka_joining *joining; /* NULL: no rk yet */
    rd_kafka_queue_t *control;
    int fd;
    struct kafka_poll *poll;
    struct kafka_part *parts, *turn_at;
    uint32_t numbers;
    uint32_t batches;
    bool turning; /* turn is under way */
    struct job turn;
    struct timer commit_timer, revoke_timer, look_timer, again_timer;
    rd_kafka_event_t *event; /* a rebalance that waits for its deed */
    bool waited;             /* for settlements, before a revocation */
    struct kafka_seeking *seeks;

    bool busy; /* a deed is under way */
    struct kafka_task task;
    struct job landed;
    bool subscribed, assigned, closing, told, orphan;
    struct err end;
    _Atomic bool abandoned;       /* it is closing: the desk need not try on */
    uint64_t give_up_ns;          /* when its consumer is left alone for good */
    rd_kafka_queue_t *last;       /* the group's last events, once the consumer is being closed */
    rd_kafka_queue_t *committing; /* where the answer to its last commit comes */
    uint64_t close_ns;            /* 0: close has not begun; it waits for no answer after it */

    /* ---- the deed's ---- */
    rd_kafka_topic_partition_list_t *list, *commits;
    struct kafka_plan *plan;
    bool first;  /* of the deed: the want's start counts */
    bool unread; /* a seek: the library has let go of its partitions, and not taken them back */
    struct err err;
};

static inline struct kafka_store *kafka_listener_store(struct kafka_listener *listener)
{
    return kafka_store_of(&listener->instance->base);
}

/* One that ends waits for no more answers. */
static inline struct kafka_patience kafka_listener_patience(const struct kafka_listener *listener)
{
    return (struct kafka_patience){.over = &listener->abandoned};
}

/* ---- kafka_listener.c ---- */

void kafka_listener_open(struct backend *backend, struct subscription *subscription);
void kafka_listener_open_topic(struct backend *backend, struct subscription *subscription);
void kafka_listener_grant(struct backend *backend, struct subscription *subscription,
                          uint32_t messages, uint64_t bytes);
void kafka_listener_withdraw(struct backend *backend, struct subscription *subscription);
void kafka_listener_close(struct backend *backend, struct subscription *subscription);

/* Does what comes next, in a job of its own. */
void kafka_listener_wake(struct kafka_listener *listener);
/* There is no hope. */
void kafka_listener_end(struct kafka_listener *listener, struct err err);
/* Gives a deed to the desk; then(job) runs at home after it. */
void kafka_listener_do(struct kafka_listener *listener, void (*run)(struct kafka_task *),
                       void (*then)(struct job *), uint64_t after_ms);
/* The last batch is released, or the consumer is closed. */
void kafka_listener_maybe_free(struct kafka_listener *listener);
/* One of this group and topic, which reads at home on this thread; NULL: none. */
struct kafka_listener *kafka_listener_here(struct kafka_store *store, const char *topic,
                                           const char *group);
/* Where the job has to go to find it; NULL: none of this process. thread: any. */
struct worker *kafka_listener_home(struct kafka_store *store, const char *topic, const char *group);

/* ---- kafka_control.c ---- */

/* True: a deed has begun, or an event waits. */
bool kafka_control_step(struct kafka_listener *listener);
/* Takes over what the desk has assigned; gaps are told. */
void kafka_control_adopt(struct kafka_listener *listener);
/* The deed is over: its fields are cleared, queues of partitions that were not adopted are freed.
 */
void kafka_control_forget(struct kafka_listener *listener);
/* A partition has no place in the log any more, or a seek waits: begins the deed. */
bool kafka_control_places(struct kafka_listener *listener);
void kafka_seek_here(struct kafka_listener *listener, struct kafka_seeking *seeking);
void kafka_seek_finish(struct kafka_seeking *seeking, struct err err);

/* ---- kafka_deeds.c. thread: desk ---- */

void kafka_run_open(struct kafka_task *task);
void kafka_run_assign(struct kafka_task *task);
void kafka_run_revoke(struct kafka_task *task);
void kafka_run_reset(struct kafka_task *task);
void kafka_run_seek_look(struct kafka_task *task);
void kafka_run_seek(struct kafka_task *task);
void kafka_deed_over(struct kafka_listener *listener); /* the task is done */

/* ---- kafka_leave.c. thread: desk ---- */

void kafka_run_close(struct kafka_task *task);
void kafka_run_orphan(struct kafka_task *task);
void kafka_run_destroy(struct kafka_task *task);

/* ---- kafka_resolve.c. thread: desk ---- */

struct kafka_plan *kafka_plan_new(size_t n);
/* low and high of each place. */
struct err kafka_watermarks(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                            struct kafka_plan *plan);
/* Where a seek to `start` leads. */
struct err kafka_seek_target(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                             struct kafka_plan *plan, enum stream_start start, int64_t at);
/* Where the listener begins to read. */
struct err kafka_resolve(struct kafka_listener *listener);
/* After a place has gone. */
struct err kafka_resolve_gap(struct kafka_listener *listener, struct kafka_place *place);

/* ---- kafka_part.c ---- */

struct kafka_part *kafka_part_new(struct kafka_listener *listener, const struct kafka_place *place);
void kafka_part_free(struct kafka_listener *listener, struct kafka_part *part);
struct kafka_part *kafka_part_find(struct kafka_listener *listener, int32_t partition);
/* Nothing of what was delivered can be settled any more. */
void kafka_part_void(struct kafka_listener *listener, struct kafka_part *part);
/* Nothing more comes of it until some of it is settled. */
bool kafka_part_is_full(const struct kafka_listener *listener, const struct kafka_part *part);
bool kafka_part_may_take(const struct kafka_listener *listener, const struct kafka_part *part);
/* Its token. */
uint64_t kafka_part_deliver(const struct kafka_listener *listener, struct kafka_part *part,
                            int64_t offset);
static inline uint64_t kafka_part_unsettled(const struct kafka_part *part)
{
    return part->next_sequence - part->first;
}
struct err kafka_part_settle(struct kafka_listener *listener, uint64_t token);

/* ---- kafka_take.c ---- */

/* Hands messages over, a bounded number. Returns whether there may be more. */
bool kafka_take_turn(struct kafka_listener *listener);

/* ---- kafka_joining.c ---- */

/* Before the handle is made of conf. Freed by free(), after the handle is destroyed. */
struct kafka_joining *kafka_joining_watch(rd_kafka_conf_t *conf);
/* A commit that is sent now would cost the group's partitions. thread: any */
bool kafka_is_joining(const struct kafka_joining *joining);

/* ---- kafka_settle.c ---- */

void kafka_settle(struct backend *backend, struct settle *settle);
/* Commits soon. */
void kafka_commit_soon(struct kafka_listener *listener);
/* What is settled, of the partitions of the list (NULL: of all); NULL: nothing. all: also what was
 * sent to be saved, of which the answer is not known yet. */
rd_kafka_topic_partition_list_t *kafka_commits(struct kafka_listener *listener,
                                               const rd_kafka_topic_partition_list_t *of, bool all);

#endif
