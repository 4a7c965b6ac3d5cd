/* The map of a cluster.
 *
 *   asked for     by CLUSTER SLOTS: when the instance's connection is made, when a node sends a
 *                 call elsewhere for good (MOVED) or has no answer (CLUSTERDOWN), when a connection
 *                 to a primary is lost or cannot be made; and every cluster_refresh_ms, because not
 *                 every change shows in that
 *   taken         primaries that have no slot any more are let go of, new ones connected to
 *
 * MOVED and ASK are followed to primaries that are known; an op is sent HOPS times at most, so that
 * it ends though two nodes should name each other. Who is sent to an unknown one ends with
 * ERR_UNAVAILABLE, while the new map is asked for: nothing has been done for it. */
#include "backends/redis/redis_cluster.h"
#include "backends/redis/redis_map.h"

#include <stdlib.h>

enum { HOPS = 5 };

struct redis_primary {
    struct redis redis; /* first */
    struct redis_primary *next;
    struct redis_cluster *cluster;
    char id[REDIS_NODE_ID + 1];
    bool kept; /* it is in the map that is being taken */
};

struct redis_cluster {
    struct redis *shared;
    const struct redis_cluster_events *events;
    struct redis_primary *primaries; /* in the order of their ids */
    struct redis_primary *owners[REDIS_SLOTS];
    struct redis_map map; /* as it comes */
    bool asking;          /* for it */
    struct timer refresh; /* since the map was last asked for */
    struct job refresh_job;
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

static struct redis_primary *primary_new(struct redis_cluster *cluster,
                                         const struct redis_map_node *named)
{
    struct redis_primary *primary = calloc(1, sizeof *primary), **at = &cluster->primaries;
    struct backend *base = &cluster->shared->base;

    if (primary == NULL)
        abort();
    primary->cluster = cluster;
    memcpy(primary->id, named->id, sizeof primary->id);
    redis_cluster_join(cluster, &primary->redis);
    primary->redis.stats = cluster->shared->stats;
    primary->redis.to = named->to;
    primary->redis.fixed = true;
    primary->redis.on_ready = cluster->events->ready;
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

static struct redis_primary *primary_of(struct redis_cluster *cluster,
                                        const struct redis_map_node *named)
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

static void map_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_cluster *cluster = call->state;

    redis_map_take(&cluster->map, call->redis, node);
}

/* Where to ask when the node that is asked now is gone. */
static void remember(struct redis_cluster *cluster, const struct redis_map *map)
{
    struct redis *shared = cluster->shared;
    size_t n = 0, count = map->node_count;

    free(shared->known);
    shared->known = calloc(count, sizeof *shared->known);
    if (shared->known == NULL)
        abort();
    for (; n < count; n++)
        shared->known[n] = map->nodes[n].to;
    shared->known_count = (unsigned)count;
    if (shared->seed_at >= redis_store_of(shared)->address.seed_count + count)
        shared->seed_at = 0;
}

void redis_cluster_take(struct redis_cluster *cluster, const struct redis_map *map)
{
    if (!redis_map_sound(map) || cluster->closed != NULL)
        return;
    memset(cluster->owners, 0, sizeof cluster->owners);
    for (size_t i = 0; i < map->range_count; i++) {
        const struct redis_map_range *range = &map->ranges[i];
        struct redis_primary *primary = primary_of(cluster, &map->nodes[range->node]);

        for (unsigned slot = range->from; slot <= range->to; slot++)
            cluster->owners[slot] = primary;
    }
    drop_others(cluster);
    remember(cluster, map);
    if (cluster->shared->not_yet != NULL) {
        cluster->shared->not_yet = NULL;
        redis_report_serving(cluster->shared);
    }
    if (cluster->events->mapped != NULL)
        cluster->events->mapped(cluster->shared);
}

static void on_refresh(struct timer *timer)
{
    struct redis_cluster *cluster = CONTAINER_OF(timer, struct redis_cluster, refresh);

    worker_land(cluster->shared->base.home, &cluster->refresh_job);
}

/* Half by chance, so that workers and processes do not ask in step. Once it is over the map is
 * asked for, now or when the connection is ready, and the end of that is here. */
static void refresh_later(struct redis_cluster *cluster)
{
    struct redis *shared = cluster->shared;
    uint64_t ms = redis_store_of(shared)->cluster_refresh_ms;

    redis_map_clear(&cluster->map);
    cluster->asking = false;
    if (cluster->closed == NULL)
        timer_arm(&shared->base.home->timers, &cluster->refresh,
                  shared->base.home->now_ns +
                      (ms / 2 + redis_chance(shared) % (ms / 2 + 1)) * NS_PER_MS,
                  on_refresh);
}

static void map_end(struct redis_call *call)
{
    struct redis_cluster *cluster = call->state;

    redis_cluster_take(cluster, &cluster->map);
    refresh_later(cluster);
}

static void map_lost(struct redis_call *call, struct err why)
{
    (void)why;
    refresh_later(call->state);
}

static const struct redis_kind map_kind = {
    .item_errors = true, .node = map_node, .end = map_end, .lost = map_lost};

static void stale(struct redis_cluster *cluster)
{
    struct redis_call *call;

    if (cluster->asking || cluster->shared->phase != REDIS_READY || cluster->closed != NULL)
        return;
    cluster->asking = true;
    call = redis_begin_own(cluster->shared, &map_kind, cluster);
    redis_command(call, 2, "CLUSTER");
    redis_word(call, slice_str("SLOTS"));
}

static void refresh(struct job *job)
{
    stale(CONTAINER_OF(job, struct redis_cluster, refresh_job));
}

static void lost(struct redis_cluster *cluster, const struct redis *redis)
{
    if (redis->fixed)
        stale(cluster);
}

static void on_ready(struct redis *redis)
{
    stale(redis->cluster);
}

/* ---- where an op goes ---- */

struct redis *redis_cluster_at(struct redis_cluster *cluster, unsigned slot)
{
    struct redis_primary *owner = cluster->owners[slot];

    return owner != NULL ? &owner->redis : cluster->shared;
}

struct redis *redis_cluster_to(struct redis_cluster *cluster, struct slice key)
{
    return redis_cluster_at(cluster, redis_slot(redis_prefix(cluster->shared), key));
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
static const struct redis_kind asking_kind = {.item_errors = true,
                                              .node = ignore_node,
                                              .end = ignore_end,
                                              .lost = ignore_lost,
                                              .leads = true};

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

/* NULL: it is not connected. */
static struct redis_primary *take_redirect(struct redis_cluster *cluster, const struct redis *redis,
                                           struct redis_redirect *redirect)
{
    struct redis_primary *to = named_by(cluster, redis, redirect);

    if (!redirect->ask)
        stale(cluster);
    if (to == NULL || to->redis.phase != REDIS_READY)
        return NULL;
    if (!redirect->ask)
        cluster->owners[redirect->slot] = to;
    return to;
}

static void moved(struct redis_cluster *cluster, const struct redis *redis,
                  struct redis_redirect redirect)
{
    take_redirect(cluster, redis, &redirect);
}

/* An op's backend_word counts how often it was sent, unless its kind uses that otherwise. */
static bool may_go_again(struct redis_call *call)
{
    uint64_t *hops = call->hops != NULL ? call->hops : &call->op->backend_word;

    return (*hops)++ < HOPS;
}

static bool follow(struct redis_cluster *cluster, struct redis_call *call)
{
    struct redis_redirect redirect = call->redis->redirect;
    struct redis_primary *to = take_redirect(cluster, call->redis, &redirect);

    if (to == NULL || !call->wanted || !may_go_again(call))
        return false;
    if (redirect.ask) {
        struct redis_call *asking = redis_begin_own(&to->redis, &asking_kind, NULL);

        redis_command(asking, 1, "ASKING");
    }
    call->kind->again(&to->redis, call->op);
    return true;
}

static const struct redis_cluster_calls calls = {
    .at = redis_cluster_at, .stale = stale, .lost = lost, .redirect = follow, .moved = moved};

void redis_cluster_join(struct redis_cluster *cluster, struct redis *redis)
{
    redis->cluster = cluster;
    redis->calls = &calls;
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

struct redis *redis_cluster_shared(const struct redis_cluster *cluster)
{
    return cluster->shared;
}

struct redis_cluster *redis_cluster_new(struct redis *shared,
                                        const struct redis_cluster_events *events)
{
    struct redis_cluster *cluster = calloc(1, sizeof *cluster);

    if (cluster == NULL)
        abort();
    cluster->shared = shared;
    cluster->events = events;
    cluster->refresh_job.run = refresh;
    redis_cluster_join(cluster, shared);
    shared->on_ready = on_ready;
    shared->stats = &shared->base.stats;
    shared->not_yet = "the map of the redis cluster is not known yet";
    return cluster;
}

void redis_cluster_stop(struct redis_cluster *cluster, void (*closed)(void *), void *arg)
{
    struct redis_primary *primary = cluster->primaries;

    timer_disarm(&cluster->shared->base.home->timers, &cluster->refresh);
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
