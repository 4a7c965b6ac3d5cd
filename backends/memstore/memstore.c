#include "backends/memstore/messaging.h"
#include "backends/memstore/roster.h"
#include "backends/memstore/sessions.h"
#include "src/base/container.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- stores and instances ---- */

enum {
    SETTING_MAX_KEYS,
    SETTING_MAX_BYTES,
    SETTING_MAX_TOPICS,
    SETTING_STREAM_MESSAGES,
    SETTING_STREAM_BYTES,
    SETTING_STREAM_AGE,
    SETTING_QUEUE_AGE,
    SETTING_DROP_UNREAD,
    SETTING_MAX_PARKED,
    SETTING_TAIL_MESSAGES,
    SETTING_TAIL_BYTES,
};

/* Ten million keys of some 170 bytes are more than the default of max_bytes holds: as long as
 * values are not tiny it is memory that ends first, and the number of keys only bounds what a flood
 * of empty values costs. */
static const struct backend_setting settings[] = {
    [SETTING_MAX_KEYS] = {.name = "max_keys",
                          .kind = SETTING_UINT,
                          .fallback = "10000000",
                          .max = 1ull << 36,
                          .doc = "keys held at most; then new keys are refused with "
                                 "RESOURCE_EXHAUSTED, values may still be replaced. 0 = no limit"},
    [SETTING_MAX_BYTES] = {.name = "max_bytes",
                           .kind = SETTING_UINT,
                           .fallback = "1073741824",
                           .max = 1ull << 50,
                           .doc = "bytes of keys and values held at most, each key with its value "
                                  "rounded up to 16 and 32 added; then writes that need more are "
                                  "refused with RESOURCE_EXHAUSTED. Messages count with their "
                                  "key, headers and payload and 104 bytes. 0 = no limit"},
    [SETTING_MAX_TOPICS] = {.name = "max_topics",
                            .kind = SETTING_UINT,
                            .fallback = "100000",
                            .max = 1u << 30,
                            .doc = "streams, queues, and topics that somebody listens to, at most; "
                                   "then others are refused with RESOURCE_EXHAUSTED. 0 = no limit"},
    [SETTING_STREAM_MESSAGES] = {.name = "stream_max_messages",
                                 .kind = SETTING_UINT,
                                 .fallback = "0",
                                 .max = 1ull << 40,
                                 .doc = "messages kept of one stream or queue. 0 = no limit"},
    [SETTING_STREAM_BYTES] = {.name = "stream_max_bytes",
                              .kind = SETTING_UINT,
                              .fallback = "67108864",
                              .max = 1ull << 50,
                              .doc = "bytes kept of one stream or queue, as max_bytes counts them. "
                                     "0 = no limit"},
    [SETTING_STREAM_AGE] = {.name = "stream_max_age_seconds",
                            .kind = SETTING_UINT,
                            .fallback = "0",
                            .max = 1u << 31,
                            .doc = "messages of a stream go at this age, when it is next used. 0 = "
                                   "they stay"},
    [SETTING_QUEUE_AGE] = {.name = "queue_max_age_ms",
                           .kind = SETTING_UINT,
                           .fallback = "0",
                           .max = 1ull << 42,
                           .doc = "age of a queue's oldest message at which new ones are refused "
                                  "with RESOURCE_EXHAUSTED. 0 = any"},
    [SETTING_DROP_UNREAD] = {.name = "stream_drop_unread",
                             .kind = SETTING_BOOL,
                             .fallback = "false",
                             .doc =
                                 "true: the oldest messages of a full stream go, also those that "
                                 "a group has not settled; it is told what it misses. false: "
                                 "new ones are refused with RESOURCE_EXHAUSTED"},
    [SETTING_MAX_PARKED] = {.name = "max_parked",
                            .kind = SETTING_UINT,
                            .fallback = "10000",
                            .max = 1000000,
                            .doc =
                                "messages of one group that may wait for a retry, or behind one; "
                                "then delayed retries are refused. 0 = no limit"},
    [SETTING_TAIL_MESSAGES] = {.name = "topic_tail_messages",
                               .kind = SETTING_UINT,
                               .fallback = "0",
                               .max = 1ull << 40,
                               .doc = "messages that wait for the slowest subscriber of a topic; "
                                      "what it misses beyond them it is told. 0 = no limit"},
    [SETTING_TAIL_BYTES] = {.name = "topic_tail_bytes",
                            .kind = SETTING_UINT,
                            .fallback = "1048576",
                            .max = 1ull << 40,
                            .doc = "the same in bytes, as max_bytes counts them. 0 = no limit"},
    {.name = NULL},
};

static uint64_t monotonic(void *arg)
{
    (void)arg;
    return clock_now_ns();
}

static uint64_t keyed_hash(void *arg, struct slice key)
{
    return hash_bytes(arg, key);
}

static void limits_init(struct memstore *store, const struct memstore_config *config)
{
    store->max_keys = config->max_keys == 0 ? UINT64_MAX : config->max_keys;
    store->max_bytes = config->max_bytes == 0 ? UINT64_MAX : config->max_bytes;
    snprintf(store->full_of_keys, sizeof store->full_of_keys,
             "memstore is full: it holds the %" PRIu64
             " keys that max_keys allows; nothing was written",
             config->max_keys);
    snprintf(store->full_of_bytes, sizeof store->full_of_bytes,
             "memstore is full: this write would pass the %" PRIu64
             " bytes of max_bytes; nothing was written",
             config->max_bytes);
}

struct memstore *memstore_new(const struct backend_options *options,
                              const struct memstore_config *config)
{
    struct memstore *store = aligned_alloc(64, sizeof *store);

    if (store == NULL)
        abort();
    memset(store, 0, sizeof *store);
    backend_store_init(&store->base, &backend_memstore, options);
    atomic_store(&store->base.ack, BACKEND_ACK_MEMORY);
    atomic_store(&store->base.state, BACKEND_READY);
    store->key_hash = hash_key_random();
    store->cursor_hash = hash_key_random();
    store->nonce = (uint32_t)hash_key_random().a;
    store->sources = config->sources != NULL ? *config->sources
                                             : (struct memstore_sources){.now_ns = monotonic,
                                                                         .hash = keyed_hash,
                                                                         .arg = &store->key_hash};
    store->opened_ns = store->sources.now_ns(store->sources.arg);
    pthread_mutex_init(&store->judging, NULL);
    limits_init(store, config);
    sweep_init(store);
    store->messaging = messaging_new(store, &config->messaging);
    store->roster = roster_new(store);
    store->sessions = sessions_new(store);
    for (unsigned i = 0; i < MEMSTORE_SHARDS; i++)
        shard_init(&store->shards[i]);
    return store;
}

void memstore_destroy(struct memstore *store)
{
    if (store == NULL)
        return;
    for (unsigned i = 0; i < MEMSTORE_SHARDS; i++)
        shard_clear(&store->shards[i]);
    messaging_destroy(store->messaging);
    roster_destroy(store->roster);
    sessions_destroy(store->sessions);
    sweep_clear(store);
    pthread_mutex_destroy(&store->judging);
    backend_store_clear(&store->base);
    free(store);
}

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    const struct backend_value *values = options->values;
    struct memstore_config config = {
        .max_keys = values[SETTING_MAX_KEYS].number,
        .max_bytes = values[SETTING_MAX_BYTES].number,
        .messaging = {.max_names = values[SETTING_MAX_TOPICS].number,
                      .stream_messages = values[SETTING_STREAM_MESSAGES].number,
                      .stream_bytes = values[SETTING_STREAM_BYTES].number,
                      .stream_age_ms = values[SETTING_STREAM_AGE].number * 1000,
                      .queue_age_ms = values[SETTING_QUEUE_AGE].number,
                      .drop_unread = values[SETTING_DROP_UNREAD].number != 0,
                      .max_parked = (uint32_t)values[SETTING_MAX_PARKED].number,
                      .tail_messages = values[SETTING_TAIL_MESSAGES].number,
                      .tail_bytes = values[SETTING_TAIL_BYTES].number},
    };

    *store = &memstore_new(options, &config)->base;
    return ERR_NONE;
}

static void store_close(struct backend_store *store)
{
    memstore_destroy(CONTAINER_OF(store, struct memstore, base));
}

static struct backend *instance_open(struct backend_store *store, struct worker *worker)
{
    struct memstore_instance *instance = calloc(1, sizeof *instance);

    if (instance == NULL)
        abort();
    instance->base = (struct backend){.type = &backend_memstore,
                                      .store = store,
                                      .home = worker,
                                      .has = backend_memstore.interfaces,
                                      .limits = backend_memstore.limits};
    enumerate_init(instance);
    sweep_join(CONTAINER_OF(store, struct memstore, base), instance);
    return &instance->base;
}

static void instance_close(struct backend *backend, void (*closed)(void *arg), void *arg)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    assert(instance->subscriptions == 0); /* whoever opened them closes them first */
    enumerate_stop(instance, err_make(ERR_UNAVAILABLE, "the backend is being closed"));
    instance->closed = closed;
    instance->closed_arg = arg;
    sweep_leave(CONTAINER_OF(backend->store, struct memstore, base), instance);
}

/* ---- metrics ---- */

enum { FAMILIES = 19 };

static const struct family {
    const char *name, *type, *help;
} families[FAMILIES] = {
    {"prism_memstore_keys", "gauge", "Keys held, expired ones not yet reclaimed included."},
    {"prism_memstore_keys_limit", "gauge", "max_keys; 0 = no limit."},
    {"prism_memstore_bytes", "gauge", "Bytes held as max_bytes counts them."},
    {"prism_memstore_bytes_limit", "gauge", "max_bytes; 0 = no limit."},
    {"prism_memstore_index_bytes", "gauge", "Bytes of hash tables."},
    {"prism_memstore_deadline_bytes", "gauge", "Bytes of timing wheels."},
    {"prism_memstore_expiring_keys", "gauge", "Keys held that have an expiry."},
    {"prism_memstore_expired_total", "counter", "Expired keys reclaimed; nothing is ever evicted."},
    {"prism_memstore_refused_total", "counter", "Writes refused for want of room."},
    {"prism_memstore_topics", "gauge", "Streams, queues, and topics that somebody listens to."},
    {"prism_memstore_published_total", "counter", "Messages that were given to be published."},
    {"prism_memstore_publish_refused_total", "counter",
     "Messages refused because a stream or queue was full of unsettled ones."},
    {"prism_memstore_dropped_total", "counter", "Messages of topics that a subscriber missed."},
    {"prism_memstore_lost_total", "counter",
     "Messages of streams that went before a group had read them."},
    {"prism_memstore_identity_index_bytes", "gauge", "Bytes of the registry's orders."},
    {"prism_memstore_identities_expired_total", "counter", "Expired identities reclaimed."},
    {"prism_memstore_sessions", "gauge", "Sessions held, expired ones not yet reclaimed included."},
    {"prism_memstore_session_index_bytes", "gauge", "Bytes of the sessions' orders."},
    {"prism_memstore_sessions_expired_total", "counter", "Expired sessions reclaimed."},
};

static uint64_t limit_shown(uint64_t limit)
{
    return limit == UINT64_MAX ? 0 : limit;
}

static uint64_t family_value(struct memstore *store, size_t family)
{
    struct memstore_totals totals = memstore_totals(store);
    struct roster_totals roster = roster_totals(store->roster);
    struct sessions_totals sessions = sessions_totals(store->sessions);
    struct messaging *m = store->messaging;
    const uint64_t values[FAMILIES] = {totals.keys,
                                       limit_shown(store->max_keys),
                                       totals.bytes,
                                       limit_shown(store->max_bytes),
                                       totals.index_bytes,
                                       totals.wheel_bytes,
                                       totals.mortal,
                                       totals.expired,
                                       totals.refused,
                                       names_count(m),
                                       counter_read(&m->published),
                                       counter_read(&m->refused),
                                       counter_read(&m->dropped),
                                       counter_read(&m->lost),
                                       roster.bytes,
                                       roster.expired,
                                       sessions.sessions,
                                       sessions.bytes,
                                       sessions.expired};

    return values[family];
}

static void render(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    for (size_t family = 0; family < FAMILIES; family++) {
        metrics_family(page, families[family].name, families[family].type, families[family].help);
        for (size_t i = 0; i < n; i++) {
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};
            struct memstore *store = CONTAINER_OF(stores[i], struct memstore, base);

            metrics_sample_u64(page, families[family].name, labels, family_value(store, family));
        }
    }
}

const struct backend_type backend_memstore = {
    .name = "memstore",
    .doc = "this process's memory: the embedded default",
    .inline_ok = true,
    .ordered = true,
    .interfaces = {.kv_basic = &memstore_basic,
                   .kv_ttl = &memstore_ttl_methods,
                   .kv_scan = &memstore_scan,
                   .kv_cas = &memstore_cas,
                   .topic = &memstore_topic,
                   .stream = &memstore_stream,
                   .queue = &memstore_queue,
                   .registry = &memstore_registry,
                   .session = &memstore_session},
    .limits = {.key_bytes = ENTRY_KEY_MAX, .ttl_ms = ENTRY_TTL_MAX_MS, .pipeline = 128},
    .settings = settings,
    .store_open = store_open,
    .store_close = store_close,
    .open = instance_open,
    .close = instance_close,
    .render = render,
};
