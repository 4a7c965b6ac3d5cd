/* Partitions: how the registry and the sessions of one namespace are spread over a cluster. Each
 * partition is a whole registry, or store of sessions, with a hash tag of its own (redis_tags.h);
 * what names one identity or session goes to its partition, and the rest is put together from all
 * of them. One server has one partition, and none of this.
 *
 * How many there are is remembered in the key <root>:{<namespace>}%partitions: the first operation
 * writes it, from the setting, and 1 where keys of a time before partitions are found. Each process
 * asks for it once, operations wait meanwhile, and asks again as it asks for the map: the key comes
 * back should it be lost, and another number stops all that would look in the wrong place.
 *
 *   redis_spread.c            the number; operations of several partitions; turns to count
 *   redis_registry_spread.c   put, patch, beat, remove, get
 *   redis_registry_merge.c    pages and counts
 *   redis_session_spread.c    sessions */
#ifndef PRISM_BACKENDS_REDIS_REDIS_SPREAD_H
#define PRISM_BACKENDS_REDIS_REDIS_SPREAD_H

#include "backends/redis/redis_call.h"
#include "backends/redis/redis_tags.h"

/* An operation that others, one for each partition, work for. First member of what it keeps in its
 * arena. thread: home. */
struct redis_spread {
    struct op_group group; /* of those others */
    struct backend *backend;
    struct op *op;
    void (*start)(struct redis_spread *spread); /* starts them, in the group */
    void (*done)(struct redis_spread *spread);  /* they are done: starts more, or ends */
    /* What the op ends with if it gets no turn; NULL: the error. What was done before stays told.
     */
    struct err (*ends)(struct redis_spread *spread, struct err err);
    unsigned parts; /* set by start */
    bool counts;    /* it has the turn to count */
    struct redis_spread *next, **at;
    struct redis_spread_line *line; /* that it waits in; NULL: none */
};

struct redis_spread_line {
    struct redis_spread *first, **last;
    uint64_t n;
};

/* Of an instance. */
struct redis_spreads {
    struct redis_spread_line waiting;  /* for the number */
    struct redis_spread_line counting; /* for the turn to count */
    bool asking, counted;              /* counted: somebody has that turn */
    unsigned hops;
    uint64_t asked_ns;
    /* Of the answer. */
    bool moved;
    long long number;
    char error[128];
};

void redis_spreads_init(struct redis_spreads *spreads);

/* How many partitions; 0: it is not known yet, or not to be relied on. */
unsigned redis_spread_parts(struct backend *backend);

/* In the op's arena, zeroed; bytes: of the struct around it. */
void *redis_spread_new(struct backend *backend, struct op *op, size_t bytes);

/* Parks the op, and calls start once the number is known. */
void redis_spread_run(struct redis_spread *spread);

/* For done(): start once more, or the end of the op. */
void redis_spread_again(struct redis_spread *spread);
void redis_spread_end(struct redis_spread *spread, struct err err);

/* For done(): start once more when it is this one's turn to count what is there and to add to it.
 * One of an instance has the turn, until its end. */
void redis_spread_count(struct redis_spread *spread);

/* Starts an op of one partition; then the method is to be called. */
void redis_spread_start(struct redis_spread *spread, struct op *op, unsigned part);

/* Whether it is worth to be told before others: an unknown effect is worse than none. */
struct err redis_spread_worse(struct err a, struct err b);

/* ---- operations of one partition ---- */

struct redis_spread_kind {
    size_t bytes; /* of the request, which begins with its op */
    void (*method)(struct backend *backend, struct op *op);
};

/* A request as the caller's, with an op of its own; and what that tells goes back. */
struct op *redis_spread_copy(struct op *op, size_t bytes);
void redis_spread_return(struct op *op, const struct op *copy, size_t bytes);

/* Calls the method for the partition of this hash. */
void redis_spread_one(struct backend *backend, struct op *op, const struct redis_spread_kind *kind,
                      uint32_t hash);

/* ---- pages and limits ---- */

/* What each partition is asked for so that all together have so many, mostly. */
uint32_t redis_spread_share(uint32_t items, unsigned parts);
uint64_t redis_spread_bytes(uint64_t bytes, unsigned parts); /* 0: no bound */

/* So many of `most` belong to each partition without counting. 0: all are counted. Half of an even
 * share, where shares are large: a partition that has less than that is hardly found beside ones
 * that fill the rest. */
uint64_t redis_spread_floor(uint64_t most, unsigned parts);

/* ---- of the cluster's instance ---- */

/* It has a new map. */
void redis_spread_check(struct redis *shared);

#endif
