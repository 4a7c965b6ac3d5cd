/* Instances of the backend, each on a worker, and their methods. */
#ifndef PRISM_BACKENDS_MEMSTORE_INSTANCE_H
#define PRISM_BACKENDS_MEMSTORE_INSTANCE_H

#include "backends/memstore/memstore.h"
#include "backends/memstore/store.h"
#include "pool/worker.h"

/* Work that goes by slices. */
struct memstore_errand {
    struct memstore_errand *next, **at; /* in its queue */
    struct memstore_queue *queue;
    struct memstore *store;
    struct op *op;
    bool (*slice)(struct memstore_errand *); /* false: that was the last */
    struct err err;
    /* ---- how far it is: the slices' own ---- */
    size_t done; /* items written */
    uint64_t bytes;
    struct slice after;
    struct memstore_position position;
};

struct memstore_queue {
    struct memstore_errand *first, **last;
};

struct memstore_instance {
    struct backend base;
    struct memstore_instance *next; /* in sweep.instances */
    struct timer timer;             /* of the sweeper */
    unsigned from;                  /* the shard that the sweeper visits next */
    unsigned subscriptions;         /* open, or not quite closed */
    struct memstore_queue turns, counts;
    struct job enumerate;
    bool enumerating; /* `enumerate` is in the lane */
    void (*closed)(void *arg);
    void *closed_arg;
    struct job wake, gone;
    /* ---- under sweep.lock ---- */
    bool woken; /* `wake` is on its way */
    bool closing;
};

/* ---- sweep.c: expiry while nobody writes ---- */

void sweep_init(struct memstore *store);
void sweep_clear(struct memstore *store);

/* thread: the instance's home. sweep_leave lands closed(arg), and then the instance is gone. */
void sweep_join(struct memstore *store, struct memstore_instance *instance);
void sweep_leave(struct memstore *store, struct memstore_instance *instance);

/* ---- enumerate.c: what goes by slices; kv_scan ---- */

extern const struct kv_scan memstore_scan;

/* Puts the op into a queue of the instance and parks it. thread: home. */
void enumerate_begin(struct memstore_instance *instance, struct memstore_queue *queue,
                     struct op *op, bool (*slice)(struct memstore_errand *));

void enumerate_init(struct memstore_instance *instance);

/* Ends what is queued. thread: home. */
void enumerate_stop(struct memstore_instance *instance, struct err why);

/* ---- single.c: operations on one key ---- */

extern const struct kv_basic memstore_basic;
extern const struct kv_ttl memstore_ttl_methods;
extern const struct kv_cas memstore_cas;

/* ---- window.c: single operations handed over together (kv_basic.window) ---- */

extern const struct kv_batch memstore_window;

/* ---- registry.c ---- */

extern const struct registry memstore_registry;
extern const struct session memstore_session;

/* ---- topic.c, stream.c, queue.c ---- */

extern const struct topic memstore_topic;
extern const struct stream memstore_stream;
extern const struct queue memstore_queue;

/* ---- memstore.c ---- */

/* options: names only. Never fails. */
struct memstore *memstore_new(const struct backend_options *options,
                              const struct memstore_config *config);
void memstore_destroy(struct memstore *store); /* NULL is accepted */

#endif
