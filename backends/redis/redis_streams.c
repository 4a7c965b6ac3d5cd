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
    .sink = REDIS_STREAM_SINK,
    .source = {.keyed = true,
               .never_drops = true,
               .max_buffer = REDIS_STREAM_HOLD_BYTES,
               .open = open_stream,
               .grant = redis_stream_grant,
               .withdraw = redis_stream_withdraw,
               .close = redis_stream_close},
    .settling = REDIS_STREAM_SETTLING,
    .describe = redis_stream_describe,
    .position = redis_stream_position,
    .seek = redis_stream_seek,
};

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    return redis_store_new(store, &backend_redis_stream, options);
}

/* ---- instances ---- */

/* A new connection: what was under way may be lost, and the group with it. */
static void on_ready(struct redis *redis)
{
    struct redis_streams *streams = CONTAINER_OF(redis, struct redis_streams, shared);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next)
        redis_reader_connected(reader);
}

static void name_notes(struct redis_streams *streams)
{
    static const char name[] = "wake";
    const char *prefix = redis_store_of(&streams->shared)->prefix;
    size_t root = (size_t)(strchr(prefix, ':') - prefix) + 1;

    streams->notes_text = malloc(root + sizeof name);
    if (streams->notes_text == NULL)
        abort();
    memcpy(streams->notes_text, prefix, root);
    memcpy(streams->notes_text + root, name, sizeof name);
    streams->notes = slice_str(streams->notes_text);
}

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
    redis_start(&streams->shared, store, worker, false);
    name_notes(streams);
    name_instance(streams);
    return &streams->shared.base;
}

static void free_instance(struct redis_streams *streams)
{
    void (*closed)(void *) = streams->closed;
    void *closed_arg = streams->closed_arg;

    free(streams->notes_text);
    free(streams);
    closed(closed_arg);
}

static void on_waiting_closed(void *arg)
{
    free_instance(arg);
}

static void on_shared_closed(void *arg)
{
    struct redis_streams *streams = arg;

    if (streams->waiting_started)
        redis_stop(&streams->waiting, on_waiting_closed, streams);
    else
        free_instance(streams);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct redis_streams *streams = redis_streams_of(backend);

    streams->closed = closed;
    streams->closed_arg = arg;
    redis_wait_stop(streams);
    redis_stop(&streams->shared, on_shared_closed, streams);
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

const struct backend_type backend_redis_stream = {
    .name = "redis-stream",
    .doc = "streams and queues on Redis 6.2 or later (7.0 for lag and gaps), as backend redis",
    .interfaces = {.stream = &redis_stream, .queue = &redis_queue},
    .limits = {.key_bytes = 512ull << 20, .value_bytes = REDIS_VALUE_BYTES, .pipeline = 128},
    .settings = redis_stream_settings,
    .check = redis_stream_settings_check,
    .descriptors = redis_descriptors,
    .store_open = store_open,
    .store_close = redis_store_close,
    .reload = redis_store_reload,
    .open = open_instance,
    .close = close_instance,
    .probe = redis_probe,
    .render = render,
};
