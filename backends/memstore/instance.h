/* Instances of the backend, each on a worker, and their methods. */
#ifndef PRISM_BACKENDS_MEMSTORE_INSTANCE_H
#define PRISM_BACKENDS_MEMSTORE_INSTANCE_H

#include "backends/memstore/memstore.h"
#include "backends/memstore/store.h"
#include "pool/worker.h"

struct memstore_enumeration;

struct memstore_queue {
    struct memstore_enumeration *first, **last;
};

struct memstore_instance {
    struct backend base;
    struct memstore_instance *next; /* in sweep.instances */
    struct timer timer;             /* of the sweeper */
    unsigned from;                  /* the shard that the sweeper visits next */
    unsigned subscriptions;         /* open, or not quite closed */
    struct memstore_queue pages, counts;
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

/* ---- enumerate.c: kv_scan, one page or count at a time ---- */

extern const struct kv_scan memstore_scan;

void enumerate_init(struct memstore_instance *instance);

/* Ends what is queued. thread: home. */
void enumerate_stop(struct memstore_instance *instance, struct err why);

/* ---- single.c: operations on one key ---- */

extern const struct kv_basic memstore_basic;
extern const struct kv_ttl memstore_ttl_methods;
extern const struct kv_cas memstore_cas;

/* ---- window.c: single operations handed over together (kv_basic.window) ---- */

extern const struct kv_batch memstore_window;

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
