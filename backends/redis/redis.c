/* The redis backend: its descriptor. */
#include "backends/redis/redis.h"

#include "backends/redis/redis_kv.h"
#include "backends/redis/redis_topic.h"

#include <assert.h>
#include <stdlib.h>

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    return redis_store_new(store, &backend_redis, options);
}

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct redis_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    redis_registry_name(&instance->names);
    redis_start(&instance->shared, store, worker, false);
    return &instance->shared.base;
}

/* The other connection goes second: outcomes of calls do not wait for it. */
static void on_shared_closed(void *arg)
{
    struct redis_instance *instance = arg;
    void (*closed)(void *) = instance->closed;
    void *closed_arg = instance->closed_arg;

    if (instance->listening.started) {
        instance->listening.connection.memory = instance;
        redis_stop(&instance->listening.connection, closed, closed_arg);
        return;
    }
    free(instance);
    closed(closed_arg);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct redis_instance *instance = redis_instance_of(backend);

    assert(instance->listening.listeners == 0); /* whoever opened them closes them first */
    instance->closed = closed;
    instance->closed_arg = arg;
    redis_stop(&instance->shared, on_shared_closed, instance);
}

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const char name[] = "prism_redis_dropped_total";

    metrics_family(page, name, "counter", "Messages of topics that a subscriber missed.");
    for (size_t i = 0; i < n; i++) {
        const struct redis_store *store = CONTAINER_OF(stores[i], struct redis_store, base);
        const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                NULL};

        metrics_sample_u64(page, name, labels, counter_read(&store->dropped));
    }
}

const struct backend_type backend_redis = {
    .name = "redis",
    .doc = "Redis 6 or later, one server or a primary with replicas (not cluster mode)",
    .interfaces = {.kv_basic = &redis_kv_basic,
                   .kv_ttl = &redis_kv_ttl,
                   .kv_scan = &redis_kv_scan,
                   .kv_batch = &redis_kv_batch,
                   .kv_txn = &redis_kv_txn,
                   .kv_cas = &redis_kv_cas,
                   .topic = &redis_topic,
                   .registry = &redis_registry},
    .limits = {.key_bytes = 512ull << 20, .value_bytes = REDIS_VALUE_BYTES, .pipeline = 128},
    .settings = redis_settings,
    .check = redis_settings_check,
    .store_open = store_open,
    .store_close = redis_store_close,
    .reload = redis_store_reload,
    .open = open_instance,
    .close = close_instance,
    .probe = redis_probe,
    .render = render,
};
