/* Messages that wait for a subscriber's credit, and the batches that are made of them. What does
 * not fit pushes the oldest out. */
#include "backends/nats/nats_priv.h"

#include <stdlib.h>

enum { MESSAGE_COST = 128 /* what the library keeps beside the bytes */ };

static size_t cost_of(natsMsg *message)
{
    return (size_t)natsMsg_GetDataLength(message) + MESSAGE_COST;
}

static natsMsg *pop(struct nats_buffer *buffer)
{
    natsMsg *message = buffer->ring[buffer->first];

    buffer->first = (buffer->first + 1) & (buffer->room - 1);
    buffer->count--;
    buffer->bytes -= cost_of(message);
    return message;
}

static void grow(struct nats_buffer *buffer)
{
    size_t room = buffer->room == 0 ? 16 : buffer->room * 2;
    natsMsg **ring = malloc(room * sizeof *ring);

    if (ring == NULL)
        abort();
    for (size_t i = 0; i < buffer->count; i++)
        ring[i] = buffer->ring[(buffer->first + i) & (buffer->room - 1)];
    free(buffer->ring);
    buffer->ring = ring;
    buffer->room = room;
    buffer->first = 0;
}

uint64_t nats_buffer_put(struct nats_buffer *buffer, natsMsg *message)
{
    size_t cost = cost_of(message);
    uint64_t dropped = 0;

    while (buffer->count > 0 && buffer->bytes + cost > buffer->max_bytes) {
        natsMsg_Destroy(pop(buffer));
        dropped++;
    }
    if (buffer->count == buffer->room)
        grow(buffer);
    buffer->ring[(buffer->first + buffer->count++) & (buffer->room - 1)] = message;
    buffer->bytes += cost;
    return dropped;
}

void nats_buffer_clear(struct nats_buffer *buffer)
{
    while (buffer->count > 0)
        natsMsg_Destroy(pop(buffer));
    free(buffer->ring);
}

/* ---- batches ---- */

struct batch {
    struct incoming_batch base; /* first */
    struct arena arena;         /* of headers */
    natsMsg *messages[BATCH_MESSAGES];
    struct incoming items[BATCH_MESSAGES];
};

static void release(struct incoming_batch *base)
{
    struct batch *batch = (struct batch *)base;

    for (uint32_t i = 0; i < base->n; i++)
        natsMsg_Destroy(batch->messages[i]);
    arena_clear(&batch->arena);
    free(batch);
}

static size_t bytes_of(const struct incoming *m)
{
    size_t bytes = m->key.len + m->payload.len;

    for (size_t i = 0; i < m->n_headers; i++)
        bytes += m->headers[i].name.len + m->headers[i].value.len;
    return bytes;
}

struct incoming_batch *nats_batch_new(void)
{
    struct batch *batch = malloc(sizeof *batch);

    if (batch == NULL)
        abort();
    batch->base = (struct incoming_batch){.items = batch->items, .release = release};
    arena_init(&batch->arena, NULL);
    return &batch->base;
}

size_t nats_batch_add(struct incoming_batch *base, natsMsg *message)
{
    struct batch *batch = (struct batch *)base;
    struct incoming *item = &batch->items[base->n];
    size_t bytes;

    batch->messages[base->n++] = message;
    nats_message_in(item, message, &batch->arena);
    bytes = bytes_of(item);
    base->bytes += bytes;
    return bytes;
}

struct incoming_batch *nats_buffer_take(struct nats_buffer *buffer,
                                        struct subscription *subscription)
{
    struct incoming_batch *batch;

    if (buffer->count == 0)
        return NULL;
    batch = nats_batch_new();
    while (!nats_batch_full(batch) && buffer->count > 0 && subscription_may_take(subscription))
        subscription_take(subscription, 1, nats_batch_add(batch, pop(buffer)));
    return batch;
}
