/* Publishing to a stream or a queue: runs of items with the same topic, each under one lock; or all
 * of one topic under one. */
#include "backends/failed_keys.h"
#include "backends/memstore/messaging.h"

#include <time.h>

enum { RUN = 64 };

static uint64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static void wake_readers(struct channel *channel)
{
    for (struct group *g = channel->groups; g != NULL; g = g->next)
        reader_wake_waiting(g);
}

static void append_run(struct channel *channel, struct failed_keys *failed, struct outgoing *items,
                       size_t n)
{
    struct kept *kept[RUN];
    uint64_t now_ms = unix_ms();

    for (size_t i = 0; i < n; i++)
        kept[i] = kept_new(&items[i], now_ms);
    pthread_mutex_lock(&channel->lock);
    channel_age(channel);
    for (size_t i = 0; i < n; i++) {
        messaging_forget(&items[i]);
        if (failed_stops(failed, &items[i])) {
            kept_unref(kept[i]);
            continue;
        }
        channel_append(channel, &items[i], kept[i]);
        if (items[i].err.code != ERR_OK)
            failed_add(failed, &items[i]);
    }
    wake_readers(channel);
    pthread_mutex_unlock(&channel->lock);
}

/* The channel of a run's first item, with a reference. NULL: the item has failed. */
static struct named *channel_for(struct messaging *m, struct failed_keys *failed,
                                 struct outgoing *item, const struct named_kind *kind)
{
    struct named *named = NULL;
    bool is_full;

    messaging_forget(item);
    if (failed_stops(failed, item))
        return NULL;
    item->err = messaging_check(item);
    if (item->err.code == ERR_OK) {
        named = names_get(m, kind, item->topic, true, &is_full);
        if (named == NULL)
            item->err = names_full();
    }
    if (named == NULL)
        failed_add(failed, item);
    return named;
}

static size_t publish_some(struct messaging *m, struct failed_keys *failed, struct publish *publish,
                           size_t from, const struct named_kind *kind)
{
    struct outgoing *item = &publish->items[from];
    struct named *named = channel_for(m, failed, item, kind);

    if (named == NULL)
        return 1;

    size_t n = messaging_run(publish, from, RUN);

    append_run(CONTAINER_OF(named, struct channel, named), failed, item, n);
    names_put(m, named);
    return n;
}

static void publish_each(struct messaging *m, struct publish *publish,
                         const struct named_kind *kind)
{
    struct failed_keys failed;

    failed_init(&failed, publish);
    for (size_t i = 0; i < publish->n;)
        i += publish_some(m, &failed, publish, i, kind);
}

/* ---- all or none: one topic, under one lock ---- */

static struct err append_all(struct channel *channel, struct publish *publish)
{
    struct kept **kept = arena_alloc(op_arena(&publish->op), publish->n * sizeof(struct kept *));
    uint64_t now_ms = unix_ms();
    struct err err;

    for (size_t i = 0; i < publish->n; i++)
        kept[i] = kept_new(&publish->items[i], now_ms);
    pthread_mutex_lock(&channel->lock);
    channel_age(channel);
    err = channel_append_all(channel, publish, kept);
    wake_readers(channel);
    pthread_mutex_unlock(&channel->lock);
    return err;
}

static struct err publish_all(struct messaging *m, struct publish *publish,
                              const struct named_kind *kind)
{
    struct named *named;
    struct err err;
    bool is_full;

    for (size_t i = 0; i < publish->n; i++) {
        messaging_forget(&publish->items[i]);
        err = messaging_check(&publish->items[i]);
        if (err.code != ERR_OK) {
            publish->culprit = (uint32_t)i;
            return err;
        }
    }
    named = names_get(m, kind, publish->items[0].topic, true, &is_full);
    if (named == NULL)
        return names_full();
    err = append_all(CONTAINER_OF(named, struct channel, named), publish);
    names_put(m, named);
    return err;
}

/* ---- the whole ---- */

void channel_publish(struct backend *backend, struct publish *publish,
                     const struct named_kind *kind)
{
    struct messaging *m = messaging_of(backend);
    struct err err = ERR_NONE;

    counter_add(&backend->stats.calls, 1);
    if (publish->atomic)
        err = publish_all(m, publish, kind);
    else
        publish_each(m, publish, kind);
    counter_add_shared(&m->published, publish->n);
    messaging_end(backend, &publish->op, err);
}
