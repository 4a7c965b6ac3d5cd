/* The map of a cluster.
 *
 *   asked for     by CLUSTER SLOTS: when the instance's connection is made, when a node sends a
 *                 call elsewhere for good (MOVED) or has no answer (CLUSTERDOWN), when a connection
 *                 to a primary is lost or cannot be made
 *   taken         primaries that have no slot any more are let go of, new ones connected to
 *
 * MOVED and ASK are followed to primaries that are known; an op is sent HOPS times at most, so that
 * it ends though two nodes should name each other. Who is sent to an unknown one ends with
 * ERR_UNAVAILABLE, while the new map is asked for: nothing has been done for it. */
#include "backends/redis/redis_call.h"

#include <stdlib.h>

enum { HOPS = 5, NODES_MAX = 1024, ID_BYTES = 40 };

struct redis_primary {
    struct redis redis; /* first */
    struct redis_primary *next;
    struct redis_cluster *cluster;
    char id[ID_BYTES + 1];
    bool kept; /* it is in the map that is being taken */
};

/* A map as it comes. */
struct range {
    unsigned from, to, node;
};

struct named {
    struct redis_target to;
    char id[ID_BYTES + 1];
};

struct reading {
    bool under_way, broken;
    size_t place; /* in the entry that is being read: 0, 1 its slots, 2 its primary */
    struct range range;
    struct named node;
    struct range *ranges;
    size_t range_count, range_room;
    struct named *nodes;
    size_t node_count, node_room;
};

struct redis_cluster {
    struct redis *shared;
    struct redis_primary *primaries; /* in the order of their ids */
    struct redis_primary *owners[REDIS_SLOTS];
    struct reading reading;
    unsigned stopping; /* connections that are being closed */
    void (*closed)(void *);
    void *closed_arg;
};

/* ---- primaries ---- */

static void closed_if_idle(struct redis_cluster *cluster)
{
    if (cluster->closed != NULL && cluster->stopping == 0)
        cluster->closed(cluster->closed_arg);
}

static void on_primary_closed(void *arg)
{
    struct redis_primary *primary = arg;
    struct redis_cluster *cluster = primary->cluster;

    free(primary);
    cluster->stopping--;
    closed_if_idle(cluster);
}

static void let_go_of(struct redis_primary *primary)
{
    primary->cluster->stopping++;
    redis_stop(&primary->redis, on_primary_closed, primary);
}

static struct redis_primary *primary_new(struct redis_cluster *cluster, const struct named *named)
{
    struct redis_primary *primary = calloc(1, sizeof *primary), **at = &cluster->primaries;
    struct backend *base = &cluster->shared->base;

    if (primary == NULL)
        abort();
    primary->cluster = cluster;
    memcpy(primary->id, named->id, sizeof primary->id);
    primary->redis.cluster = cluster;
    primary->redis.stats = cluster->shared->stats;
    primary->redis.to = named->to;
    primary->redis.fixed = true;
    while (*at != NULL && strcmp((*at)->id, primary->id) < 0)
        at = &(*at)->next;
    primary->next = *at;
    *at = primary;
    redis_start(&primary->redis, base->store, base->home, false);
    return primary;
}

static bool is_at(const struct redis_primary *primary, const struct redis_target *to)
{
    return primary->redis.to.port == to->port && strcmp(primary->redis.to.host, to->host) == 0;
}

static struct redis_primary *primary_of(struct redis_cluster *cluster, const struct named *named)
{
    struct redis_primary *p = cluster->primaries;

    while (p != NULL && (strcmp(p->id, named->id) != 0 || !is_at(p, &named->to)))
        p = p->next;
    if (p == NULL)
        p = primary_new(cluster, named);
    p->kept = true;
    return p;
}

static void drop_others(struct redis_cluster *cluster)
{
    struct redis_primary **at = &cluster->primaries;

    while (*at != NULL) {
        struct redis_primary *primary = *at;
        bool kept = primary->kept;

        primary->kept = false;
        if (kept) {
            at = &primary->next;
            continue;
        }
        *at = primary->next;
        let_go_of(primary);
    }
}

/* ---- the map ---- */

static void forget_reading(struct reading *reading)
{
    free(reading->ranges);
    free(reading->nodes);
    *reading = (struct reading){0};
}

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
static void add_range(struct reading *reading)
{
    size_t node = 0;

    while (node < reading->node_count && strcmp(reading->nodes[node].id, reading->node.id) != 0)
        node++;
    if (reading->range.from > reading->range.to || reading->range.to >= REDIS_SLOTS ||
        reading->range_count == REDIS_SLOTS || node == NODES_MAX || reading->node.to.port == 0) {
        reading->broken = true;
        return;
    }
    if (node == reading->node_count) {
        reading->nodes = grown(reading->nodes, node, &reading->node_room, sizeof *reading->nodes);
        reading->nodes[reading->node_count++] = reading->node;
    }
    reading->range.node = (unsigned)node;
    reading->ranges =
        grown(reading->ranges, reading->range_count, &reading->range_room, sizeof *reading->ranges);
    reading->ranges[reading->range_count++] = reading->range;
}

static void take_number(struct reading *reading, size_t place, long long number)
{
    unsigned n = number >= 0 && number <= UINT16_MAX ? (unsigned)number : UINT16_MAX;

    if (place == 0)
        reading->range.from = n;
    else if (place == 1)
        reading->range.to = n;
}

/* Of the primary: host, port, id. A node that does not know its own host has none. */
static void take_node(struct reading *reading, const struct redis *redis,
                      const struct redis_node *node)
{
    struct named *named = &reading->node;

    if (node->index == 0) {
        *named = (struct named){.to = {.port = 0}};
        if (node->type == REDIS_REPLY_STRING && node->text.len > 0 && node->text.data[0] != '?' &&
            node->text.len < sizeof named->to.host)
            memcpy(named->to.host, node->text.data, node->text.len);
        else
            memcpy(named->to.host, redis->to.host, sizeof named->to.host);
    } else if (node->index == 1 && node->type == REDIS_REPLY_INTEGER) {
        named->to.port =
            node->number > 0 && node->number <= UINT16_MAX ? (uint16_t)node->number : 0;
    } else if (node->index == 2 && node->text.len <= ID_BYTES) {
        memcpy(named->id, node->text.data, node->text.len);
        add_range(reading);
    }
}

static void map_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_cluster *cluster = call->state;
    struct reading *reading = &cluster->reading;

    if (node->type == REDIS_REPLY_ERROR)
        reading->broken = true;
    if (node->depth == 2) {
        reading->place = node->index;
        if (node->type == REDIS_REPLY_INTEGER)
            take_number(reading, node->index, node->number);
    } else if (node->depth == 3 && reading->place == 2) {
        take_node(reading, call->redis, node);
    }
}

/* Where to ask when the node that is asked now is gone. */
static void remember(struct redis_cluster *cluster)
{
    struct redis *shared = cluster->shared;
    size_t n = 0, count = cluster->reading.node_count;

    free(shared->known);
    shared->known = calloc(count, sizeof *shared->known);
    if (shared->known == NULL)
        abort();
    for (; n < count; n++)
        shared->known[n] = cluster->reading.nodes[n].to;
    shared->known_count = (unsigned)count;
    if (shared->seed_at >= redis_store_of(shared)->address.seed_count + count)
        shared->seed_at = 0;
}

static void take_map(struct redis_cluster *cluster)
{
    const struct reading *reading = &cluster->reading;

    memset(cluster->owners, 0, sizeof cluster->owners);
    for (size_t i = 0; i < reading->range_count; i++) {
        const struct range *range = &reading->ranges[i];
        struct redis_primary *primary = primary_of(cluster, &reading->nodes[range->node]);

        for (unsigned slot = range->from; slot <= range->to; slot++)
            cluster->owners[slot] = primary;
    }
    drop_others(cluster);
    remember(cluster);
    if (cluster->shared->not_yet != NULL) {
        cluster->shared->not_yet = NULL;
        redis_report_serving(cluster->shared);
    }
}

static void map_end(struct redis_call *call)
{
    struct redis_cluster *cluster = call->state;

    if (!cluster->reading.broken && cluster->reading.range_count > 0 && cluster->closed == NULL)
        take_map(cluster);
    forget_reading(&cluster->reading);
}

static void map_lost(struct redis_call *call, struct err why)
{
    struct redis_cluster *cluster = call->state;

    (void)why;
    forget_reading(&cluster->reading);
}

static const struct redis_kind map_kind = {
    .item_errors = true, .node = map_node, .end = map_end, .lost = map_lost};

void redis_cluster_stale(struct redis_cluster *cluster)
{
    struct redis_call *call;

    if (cluster->reading.under_way || cluster->shared->phase != REDIS_READY)
        return;
    cluster->reading.under_way = true;
    call = redis_begin_own(cluster->shared, &map_kind, cluster);
    redis_command(call, 2, "CLUSTER");
    redis_word(call, slice_str("SLOTS"));
}

void redis_cluster_lost(struct redis_cluster *cluster, const struct redis *redis)
{
    if (redis->fixed)
        redis_cluster_stale(cluster);
}

static void on_ready(struct redis *redis)
{
    redis_cluster_stale(redis->cluster);
}

/* ---- where an op goes ---- */

struct redis *redis_cluster_to(struct redis_cluster *cluster, struct slice key)
{
    const struct redis_store *store = redis_store_of(cluster->shared);
    struct redis_primary *owner =
        cluster->owners[redis_slot(slice_of(store->prefix, store->prefix_len), key)];

    return owner != NULL ? &owner->redis : cluster->shared;
}

static void ignore_node(struct redis_call *call, const struct redis_node *node)
{
    (void)call;
    (void)node;
}

static void ignore_end(struct redis_call *call)
{
    (void)call;
}

static void ignore_lost(struct redis_call *call, struct err why)
{
    (void)call;
    (void)why;
}

/* A refusal of ASKING shows in the command behind it. */
static const struct redis_kind asking_kind = {
    .item_errors = true, .node = ignore_node, .end = ignore_end, .lost = ignore_lost};

static struct redis_primary *named_by(struct redis_cluster *cluster, const struct redis *redis,
                                      struct redis_redirect *redirect)
{
    struct redis_primary *primary = cluster->primaries;

    if (redirect->to.host[0] == '\0')
        memcpy(redirect->to.host, redis->to.host, sizeof redirect->to.host);
    while (primary != NULL && !is_at(primary, &redirect->to))
        primary = primary->next;
    return primary;
}

/* The op's backend_word counts how often it was sent: ops with turns, which use it otherwise, are
 * of kinds that are not sent again. */
bool redis_cluster_redirect(struct redis_cluster *cluster, struct redis_call *call)
{
    struct redis_redirect redirect = call->redis->redirect;
    struct redis_primary *to = named_by(cluster, call->redis, &redirect);

    if (!redirect.ask)
        redis_cluster_stale(cluster);
    if (to == NULL || to->redis.phase != REDIS_READY)
        return false;
    if (!redirect.ask)
        cluster->owners[redirect.slot] = to;
    if (!call->wanted || call->kind->again == NULL || call->op->backend_word >= HOPS)
        return false;
    call->op->backend_word++;
    if (redirect.ask) {
        struct redis_call *asking = redis_begin_own(&to->redis, &asking_kind, NULL);

        redis_command(asking, 1, "ASKING");
    }
    call->kind->again(&to->redis, call->op);
    return true;
}

struct redis_slots redis_cluster_slots(const struct redis_cluster *cluster, unsigned from)
{
    struct redis_primary *owner = cluster->owners[from];
    unsigned to = from;

    while (to + 1 < REDIS_SLOTS && cluster->owners[to + 1] == owner)
        to++;
    return (struct redis_slots){.from = from,
                                .to = to,
                                .redis = owner != NULL ? &owner->redis : NULL,
                                .id = owner != NULL ? owner->id : ""};
}

struct redis *redis_cluster_next(const struct redis_cluster *cluster, const struct redis *after)
{
    struct redis_primary *primary = cluster->primaries;

    while (after != NULL && primary != NULL && &primary->redis != after)
        primary = primary->next;
    if (after != NULL && primary != NULL)
        primary = primary->next;
    return primary != NULL ? &primary->redis : NULL;
}

/* ---- its life ---- */

struct redis_cluster *redis_cluster_new(struct redis *shared)
{
    struct redis_cluster *cluster = calloc(1, sizeof *cluster);

    if (cluster == NULL)
        abort();
    cluster->shared = shared;
    shared->cluster = cluster;
    shared->on_ready = on_ready;
    shared->stats = &shared->base.stats;
    shared->not_yet = "the map of the redis cluster is not known yet";
    return cluster;
}

void redis_cluster_stop(struct redis_cluster *cluster, void (*closed)(void *), void *arg)
{
    struct redis_primary *primary = cluster->primaries;

    memset(cluster->owners, 0, sizeof cluster->owners);
    cluster->primaries = NULL;
    while (primary != NULL) {
        struct redis_primary *next = primary->next;

        let_go_of(primary);
        primary = next;
    }
    cluster->closed = closed;
    cluster->closed_arg = arg;
    closed_if_idle(cluster);
}

void redis_cluster_free(struct redis_cluster *cluster)
{
    if (cluster == NULL)
        return;
    free(cluster->shared->known);
    free(cluster);
}
