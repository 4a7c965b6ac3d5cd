/* A topic whose messages wait here (waiting.c) and not with the messaging backend, whose policy is
 * another than the receiver's. The topic's own subscription has its credit back as soon as messages
 * come, so that the backend keeps none: who is slow is so here, and holds up nobody. */
#include "patterns/multicast_registry/receiver.h"

enum { BUFFER_MESSAGES = 256, BUFFER_BYTES = 1 << 20 };

struct buffer {
    struct line line; /* first */
    struct subscription subscription;
};

static struct lead *lead_from(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct lead, subscription);
}

static struct buffer *buffer_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct buffer, subscription);
}

static struct buffer *buffer_from(struct line *line)
{
    return CONTAINER_OF(line, struct buffer, line);
}

static const struct topic *topic_of(const struct lead *lead)
{
    return attachment_of(lead)->receiver->multicast->plan.topic;
}

static void on_opened(struct subscription *subscription)
{
    waiting_stands(&buffer_of(subscription)->line);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct line *line = &buffer_of(subscription)->line;
    struct lead *lead = line->lead;
    size_t bytes = batch->bytes;
    uint32_t n = batch->n;

    for (uint32_t i = 0; i < n && lead->subscription.state == SUB_RUNNING; i++)
        waiting_add(line, &batch->items[i]);
    incoming_drop(batch, n);
    if (subscription->state == SUB_RUNNING)
        topic_of(lead)->source.grant(lead_backend(lead), subscription, n, bytes);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    waiting_missed(&buffer_of(subscription)->line, gap->count);
}

static void on_moved(struct subscription *subscription, const struct subscription_move *move)
{
    (void)subscription;
    (void)move;
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct line *line = &buffer_of(subscription)->line;

    if (line->lead->subscription.state != SUB_CLOSING)
        subscription_closing(&line->lead->subscription);
    waiting_part(line, err); /* a topic's text is static */
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .moved = on_moved, .gap = on_gap, .closed = on_closed};

static void open_lead(struct backend *backend, struct subscription *subscription)
{
    struct lead *lead = lead_from(subscription);
    struct buffer *buffer = buffer_from(waiting_open(lead, sizeof *buffer));

    subscription_opening(subscription, NULL);
    subscription_init(&buffer->subscription, subscription->home, &events);
    buffer->subscription.want.topic = subscription->want.topic;
    topic_of(lead)->source.open(backend, &buffer->subscription);
    topic_of(lead)->source.grant(backend, &buffer->subscription, BUFFER_MESSAGES, BUFFER_BYTES);
}

static void grant_lead(struct backend *backend, struct subscription *subscription, uint32_t n,
                       uint64_t bytes)
{
    (void)backend;
    waiting_granted(lead_from(subscription)->line, n, bytes);
}

static void close_lead(struct backend *backend, struct subscription *subscription)
{
    struct lead *lead = lead_from(subscription);

    subscription_closing(subscription);
    topic_of(lead)->source.close(backend, &buffer_from(lead->line)->subscription);
}

const struct message_source buffer_source = {
    .open = open_lead, .grant = grant_lead, .close = close_lead};
