/* Requests for several identities, over the partitions of a cluster: one request for each partition
 * that has some of them, all under way together; outcomes are gathered in the order of the request.
 * thread: home. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_REGISTRY_MANY_H
#define PRISM_BACKENDS_REDIS_REDIS_REGISTRY_MANY_H

#include "backends/redis/redis_registry.h"
#include "backends/redis/redis_spread.h"

struct redis_many;

/* Requests for items, each of which begins with its identity. */
struct redis_many_kind {
    size_t bytes, item_bytes, err_at; /* of the request, of an item, in an item */
    const uint8_t *(*items)(const struct op *op, size_t *n);
    void (*give)(struct op *op, uint8_t *items, size_t n);
    /* What else the request of a partition holds. NULL: what the caller's does. */
    void (*prepare)(struct redis_many *many, struct op *op, unsigned part);
    void (*method)(struct backend *backend, struct op *op);
    bool whole; /* the error of one partition is that of the request: it is simply said again */
};

struct redis_portion {
    struct op *request;
    unsigned part;
    size_t from, n; /* of the copies */
};

struct redis_many {
    struct redis_spread spread; /* first */
    const struct redis_many_kind *kind;
    size_t *left, left_n; /* items that have no outcome yet, in the order of the request */
    size_t *origins;      /* of each copy */
    uint8_t *copies;      /* of items, partition by partition */
    struct redis_portion *portions;
    unsigned portions_n;
    const uint64_t *limits; /* of each partition, at 0 it is not asked; NULL: none */
};

/* With redis_many_start and redis_many_done, which the caller may replace. bytes: of the struct
 * around it. */
void *redis_many_new(struct backend *backend, struct op *op, const struct redis_many_kind *kind,
                     size_t bytes);
void redis_many_start(struct redis_spread *spread);
void redis_many_done(struct redis_spread *spread);

/* To the caller's items. The error of the whole: ERR_OK if a partition was answered, or none asked,
 * unless the kind says otherwise. */
struct err redis_many_gather(struct redis_many *many);

/* Of the caller's item. */
unsigned redis_many_part(const struct redis_many *many, const uint8_t *items, size_t item);

/* Straight to the partition if it is one; true: done. */
bool redis_many_direct(struct backend *backend, struct op *op, const struct redis_many_kind *kind);

#endif
