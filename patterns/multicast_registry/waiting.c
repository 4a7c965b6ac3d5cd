/* What waits for a lead where Prism itself keeps it, in place of the messaging backend: behind the
 * one topic of all (hub.c), and where the receiver's policy is not the backend's (buffer.c).
 *
 *   add    a copy, in a batch of its own; the payload is shared if it is a block
 *   full   the policy: the oldest goes, the new one goes, or the stream ends. Latest per key: what
 *          waits under the key of the new one has gone before that is looked at
 *   job    delivers within the lead's credit, and tells what happened, outside any method
 *
 * Memory: receiver_queue_messages and receiver_queue_bytes for each lead, and all of it is counted
 * for the receiver's call (call_hold), until it has left. Where memory is not ample, no more waits
 * than did before, whatever the two allow: calls have what is left. What the receiver has credit
 * for does not wait. Looking for a key goes over what waits for the lead, and over nothing while
 * the receiver is fast enough. */
#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/block.h"

enum { BLOCK_BYTES = 1024 /* an arena takes as many at least, and has some of them left */ };

/* ---- copies ---- */

struct waiting {
    struct incoming_batch batch;
    struct incoming item;
    struct arena arena;        /* holds it */
    struct receiver *receiver; /* stays until it is released */
    size_t held;               /* of the receiver's line_bytes */
};

static struct waiting *waiting_of(struct incoming_batch *batch)
{
    return CONTAINER_OF(batch, struct waiting, batch);
}

static void free_batch(struct incoming_batch *batch)
{
    struct waiting *waiting = waiting_of(batch);
    struct arena arena = waiting->arena;

    waiting->receiver->line_bytes -= waiting->held;
    block_unref(waiting->item.block);
    arena_clear(&arena);
}

/* Of a block each holds all of it: who goes last is not known. */
static struct waiting *copy_of(const struct incoming *from, struct receiver *r)
{
    struct header *headers;
    struct arena arena;
    struct waiting *w;

    arena_init(&arena, NULL);
    w = arena_zalloc(&arena, sizeof *w);
    w->arena = arena;
    headers = arena_array(&w->arena, from->n_headers, sizeof *headers);
    w->batch = (struct incoming_batch){.items = &w->item, .n = 1, .release = free_batch};
    w->item = *from;
    w->item.block = from->block != NULL ? block_ref(from->block) : NULL;
    w->item.key = message_null();
    w->item.topic = message_null();
    w->item.position = message_null();
    w->item.token = 0;
    w->item.id = message_copy(&w->arena, from->id);
    if (from->block == NULL)
        w->item.payload = message_copy(&w->arena, from->payload);
    for (size_t i = 0; i < from->n_headers; i++) {
        headers[i].name = message_copy(&w->arena, from->headers[i].name);
        headers[i].value = message_copy(&w->arena, from->headers[i].value);
        w->batch.bytes += headers[i].name.len + headers[i].value.len;
    }
    w->item.headers = headers;
    w->batch.bytes += from->payload.len;
    w->receiver = r;
    w->held = BLOCK_BYTES + w->arena.bytes + (from->block != NULL ? from->payload.len : 0);
    r->line_bytes += w->held;
    return w;
}

/* ---- the line ---- */

static struct incoming_batch *take_first(struct lead *lead)
{
    struct incoming_batch *batch = lead->waiting.first;

    lead->waiting.first = batch->holder;
    lead->waiting.n--;
    lead->waiting.bytes -= batch->bytes;
    return batch;
}

static void append(struct lead *lead, struct incoming_batch *batch)
{
    lead->waiting.n++;
    lead->waiting.bytes += batch->bytes;
    batch->holder = NULL;
    if (lead->waiting.first == NULL)
        lead->waiting.first = batch;
    else
        lead->waiting.last->holder = batch;
    lead->waiting.last = batch;
}

static struct slice key_of(const struct incoming *message)
{
    return travel_header(message, MULTICAST_HEADER_COLLAPSE);
}

/* Bytes that this makes free. */
static size_t drop(struct lead *lead, struct incoming_batch *batch, enum drop_reason reason)
{
    size_t held = waiting_of(batch)->held;

    free_batch(batch);
    inbox_lost(lead->attachment->receiver, 1, reason);
    return held;
}

/* Each key waits once at most. Those without one have the identity's. */
static size_t drop_replaced(struct lead *lead, struct slice key)
{
    struct incoming_batch *before = NULL, *batch = lead->waiting.first;

    while (batch != NULL && !slice_equal(key_of(batch->items), key)) {
        before = batch;
        batch = batch->holder;
    }
    if (batch == NULL)
        return 0;
    if (before == NULL)
        lead->waiting.first = batch->holder;
    else
        before->holder = batch->holder;
    if (lead->waiting.last == batch)
        lead->waiting.last = before;
    lead->waiting.n--;
    lead->waiting.bytes -= batch->bytes;
    return drop(lead, batch, DROP_REPLACED);
}

static bool is_full(const struct lead *lead, size_t bytes)
{
    const struct multicast_settings *settings = &lead->attachment->receiver->multicast->settings;

    return lead->waiting.n > 0 && (lead->waiting.n >= settings->queue_messages ||
                                   lead->waiting.bytes + bytes > settings->queue_bytes);
}

/* It leaves as soon as the job runs. */
static bool has_credit(const struct lead *lead)
{
    const struct subscription *subscription = &lead->subscription;

    return subscription_may_take(subscription) && lead->waiting.n < subscription->credit_messages &&
           (int64_t)lead->waiting.bytes < subscription->credit_bytes;
}

/* freed: what has gone to make room for it. */
static bool memory_allows(const struct lead *lead, const struct waiting *w, size_t freed)
{
    struct receiver *r = lead->attachment->receiver;

    if (w->held > freed && !has_credit(lead) && !call_sends_ahead(r->call))
        return false;
    return inbox_hold(r).code == ERR_OK;
}

/* ---- the job ---- */

static void tell_missed(struct lead *lead)
{
    struct subscription_gap gap = {.partition = -1,
                                   .missing_from = -1,
                                   .goes_on_at = -1,
                                   .count = lead->waiting.missed,
                                   .text = "the messaging backend has lost messages"};
    bool unknown = lead->waiting.gap, known = gap.count > 0;

    lead->waiting.missed = 0;
    lead->waiting.gap = false;
    if (known)
        subscription_gap(&lead->subscription, &gap);
    gap.count = 0;
    if (unknown)
        subscription_gap(&lead->subscription, &gap);
}

static void deliver(struct lead *lead)
{
    struct subscription *subscription = &lead->subscription;

    while (lead->waiting.first != NULL && subscription->state == SUB_RUNNING &&
           subscription_may_take(subscription)) {
        struct incoming_batch *batch = take_first(lead);

        waiting_of(batch)->held -= batch->bytes; /* the inbox counts them */
        lead->attachment->receiver->line_bytes -= batch->bytes;
        subscription_take(subscription, 1, batch->bytes);
        subscription_deliver(subscription, batch);
    }
    while (lead->waiting.first != NULL && subscription->state != SUB_RUNNING)
        free_batch(take_first(lead));
    (void)inbox_hold(lead->attachment->receiver); /* not more than before */
}

static void run(struct job *job)
{
    struct lead *lead = CONTAINER_OF(job, struct lead, waiting.job);
    struct receiver *r = lead->attachment->receiver;
    struct subscription *subscription = &lead->subscription;

    lead->waiting.landed = false;
    if (subscription->state == SUB_OPENING && lead->waiting.stands)
        subscription_opened(subscription);
    if (subscription->state == SUB_RUNNING)
        tell_missed(lead);
    if (lead->waiting.overflowed)
        receiver_end(r, err_about(ERR_RESOURCE_EXHAUSTED, "when_full",
                                  "the receiver was too slow: no more messages may wait for one "
                                  "of its identities, and its stream ends then"));
    deliver(lead);
    receiver_look(r);
    if (lead->waiting.leaving && !lead->waiting.landed)
        subscription_closed(subscription, lead->waiting.err);
}

static void look(struct lead *lead)
{
    if (lead->waiting.landed)
        return;
    lead->waiting.landed = true;
    lead->waiting.job.run = run;
    worker_land(lead->subscription.home, &lead->waiting.job);
}

/* ---- for the sources ---- */

void waiting_stands(struct lead *lead)
{
    lead->waiting.stands = true;
    look(lead);
}

void waiting_add(struct lead *lead, const struct incoming *message)
{
    struct receiver *r = lead->attachment->receiver;
    bool keeps_old = r->when_full == FULL_NEWEST || r->when_full == FULL_END;
    size_t freed = r->when_full == FULL_LATEST ? drop_replaced(lead, key_of(message)) : 0;
    struct waiting *w = copy_of(message, r);

    look(lead);
    while (is_full(lead, w->batch.bytes) || !memory_allows(lead, w, freed)) {
        if (keeps_old || lead->waiting.first == NULL) {
            lead->waiting.overflowed = r->when_full == FULL_END;
            drop(lead, &w->batch, DROP_NEWEST);
            return;
        }
        freed += drop(lead, take_first(lead), DROP_OLDEST);
    }
    append(lead, &w->batch);
}

void waiting_missed(struct lead *lead, uint64_t messages)
{
    lead->waiting.missed += messages;
    lead->waiting.gap = lead->waiting.gap || messages == 0;
    look(lead);
}

void waiting_granted(struct lead *lead, uint32_t messages, uint64_t bytes)
{
    subscription_granted(&lead->subscription, messages, bytes);
    if (lead->waiting.first != NULL)
        look(lead);
}

void waiting_part(struct lead *lead, struct err err)
{
    lead->waiting.leaving = true;
    lead->waiting.err = err;
    look(lead);
}
