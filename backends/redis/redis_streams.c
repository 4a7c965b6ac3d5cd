/* The backend type redis-stream: its descriptor and instances. */
#include "backends/redis/redis.h"
#include "backends/redis/redis_settings.h"
#include "backends/redis/redis_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static void open_stream(struct backend *backend, struct subscription *subscription)
{
    redis_reader_open(backend, subscription, false);
}

const struct stream redis_stream = {
    .sink = REDIS_STREAM_SINK(redis_stream_publish),
    .source = {.keyed = true,
               .never_drops = true,
               .max_buffer = REDIS_STREAM_HOLD_BYTES,
               .open = open_stream,
               .grant = redis_stream_grant,
               .withdraw = redis_stream_withdraw,
               .close = redis_stream_close},
    .settling = REDIS_STREAM_SETTLING(&redis_tickets),
    .describe = redis_stream_describe,
    .position = redis_stream_position,
    .seek = redis_stream_seek,
};

static const struct backend_type *variant(const struct backend_value *values)
{
    return redis_settings_cluster(values) ? &backend_redis_stream_cluster : &backend_redis_stream;
}

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    return redis_store_new(store, variant(options->values), options);
}

/* ---- instances ---- */

/* A new connection: what was under way may be lost, and the group with it. */
static void on_ready(struct redis *redis)
{
    struct redis_streams *streams = CONTAINER_OF(redis, struct redis_streams, shared);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next)
        redis_reader_connected(reader);
}

/* Another primary of the cluster, or a new connection to it. */
static void on_primary_ready(struct redis *primary)
{
    struct redis_streams *streams = redis_streams_at(primary);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (redis_reader_at(reader) == primary)
            redis_reader_connected(reader);
    }
}

static void on_mapped(struct redis *shared)
{
    struct redis_streams *streams = redis_streams_at(shared);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next)
        redis_reader_wake(reader);
    redis_wait_look(streams);
}

static const struct redis_cluster_events cluster_events = {.ready = on_primary_ready,
                                                           .mapped = on_mapped};

/* No two instances have the same, in whatever process. */
static void name_instance(struct redis_streams *streams)
{
    uint64_t random;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        abort();
    streams->random = random | 1;
    snprintf(streams->origin, sizeof streams->origin, "%016llx", (unsigned long long)random);
}

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct redis_streams *streams = calloc(1, sizeof *streams);

    if (streams == NULL)
        abort();
    streams->shared.on_ready = on_ready;
    if (store->type == &backend_redis_stream_cluster)
        streams->cluster = redis_cluster_new(&streams->shared, &cluster_events);
    redis_start(&streams->shared, store, worker, false);
    name_instance(streams);
    return &streams->shared.base;
}

static void on_gone(struct redis_streams *streams)
{
    void (*closed)(void *) = streams->closed;
    void *closed_arg = streams->closed_arg;

    redis_cluster_free(streams->cluster);
    free(streams);
    closed(closed_arg);
}

/* Those that wait go last: outcomes of calls do not wait for them. */
static void on_shared_closed(void *arg)
{
    redis_wait_stop(arg, on_gone);
}

static void close_shared(void *arg)
{
    struct redis_streams *streams = arg;

    redis_stop(&streams->shared, on_shared_closed, streams);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct redis_streams *streams = redis_streams_of(backend);

    streams->closed = closed;
    streams->closed_arg = arg;
    if (streams->cluster != NULL)
        redis_cluster_stop(streams->cluster, close_shared, streams);
    else
        close_shared(streams);
}

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const char name[] = "prism_redis_stream_lost_total";

    metrics_family(page, name, "counter",
                   "Entries of streams that were removed before a group had settled them.");
    for (size_t i = 0; i < n; i++) {
        const struct redis_store *store = CONTAINER_OF(stores[i], struct redis_store, base);
        const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                NULL};

        metrics_sample_u64(page, name, labels, counter_read(&store->lost));
    }
}

/* What one server and a cluster have in common. */
#define IN_COMMON                                                                                  \
    .limits = {.key_bytes = 512ull << 20, .value_bytes = REDIS_VALUE_BYTES, .pipeline = 128},      \
    .settings = redis_stream_settings, .check = redis_stream_settings_check,                       \
    .store_open = store_open, .store_close = redis_store_close, .reload = redis_store_reload,      \
    .open = open_instance, .close = close_instance, .probe = redis_probe, .render = render

const struct backend_type backend_redis_stream = {
    .name = "redis-stream",
    .doc = "streams and queues on Redis 6.2 or later (7.0 for lag and gaps), as backend redis",
    .interfaces = {.stream = &redis_stream, .queue = &redis_queue},
    .descriptors = redis_descriptors,
    .variant = variant,
    IN_COMMON,
};

const struct backend_type backend_redis_stream_cluster = {
    .name = "redis-stream-cluster",
    .doc = "streams and queues on a cluster: `redis-stream` with `cluster: true`",
    .interfaces = {.stream = &redis_stream, .queue = &redis_queue},
    .descriptors = redis_stream_cluster_descriptors,
    IN_COMMON,
};
