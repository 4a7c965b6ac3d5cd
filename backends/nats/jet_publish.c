/* Publishing, on the worker: messages of the library's are made of the caller's, so that nothing of
 * the caller is read later, and a deadline ends the operation at once. The rest happens on the
 * store's thread (jet_window.c); when all messages are over, the outcomes are told at home. */
#include "backends/failed_keys.h"
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAME_COST = 256, ITEM_COST = 512 /* what a message counts beside its bytes */ };

static struct err too_much(void)
{
    struct err err = err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                               "too many bytes wait for NATS; nothing was sent");

    err.retry_after_ms = NATS_RETRY_MS;
    return err;
}

/* ---- outcomes: home ---- */

static void tell_item(struct outgoing *to, struct jet_item *item, struct err why)
{
    uint8_t waiting = JET_WAITING;

    if (atomic_compare_exchange_strong(&item->state, &waiting, JET_DROPPED) ||
        waiting == JET_DROPPED) {
        to->err = why;
        return;
    }
    if (waiting == JET_SENT) {
        to->err = err_lost(why);
        return;
    }
    to->err = item->err;
    if (item->err.code != ERR_OK)
        return;
    to->deduplicated = item->duplicate;
    to->offset = (int64_t)item->sequence;
}

/* why: of messages that have no outcome. */
static void tell(struct jet_publication *p, struct err why)
{
    struct backend_stats *stats = &p->instance->base.stats;
    struct publish *publish = p->publish;
    bool failed = false;

    *p->at = p->next;
    if (p->next != NULL)
        p->next->at = p->at;
    p->publish = NULL;
    publish->op.backend_data = NULL;
    for (size_t i = 0, k = 0; i < publish->n; i++) {
        if (publish->items[i].err.code == ERR_OK)
            tell_item(&publish->items[i], &p->items[k++], why);
        failed = failed || publish->items[i].err.code != ERR_OK;
    }
    if (failed)
        counter_add(&stats->errors, 1);
    counter_add(&stats->in_flight, (uint64_t)-1);
    op_finish(&publish->op, ERR_NONE);
}

static void cancel(struct op *op, struct err why)
{
    struct jet_publication *p = op->backend_data;

    if (p == NULL)
        return;
    atomic_store(&p->abandoned, true);
    tell(p, why);
}

void jet_publish_abandon(struct jet_instance *instance)
{
    struct jet_publication *p;

    while ((p = instance->publications) != NULL) {
        atomic_store(&p->abandoned, true);
        tell(p, nats_unavailable());
    }
}

static void give_back(struct nats_store *store, size_t bytes)
{
    pthread_mutex_lock(&store->lock);
    store->waiting_bytes -= bytes;
    pthread_mutex_unlock(&store->lock);
}

static void come_home(struct job *job)
{
    struct jet_publication *p = CONTAINER_OF(job, struct jet_publication, job);
    struct jet_instance *instance = p->instance;
    struct jet_store *store = jet_store_of(&instance->base);

    if (p->publish != NULL)
        tell(p, ERR_NONE);
    give_back(&store->base, p->bytes);
    free(p);
    jet_instance_back(instance);
}

/* ---- the store's thread ---- */

void jet_publication_item_over(struct jet_publication *publication)
{
    if (--publication->left == 0)
        worker_land(publication->instance->base.home, &publication->job);
}

static bool run_publish(struct nats_store *base, struct nats_task *task)
{
    struct jet_publication *p = (struct jet_publication *)task;
    struct jet_store *store = jet_of(base);

    for (size_t i = 0, n = p->n; i < n; i++)
        jet_window_put(store, &p->items[i]);
    jet_window_pump(store);
    return false;
}

/* ---- on the worker ---- */

static uint64_t hash_topic(struct slice topic)
{
    uint64_t hash = 14695981039346656037ull;

    for (size_t i = 0; i < topic.len; i++)
        hash = (hash ^ topic.data[i]) * 1099511628211ull;
    return hash;
}

static uint64_t hash_key(uint64_t topic, struct slice key)
{
    uint64_t hash = (topic ^ 0xff) * 1099511628211ull;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ key.data[i]) * 1099511628211ull;
    hash ^= hash >> 29;
    return hash != 0 ? hash : 1;
}

/* A message without an id gets one of ours: it can be sent again without being stored twice. */
static struct slice make_id(struct jet_instance *instance, char text[64])
{
    struct jet_store *store = jet_store_of(&instance->base);
    int len = snprintf(text, 64, "%s-%x-%llx", store->id, instance->base.home->id,
                       (unsigned long long)++instance->ids);

    return slice_of(text, (size_t)len);
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* room: what was left before its frame. */
static void make_item(struct jet_instance *instance, struct jet_publication *p,
                      struct failed_keys *failed, struct outgoing *from, uint64_t room)
{
    struct jet_store *store = jet_store_of(&instance->base);
    uint64_t topic = hash_topic(from->topic);
    struct jet_share *share = jet_shares_of(&store->window.shares, topic);
    struct outgoing with_id = *from;
    size_t bytes;
    struct jet_item *item = &p->items[p->n];
    char id[64], reply[JET_REPLY_BYTES];

    from->err = ERR_NONE;
    from->deduplicated = false;
    from->partition = from->receivers = -1;
    from->offset = -1;
    from->position = message_null();
    if (failed_stops(failed, from))
        return;
    if (message_is_null(with_id.id))
        with_id.id = make_id(instance, id);
    from->err = nats_check_topic(with_id.topic);
    if (from->err.code == ERR_OK)
        from->err = nats_check_message(&with_id, atomic_load(&store->base.base.message_bytes));
    bytes = message_out_bytes(&with_id) + ITEM_COST;
    if (from->err.code == ERR_OK && !jet_share_take(share, bytes, less(room, p->bytes + bytes)))
        from->err = too_much();
    if (from->err.code != ERR_OK) {
        failed_add(failed, from);
        return;
    }
    *item = (struct jet_item){.publication = p, .share = share, .bytes = bytes};
    jet_answer_name(store, &item->answer, reply);
    if (nats_message_out(&item->message, &with_id, reply) != NATS_OK)
        abort(); /* no memory */
    if (!message_is_null(from->key))
        item->key_hash = hash_key(topic, from->key);
    p->bytes += item->bytes;
    p->left = ++p->n;
}

/* room: what is left without it. */
static bool admit(struct nats_store *store, size_t bytes, uint64_t *room)
{
    uint64_t most = store->config.max_buffer_bytes;
    bool fits;

    pthread_mutex_lock(&store->lock);
    *room = less(most, store->waiting_bytes);
    fits = store->waiting_bytes == 0 || bytes <= *room;
    if (fits)
        store->waiting_bytes += bytes;
    pthread_mutex_unlock(&store->lock);
    return fits;
}

static void refuse(struct backend *backend, struct publish *publish, struct err err)
{
    counter_add(&backend->stats.errors, 1);
    op_finish(&publish->op, err);
}

static size_t frame_bytes(const struct publish *publish)
{
    size_t bytes = FRAME_COST;

    for (size_t i = 0; i < publish->n; i++)
        bytes += message_out_bytes(&publish->items[i]) + ITEM_COST;
    return bytes;
}

static void start(struct jet_instance *instance, struct jet_publication *p, struct publish *publish)
{
    p->task.run = run_publish;
    p->job.run = come_home;
    p->publish = publish;
    p->next = instance->publications;
    p->at = &instance->publications;
    if (p->next != NULL)
        p->next->at = &p->next;
    instance->publications = p;
    instance->out++;
    counter_add(&instance->base.stats.in_flight, 1);
    counter_add(&instance->base.stats.bytes_sent, p->bytes - FRAME_COST);
    publish->op.backend_data = p;
    op_park(&publish->op, cancel);
    nats_store_put(&jet_store_of(&instance->base)->base, &p->task);
}

void jet_publish(struct backend *backend, struct publish *publish)
{
    struct jet_instance *instance = jet_instance_of(backend);
    struct nats_store *store = &jet_store_of(backend)->base;
    struct failed_keys failed;
    struct jet_publication *p;
    size_t bytes = frame_bytes(publish);
    uint64_t room;

    counter_add(&backend->stats.calls, 1);
    if (!atomic_load(&store->connected)) {
        refuse(backend, publish, nats_unavailable());
        return;
    }
    if (!admit(store, bytes, &room)) {
        refuse(backend, publish, too_much());
        return;
    }
    p = calloc(1, sizeof *p + publish->n * sizeof p->items[0]);
    if (p == NULL)
        abort();
    p->instance = instance;
    failed_init(&failed, publish);
    for (size_t i = 0; i < publish->n; i++)
        make_item(instance, p, &failed, &publish->items[i], room);
    p->bytes += FRAME_COST;
    if (p->n < publish->n && p->bytes < bytes)
        give_back(store, bytes - p->bytes); /* what is refused takes no room */
    else
        p->bytes = bytes;
    if (p->n > 0) {
        start(instance, p, publish);
        return;
    }
    give_back(store, p->bytes);
    free(p);
    refuse(backend, publish, ERR_NONE);
}
