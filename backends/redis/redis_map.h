/* The answer of CLUSTER SLOTS, as it comes off the wire: ranges of slots and the primaries that
 * have them. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_MAP_H
#define PRISM_BACKENDS_REDIS_REDIS_MAP_H

#include "backends/redis/redis_call.h"

enum { REDIS_NODE_ID = 40, REDIS_NODES = 1024 };

struct redis_map_range {
    unsigned from, to, node; /* node: in redis_map.nodes */
};

struct redis_map_node {
    struct redis_target to;
    char id[REDIS_NODE_ID + 1];
};

struct redis_map {
    bool broken;
    size_t place; /* in the entry that is being read: 0, 1 its slots, 2 its primary */
    struct redis_map_range range;
    struct redis_map_node node;
    struct redis_map_range *ranges;
    size_t range_count, range_room;
    struct redis_map_node *nodes;
    size_t node_count, node_room;
};

/* Takes a part of the answer that the node at `redis` gives. map: zeroed at first. */
void redis_map_take(struct redis_map *map, const struct redis *redis,
                    const struct redis_node *node);

/* All of the answer has come: is it a map? */
static inline bool redis_map_sound(const struct redis_map *map)
{
    return !map->broken && map->range_count > 0;
}

void redis_map_clear(struct redis_map *map);

#endif
