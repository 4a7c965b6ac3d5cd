/* The jetstream backend: its descriptor, and a worker's instance. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"

#include <assert.h>
#include <stdlib.h>

static struct backend *open_instance(struct backend_store *base, struct worker *worker)
{
    struct jet_store *store = CONTAINER_OF(base, struct jet_store, base.base);
    struct jet_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    instance->base = (struct backend){.type = base->type,
                                      .store = base,
                                      .home = worker,
                                      .has = base->type->interfaces,
                                      .limits = base->type->limits};
    jet_control_start(store);
    nats_store_start(&store->base);
    return &instance->base;
}

/* ---- the end: when everything that is out is home again ---- */

static void end_if_home(struct jet_instance *instance)
{
    void (*closed)(void *) = instance->closed;
    void *arg = instance->closed_arg;

    if (!instance->closing || !instance->purged || instance->out > 0)
        return;
    free(instance);
    closed(arg);
}

void jet_instance_back(struct jet_instance *instance)
{
    instance->out--;
    end_if_home(instance);
}

static void ended(struct job *job)
{
    struct jet_instance *instance = CONTAINER_OF(job, struct jet_instance, ended);

    instance->purged = true;
    end_if_home(instance);
}

static bool run_end(struct nats_store *base, struct nats_task *task)
{
    struct jet_instance *instance = CONTAINER_OF(task, struct jet_instance, end);

    jet_window_purge(jet_of(base));
    worker_land(instance->base.home, &instance->ended);
    return false;
}

static void close_instance(struct backend *backend, void (*closed)(void *arg), void *arg)
{
    struct jet_instance *instance = jet_instance_of(backend);

    assert(instance->subscriptions == 0);
    instance->closing = true;
    instance->closed = closed;
    instance->closed_arg = arg;
    instance->ended.run = ended;
    instance->end.run = run_end;
    jet_publish_abandon(instance);
    jet_call_abandon(instance);
    nats_store_put(&jet_store_of(backend)->base, &instance->end);
}

/* ---- metrics ---- */

static const struct {
    const char *name, *type, *help;
} families[] = {
    {"prism_jetstream_connects_total", "counter", "Connections made to NATS servers."},
    {"prism_jetstream_waiting_bytes", "gauge", "Bytes of messages that have no outcome yet."},
    {"prism_jetstream_resent_total", "counter", "Messages sent again under the same id."},
    {"prism_jetstream_unknown_total", "counter", "Messages whose outcome was given up as unknown."},
    {"prism_jetstream_renewed_total", "counter",
     "Deliveries whose time at the server was put off."},
    {"prism_jetstream_expired_total", "counter", "Deliveries whose lease ran out."},
    {"prism_jetstream_pages_read_total", "counter",
     "Questions about messages that were given back."},
    {"prism_jetstream_pages_written_total", "counter", "Writes of what is given back."},
    {"prism_jetstream_returns_counted_total", "counter",
     "Deliveries given back that count as attempts, because it could not be written down."},
    {"prism_jetstream_returns_forgotten_total", "counter",
     "Messages whose attempts no longer fitted into what is known of their group."},
};

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    for (size_t family = 0; family < ARRAY_LEN(families); family++) {
        metrics_family(page, families[family].name, families[family].type, families[family].help);
        for (size_t i = 0; i < n; i++) {
            struct jet_store *store = CONTAINER_OF(stores[i], struct jet_store, base.base);
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};
            uint64_t values[] = {
                counter_read(&store->base.connections), nats_store_waiting(&store->base),
                counter_read(&store->resent),           counter_read(&store->unknown),
                counter_read(&store->renewed),          counter_read(&store->expired),
                counter_read(&store->pages_read),       counter_read(&store->pages_written),
                counter_read(&store->counted),          counter_read(&store->forgotten)};

            metrics_sample_u64(page, families[family].name, labels, values[family]);
        }
    }
}

/* What is given back is an attempt where it cannot be written down. */
#define JET_STREAM(free)                                                                           \
    {                                                                                              \
        .sink = {.max_items = NATS_ITEMS,                                                          \
                 .max_frame_bytes = NATS_FRAME_BYTES,                                              \
                 .keyed = true,                                                                    \
                 .dedups = true,                                                                   \
                 .many_topics = true,                                                              \
                 .dedup_survives = true,                                                           \
                 .ack_means = "the stream has it: its leader, and a majority of its replicas if "  \
                              "it has several; files are written, and synced as the server is "    \
                              "configured to",                                                     \
                 .check_topic = nats_check_topic,                                                  \
                 .publish = jet_publish},                                                          \
        .source = {.never_drops = true,                                                            \
                   .open = jet_listener_open,                                                      \
                   .grant = jet_listener_grant,                                                    \
                   .withdraw = jet_listener_withdraw,                                              \
                   .close = jet_listener_close},                                                   \
        .settling = {.single = true,                                                               \
                     .delays = true,                                                               \
                     .counts_attempts = true,                                                      \
                     .release_is_free = (free),                                                    \
                     .max_lease_ms = JET_MAX_LEASE_MS,                                             \
                     .settle = jet_settle,                                                         \
                     .extend = jet_extend},                                                        \
        .offsets = true, .describe = jet_describe, .position = jet_position, .seek = jet_seek,     \
    }

static const struct stream jet_stream = JET_STREAM(true), jet_counting_stream = JET_STREAM(false);

void jet_instance_look(struct jet_instance *instance)
{
    struct backend *backend = &instance->base;
    int state = jet_journal_state(jet_store_of(backend));
    const struct stream *stream = state == JET_JOURNAL_REFUSED ? &jet_counting_stream : &jet_stream;

    if (state == JET_JOURNAL_UNKNOWN || backend->has.stream == stream)
        return;
    backend->has.stream = stream;
    atomic_fetch_add(&backend->store->facts_version, 1);
}

const struct backend_type backend_jetstream = {
    .name = "jetstream",
    .doc = "NATS JetStream 2.9 or later: streams with groups, at least once",
    .interfaces = {.stream = &jet_stream},
    .settings = nats_settings,
    .check = jet_settings_check,
    .descriptors = nats_descriptors,
    .store_open = jet_store_open,
    .reload = nats_store_reload,
    .store_close = jet_store_close,
    .open = open_instance,
    .close = close_instance,
    .probe = jet_probe,
    .render = render,
};
