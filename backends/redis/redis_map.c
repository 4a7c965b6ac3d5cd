#include "backends/redis/redis_map.h"

#include <stdlib.h>

static void *grown(void *items, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return items;
    *room = *room > 0 ? 2 * *room : 16;
    items = realloc(items, *room * bytes);
    if (items == NULL)
        abort();
    return items;
}

/* The entry's primary is complete. */
static void add_range(struct redis_map *map)
{
    size_t node = 0;

    while (node < map->node_count && strcmp(map->nodes[node].id, map->node.id) != 0)
        node++;
    if (map->range.from > map->range.to || map->range.to >= REDIS_SLOTS ||
        map->range_count == REDIS_SLOTS || node == REDIS_NODES || map->node.to.port == 0) {
        map->broken = true;
        return;
    }
    if (node == map->node_count) {
        map->nodes = grown(map->nodes, node, &map->node_room, sizeof *map->nodes);
        map->nodes[map->node_count++] = map->node;
    }
    map->range.node = (unsigned)node;
    map->ranges = grown(map->ranges, map->range_count, &map->range_room, sizeof *map->ranges);
    map->ranges[map->range_count++] = map->range;
}

static void take_number(struct redis_map *map, size_t place, long long number)
{
    unsigned n = number >= 0 && number <= UINT16_MAX ? (unsigned)number : UINT16_MAX;

    if (place == 0)
        map->range.from = n;
    else if (place == 1)
        map->range.to = n;
}

/* Of the primary: host, port, id. A node that does not know its own host has none. */
static void take_node(struct redis_map *map, const struct redis *redis,
                      const struct redis_node *node)
{
    struct redis_map_node *named = &map->node;

    if (node->index == 0) {
        *named = (struct redis_map_node){.to = {.port = 0}};
        if (node->type == REDIS_REPLY_STRING && node->text.len > 0 && node->text.data[0] != '?' &&
            node->text.len < sizeof named->to.host)
            memcpy(named->to.host, node->text.data, node->text.len);
        else
            memcpy(named->to.host, redis->to.host, sizeof named->to.host);
    } else if (node->index == 1 && node->type == REDIS_REPLY_INTEGER) {
        named->to.port =
            node->number > 0 && node->number <= UINT16_MAX ? (uint16_t)node->number : 0;
    } else if (node->index == 2 && node->text.len <= REDIS_NODE_ID) {
        memcpy(named->id, node->text.data, node->text.len);
        add_range(map);
    }
}

void redis_map_take(struct redis_map *map, const struct redis *redis, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        map->broken = true;
    if (node->depth == 2) {
        map->place = node->index;
        if (node->type == REDIS_REPLY_INTEGER)
            take_number(map, node->index, node->number);
    } else if (node->depth == 3 && map->place == 2) {
        take_node(map, redis, node);
    }
}

void redis_map_clear(struct redis_map *map)
{
    free(map->ranges);
    free(map->nodes);
    *map = (struct redis_map){0};
}
