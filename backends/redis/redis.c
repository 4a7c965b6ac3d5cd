/* The redis backend: its descriptor. */
#include "backends/redis/redis.h"

#include "backends/redis/redis_kv.h"
#include "backends/redis/redis_settings.h"
#include "backends/redis/redis_topic.h"

#include <assert.h>
#include <stdlib.h>

static const struct backend_type backend_redis_cluster;

static const struct backend_type *variant(const struct backend_value *values)
{
    return redis_settings_cluster(values) ? &backend_redis_cluster : &backend_redis;
}

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    return redis_store_new(store, variant(options->values), options);
}

static const struct redis_cluster_events events = {.mapped = redis_spread_check};

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct redis_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    redis_scripted_name(instance->registry_names, redis_registry_scripts, REDIS_REGISTRY_SCRIPTS);
    redis_scripted_name(instance->session_names, redis_session_scripts, REDIS_SESSION_SCRIPTS);
    redis_spreads_init(&instance->spreads);
    if (store->type == &backend_redis_cluster)
        instance->cluster = redis_cluster_new(&instance->shared, &events);
    redis_start(&instance->shared, store, worker, false);
    return &instance->shared.base;
}

static void free_instance(struct redis_instance *instance)
{
    void (*closed)(void *) = instance->closed;
    void *closed_arg = instance->closed_arg;

    redis_cluster_free(instance->cluster);
    free(instance);
    closed(closed_arg);
}

static void on_listening_closed(void *arg)
{
    free_instance(arg);
}

/* The other connection goes second: outcomes of calls do not wait for it. */
static void on_shared_closed(void *arg)
{
    struct redis_instance *instance = arg;

    if (instance->listening.started)
        redis_stop(&instance->listening.connection, on_listening_closed, instance);
    else
        free_instance(instance);
}

static void close_shared(void *arg)
{
    struct redis_instance *instance = arg;

    redis_stop(&instance->shared, on_shared_closed, instance);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct redis_instance *instance = redis_instance_of(backend);

    assert(instance->listening.listeners == 0); /* whoever opened them closes them first */
    instance->closed = closed;
    instance->closed_arg = arg;
    redis_session_sweep_stop(&instance->sweep);
    if (instance->cluster != NULL)
        redis_cluster_stop(instance->cluster, close_shared, instance);
    else
        close_shared(instance);
}

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const char *const names[] = {"prism_redis_dropped_total", "prism_redis_sessions"};

    for (size_t family = 0; family < ARRAY_LEN(names); family++) {
        if (family == 0)
            metrics_family(page, names[0], "counter",
                           "Messages of topics that a subscriber missed.");
        else
            metrics_family(page, names[1], "gauge",
                           "Sessions in the order of all, expired ones not yet removed included, "
                           "when they were last swept.");
        for (size_t i = 0; i < n; i++) {
            struct redis_store *store = CONTAINER_OF(stores[i], struct redis_store, base);
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};

            metrics_sample_u64(page, names[family], labels,
                               family == 0 ? counter_read(&store->dropped)
                                           : atomic_load(&store->sessions));
        }
    }
}

/* What one server and a cluster have in common. */
#define IN_COMMON                                                                                  \
    .limits = {.key_bytes = 512ull << 20, .value_bytes = REDIS_VALUE_BYTES, .pipeline = 128},      \
    .settings = redis_settings, .check = redis_settings_check, .store_open = store_open,           \
    .store_close = redis_store_close, .reload = redis_store_reload, .open = open_instance,         \
    .close = close_instance, .probe = redis_probe, .render = render

const struct backend_type backend_redis = {
    .name = "redis",
    .doc = "Redis 6 or later: one server, a primary with replicas, or a cluster",
    .interfaces = {.kv_basic = &redis_kv_basic,
                   .kv_ttl = &redis_kv_ttl,
                   .kv_scan = &redis_kv_scan,
                   .kv_batch = &redis_kv_batch,
                   .kv_txn = &redis_kv_txn,
                   .kv_cas = &redis_kv_cas,
                   .topic = &redis_topic,
                   .registry = &redis_registry,
                   .session = &redis_session},
    .descriptors = redis_descriptors,
    .variant = variant,
    IN_COMMON,
};

/* What one key, or one node, can do, and scripts whose keys stay together. Those of an atomic batch
 * are the client's, which do not. */
static const struct backend_type backend_redis_cluster = {
    .name = "redis-cluster",
    .doc = "a cluster of Redis 6 or later: `redis` with `cluster: true`",
    .interfaces = {.kv_basic = &redis_kv_basic,
                   .kv_ttl = &redis_kv_ttl,
                   .kv_scan = &redis_kv_scan,
                   .kv_batch = &redis_cluster_batch,
                   .kv_cas = &redis_kv_cas,
                   .topic = &redis_topic,
                   .registry = &redis_registry_spread,
                   .session = &redis_session_spread},
    .descriptors = redis_cluster_descriptors,
    IN_COMMON,
};
