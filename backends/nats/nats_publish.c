/* Publishing: a frame is written by the store's thread and acknowledged by the server's PONG behind
 * it. */
#include "backends/failed_keys.h"
#include "backends/nats/nats_priv.h"
#include "pool/worker.h"

#include <stdlib.h>

/* What a frame counts beside its bytes. */
enum { FRAME_COST = 256 };

enum state {
    QUEUED,  /* nothing was written: a cancel ends it at once */
    WRITING, /* the thread reads the items: they cannot be let go now, but soon */
    WRITTEN, /* the thread waits for the PONG: a cancel ends it at once, outcome unknown */
    ENDED    /* the caller has been told; the thread frees */
};

struct nats_publication {
    struct nats_task task; /* first */
    struct nats_instance *instance;
    struct publish *publish; /* the caller's until it is ended */
    struct op *op;
    size_t bytes;
    /* ---- under the store's lock ---- */
    enum state state;
    struct nats_publication *next, **at; /* in instance->publications: QUEUED */
    bool cancelled;                      /* while WRITING */
    struct err why;
};

/* ---- outcomes ---- */

static struct err lost(struct err err)
{
    return err_lost(err);
}

static struct err no_answer(void)
{
    struct err err = err_make(ERR_UNAVAILABLE,
                              "the connection to NATS was lost before it answered; the message may "
                              "have been delivered");

    err.retry_after_ms = NATS_RETRY_MS;
    return lost(err);
}

/* Whoever called this has set the state to ENDED under the lock, and is the only one. why: for
 * items that were written; ERR_OK: the server has them. */
static void end_frame(struct nats_publication *p, struct err why)
{
    struct backend_stats *stats = &p->instance->base.stats;
    bool failed = false;

    if (p->publish == NULL) {
        failed = why.code != ERR_OK;
        why.effect = EFFECT_NONE; /* a probe */
    }
    for (size_t i = 0; p->publish != NULL && i < p->publish->n; i++) {
        struct outgoing *item = &p->publish->items[i];

        if (item->err.code == ERR_OK && why.code != ERR_OK)
            item->err = why;
        failed = failed || item->err.code != ERR_OK;
    }
    if (failed)
        counter_add_shared(&stats->errors, 1);
    counter_add_shared(&stats->in_flight, (uint64_t)-1);
    op_finish(p->op, p->publish != NULL ? ERR_NONE : why);
}

static void unlist(struct nats_publication *p)
{
    *p->at = p->next;
    if (p->next != NULL)
        p->next->at = p->at;
    p->at = NULL;
}

/* Under the lock, by whoever ends the frame: a cancel that comes later finds nothing. */
static void set_ended(struct nats_publication *p)
{
    if (p->state != ENDED)
        p->op->backend_data = NULL;
    p->state = ENDED;
}

/* home: the op wants to go. */
static void cancel(struct op *op, struct err why)
{
    struct nats_store *store = (struct nats_store *)(uintptr_t)op->backend_word;
    struct nats_publication *p;
    bool ends = false;

    pthread_mutex_lock(&store->lock);
    p = op->backend_data;
    switch (p != NULL ? p->state : ENDED) {
    case QUEUED:
        unlist(p);
        set_ended(p);
        ends = true;
        break;
    case WRITING:
        p->cancelled = true;
        p->why = why;
        break;
    case WRITTEN:
        set_ended(p);
        why = lost(why);
        ends = true;
        break;
    case ENDED:
        break;
    }
    pthread_mutex_unlock(&store->lock);
    if (ends)
        end_frame(p, why);
}

void nats_publish_abandon(struct nats_instance *instance)
{
    struct nats_store *store = nats_store_of(&instance->base);
    struct nats_publication *p;

    do {
        pthread_mutex_lock(&store->lock);
        p = instance->publications;
        if (p != NULL) {
            unlist(p);
            set_ended(p);
        }
        pthread_mutex_unlock(&store->lock);
        if (p != NULL)
            end_frame(p, nats_unavailable());
    } while (p != NULL);
}

/* ---- on the store's thread ---- */

/* True: the frame is to be written. */
static bool begin(struct nats_store *store, struct nats_publication *p)
{
    bool begins;

    pthread_mutex_lock(&store->lock);
    begins = p->state == QUEUED;
    if (begins) {
        unlist(p);
        p->state = WRITING;
    }
    pthread_mutex_unlock(&store->lock);
    return begins;
}

/* The last touch of the thread. */
static void free_publication(struct nats_store *store, struct nats_publication *p)
{
    pthread_mutex_lock(&store->lock);
    store->waiting_bytes -= p->bytes;
    pthread_mutex_unlock(&store->lock);
    free(p);
}

static void end_and_free(struct nats_store *store, struct nats_publication *p, struct err why)
{
    bool ends;

    pthread_mutex_lock(&store->lock);
    ends = p->state != ENDED;
    set_ended(p);
    pthread_mutex_unlock(&store->lock);
    if (ends)
        end_frame(p, why);
    free_publication(store, p);
}

static bool is_denied(const struct nats_store *store, struct slice topic)
{
    for (unsigned i = 0; i < store->n_denied && i < NATS_DENIED; i++) {
        /* the library keeps the first part of a long sentence */
        if (slice_starts_with(topic, slice_str(store->denied[i])) &&
            (topic.len == strlen(store->denied[i]) || topic.len > 200))
            return true;
    }
    return false;
}

static struct err denied(void)
{
    return err_about(ERR_PERMISSION_DENIED, "topic", "NATS lets Prism's user not publish to it");
}

/* What the server refused is remembered, so that the same sentence is never taken for a new one. It
 * tells the last subject only, so what else was in the window of a new refusal is not known. */
void nats_publish_answered(struct nats_store *store)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];

    store->refused_some = false;
    if (!nats_violated(store, "Permissions Violation for Publish to \"", subject, sizeof subject) ||
        is_denied(store, slice_str(subject)))
        return;
    memcpy(store->denied[store->n_denied++ % NATS_DENIED], subject, strlen(subject) + 1);
    if (store->n_denied == 2 * NATS_DENIED)
        store->n_denied = NATS_DENIED;
    store->refused_some = true;
}

/* Returns whether anything was written. What comes behind a failed write was not sent. */
static bool write_items(struct nats_store *store, struct nats_publication *p)
{
    bool wrote = false, broken = store->write_failed;
    struct nats_form form = {.of = NULL};

    for (size_t i = 0; i < p->publish->n; i++) {
        struct outgoing *item = &p->publish->items[i];
        natsStatus s;

        if (item->err.code != ERR_OK)
            continue;
        if (broken) {
            item->err = nats_unavailable();
            continue;
        }
        if (is_denied(store, item->topic)) {
            item->err = denied();
            continue;
        }
        s = nats_message_publish(store->connection, &form, item);
        if (s == NATS_OK)
            wrote = true;
        else if (s == NATS_MAX_PAYLOAD)
            item->err = err_about(ERR_INVALID_ARGUMENT, "payload",
                                  "payload and headers are larger than the server's max_payload");
        else if (s == NATS_NO_SERVER_SUPPORT)
            item->err = err_about(ERR_INVALID_ARGUMENT, "headers",
                                  "this NATS server does not support headers");
        else {
            item->err = no_answer();
            broken = store->write_failed = true;
        }
    }
    natsMsg_Destroy(form.message);
    return wrote || broken;
}

/* WRITING is over. True: the frame waits for its PONG. */
static bool after_writing(struct nats_store *store, struct nats_publication *p)
{
    bool cancelled;

    pthread_mutex_lock(&store->lock);
    cancelled = p->cancelled;
    p->state = WRITTEN;
    if (cancelled)
        set_ended(p);
    pthread_mutex_unlock(&store->lock);
    if (cancelled)
        end_frame(p, lost(p->why));
    return !cancelled;
}

static bool run_publish(struct nats_store *store, struct nats_task *task)
{
    struct nats_publication *p = (struct nats_publication *)task;

    if (!begin(store, p)) {
        free_publication(store, p);
        return false;
    }
    if (store->connection == NULL) {
        end_and_free(store, p, nats_unavailable());
        return false;
    }
    if (p->publish != NULL && !write_items(store, p)) {
        end_and_free(store, p, ERR_NONE);
        return false;
    }
    if (after_writing(store, p))
        return true;
    free_publication(store, p);
    return false;
}

static void settle_publish(struct nats_store *store, struct nats_task *task, bool answered)
{
    struct nats_publication *p = (struct nats_publication *)task;
    bool ends;

    pthread_mutex_lock(&store->lock);
    ends = p->state == WRITTEN;
    set_ended(p);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; ends && answered && p->publish != NULL && i < p->publish->n; i++) {
        struct outgoing *item = &p->publish->items[i];

        if (item->err.code == ERR_OK && is_denied(store, item->topic))
            item->err = denied();
        else if (item->err.code == ERR_OK && store->refused_some)
            item->err = err_lost(err_make(ERR_UNAVAILABLE, "NATS refused a message beside this one "
                                                           "and does not say which others"));
    }
    if (ends)
        end_frame(p, answered ? ERR_NONE : no_answer());
    free_publication(store, p);
}

/* ---- on the worker ---- */

static void forget(struct outgoing *item)
{
    item->err = ERR_NONE;
    item->deduplicated = false;
    item->partition = item->receivers = -1;
    item->offset = -1;
    item->position = message_null();
}

static bool enqueue(struct nats_instance *instance, struct publish *publish, struct op *op,
                    size_t bytes)
{
    struct nats_store *store = nats_store_of(&instance->base);
    struct nats_publication *p = calloc(1, sizeof *p);
    bool fits;

    if (p == NULL)
        abort();
    *p = (struct nats_publication){.task = {.run = run_publish, .settle = settle_publish},
                                   .instance = instance,
                                   .publish = publish,
                                   .op = op,
                                   .bytes = bytes};
    pthread_mutex_lock(&store->lock);
    fits =
        store->waiting_bytes == 0 || store->waiting_bytes + bytes <= store->config.max_buffer_bytes;
    if (fits) {
        store->waiting_bytes += bytes;
        p->next = instance->publications;
        p->at = &instance->publications;
        if (p->next != NULL)
            p->next->at = &p->next;
        instance->publications = p;
    }
    pthread_mutex_unlock(&store->lock);
    if (!fits) {
        free(p);
        return false;
    }
    counter_add_shared(&instance->base.stats.in_flight, 1);
    op->backend_data = p;
    op->backend_word = (uintptr_t)store;
    return true;
}

/* A probe waits for a connection that is being made: the first one comes before there is any.
 * Parks before the thread can see it. A cancel inside op_park finds the frame QUEUED and ends it:
 * the thread frees it all the same. */
static void start(struct nats_instance *instance, struct publish *publish, struct op *op,
                  size_t bytes)
{
    struct nats_store *store = nats_store_of(&instance->base);
    struct nats_publication *p;
    struct err err = nats_unavailable();

    if (publish != NULL && !atomic_load(&store->connected)) {
        counter_add_shared(&instance->base.stats.errors, 1);
        op_finish(op, err);
        return;
    }
    if (!enqueue(instance, publish, op, bytes)) {
        err = err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                        "too many bytes wait for NATS; nothing was sent");
        err.retry_after_ms = NATS_RETRY_MS;
        counter_add_shared(&instance->base.stats.errors, 1);
        op_finish(op, err);
        return;
    }
    p = op->backend_data;
    op_park(op, cancel);
    nats_store_put(store, &p->task);
}

void nats_publish(struct backend *backend, struct publish *publish)
{
    struct nats_instance *instance = CONTAINER_OF(backend, struct nats_instance, base);
    uint64_t max_payload = atomic_load(&backend->store->message_bytes);
    size_t bytes = FRAME_COST, sound = 0;
    struct err topic = ERR_NONE; /* of the item before: mostly of this one as well */
    struct failed_keys failed;

    failed_init(&failed, publish);
    counter_add(&backend->stats.calls, 1);
    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *item = &publish->items[i];
        bool alike = i > 0 && item[-1].err.code == ERR_OK && nats_message_alike(item - 1, item);

        forget(item);
        if (i == 0 || !slice_equal(item->topic, item[-1].topic))
            topic = nats_check_topic(item->topic);
        if (!failed_stops(&failed, item)) {
            item->err =
                topic.code != ERR_OK || alike ? topic : nats_check_message(item, max_payload);
            if (item->err.code != ERR_OK)
                failed_add(&failed, item);
        }
        sound += item->err.code == ERR_OK;
        bytes += message_out_bytes(item);
    }
    if (sound == 0) {
        counter_add_shared(&backend->stats.errors, 1);
        op_finish(&publish->op, ERR_NONE);
        return;
    }
    counter_add(&backend->stats.bytes_sent, bytes - FRAME_COST);
    start(instance, publish, &publish->op, bytes);
}

void nats_probe(struct backend *backend, struct op *op)
{
    counter_add(&backend->stats.calls, 1);
    start(CONTAINER_OF(backend, struct nats_instance, base), NULL, op, FRAME_COST);
}
