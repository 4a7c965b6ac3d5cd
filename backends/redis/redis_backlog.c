/* What waits for one subscription: messages in a ring, bounded in bytes. The oldest goes first. */
#include "backends/redis/redis_topic.h"

#include <stdlib.h>

enum { ROOM = 16, ROOM_KEPT = 64 };

static void dispose(struct block *block)
{
    free(CONTAINER_OF(block, struct redis_message, block));
}

struct redis_message *redis_message_new(struct slice topic, struct slice payload)
{
    struct redis_message *message = malloc(sizeof *message + topic.len + payload.len);

    if (message == NULL)
        abort();

    uint8_t *at = message->bytes;

    memcpy(at, topic.data, topic.len);
    message->topic = slice_of(at, topic.len);
    at += topic.len;
    if (payload.len > 0)
        memcpy(at, payload.data, payload.len);
    block_init(&message->block, slice_of(at, payload.len), dispose);
    return message;
}

static size_t cost(const struct redis_message *message)
{
    return sizeof *message + sizeof(void *) + message->topic.len + message->block.bytes.len;
}

static struct redis_message **slot(struct redis_backlog *backlog, size_t i)
{
    return &backlog->ring[(backlog->head + i) & (backlog->room - 1)];
}

static void grow(struct redis_backlog *backlog)
{
    size_t room = backlog->room > 0 ? 2 * backlog->room : ROOM;
    struct redis_message **ring = malloc(room * sizeof *ring);

    if (ring == NULL)
        abort();
    for (size_t i = 0; i < backlog->held; i++)
        ring[i] = *slot(backlog, i);
    free(backlog->ring);
    backlog->ring = ring;
    backlog->room = room;
    backlog->head = 0;
}

/* The caller gets the reference. NULL: a break, which is now to be told. */
static struct redis_message *pop(struct redis_backlog *backlog)
{
    struct redis_message *message = *slot(backlog, 0);

    backlog->head++;
    backlog->held--;
    if (message == NULL)
        backlog->broken = true;
    else
        backlog->bytes -= cost(message);
    if (backlog->held == 0 && backlog->room > ROOM_KEPT) {
        free(backlog->ring);
        backlog->ring = NULL;
        backlog->room = 0;
    }
    return message;
}

static void put(struct redis_backlog *backlog, struct redis_message *message)
{
    if (backlog->held == backlog->room)
        grow(backlog);
    backlog->held++;
    *slot(backlog, backlog->held - 1) = message;
}

void redis_backlog_push(struct redis_backlog *backlog, struct redis_message *message)
{
    block_ref(&message->block);
    put(backlog, message);
    backlog->bytes += cost(message);
    while (backlog->bytes > REDIS_BACKLOG_BYTES && backlog->held > 1) {
        struct redis_message *oldest = pop(backlog);

        if (oldest == NULL)
            continue;
        backlog->dropped++;
        block_unref(&oldest->block);
    }
}

void redis_backlog_break(struct redis_backlog *backlog)
{
    if (backlog->held == 0)
        backlog->broken = true;
    else if (*slot(backlog, backlog->held - 1) != NULL)
        put(backlog, NULL);
}

void redis_backlog_clear(struct redis_backlog *backlog)
{
    while (backlog->held > 0) {
        struct redis_message *message = pop(backlog);

        if (message != NULL)
            block_unref(&message->block);
    }
    free(backlog->ring);
    *backlog = (struct redis_backlog){0};
}

/* ---- batches ---- */

struct batch {
    struct incoming_batch base; /* first */
    struct incoming items[];
};

static void release(struct incoming_batch *base)
{
    struct batch *batch = CONTAINER_OF(base, struct batch, base);

    for (uint32_t i = 0; i < base->n; i++)
        block_unref(base->items[i].block);
    free(batch);
}

static struct batch *batch_new(size_t most)
{
    struct batch *batch = calloc(1, sizeof *batch + most * sizeof batch->items[0]);

    if (batch == NULL)
        abort();
    batch->base.items = batch->items;
    batch->base.release = release;
    return batch;
}

static size_t most_of(const struct redis_backlog *backlog, const struct subscription *subscription)
{
    size_t most = backlog->held;

    if (most > subscription->credit_messages)
        most = subscription->credit_messages;
    return most < BATCH_MESSAGES ? most : BATCH_MESSAGES;
}

static void add(struct incoming_batch *batch, struct redis_message *message)
{
    batch->items[batch->n++] = (struct incoming){.topic = message->topic,
                                                 .payload = message->block.bytes,
                                                 .block = &message->block,
                                                 .partition = -1,
                                                 .offset = -1,
                                                 .attempt = 1};
    batch->bytes += message->block.bytes.len;
}

struct incoming_batch *redis_backlog_take(struct redis_backlog *backlog,
                                          struct subscription *subscription)
{
    size_t most = most_of(backlog, subscription);

    if (most == 0 || !subscription_may_take(subscription))
        return NULL;

    struct incoming_batch *batch = &batch_new(most)->base;

    while (batch->n < most && batch->bytes < BATCH_BYTES && subscription_may_take(subscription)) {
        struct redis_message *message = pop(backlog);

        if (message == NULL)
            break; /* it is told before what follows */
        subscription_take(subscription, 1, message->block.bytes.len);
        add(batch, message);
    }
    if (batch->n > 0)
        return batch;
    release(batch);
    return NULL;
}
