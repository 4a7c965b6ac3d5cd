/* What the files of the kafka backend share.
 *
 *   kafka.c            the descriptor; instances; metrics
 *   kafka_settings.c   the table of settings, and the client library's configuration made from it
 *   kafka_desk.c       threads for those calls of the library that may block
 *   kafka_store.c      a slot: its producers, their health
 *   kafka_error.c      the library's errors as ours
 *   kafka_publish.c    publishing: a frame becomes messages of the library
 *   kafka_reports.c    delivery reports become outcomes
 *   kafka_topic.c      handles of topics, and what waits for each
 *   kafka_lookup.c     questions at the desk, which end when nobody waits for them
 *   kafka_place.c      describe, position, probe
 *
 * and of subscriptions: kafka_listener.h.
 *
 * A store has one producer for the process. Its reports make a descriptor readable that one
 * instance's loop watches. Calls that wait for a broker are made by the desk's threads; workers
 * call only what the library does at once. */
#ifndef PRISM_BACKENDS_KAFKA_KAFKA_PRIV_H
#define PRISM_BACKENDS_KAFKA_KAFKA_PRIV_H

#include "backends/kafka/kafka.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <librdkafka/rdkafka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    KAFKA_ITEMS = 10000,          /* of one publish */
    KAFKA_FRAME_BYTES = 16 << 20, /* of one publish */
    KAFKA_RETRY_MS = 100,         /* advice to callers */
    KAFKA_ANSWER_MS = 5000,       /* the desk waits so long for one answer of a broker */
    KAFKA_DESK_THREADS = 8,
    KAFKA_LOOKUP_THREADS = 4, /* of positions; rebalances and seeks need the others */
    KAFKA_LOOKUPS = 64,       /* of positions, at a time */
    KAFKA_TOPICS = 4096,      /* handles of topics that are kept */
    KAFKA_TOPIC_ROWS = 1024,
};

struct kafka_store;
struct kafka_instance;
struct kafka_listener;

/* ---- kafka_settings.c ---- */

struct kafka_login {
    char *username, *password; /* NULL: none */
};

struct kafka_config {
    char *brokers, *mechanism, *ca, *cert, *key; /* NULL: none */
    char *acks, *compression, *partitioner;
    const char *shown; /* for the log: nothing that came from ${..} */
    bool tls, auto_create_topics;
    uint64_t linger_ms, fetch_wait_ms, publish_timeout_ms, dial_timeout_ms;
    uint64_t max_buffer_bytes, max_message_bytes;
    uint64_t session_timeout_ms, revoke_wait_ms, subscription_bytes, max_span;
    uint64_t max_consumers, max_fetched_bytes;
};

extern const struct backend_setting kafka_settings[];

void kafka_settings_check(const struct backend_value *values, struct backend_faults *faults);
/* As backend_type.descriptors. */
struct backend_descriptors kafka_descriptors(const struct backend_value *values);
/* values have passed the check. */
void kafka_config_take(struct kafka_config *config, const struct backend_value *values);
void kafka_config_clear(struct kafka_config *config);
struct kafka_login kafka_login_take(const struct backend_value *values);
void kafka_login_clear(struct kafka_login *login);

/* The library's configuration; NULL: it refuses a value, and the reason is logged. Files are read
 * when the handle is made. */
rd_kafka_conf_t *kafka_conf_producer(struct kafka_store *store);
/* What the library may hold of each partition of a topic: it fetches while it has less than this,
 * and about as much at a time. bytes: of all of them together. */
uint64_t kafka_share_bytes(uint64_t bytes, int partitions);
rd_kafka_conf_t *kafka_conf_consumer(struct kafka_store *store, const char *group, uint64_t share);

/* ---- kafka_desk.c ---- */

struct kafka_task {
    struct kafka_task *next;
    uint64_t due_ns;
    void (*run)(struct kafka_task *); /* on a desk's thread; may free the task, or put it again */
};

/* Threads are started as they are needed, and end with the desk. */
struct kafka_desk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kafka_task *first; /* by due_ns */
    unsigned most, threads, idle;
    bool stopping;
    pthread_t ids[KAFKA_DESK_THREADS];
};

/* most: threads, KAFKA_DESK_THREADS or fewer. */
void kafka_desk_init(struct kafka_desk *desk, unsigned most);
/* Runs what is there, also what is not yet due, and ends the threads. thread: main. */
void kafka_desk_clear(struct kafka_desk *desk);
/* thread: any. */
void kafka_desk_put(struct kafka_desk *desk, struct kafka_task *task, uint64_t after_ms);
/* False: it is not there, or runs already. thread: any. */
bool kafka_desk_take_back(struct kafka_desk *desk, struct kafka_task *task);

/* How long a question may wait for its answer. */
struct kafka_patience {
    uint64_t until_ns;        /* 0: only as long as any answer may take */
    const _Atomic bool *over; /* nobody waits for the answer any more; NULL: that does not happen */
};

/* For the next call of the library; 0: it is not asked. */
int kafka_patience_ms(struct kafka_patience patience);

/* ---- kafka_topic.c ---- */

struct kafka_topic {
    struct kafka_topic *next;
    rd_kafka_topic_t *handle;
    uint64_t waiting_bytes, waiting; /* without a report yet */
    uint64_t asked_ns;               /* when it was last looked up again */
    size_t len;
    char name[];
};

/* ---- kafka_store.c ---- */

/* Lives until its last message has a report. Under the store's lock. */
struct kafka_producer {
    struct kafka_producer *next; /* in the store */
    struct kafka_store *store;
    rd_kafka_t *rk;
    rd_kafka_queue_t *reports;
    unsigned refs; /* of desk tasks that use rk */
    uint64_t waiting;
    bool dead; /* a fatal error: it takes nothing more, and what has no report is unknown */
    struct kafka_topic *topics[KAFKA_TOPIC_ROWS];
    unsigned n_topics;
    struct kafka_task end;
};

struct kafka_store {
    struct backend_store base; /* first */
    struct stream stream;      /* what instances offer: with the configured bounds */
    struct topic topic;
    struct kafka_config config;
    struct kafka_desk desk, lookup_desk;
    struct log_budget library, troubles;
    struct counter connects, reported, unknown, refused, full, rebalances, gaps, leaked,
        lookups_refused, resets;

    pthread_mutex_t lock; /* of what follows; held for short, never across a call that waits */
    struct kafka_login login;
    struct kafka_producer *producer;  /* NULL: none (yet) */
    struct kafka_producer *producers; /* also those that are ending */
    uint64_t waiting_bytes;           /* of messages without a report */
    struct kafka_instance *instances, *drainer;
    struct kafka_listener *listeners;
    /* Also those that are being closed, until the library's are gone. One that is given up
     * (`leaked`) gives its share back all the same: the library keeps it for good. */
    uint64_t consumers;
    uint64_t fetched_bytes; /* their shares of max_fetched_bytes */
    unsigned lookups;       /* of positions, under way */
    bool started, stopping, watching;
    int fd; /* becomes readable when there are reports */
    struct kafka_task make, watch, stop;
    uint64_t stop_ns;
    backend_stopped_fn *stopped;
    void *stopped_arg;
};

struct err kafka_store_open(struct backend_store **out, const struct backend_options *options);
void kafka_store_close(struct backend_store *base);
void kafka_store_stop(struct backend_store *base, uint64_t deadline_ns, backend_stopped_fn *stopped,
                      void *arg);
void kafka_store_reload(struct backend_store *base, const struct backend_value *values);
void kafka_store_start(struct kafka_store *store); /* the first producer, once. thread: any */

bool kafka_store_is_stopping(struct kafka_store *store); /* thread: any, without the lock */

/* The connection is seen to stand, or not. A store that is down is looked at until it is up.
 * thread: any, without the lock. */
void kafka_store_up(struct kafka_store *store);
void kafka_store_down(struct kafka_store *store, const char *why);

/* A handle for the desk's requests; NULL: there is none. thread: any, without the lock. */
struct kafka_producer *kafka_producer_ref(struct kafka_store *store);
void kafka_producer_unref(struct kafka_producer *producer);
/* A fatal error: makes a new one. The store's lock is held. */
void kafka_producer_die(struct kafka_producer *producer);
/* Frees it if nothing holds it any more. The store's lock is held. */
void kafka_producer_maybe_end(struct kafka_producer *producer);

static inline struct kafka_store *kafka_store_of(const struct backend *backend)
{
    return CONTAINER_OF(backend->store, struct kafka_store, base);
}

/* ---- kafka_topic.c, more ---- */

/* The store's lock is held. NULL: the library takes no such topic. */
struct kafka_topic *kafka_topic_find(struct kafka_producer *producer, struct slice name);
void kafka_topics_clear(struct kafka_producer *producer);
/* The library believes that there is no such topic: asks the brokers, at most once a second.
 * The store's lock is held. */
void kafka_topic_ask(struct kafka_producer *producer, struct kafka_topic *topic);

/* ---- kafka_error.c ---- */

struct err kafka_unavailable(void);
/* A message without a good report. unknown: it may have been written. */
struct err kafka_message_err(rd_kafka_resp_err_t code, bool unknown);
/* Of a request that changes nothing, or nothing but what it says. */
struct err kafka_request_err(rd_kafka_resp_err_t code);
struct err kafka_check_topic(struct slice topic);
bool kafka_is_hopeless(rd_kafka_resp_err_t code); /* waiting does not help */

/* ---- kafka.c ---- */

struct kafka_poll; /* a descriptor on an instance's loop */

struct kafka_instance {
    struct backend base;                    /* first */
    struct kafka_instance *next, **at;      /* store->instances, under its lock */
    struct kafka_publication *publications; /* under the store's lock */
    struct kafka_poll *poll;                /* of the reports: the drainer's */
    struct job drain;
    bool draining; /* drain is under way */
    bool handed;   /* drain is under way, to take over; under the store's lock */
    unsigned busy; /* polls, listeners and tasks that point here; home */
    bool closing;
    struct job ended;
    void (*closed)(void *arg);
    void *closed_arg;
};

static inline struct kafka_instance *kafka_instance_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct kafka_instance, base);
}

/* Calls ready(arg) whenever the eventfd is written to, which it takes back. thread: home. */
struct kafka_poll *kafka_poll_new(struct kafka_instance *instance, int fd, void (*ready)(void *arg),
                                  void *arg);
void kafka_poll_free(struct kafka_poll *poll);                /* the descriptor stays open */
void kafka_instance_release(struct kafka_instance *instance); /* one less is busy */

/* ---- kafka_publish.c ---- */

struct kafka_sent {
    struct kafka_publication *publication;
    struct kafka_topic *topic;
    size_t bytes;
    struct err err;
    int32_t partition;
    int64_t offset;
    bool over;
};

/* A frame under way. Under the store's lock. */
struct kafka_publication {
    struct publish *publish; /* NULL: it has its outcome, and reports still come */
    struct kafka_instance *instance;
    struct kafka_producer *producer;
    struct kafka_publication *next, **at; /* instance->publications, while publish */
    size_t n, left;
    bool sent; /* the library has it, or some of it */
    struct kafka_sent items[];
};

void kafka_publish(struct backend *backend, struct publish *publish);
/* An item has its outcome. The store's lock is held. */
void kafka_sent_over(struct kafka_sent *sent);
/* Tells the outcome of all that has one; the rest gets `rest`. The store's lock is held. */
void kafka_publication_tell(struct kafka_publication *publication, struct err rest);
/* n items more are over; the last one ends it. The store's lock is held. */
void kafka_publication_done(struct kafka_publication *publication, size_t n);
void kafka_publish_abandon(struct kafka_instance *instance);

/* ---- kafka_reports.c ---- */

/* One instance of the store watches for reports. The store's lock is held. thread: home. */
void kafka_reports_watch(struct kafka_instance *instance);
void kafka_reports_leave(struct kafka_instance *instance);
/* Takes what is there, an event of each producer in a turn. Returns whether there may be more. */
bool kafka_reports_take(struct kafka_store *store, unsigned turns);

/* ---- kafka_lookup.c ---- */

/* A question of an operation's. The library's call cannot be recalled: an operation that is
 * cancelled ends at once, and the answer is dropped when it comes. So what the desk finds out
 * belongs to the look-up until it is home again. */
struct kafka_lookup {
    struct kafka_task task;
    struct job job;
    struct kafka_instance *instance;
    struct kafka_store *store;
    struct kafka_desk *desk;
    struct op *op;          /* home; NULL: it did not wait */
    _Atomic bool abandoned; /* the same, for the desk */
    struct kafka_patience patience;
    char topic[MESSAGE_TOPIC_BYTES + 1], group[MESSAGE_TOPIC_BYTES + 1];
    void (*fill)(struct kafka_lookup *lookup); /* home: the operation's outputs; err is ERR_OK */
    struct err err;
    struct kafka_plan *known;         /* position: what this process has settled */
    struct kafka_plan *places;        /* position: what was found out */
    struct stream_describe described; /* likewise; without its operation */
    int replicas;                     /* describe: of the partition that has fewest */
    unsigned tries;                   /* probe: a new store has no client yet */
};

/* Parks the operation. positions: it is one of KAFKA_LOOKUPS; NULL: those are all under way, and
 * the operation has its outcome. thread: home. */
struct kafka_lookup *kafka_lookup_new(struct backend *backend, struct op *op, bool positions);
void kafka_lookup_about(struct kafka_lookup *lookup, struct slice topic, struct slice group);
/* To the desk. It is home again with kafka_lookup_finish, from there. thread: any. */
void kafka_lookup_begin(struct kafka_lookup *lookup, void (*run)(struct kafka_task *));
void kafka_lookup_finish(struct kafka_lookup *lookup);

/* ---- kafka_place.c, kafka_seek.c ---- */

void kafka_describe(struct backend *backend, struct stream_describe *describe);
void kafka_position(struct backend *backend, struct stream_position *position);
void kafka_seek(struct backend *backend, struct stream_seek *seek);
void kafka_probe(struct backend *backend, struct op *op);

/* The partitions of a topic; < 0: there is no such topic; else *err. thread: desk. */
int kafka_partitions(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                     struct err *err);

#endif
