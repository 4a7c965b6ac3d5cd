/* The kafka backend: its descriptor, and a worker's instance. */
#include "backends/kafka/kafka_listener.h"
#include "backends/kafka/kafka_priv.h"
#include "pool/worker.h"

#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

/* ---- descriptors on the loop ---- */

struct kafka_poll {
    uv_poll_t handle;
    struct kafka_instance *instance;
    int fd;
    void (*ready)(void *arg);
    void *arg;
};

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct kafka_poll *poll = CONTAINER_OF(handle, struct kafka_poll, handle);
    uint64_t count;

    (void)status;
    (void)events;
    (void)!read(poll->fd, &count, sizeof count);
    worker_look_at_clock(poll->instance->base.home);
    poll->ready(poll->arg);
}

struct kafka_poll *kafka_poll_new(struct kafka_instance *instance, int fd, void (*ready)(void *arg),
                                  void *arg)
{
    struct kafka_poll *poll = calloc(1, sizeof *poll);

    if (poll == NULL || uv_poll_init(instance->base.home->loop, &poll->handle, fd) != 0)
        abort();
    poll->instance = instance;
    poll->fd = fd;
    poll->ready = ready;
    poll->arg = arg;
    instance->busy++;
    uv_poll_start(&poll->handle, UV_READABLE, on_readable);
    return poll;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct kafka_poll *poll = CONTAINER_OF((uv_poll_t *)handle, struct kafka_poll, handle);

    kafka_instance_release(poll->instance);
    free(poll);
}

void kafka_poll_free(struct kafka_poll *poll)
{
    uv_close((uv_handle_t *)&poll->handle, on_poll_closed);
}

/* ---- instances ---- */

static struct backend *open_instance(struct backend_store *base, struct worker *worker)
{
    struct kafka_store *store = CONTAINER_OF(base, struct kafka_store, base);
    struct kafka_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    instance->base = (struct backend){.type = base->type,
                                      .store = base,
                                      .home = worker,
                                      .has = {.topic = &store->topic, .stream = &store->stream},
                                      .limits = base->type->limits};
    pthread_mutex_lock(&store->lock);
    instance->at = &store->instances;
    instance->next = store->instances;
    if (instance->next != NULL)
        instance->next->at = &instance->next;
    store->instances = instance;
    pthread_mutex_unlock(&store->lock);
    kafka_reports_watch(instance);
    kafka_store_start(store);
    return &instance->base;
}

static void ended(struct job *job)
{
    struct kafka_instance *instance = CONTAINER_OF(job, struct kafka_instance, ended);
    void (*closed)(void *) = instance->closed;
    void *arg = instance->closed_arg;

    free(instance);
    closed(arg);
}

void kafka_instance_release(struct kafka_instance *instance)
{
    instance->busy--;
    if (instance->busy > 0 || !instance->closing)
        return;
    instance->ended.run = ended;
    worker_land(instance->base.home, &instance->ended);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct kafka_instance *instance = kafka_instance_of(backend);

    instance->closed = closed;
    instance->closed_arg = arg;
    instance->closing = true;
    instance->busy++;
    kafka_publish_abandon(instance);
    kafka_reports_leave(instance);
    kafka_instance_release(instance);
}

/* ---- metrics ---- */

static uint64_t waiting_bytes(struct kafka_store *store)
{
    uint64_t bytes;

    pthread_mutex_lock(&store->lock);
    bytes = store->waiting_bytes;
    pthread_mutex_unlock(&store->lock);
    return bytes;
}

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const struct {
        const char *name, *type, *help;
    } families[] = {
        {"prism_kafka_connects_total", "counter", "Times that brokers were reached anew."},
        {"prism_kafka_reports_total", "counter", "Messages with a delivery report."},
        {"prism_kafka_failed_total", "counter", "Messages whose report is no success."},
        {"prism_kafka_unknown_total", "counter", "Messages whose outcome is unknown."},
        {"prism_kafka_full_total", "counter", "Messages refused: too much waits for brokers."},
        {"prism_kafka_rebalances_total", "counter", "Changes of who owns which partitions."},
        {"prism_kafka_gaps_total", "counter", "Positions that were no longer in the log."},
        {"prism_kafka_resets_total", "counter",
         "Questions where a partition goes on whose position is no longer in the log."},
        {"prism_kafka_lookups_refused_total", "counter",
         "Questions about positions that were refused: too many were under way."},
        {"prism_kafka_abandoned_clients", "gauge", "Consumers that could not be closed safely."},
        {"prism_kafka_waiting_bytes", "gauge", "Bytes of messages that wait for brokers."},
    };

    for (size_t family = 0; family < ARRAY_LEN(families); family++) {
        metrics_family(page, families[family].name, families[family].type, families[family].help);
        for (size_t i = 0; i < n; i++) {
            struct kafka_store *store = CONTAINER_OF(stores[i], struct kafka_store, base);
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};
            uint64_t values[] = {counter_read(&store->connects),
                                 counter_read(&store->reported),
                                 counter_read(&store->refused),
                                 counter_read(&store->unknown),
                                 counter_read(&store->full),
                                 counter_read(&store->rebalances),
                                 counter_read(&store->gaps),
                                 counter_read(&store->resets),
                                 counter_read(&store->lookups_refused),
                                 counter_read(&store->leaked),
                                 waiting_bytes(store)};

            metrics_sample_u64(page, families[family].name, labels, values[family]);
        }
    }
}

#define KAFKA_SINK                                                                                 \
    {                                                                                              \
        .max_items = KAFKA_ITEMS, .max_frame_bytes = KAFKA_FRAME_BYTES,                            \
        .max_message_bytes = 1000000, /* or as configured */                                       \
            .width = 128, .keyed = true, .null_payload = true, .null_header_values = true,         \
        .binary_headers = true,                                                                    \
        .ack_means = "all in-sync replicas of the partition have it in memory; the topic's "       \
                     "min.insync.replicas says how many those are at least",                       \
        .partitioner = "murmur2_random", .check_topic = kafka_check_topic,                         \
        .publish = kafka_publish                                                                   \
    }

static const struct stream kafka_stream = {
    .sink = KAFKA_SINK,
    .source = {.keyed = true,
               .never_drops = true,
               .max_buffer = 16 << 20, /* or as configured */
               .open = kafka_listener_open,
               .grant = kafka_listener_grant,
               .withdraw = kafka_listener_withdraw,
               .close = kafka_listener_close},
    .settling = {.settle = kafka_settle},
    .offsets = true,
    .describe = kafka_describe,
    .position = kafka_position,
    .dear_position = true,
    .seek = kafka_seek,
};

/* The same messages, without memory of who has read what. */
static const struct topic kafka_topic = {
    .sink = KAFKA_SINK,
    .source = {.never_drops = true,
               .open = kafka_listener_open_topic,
               .grant = kafka_listener_grant,
               .withdraw = kafka_listener_withdraw,
               .close = kafka_listener_close},
};

const struct backend_type backend_kafka = {
    .name = "kafka",
    .doc = "Apache Kafka 2.4 or later: streams with groups, at least once; topics",
    .interfaces = {.topic = &kafka_topic, .stream = &kafka_stream},
    .settings = kafka_settings,
    .check = kafka_settings_check,
    .descriptors = kafka_descriptors,
    .store_open = kafka_store_open,
    .reload = kafka_store_reload,
    .store_stop = kafka_store_stop,
    .store_close = kafka_store_close,
    .open = open_instance,
    .close = close_instance,
    .probe = kafka_probe,
    .render = render,
};
