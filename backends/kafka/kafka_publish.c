/* Publishing: a frame becomes messages of the client library, which copies them. An item's memory
 * in the publication is what the library hands back with the report. */
#include "backends/failed_keys.h"
#include "backends/kafka/kafka_priv.h"

#include <stdlib.h>

#define ID_HEADER "message_id" /* how an id is carried along */

enum { BUNCH = 64 };

/* ---- outcomes ---- */

void kafka_sent_over(struct kafka_sent *sent)
{
    struct kafka_producer *producer = sent->publication->producer;

    sent->over = true;
    if (sent->topic == NULL)
        return;
    producer->store->waiting_bytes -= sent->bytes;
    producer->waiting--;
    sent->topic->waiting_bytes -= sent->bytes;
    sent->topic->waiting--;
    sent->topic = NULL;
}

static void tell_item(struct kafka_store *store, struct outgoing *item,
                      const struct kafka_sent *sent, struct err rest)
{
    item->err = sent->over ? sent->err : rest;
    item->partition = sent->partition;
    item->offset = sent->offset;
    item->receivers = -1;
    item->position = message_null();
    item->deduplicated = false;
    if (item->err.code != ERR_OK && item->err.effect == EFFECT_UNKNOWN)
        counter_add_shared(&store->unknown, 1);
}

void kafka_publication_tell(struct kafka_publication *publication, struct err rest)
{
    struct publish *publish = publication->publish;

    for (size_t i = 0; i < publication->n; i++)
        tell_item(publication->producer->store, &publish->items[i], &publication->items[i], rest);
    publication->publish = NULL;
    publish->op.backend_data = NULL;
    *publication->at = publication->next;
    if (publication->next != NULL)
        publication->next->at = publication->at;
    op_finish(&publish->op, ERR_NONE);
}

void kafka_publication_done(struct kafka_publication *publication, size_t n)
{
    publication->left -= n;
    if (publication->left > 0)
        return;
    if (publication->publish != NULL)
        kafka_publication_tell(publication, ERR_NONE);
    publication->producer->refs--;
    kafka_producer_maybe_end(publication->producer);
    free(publication);
}

/* The library recalls nothing: what it has, and has no report, may have been written, or will be. A
 * report may come at the same time: the lock decides. */
static void cancel(struct op *op, struct err why)
{
    struct kafka_store *store = (struct kafka_store *)(uintptr_t)op->backend_word;
    struct kafka_publication *publication;

    pthread_mutex_lock(&store->lock);
    publication = op->backend_data;
    if (publication != NULL)
        kafka_publication_tell(publication, publication->sent ? err_lost(why) : why);
    pthread_mutex_unlock(&store->lock);
}

/* ---- what can be carried ---- */

static struct err check(const struct kafka_store *store, const struct outgoing *item)
{
    if (message_out_bytes(item) > store->config.max_message_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "key, headers and payload together are larger than max_message_bytes");
    for (size_t i = 0; i < item->n_headers; i++) {
        struct slice name = item->headers[i].name;

        if (name.len > 0 && memchr(name.data, '\0', name.len) != NULL)
            return err_about(ERR_INVALID_ARGUMENT, "headers",
                             "a header's name with a NUL byte cannot be read by Kafka's clients");
        if (slice_equal(name, slice_str(ID_HEADER)) && !message_is_null(item->id))
            return err_about(ERR_INVALID_ARGUMENT, "headers",
                             "message_id is the header that carries the message's id");
    }
    return ERR_NONE;
}

static bool is_plain(const struct outgoing *item)
{
    return item->n_headers == 0 && message_is_null(item->id);
}

static rd_kafka_headers_t *headers_of(const struct outgoing *item)
{
    bool has_id = !message_is_null(item->id);
    rd_kafka_headers_t *headers;

    if (is_plain(item))
        return NULL;
    headers = rd_kafka_headers_new(item->n_headers + has_id);
    for (size_t i = 0; i < item->n_headers; i++) {
        const struct header *header = &item->headers[i];

        rd_kafka_header_add(headers, header->name.len > 0 ? (const char *)header->name.data : "",
                            (ssize_t)header->name.len, header->value.data,
                            (ssize_t)header->value.len);
    }
    if (has_id)
        rd_kafka_header_add(headers, ID_HEADER, -1, item->id.data, (ssize_t)item->id.len);
    return headers;
}

/* ---- out ---- */

/* One topic alone may fill half of the room, so that a dead one leaves room for the others. */
static bool has_room(const struct kafka_store *store, const struct kafka_topic *topic, size_t bytes)
{
    uint64_t most = store->config.max_buffer_bytes;

    if (topic->waiting > 0 && topic->waiting_bytes + bytes > most / 2)
        return false;
    return store->waiting_bytes == 0 || store->waiting_bytes + bytes <= most;
}

/* Messages without headers on their way into the library, which locks their topic and looks at the
 * clock once for all of them. */
struct bunch {
    struct kafka_producer *producer;
    struct kafka_topic *topic;
    struct failed_keys failed;
    int n;
    rd_kafka_message_t messages[BUNCH];
};

/* The library does not take it: it is over. */
static void refuse(struct bunch *bunch, struct kafka_sent *sent, rd_kafka_resp_err_t code)
{
    struct kafka_producer *producer = bunch->producer;
    struct kafka_publication *publication = sent->publication;
    struct kafka_topic *topic = sent->topic;

    kafka_sent_over(sent);
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        kafka_producer_die(producer);
    sent->err = kafka_message_err(code, false);
    if (sent->err.code == ERR_NOT_FOUND)
        kafka_topic_ask(producer, topic);
    if (publication->publish != NULL) /* it was not ended with the producer */
        failed_add(&bunch->failed, &publication->publish->items[sent - publication->items]);
}

static void send_bunch(struct bunch *bunch)
{
    int n = bunch->n;

    bunch->n = 0;
    if (n == 0 || rd_kafka_produce_batch(bunch->topic->handle, RD_KAFKA_PARTITION_UA,
                                         RD_KAFKA_MSG_F_COPY, bunch->messages, n) == n)
        return;
    for (int i = 0; i < n; i++) {
        if (bunch->messages[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
            refuse(bunch, bunch->messages[i]._private, bunch->messages[i].err);
    }
}

/* All in the bunch have one topic, and mostly the next one has it as well. */
static struct err turn_to(struct bunch *bunch, struct slice topic)
{
    struct err err;

    if (bunch->topic != NULL && slice_equal(topic, slice_of(bunch->topic->name, bunch->topic->len)))
        return ERR_NONE;
    send_bunch(bunch);
    bunch->topic = NULL;
    err = kafka_check_topic(topic);
    if (err.code != ERR_OK)
        return err;
    bunch->topic = kafka_topic_find(bunch->producer, topic);
    return bunch->topic != NULL ? ERR_NONE : kafka_request_err(RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION);
}

static void send_plain(struct bunch *bunch, const struct outgoing *item, struct kafka_sent *sent)
{
    bunch->messages[bunch->n++] = (rd_kafka_message_t){
        .payload = (void *)item->payload.data,
        .len = item->payload.len,
        .key = (void *)item->key.data,
        .key_len = item->key.len,
        ._private = sent,
    };
}

static void send_with_headers(struct bunch *bunch, const struct outgoing *item,
                              struct kafka_sent *sent, rd_kafka_headers_t *headers)
{
    rd_kafka_resp_err_t code =
        rd_kafka_producev(bunch->producer->rk, RD_KAFKA_V_RKT(sent->topic->handle),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_VALUE((void *)item->payload.data, item->payload.len),
                          RD_KAFKA_V_KEY((void *)item->key.data, item->key.len),
                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(sent), RD_KAFKA_V_END);

    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    rd_kafka_headers_destroy(headers);
    refuse(bunch, sent, code);
}

/* May it go? Then the bunch has turned to its topic. */
static struct err admit(struct kafka_store *store, struct bunch *bunch, struct outgoing *item)
{
    struct err err;

    if (failed_stops(&bunch->failed, item))
        return item->err;
    err = turn_to(bunch, item->topic);
    if (err.code == ERR_OK)
        err = check(store, item);
    if (err.code == ERR_OK && !has_room(store, bunch->topic, message_out_bytes(item))) {
        counter_add_shared(&store->full, 1);
        err = kafka_request_err(RD_KAFKA_RESP_ERR__QUEUE_FULL);
    }
    if (err.code != ERR_OK)
        failed_add(&bunch->failed, item);
    return err;
}

/* The store's lock is held. Without sent->topic the item is over; the bunch may still refuse it. */
static void send_item(struct kafka_store *store, struct bunch *bunch, struct outgoing *item,
                      struct kafka_sent *sent)
{
    struct kafka_topic *topic;
    rd_kafka_headers_t *headers;

    if (bunch->n == BUNCH || !is_plain(item)) /* what stands before it, and may be refused */
        send_bunch(bunch);
    sent->err = admit(store, bunch, item);
    if (sent->err.code != ERR_OK)
        return;
    topic = sent->topic = bunch->topic;
    sent->bytes = message_out_bytes(item);
    store->waiting_bytes += sent->bytes;
    bunch->producer->waiting++;
    topic->waiting_bytes += sent->bytes;
    topic->waiting++;
    headers = headers_of(item);
    if (headers == NULL)
        send_plain(bunch, item, sent);
    else
        send_with_headers(bunch, item, sent, headers);
}

static struct kafka_publication *publication_new(struct kafka_instance *instance,
                                                 struct kafka_producer *producer,
                                                 struct publish *publish)
{
    struct kafka_publication *publication =
        calloc(1, sizeof *publication + publish->n * sizeof publication->items[0]);

    if (publication == NULL)
        abort();
    publication->publish = publish;
    publication->instance = instance;
    publication->producer = producer;
    producer->refs++;
    publication->n = publish->n;
    publication->left = publish->n + 1; /* ours, until all are sent */
    for (size_t i = 0; i < publish->n; i++) {
        publication->items[i].publication = publication;
        publication->items[i].partition = -1;
        publication->items[i].offset = -1;
    }
    publication->at = &instance->publications;
    publication->next = instance->publications;
    if (publication->next != NULL)
        publication->next->at = &publication->next;
    instance->publications = publication;
    return publication;
}

/* Returns how many are over. Reports take the store's lock, so none comes meanwhile. */
static size_t send_all(struct kafka_store *store, struct kafka_publication *publication)
{
    struct bunch bunch = {.producer = publication->producer};
    size_t over = 0;

    failed_init(&bunch.failed, publication->publish);
    for (size_t i = 0; i < publication->n && publication->publish != NULL; i++)
        send_item(store, &bunch, &publication->publish->items[i], &publication->items[i]);
    send_bunch(&bunch);
    for (size_t i = 0; i < publication->n; i++) {
        if (publication->items[i].topic != NULL)
            continue;
        publication->items[i].over = true;
        over++;
    }
    return over;
}

void kafka_publish(struct backend *backend, struct publish *publish)
{
    struct kafka_instance *instance = kafka_instance_of(backend);
    struct kafka_store *store = kafka_store_of(backend);
    struct kafka_publication *publication = NULL;
    struct kafka_producer *producer;
    size_t over = 1;

    pthread_mutex_lock(&store->lock);
    producer = counter_read(&store->connects) > 0 ? store->producer : NULL;
    if (producer != NULL) /* else the library would keep it until a broker is there */
        publication = publication_new(instance, producer, publish);
    pthread_mutex_unlock(&store->lock);
    if (publication == NULL) {
        op_finish(&publish->op, kafka_unavailable());
        return;
    }
    publish->op.backend_data = publication;
    publish->op.backend_word = (uintptr_t)store;
    op_park(&publish->op, cancel); /* which may give it up at once: then nothing is sent */
    pthread_mutex_lock(&store->lock);
    publication->sent = publication->publish != NULL;
    over += send_all(store, publication);
    kafka_publication_done(publication, over);
    pthread_mutex_unlock(&store->lock);
    counter_add(&backend->stats.calls, 1);
}

void kafka_publish_abandon(struct kafka_instance *instance)
{
    struct kafka_store *store = kafka_store_of(&instance->base);
    struct err why = err_lost(err_make(ERR_UNAVAILABLE, "the server is stopping"));

    pthread_mutex_lock(&store->lock);
    while (instance->publications != NULL)
        kafka_publication_tell(instance->publications, why);
    pthread_mutex_unlock(&store->lock);
}
