/* Messages, from the client library's queues into batches. Small ones are copied, and the library's
 * are given back at once, while they are in the cache: what the library keeps for a message is
 * larger than most messages are, and one of them holds all that came with it from the broker. Of
 * large ones a batch owns the library's. */
#include "backends/kafka/kafka_listener.h"

#include <stdlib.h>

#define ID_HEADER "message_id"

enum { BATCHES_IN_TURN = 8, COPY_BYTES = 4096 };

struct batch {
    struct incoming_batch base; /* first */
    struct kafka_listener *listener;
    struct arena bytes; /* what is copied, headers, and the next array */
    rd_kafka_message_t **kept;
    uint32_t n_kept, most; /* most: places in items */
    struct incoming items[];
};

static void release(struct incoming_batch *base)
{
    struct batch *batch = CONTAINER_OF(base, struct batch, base);
    struct kafka_listener *listener = batch->listener;

    for (uint32_t i = 0; i < batch->n_kept; i++)
        rd_kafka_message_destroy(batch->kept[i]);
    arena_clear(&batch->bytes);
    free(batch);
    listener->batches--;
    kafka_listener_maybe_free(listener);
}

/* ---- one message ---- */

static size_t take_headers(struct incoming *in, const rd_kafka_message_t *message,
                           struct arena *arena)
{
    rd_kafka_headers_t *headers;
    struct header *out;
    size_t n, bytes = 0;

    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    n = rd_kafka_header_cnt(headers);
    out = arena_array(arena, n, sizeof *out);
    in->headers = out;
    for (size_t i = 0; i < n; i++) {
        const char *name;
        const void *value;
        size_t size;

        if (rd_kafka_header_get_all(headers, i, &name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
            break;

        struct header header = {slice_str(name), slice_of(value, size)};

        bytes += header.name.len + size;
        if (message_is_null(in->id) && value != NULL && strcmp(name, ID_HEADER) == 0)
            in->id = header.value;
        else
            out[in->n_headers++] = header;
    }
    return bytes;
}

/* Returns what it counts. Every field is named: what is not would be cleared with the whole struct
 * first, byte by byte. */
static size_t take_in(struct kafka_listener *listener, struct kafka_part *part, struct incoming *in,
                      const rd_kafka_message_t *message, struct arena *arena)
{
    int64_t timestamp = rd_kafka_message_timestamp(message, &(rd_kafka_timestamp_type_t){0});
    size_t bytes;

    *in = (struct incoming){
        .topic = slice_of(listener->topic, listener->subscription->want.topic.len),
        .key = slice_of(message->key, message->key_len),
        .payload = slice_of(message->payload, message->len),
        .id = message_null(),
        .headers = NULL,
        .block = NULL,
        .offset = message->offset,
        .position = message_null(),
        .timestamp_ms = timestamp > 0 ? (uint64_t)timestamp : 0,
        .token = kafka_part_deliver(listener, part, message->offset),
        .partition = message->partition,
        .attempt = listener->bare ? 0 : 1,
        .n_headers = 0,
    };
    bytes = take_headers(in, message, arena) + in->key.len + in->payload.len;
    part->average = (part->average * 7 + bytes + 8) / 8;
    return bytes;
}

/* ---- from a queue ---- */

/* An error stands in the queue where the messages would be. */
static void take_error(struct kafka_listener *listener, struct kafka_part *part,
                       rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR__NO_OFFSET:
        part->reset = true;
        break;
    default:
        if (kafka_is_hopeless(code))
            kafka_listener_end(listener, kafka_request_err(code));
        break;
    }
}

/* A library that holds its share of all partitions goes to sleep: for up to a second, unless
 * something happens on the connection, and that there is room again is nothing to it. A question
 * whose answer nobody waits for wakes it. It is asked while half of the share is still there. */
static void keep_fetching(struct kafka_listener *listener, struct kafka_part *part)
{
    rd_kafka_topic_partition_list_t *list;

    part->drawn += part->taken_n * part->average;
    if (part->drawn < listener->share_bytes / 2)
        return;
    part->drawn = 0;
    list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, listener->topic, part->partition)->offset =
        RD_KAFKA_OFFSET_END;
    rd_kafka_offsets_for_times(listener->rk, list, 0);
    rd_kafka_topic_partition_list_destroy(list);
}

/* So many that about the credit's bytes are taken from the queue. What is taken beyond them waits
 * here. */
static void refill(struct kafka_listener *listener, struct kafka_part *part)
{
    const struct subscription *subscription = listener->subscription;
    uint64_t most = (uint64_t)subscription->credit_bytes / (part->average + 1) + 1;
    ssize_t n;

    if (most > subscription->credit_messages)
        most = subscription->credit_messages;
    if (most > BATCH_MESSAGES)
        most = BATCH_MESSAGES;
    n = rd_kafka_consume_batch_queue(part->queue, 0, part->taken, (size_t)most);
    part->taken_at = 0;
    part->taken_n = n > 0 ? (unsigned)n : 0;
    keep_fetching(listener, part);
}

/* The next message of the partition; NULL: none is there. */
static rd_kafka_message_t *next_message(struct kafka_listener *listener, struct kafka_part *part)
{
    const struct subscription *subscription = listener->subscription;
    rd_kafka_message_t *message;

    while (kafka_part_may_take(listener, part) && subscription_may_take(subscription)) {
        if (part->taken_at == part->taken_n)
            refill(listener, part);
        if (part->taken_n == 0)
            return NULL;
        message = part->taken[part->taken_at++];
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return message;
        take_error(listener, part, message->err);
        rd_kafka_message_destroy(message);
        if (listener->closing)
            return NULL;
    }
    return NULL;
}

/* ---- batches ---- */

static struct slice put(uint8_t **at, struct slice from)
{
    struct slice out = {.data = *at, .len = from.len};

    if (from.len == 0)
        return from.data != NULL ? message_empty() : from;
    memcpy(*at, from.data, from.len);
    *at += from.len;
    return out;
}

/* bytes: as take_in counted them. */
static void copy(struct incoming *in, struct arena *arena, size_t bytes)
{
    struct header *headers = (struct header *)in->headers; /* of the batch */
    uint8_t *at = arena_alloc(arena, bytes);

    in->key = put(&at, in->key);
    in->payload = put(&at, in->payload);
    in->id = put(&at, in->id);
    for (size_t i = 0; i < in->n_headers; i++) {
        headers[i].name = put(&at, headers[i].name);
        headers[i].value = put(&at, headers[i].value);
    }
}

/* The message is the batch's from now on. */
static void own(struct batch *batch, struct incoming *in, rd_kafka_message_t *message, size_t bytes)
{
    if (bytes <= COPY_BYTES) {
        copy(in, &batch->bytes, bytes);
        rd_kafka_message_destroy(message);
        return;
    }
    if (batch->n_kept == 0)
        batch->kept = arena_array(&batch->bytes, batch->most, sizeof(void *));
    batch->kept[batch->n_kept++] = message;
}

static size_t fill(struct kafka_listener *listener, struct kafka_part *part, struct batch *batch)
{
    rd_kafka_message_t *message;
    size_t before = batch->base.n;

    while (batch->base.n < BATCH_MESSAGES && batch->base.bytes < BATCH_BYTES &&
           (message = next_message(listener, part)) != NULL) {
        uint32_t i = batch->base.n++;
        size_t bytes;

        bytes = take_in(listener, part, &batch->items[i], message, &batch->bytes);
        own(batch, &batch->items[i], message, bytes);
        batch->base.bytes += bytes;
        subscription_take(listener->subscription, 1, bytes);
    }
    return batch->base.n - before;
}

static struct batch *batch_new(struct kafka_listener *listener)
{
    const struct subscription *subscription = listener->subscription;
    size_t most = subscription->credit_messages < BATCH_MESSAGES ? subscription->credit_messages
                                                                 : BATCH_MESSAGES;
    struct batch *batch = malloc(sizeof *batch + most * sizeof batch->items[0]);

    if (batch == NULL)
        abort();
    batch->base = (struct incoming_batch){.items = batch->items, .release = release};
    batch->listener = listener;
    batch->n_kept = 0;
    batch->most = (uint32_t)most;
    arena_init(&batch->bytes, NULL);
    return batch;
}

/* Places that were not needed are given back: a message may be held for long. */
static struct batch *fit(struct batch *batch)
{
    struct batch *fitting = batch;

    if (batch->base.n < batch->most / 2)
        fitting = realloc(batch, sizeof *batch + batch->base.n * sizeof batch->items[0]);
    if (fitting == NULL)
        abort();
    fitting->base.items = fitting->items;
    return fitting;
}

/* From each partition in its turn. False: nothing was there. */
static bool deliver(struct kafka_listener *listener)
{
    struct batch *batch = batch_new(listener);
    struct kafka_part *begun = listener->turn_at != NULL ? listener->turn_at : listener->parts;
    struct kafka_part *part = begun;

    do {
        fill(listener, part, batch);
        part = part->next != NULL ? part->next : listener->parts;
    } while (part != begun && batch->base.n < BATCH_MESSAGES && batch->base.bytes < BATCH_BYTES &&
             !listener->closing);
    listener->turn_at = part;
    if (batch->base.n == 0) {
        arena_clear(&batch->bytes);
        free(batch);
        return false;
    }
    listener->batches++;
    subscription_deliver(listener->subscription, &fit(batch)->base);
    return true;
}

bool kafka_take_turn(struct kafka_listener *listener)
{
    const struct subscription *subscription = listener->subscription;

    for (unsigned i = 0; i < BATCHES_IN_TURN; i++) {
        if (listener->closing || subscription->state != SUB_RUNNING || listener->parts == NULL ||
            !subscription_may_take(subscription))
            return false;
        if (!deliver(listener))
            return false;
    }
    return true;
}
