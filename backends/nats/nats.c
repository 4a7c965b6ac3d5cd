/* The nats backend: its descriptor, and a worker's instance, which is little: all connections and
 * all calls of the library belong to the store's thread. */
#include "backends/nats/nats_priv.h"
#include "pool/worker.h"

#include <assert.h>
#include <stdlib.h>

static struct nats_instance *instance_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct nats_instance, base);
}

static struct backend *open_instance(struct backend_store *base, struct worker *worker)
{
    struct nats_store *store = CONTAINER_OF(base, struct nats_store, base);
    struct nats_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    instance->base = (struct backend){.type = base->type,
                                      .store = base,
                                      .home = worker,
                                      .has = {.topic = &store->topic},
                                      .limits = base->type->limits};
    nats_store_start(store);
    return &instance->base;
}

/* ---- the end: behind all that the instance has in the store's queue ---- */

static void ended(struct job *job)
{
    struct nats_instance *instance = CONTAINER_OF(job, struct nats_instance, ended);
    void (*closed)(void *) = instance->closed;
    void *arg = instance->closed_arg;

    free(instance);
    closed(arg);
}

static bool run_end(struct nats_store *store, struct nats_task *task)
{
    (void)store;
    (void)task;
    return true;
}

/* Tasks of one round are settled in their order, so what the instance had written is settled. */
static void settle_end(struct nats_store *store, struct nats_task *task, bool answered)
{
    struct nats_instance *instance = CONTAINER_OF(task, struct nats_instance, end);

    (void)store;
    (void)answered;
    worker_land(instance->base.home, &instance->ended);
}

static void close_instance(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct nats_instance *instance = instance_of(backend);

    assert(instance->subscriptions == 0);
    instance->closed = closed;
    instance->closed_arg = arg;
    instance->ended.run = ended;
    instance->end = (struct nats_task){.run = run_end, .settle = settle_end};
    nats_publish_abandon(instance);
    nats_store_put(nats_store_of(backend), &instance->end);
}

/* ---- the store ---- */

static const char *connected(struct nats_store *store)
{
    nats_listeners_connected(store);
    return NULL;
}

static const struct nats_kind kind = {.connected = connected, .answered = nats_publish_answered};

static struct err open_store(struct backend_store **out, const struct backend_options *options)
{
    struct nats_store *store = calloc(1, sizeof *store);
    struct err err;

    if (store == NULL)
        abort();
    err = nats_store_init(store, &backend_nats, &kind, options);
    if (err.code != ERR_OK) {
        free(store);
        return err;
    }
    atomic_store(&store->base.ack, BACKEND_ACK_MEMORY);
    store->topic = *backend_nats.interfaces.topic;
    store->topic.source.max_buffer = store->config.subscription_bytes;
    *out = &store->base;
    return ERR_NONE;
}

static const struct backend_type *variant(const struct backend_value *values)
{
    return nats_settings_jetstream(values) ? &backend_jetstream : &backend_nats;
}

static void close_store(struct backend_store *base)
{
    struct nats_store *store = CONTAINER_OF(base, struct nats_store, base);

    nats_store_clear(store);
    free(store);
}

/* ---- metrics ---- */

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const struct {
        const char *name, *type, *help;
    } families[] = {
        {"prism_nats_connects_total", "counter", "Connections made to NATS servers."},
        {"prism_nats_dropped_total", "counter", "Messages dropped for subscribers that were slow."},
        {"prism_nats_waiting_bytes", "gauge", "Bytes of messages that wait for a NATS server."},
    };

    for (size_t family = 0; family < ARRAY_LEN(families); family++) {
        metrics_family(page, families[family].name, families[family].type, families[family].help);
        for (size_t i = 0; i < n; i++) {
            struct nats_store *store = CONTAINER_OF(stores[i], struct nats_store, base);
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};
            uint64_t values[] = {counter_read(&store->connections), counter_read(&store->dropped),
                                 nats_store_waiting(store)};

            metrics_sample_u64(page, families[family].name, labels, values[family]);
        }
    }
}

static const struct topic nats_topic = {
    .sink = {.max_items = NATS_ITEMS,
             .many_topics = true,
             .max_frame_bytes = NATS_FRAME_BYTES,
             .keyed = true,
             .ack_means =
                 "a NATS server has it and hands it to those who listen now; at most once, "
                 "nothing is kept",
             .check_topic = nats_check_topic,
             .publish = nats_publish},
    .source = {.wildcards = true,
               .max_buffer = 1 << 20, /* or as configured */
               .open = nats_listener_open,
               .grant = nats_listener_grant,
               .withdraw = nats_listener_withdraw,
               .close = nats_listener_close},
};

const struct backend_type backend_nats = {
    .name = "nats",
    .doc = "NATS 2.2 or later, core: topics, at most once; nothing is kept",
    .interfaces = {.topic = &nats_topic},
    .settings = nats_settings,
    .check = nats_settings_check,
    .descriptors = nats_descriptors,
    .variant = variant,
    .store_open = open_store,
    .reload = nats_store_reload,
    .store_close = close_store,
    .open = open_instance,
    .close = close_instance,
    .probe = nats_probe,
    .render = render,
};
