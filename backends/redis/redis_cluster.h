/* The nodes of a cluster, as one worker sees them: a connection to each primary, and which of them
 * has which slots. The instance's own connection goes to any node: it asks for the map, publishes,
 * and takes what no primary is known for. thread: home of the instance. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_CLUSTER_H
#define PRISM_BACKENDS_REDIS_REDIS_CLUSTER_H

#include "backends/redis/redis_call.h"

struct redis_primary;

/* One contiguous part of the map. */
struct redis_slots {
    unsigned from, to;
    struct redis *redis; /* of the primary; NULL: nobody has them */
    const char *id;      /* of that node */
};

/* What the instance is told; members may be NULL. */
struct redis_cluster_events {
    void (*ready)(struct redis *primary); /* a new connection to it */
    void (*mapped)(struct redis *shared); /* slots may have gone to other primaries */
};

/* Makes the map for an instance whose connection is `shared`, before redis_start of that. */
struct redis_cluster *redis_cluster_new(struct redis *shared,
                                        const struct redis_cluster_events *events);

/* The connection is one of this cluster's. Before redis_start of it. */
void redis_cluster_join(struct redis_cluster *cluster, struct redis *redis);

/* The instance's own connection. */
struct redis *redis_cluster_shared(const struct redis_cluster *cluster);

/* Lets go of all primaries; then closed(arg). The cluster's memory goes with redis_cluster_free,
 * once `shared` is closed. */
void redis_cluster_stop(struct redis_cluster *cluster, void (*closed)(void *), void *arg);
void redis_cluster_free(struct redis_cluster *cluster); /* NULL: nothing */

/* The connection for a key of the namespace, and for a slot. Never NULL. */
struct redis *redis_cluster_to(struct redis_cluster *cluster, struct slice key);
struct redis *redis_cluster_at(struct redis_cluster *cluster, unsigned slot);

/* The part of the map that begins at this slot. */
struct redis_slots redis_cluster_slots(const struct redis_cluster *cluster, unsigned from);

/* The primary behind this one, in an order that holds while the map does; NULL: the first one, or
 * behind the last one. */
struct redis *redis_cluster_next(const struct redis_cluster *cluster, const struct redis *after);

/* Takes a map that an op has asked for itself, if it is one. */
struct redis_map;
void redis_cluster_take(struct redis_cluster *cluster, const struct redis_map *map);

/* Whose connection takes an op with this key of the namespace. */
static inline struct redis *redis_to(struct backend *backend, struct slice key)
{
    struct redis *redis = redis_of(backend);

    return redis->cluster == NULL ? redis : redis_cluster_to(redis->cluster, key);
}

/* Whose connection takes a command with this key as it is. */
static inline struct redis *redis_to_key(struct redis *redis, struct slice key)
{
    if (redis->cluster == NULL)
        return redis;
    return redis_cluster_at(redis->cluster, redis_slot(slice_of(NULL, 0), key));
}

#endif
