#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/container.h"

#include <string.h>

static struct slice identity_of(const struct attachment *a)
{
    return slice_of(a->identity, a->identity_len);
}

static size_t bucket_of(const struct receiver *r, struct slice identity)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < identity.len; i++)
        hash = (hash ^ identity.data[i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32) & (r->buckets - 1);
}

static struct attachment **find(struct receiver *r, struct slice identity)
{
    struct attachment **at = &r->table[bucket_of(r, identity)];

    while (*at != NULL && !slice_equal(identity_of(*at), identity))
        at = &(*at)->next;
    return at;
}

static struct attachment *take_free(struct receiver *r)
{
    struct attachment *a = r->free;

    if (a == NULL)
        return arena_zalloc(call_arena(r->call), sizeof *a);
    r->free = a->next;
    memset(a, 0, sizeof *a);
    return a;
}

/* Its subscription is closed, and its batches are gone. */
static void let_go(struct attachment *a)
{
    struct receiver *r = a->receiver;
    struct attachment **at = find(r, identity_of(a));

    *at = a->next;
    r->attached--;
    a->next = r->free;
    r->free = a;
}

/* ---- events ---- */

static void open_topic(struct attachment *a);

static void on_opened(struct subscription *subscription)
{
    struct attachment *a = CONTAINER_OF(subscription, struct attachment, subscription);
    struct receiver *r = a->receiver;

    a->opened = true;
    r->opening--;
    r->open++;
    counter_add(&r->multicast->stats.attached, 1);
    r->has_news = true;
    receiver_look(r);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct attachment *a = CONTAINER_OF(subscription, struct attachment, subscription);

    inbox_take(a->receiver, batch);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    struct receiver *r = CONTAINER_OF(subscription, struct attachment, subscription)->receiver;
    uint64_t count = gap->count > 0 ? gap->count : 1; /* some, at least */

    inbox_lost(r, count);
    receiver_look(r);
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct attachment *a = CONTAINER_OF(subscription, struct attachment, subscription);
    struct receiver *r = a->receiver;

    if (a->opened) {
        r->open--;
        counter_add(&r->multicast->stats.attached, UINT64_MAX); /* a gauge: minus one */
    } else {
        r->opening--;
    }
    if (err.code != ERR_OK && !a->leaving)
        inbox_fail(r, a, err);
    inbox_forget(r, a);
    if (a->again && !r->ending)
        open_topic(a);
    else
        let_go(a);
    r->has_news = true;
    receiver_look(r);
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .gap = on_gap, .closed = on_closed};

static void open_topic(struct attachment *a)
{
    struct receiver *r = a->receiver;
    const struct message_source *source = &r->multicast->plan.topic->source;

    a->opened = a->leaving = a->again = false;
    r->opening++;
    subscription_init(&a->subscription, r->multicast->base.home, &events);
    a->subscription.want.topic = slice_of(a->topic, a->topic_len);
    source->open(r->multicast->messaging, &a->subscription);
    source->grant(r->multicast->messaging, &a->subscription, ATTACHMENT_MESSAGES, ATTACHMENT_BYTES);
}

/* ---- what is attached ---- */

void attachment_add(struct receiver *r, struct slice identity)
{
    struct attachment **at = find(r, identity), *a;
    struct arena scratch;
    struct slice topic;

    if (*at != NULL) {
        (*at)->again = (*at)->leaving;
        return;
    }
    arena_init(&scratch, NULL);
    topic = convert_topic(r->multicast, &scratch, identity);
    a = take_free(r);
    a->receiver = r;
    a->identity_len = (uint16_t)identity.len;
    memcpy(a->identity, identity.data, identity.len);
    a->topic_len = (uint16_t)topic.len;
    memcpy(a->topic, topic.data, topic.len);
    arena_clear(&scratch);
    *at = a;
    r->attached++;
    open_topic(a);
}

static void leave(struct attachment *a)
{
    struct receiver *r = a->receiver;

    a->again = false;
    if (a->leaving)
        return;
    a->leaving = true;
    if (a->subscription.state == SUB_OPENING || a->subscription.state == SUB_RUNNING)
        r->multicast->plan.topic->source.close(r->multicast->messaging, &a->subscription);
}

void attachment_remove(struct receiver *r, struct slice identity)
{
    struct attachment *a = *find(r, identity);

    if (a != NULL)
        leave(a);
}

void attachments_close(struct receiver *r)
{
    for (size_t i = 0; i < r->buckets; i++) {
        for (struct attachment *a = r->table[i]; a != NULL; a = a->next)
            leave(a);
    }
}
