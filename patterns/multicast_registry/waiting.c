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
 * for does not wait, unless its stream is behind by more than INBOX_PRESSED_BYTES. Looking for a
 * key goes over what waits for the lead, and over nothing while the receiver is fast enough. */
#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/block.h"

#include <string.h>

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

static struct receiver *receiver_of(const struct line *line)
{
    return attachment_of(line->lead)->receiver;
}

struct line *waiting_open(struct lead *lead, size_t bytes)
{
    struct receiver *r = attachment_of(lead)->receiver;
    struct line *line = r->lines;

    if (line == NULL)
        line = arena_alloc(call_arena(r->call), bytes);
    else
        r->lines = line->next;
    memset(line, 0, bytes);
    line->lead = lead;
    lead->line = line;
    return line;
}

/* Nothing waits. */
static void close(struct line *line)
{
    struct receiver *r = receiver_of(line);
    struct lead *lead = line->lead;

    lead->line = NULL;
    line->next = r->lines;
    r->lines = line;
    subscription_closed(&lead->subscription, line->err);
}

static void count(struct line *line, const struct incoming_batch *batch)
{
    line->n++;
    line->bytes += batch->bytes;
    counter_add(&receiver_of(line)->multicast->stats.waiting, 1);
}

static void uncount(struct line *line, const struct incoming_batch *batch)
{
    line->n--;
    line->bytes -= batch->bytes;
    counter_add(&receiver_of(line)->multicast->stats.waiting, UINT64_MAX); /* a gauge: minus one */
}

static struct incoming_batch *take_first(struct line *line)
{
    struct incoming_batch *batch = line->first;

    line->first = batch->holder;
    uncount(line, batch);
    return batch;
}

static void append(struct line *line, struct incoming_batch *batch)
{
    count(line, batch);
    batch->holder = NULL;
    if (line->first == NULL)
        line->first = batch;
    else
        line->last->holder = batch;
    line->last = batch;
}

static struct slice key_of(const struct incoming *message)
{
    return travel_header(message, MULTICAST_HEADER_COLLAPSE);
}

/* Bytes that this makes free. */
static size_t drop(struct line *line, struct incoming_batch *batch, enum drop_reason reason)
{
    size_t held = waiting_of(batch)->held;

    free_batch(batch);
    inbox_lost(receiver_of(line), 1, reason);
    return held;
}

/* Each key waits once at most. Those without one have the identity's. */
static size_t drop_replaced(struct line *line, struct slice key)
{
    struct incoming_batch *before = NULL, *batch = line->first;

    while (batch != NULL && !slice_equal(key_of(batch->items), key)) {
        before = batch;
        batch = batch->holder;
    }
    if (batch == NULL)
        return 0;
    if (before == NULL)
        line->first = batch->holder;
    else
        before->holder = batch->holder;
    if (line->last == batch)
        line->last = before;
    uncount(line, batch);
    return drop(line, batch, DROP_REPLACED);
}

static bool is_full(const struct line *line, size_t bytes)
{
    const struct multicast_settings *settings = &receiver_of(line)->multicast->settings;

    return line->n > 0 &&
           (line->n >= settings->queue_messages || line->bytes + bytes > settings->queue_bytes);
}

/* It leaves as soon as the job runs. */
static bool has_credit(const struct line *line)
{
    const struct subscription *subscription = &line->lead->subscription;

    return subscription_may_take(subscription) && line->n < subscription->credit_messages &&
           (int64_t)line->bytes < subscription->credit_bytes;
}

/* freed: what has gone to make room for it. */
static bool memory_allows(const struct line *line, const struct waiting *w, size_t freed)
{
    struct receiver *r = receiver_of(line);

    bool leaves = has_credit(line) && !inbox_is_pressed(r);

    if (w->held > freed && !leaves && !call_sends_ahead(r->call))
        return false;
    return inbox_hold(r).code == ERR_OK;
}

/* ---- the job ---- */

static void tell_missed(struct line *line)
{
    struct subscription_gap gap = {.partition = -1,
                                   .missing_from = -1,
                                   .goes_on_at = -1,
                                   .count = line->missed,
                                   .text = "the messaging backend has lost messages"};
    bool unknown = line->gap, known = gap.count > 0;

    line->missed = 0;
    line->gap = false;
    if (known)
        subscription_gap(&line->lead->subscription, &gap);
    gap.count = 0;
    if (unknown)
        subscription_gap(&line->lead->subscription, &gap);
}

static void deliver(struct line *line)
{
    struct subscription *subscription = &line->lead->subscription;

    while (line->first != NULL && subscription->state == SUB_RUNNING &&
           subscription_may_take(subscription)) {
        struct incoming_batch *batch = take_first(line);

        waiting_of(batch)->held -= batch->bytes; /* the inbox counts them */
        receiver_of(line)->line_bytes -= batch->bytes;
        subscription_take(subscription, 1, batch->bytes);
        subscription_deliver(subscription, batch);
    }
    while (line->first != NULL && subscription->state != SUB_RUNNING)
        drop(line, take_first(line), DROP_ENDED);
    (void)inbox_hold(receiver_of(line)); /* not more than before */
}

static void run(struct job *job)
{
    struct line *line = CONTAINER_OF(job, struct line, job);
    struct receiver *r = receiver_of(line);
    struct subscription *subscription = &line->lead->subscription;

    line->landed = false;
    if (subscription->state == SUB_OPENING && line->stands)
        subscription_opened(subscription);
    if (subscription->state == SUB_RUNNING)
        tell_missed(line);
    if (line->overflowed)
        receiver_end(r, err_about(ERR_RESOURCE_EXHAUSTED, "when_full",
                                  "the receiver was too slow: no more messages may wait for one "
                                  "of its identities, and its stream ends then"));
    deliver(line);
    receiver_look(r);
    if (line->leaving && !line->landed)
        close(line);
}

static void look(struct line *line)
{
    if (line->landed)
        return;
    line->landed = true;
    line->job.run = run;
    worker_land(line->lead->subscription.home, &line->job);
}

/* ---- for the sources ---- */

void waiting_stands(struct line *line)
{
    line->stands = true;
    look(line);
}

void waiting_add(struct line *line, const struct incoming *message)
{
    struct receiver *r = receiver_of(line);
    bool keeps_old = r->when_full == FULL_NEWEST || r->when_full == FULL_END;
    size_t freed = r->when_full == FULL_LATEST ? drop_replaced(line, key_of(message)) : 0;
    struct waiting *w = copy_of(message, r);

    look(line);
    while (is_full(line, w->batch.bytes) || !memory_allows(line, w, freed)) {
        if (keeps_old || line->first == NULL) {
            line->overflowed = r->when_full == FULL_END;
            drop(line, &w->batch, DROP_NEWEST);
            return;
        }
        freed += drop(line, take_first(line), DROP_OLDEST);
    }
    append(line, &w->batch);
}

void waiting_missed(struct line *line, uint64_t messages)
{
    line->missed += messages;
    line->gap = line->gap || messages == 0;
    look(line);
}

void waiting_granted(struct line *line, uint32_t messages, uint64_t bytes)
{
    subscription_granted(&line->lead->subscription, messages, bytes);
    if (line->first != NULL)
        look(line);
}

void waiting_part(struct line *line, struct err err)
{
    line->leaving = true;
    line->err = err;
    look(line);
}
