/* One topic for all identities, with the identity as key, where a topic is too costly to have a
 * million of them. The instance of each worker reads it once, while anybody is attached there, and
 * deals out what is for those. What is for others is let go: every instance reads everything.
 *
 *   open    the first lead opens the subscription; others find it running
 *   batch   each message is copied for the leads of its identity, and delivered in their jobs
 *   close   the last lead closes it, and is closed when it is
 *
 * Memory: the credit of the subscription, and for each lead what waits for its credit (waiting.c).
 */
#include "patterns/multicast_registry/receiver.h"

#include "src/base/hash.h"

#include <string.h>

enum { HUB_MESSAGES = 2048, HUB_BYTES = 8 << 20 };

static const char hub_name[] = "all"; /* behind topic_prefix */

void hub_init(struct multicast *multicast)
{
    struct slice prefix = multicast->settings.topic_prefix;

    multicast->hub.table =
        arena_array(&multicast->memory, HUB_BUCKETS, sizeof *multicast->hub.table);
    memcpy(multicast->hub.topic, prefix.data, prefix.len);
    memcpy(multicast->hub.topic + prefix.len, hub_name, sizeof hub_name);
}

struct slice hub_topic(const struct multicast *multicast)
{
    return slice_str(multicast->hub.topic);
}

static struct multicast *multicast_from(const struct hub *hub)
{
    return CONTAINER_OF((struct hub *)(uintptr_t)hub, struct multicast, hub);
}

static struct hub *hub_of(const struct lead *lead)
{
    return &attachment_of(lead)->receiver->multicast->hub;
}

static struct line **chain(const struct hub *hub, struct slice identity)
{
    const struct multicast *multicast = CONTAINER_OF(hub, struct multicast, hub);

    return &hub->table[hash_seeded(multicast->seed, identity) % HUB_BUCKETS];
}

static void unlink_line(struct hub *hub, struct line *line)
{
    struct line **at = chain(hub, attachment_identity(attachment_of(line->lead)));

    while (*at != line)
        at = &(*at)->next;
    *at = line->next;
    hub->leads--;
}

/* ---- dealing ---- */

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct hub *hub = CONTAINER_OF(subscription, struct hub, subscription);
    struct multicast *multicast = multicast_from(hub);
    size_t bytes = batch->bytes;
    uint32_t n = batch->n;

    for (uint32_t i = 0; i < n; i++) {
        const struct incoming *item = &batch->items[i];

        for (struct line *line = *chain(hub, item->key); line != NULL; line = line->next) {
            if (line->lead->subscription.state == SUB_RUNNING &&
                slice_equal(attachment_identity(attachment_of(line->lead)), item->key))
                waiting_add(line, item);
        }
    }
    incoming_drop(batch, n);
    if (subscription->state == SUB_RUNNING)
        multicast->plan.topic->source.grant(multicast->messaging, subscription, n, bytes);
}

/* ---- the subscription ---- */

static void open_hub(struct hub *hub);

static void on_opened(struct subscription *subscription)
{
    struct hub *hub = CONTAINER_OF(subscription, struct hub, subscription);

    hub->state = HUB_RUNNING;
    for (size_t i = 0; i < HUB_BUCKETS; i++) {
        for (struct line *line = hub->table[i]; line != NULL; line = line->next)
            waiting_stands(line);
    }
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    struct hub *hub = CONTAINER_OF(subscription, struct hub, subscription);

    (void)gap; /* for whom they were is not known: each may have missed some */
    for (size_t i = 0; i < HUB_BUCKETS; i++) {
        for (struct line *line = hub->table[i]; line != NULL; line = line->next)
            waiting_missed(line, 0);
    }
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct hub *hub = CONTAINER_OF(subscription, struct hub, subscription);

    hub->state = HUB_IDLE;
    for (struct line *line = hub->parting, *next; line != NULL; line = next) {
        next = line->next;
        waiting_part(line, ERR_NONE);
    }
    hub->parting = NULL;
    for (size_t i = 0; i < HUB_BUCKETS && err.code != ERR_OK; i++) {
        for (struct line *line = hub->table[i], *next; line != NULL; line = next) {
            next = line->next;
            subscription_closing(&line->lead->subscription);
            waiting_part(line, err);
        }
        hub->table[i] = NULL;
    }
    hub->leads = err.code != ERR_OK ? 0 : hub->leads;
    if (hub->leads > 0)
        open_hub(hub);
}

/* Nothing is settled, so that who owns what is all the same. */
static void on_moved(struct subscription *subscription, const struct subscription_move *move)
{
    (void)subscription;
    (void)move;
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .moved = on_moved, .gap = on_gap, .closed = on_closed};

static void open_hub(struct hub *hub)
{
    struct multicast *multicast = multicast_from(hub);
    const struct message_source *source = &multicast->plan.topic->source;

    hub->state = HUB_OPENING;
    subscription_init(&hub->subscription, multicast->base.home, &events);
    hub->subscription.want.topic = hub_topic(multicast);
    source->open(multicast->messaging, &hub->subscription);
    source->grant(multicast->messaging, &hub->subscription, HUB_MESSAGES, HUB_BYTES);
}

/* ---- the source that leads see ---- */

static struct lead *lead_from(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct lead, subscription);
}

static void open_lead(struct backend *backend, struct subscription *subscription)
{
    struct lead *lead = lead_from(subscription);
    struct hub *hub = hub_of(lead);
    struct line **at = chain(hub, attachment_identity(attachment_of(lead)));
    struct line *line = waiting_open(lead, sizeof *line);

    (void)backend;
    subscription_opening(subscription, NULL);
    line->next = *at;
    *at = line;
    hub->leads++;
    if (hub->state == HUB_IDLE)
        open_hub(hub);
    else if (hub->state == HUB_RUNNING)
        waiting_stands(line);
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
    struct line *line = lead->line;
    struct hub *hub = hub_of(lead);

    subscription_closing(subscription);
    unlink_line(hub, line);
    if (hub->leads > 0 && hub->state != HUB_CLOSING) {
        waiting_part(line, ERR_NONE);
        return;
    }
    line->next = hub->parting;
    hub->parting = line;
    if (hub->state == HUB_CLOSING)
        return;
    hub->state = HUB_CLOSING;
    multicast_from(hub)->plan.topic->source.close(backend, &hub->subscription);
}

const struct message_source hub_source = {
    .open = open_lead, .grant = grant_lead, .close = close_lead};
