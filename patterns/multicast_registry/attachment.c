#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/hash.h"

#include <string.h>

/* Identities for each bucket, at most. */
enum { CHAIN = 2 };

static size_t bucket_of(const struct receiver *r, struct slice identity)
{
    return (size_t)hash_seeded(r->multicast->seed, identity) & (r->buckets - 1);
}

static struct attachment **find(struct receiver *r, struct slice identity)
{
    struct attachment **at = &r->table[bucket_of(r, identity)];

    while (*at != NULL && !slice_equal(attachment_identity(*at), identity))
        at = &(*at)->next;
    return at;
}

struct attachment **attachments_make(struct arena *arena, size_t expected, size_t *buckets)
{
    for (*buckets = 1; CHAIN * *buckets < expected;)
        *buckets *= 2;
    return arena_array(arena, *buckets, sizeof(struct attachment *));
}

/* What stood in a bucket is in the one of the same number now, or in one behind all that were
 * there: who goes over them in steps (presence.c) misses nobody. */
static void double_buckets(struct receiver *r)
{
    struct attachment **smaller = r->table;
    size_t n = r->buckets;

    r->table = attachments_make(call_arena(r->call), 2 * CHAIN * n, &r->buckets);
    for (size_t i = 0; i < n; i++) {
        for (struct attachment *a = smaller[i], *next; a != NULL; a = next) {
            struct attachment **at = &r->table[bucket_of(r, attachment_identity(a))];

            next = a->next;
            a->next = *at;
            *at = a;
        }
    }
}

struct attachment *attachment_find(struct receiver *r, struct slice identity)
{
    return *find(r, identity);
}

/* What it was before is gone, but for its memory of texts. */
static struct attachment *take_free(struct receiver *r)
{
    struct attachment *a = r->free;

    if (a == NULL) {
        a = arena_zalloc(call_arena(r->call), sizeof *a + r->leads * sizeof(struct lead));
    } else {
        r->free = a->next;
        *a = (struct attachment){.text = a->text, .room = a->room};
    }
    a->receiver = r;
    for (size_t i = 0; i < r->leads; i++)
        a->leads[i] = (struct lead){.kind = (uint8_t)i};
    return a;
}

/* ---- texts ---- */

static struct slice add_text(struct attachment *a, size_t *at, struct slice text)
{
    uint8_t *to = a->text + *at;

    memcpy(to, text.data, text.len);
    *at += text.len;
    return slice_of(to, text.len);
}

/* A room that is too small is followed by one of twice its size at least, so that whoever attaches
 * and detaches for ever takes no more than four times the longest texts for each place. */
static void make_room(struct attachment *a, size_t bytes)
{
    if (bytes <= a->room)
        return;
    a->room = (uint16_t)(bytes > 2u * a->room ? bytes : 2u * a->room);
    a->text = arena_alloc(call_arena(a->receiver->call), a->room);
}

static void name(struct attachment *a, struct slice identity)
{
    const struct multicast_settings *settings = &a->receiver->multicast->settings;
    const struct slice prefixes[] = {
        [LEAD_TOPIC] = settings->topic_prefix, [LEAD_QUEUE] = settings->queue_prefix};
    bool plain = convert_is_plain(prefixes[LEAD_TOPIC], identity);
    size_t at = 0, bytes = plain ? 0 : identity.len;
    struct slice topics[LEAD_KINDS];
    struct arena scratch;

    arena_init(&scratch, NULL);
    for (size_t i = 0; i < a->receiver->leads; i++) {
        topics[i] = convert_topic(prefixes[i], &scratch, identity);
        bytes += topics[i].len;
    }
    make_room(a, bytes);
    for (size_t i = 0; i < a->receiver->leads; i++)
        a->leads[i].subscription.want.topic = add_text(a, &at, topics[i]);
    a->identity_at = (uint16_t)(plain ? prefixes[LEAD_TOPIC].len : at);
    a->identity_len = (uint16_t)identity.len;
    if (!plain)
        add_text(a, &at, identity);
    arena_clear(&scratch);
}

/* Its leads are closed, and their batches are gone. */
static void let_go(struct attachment *a)
{
    struct receiver *r = a->receiver;
    struct attachment **at = find(r, attachment_identity(a));

    *at = a->next;
    r->attached--;
    a->next = r->free;
    r->free = a;
}

static void unregister(struct attachment *a)
{
    a->receiver->registered -= a->registered;
    a->registered = false;
}

const struct message_source *lead_source(const struct lead *lead)
{
    const struct multicast_plan *plan = &attachment_of(lead)->receiver->multicast->plan;

    if (lead->kind == LEAD_QUEUE)
        return plan->kept_source;
    if (plan->one_topic)
        return &hub_source;
    return attachment_of(lead)->receiver->when_full != FULL_OLDEST ? &buffer_source
                                                                   : &plan->topic->source;
}

struct backend *lead_backend(const struct lead *lead)
{
    const struct multicast *multicast = attachment_of(lead)->receiver->multicast;

    return lead->kind == LEAD_QUEUE ? multicast->durability : multicast->messaging;
}

/* ---- events ---- */

static void leave(struct attachment *a);
static void open_leads(struct attachment *a);

static struct lead *lead_from(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct lead, subscription);
}

static void on_opened(struct subscription *subscription)
{
    struct lead *lead = lead_from(subscription);
    struct attachment *a = attachment_of(lead);
    struct receiver *r = a->receiver;

    lead->opened = true;
    if (++a->leads_opened < r->leads || a->ended)
        return;
    a->opened = true;
    r->opening--;
    r->open++;
    counter_add(&r->multicast->stats.attached, 1);
    r->has_news = true;
    receiver_look(r);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct lead *lead = lead_from(subscription);

    inbox_take(attachment_of(lead)->receiver, lead->kind, batch);
}

/* A message for many identities of a stream may come for all of them at once. */
static const void *bundle_of(const struct subscription *subscription)
{
    return attachment_of(CONTAINER_OF(subscription, struct lead, subscription))->receiver;
}

static void on_shared(struct incoming_batch *batch)
{
    inbox_take(attachment_of(lead_at(batch, 0))->receiver, LEAD_TOPIC, batch);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    struct receiver *r = attachment_of(lead_from(subscription))->receiver;

    if (gap->count > 0)
        inbox_lost(r, gap->count, DROP_OLDEST);
    else
        inbox_lost(r, 1, DROP_GAP); /* some, at least */
    receiver_look(r);
}

/* All of its leads are closed, and nothing of them is under way. */
static bool is_over(const struct attachment *a)
{
    for (size_t i = 0; i < a->receiver->leads; i++) {
        if (!a->leads[i].closed || a->leads[i].settling > 0)
            return false;
    }
    return true;
}

void attachment_settled(struct attachment *a)
{
    struct receiver *r = a->receiver;

    if (!is_over(a))
        return;
    if (a->again && !r->ending)
        open_leads(a);
    else
        let_go(a);
    r->has_news = true;
}

/* The first of its leads is closed: the others follow. */
static void end(struct attachment *a, struct err err)
{
    struct receiver *r = a->receiver;

    a->ended = true;
    unregister(a);
    if (a->opened) {
        r->open--;
        counter_add(&r->multicast->stats.attached, UINT64_MAX); /* a gauge: minus one */
    } else {
        r->opening--;
    }
    if (err.code != ERR_OK && !a->leaving)
        inbox_fail(r, a, err);
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct lead *lead = lead_from(subscription);
    struct attachment *a = attachment_of(lead);
    struct receiver *r = a->receiver;
    bool again;

    lead->closed = true;
    kept_let_go(lead);
    inbox_forget(lead);
    if (!a->ended) {
        end(a, err);
        again = a->again;
        leave(a);
        a->again = again;
    }
    attachment_settled(a);
    receiver_look(r);
}

static const struct subscription_events events = {.opened = on_opened,
                                                  .batch = on_batch,
                                                  .moved = kept_moved,
                                                  .gap = on_gap,
                                                  .closed = on_closed,
                                                  .bundle = bundle_of,
                                                  .shared = on_shared};

/* What is in the inbox is not replaced any more: so there is little. */
static uint32_t credit_of(const struct lead *lead)
{
    bool latest =
        lead->kind == LEAD_TOPIC && attachment_of(lead)->receiver->when_full == FULL_LATEST;

    return latest ? 1 : ATTACHMENT_MESSAGES;
}

static void open_lead(struct lead *lead)
{
    const struct message_source *source = lead_source(lead);
    const struct multicast *multicast = attachment_of(lead)->receiver->multicast;
    struct subscription_want *want = &lead->subscription.want;
    struct slice topic = want->topic;

    *lead = (struct lead){.kind = lead->kind};
    subscription_init(&lead->subscription, multicast->base.home, &events);
    want->topic = topic;
    want->oldest_first = lead->kind == LEAD_QUEUE;
    if (lead->kind == LEAD_QUEUE && multicast->plan.kept_in_stream) {
        want->group = slice_str(MULTICAST_GROUP);
        want->start = START_COMMITTED;
        want->if_none = START_EARLIEST;
        want->on_gap = GAP_EARLIEST;
    }
    source->open(lead_backend(lead), &lead->subscription);
    source->grant(lead_backend(lead), &lead->subscription, credit_of(lead), ATTACHMENT_BYTES);
}

static void open_leads(struct attachment *a)
{
    struct receiver *r = a->receiver;

    a->opened = a->ended = a->leaving = a->again = false;
    a->leads_opened = 0;
    r->opening++;
    for (size_t i = 0; i < r->leads; i++)
        open_lead(&a->leads[i]);
}

/* ---- what is attached ---- */

struct attachment *attachment_add(struct receiver *r, struct slice identity)
{
    struct attachment **at = find(r, identity), *a = *at;

    if (a != NULL) {
        a->again = a->leaving || a->ended;
        return a;
    }
    a = take_free(r);
    name(a, identity);
    *at = a;
    if (++r->attached > CHAIN * r->buckets)
        double_buckets(r);
    open_leads(a);
    return a;
}

static void leave(struct attachment *a)
{
    a->again = false;
    if (a->leaving)
        return;
    a->leaving = true;
    unregister(a);
    for (size_t i = 0; i < a->receiver->leads; i++) {
        struct lead *lead = &a->leads[i];

        kept_fail_oldest(lead);
        kept_let_go(lead);
        if (lead->subscription.state == SUB_OPENING || lead->subscription.state == SUB_RUNNING)
            lead_source(lead)->close(lead_backend(lead), &lead->subscription);
    }
}

void attachment_remove(struct receiver *r, struct slice identity)
{
    struct attachment *a = *find(r, identity);

    if (a != NULL)
        leave(a);
}

void attachment_fail(struct attachment *a, struct err err)
{
    if (a->leaving)
        return;
    inbox_fail(a->receiver, a, err);
    leave(a);
    receiver_look(a->receiver);
}

void attachments_close(struct receiver *r)
{
    for (size_t i = 0; i < r->buckets; i++) {
        for (struct attachment *a = r->table[i]; a != NULL; a = a->next)
            leave(a);
    }
}
