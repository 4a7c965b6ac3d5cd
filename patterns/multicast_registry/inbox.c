/* Batches that wait until a frame has room for them. */
#include "patterns/multicast_registry/receiver.h"

enum { FEWEST_FAILURES = 16 };

void inbox_lost(struct receiver *r, uint64_t messages, enum drop_reason reason)
{
    r->dropped[reason] += (int64_t)messages;
    r->has_news = r->has_news || messages > 0;
    counter_add(&r->multicast->stats.dropped[reason], messages);
}

struct err inbox_hold(struct receiver *r)
{
    return call_hold(r->call, r->waiting_bytes + r->line_bytes + r->sent_bytes + r->dying_bytes);
}

static uint32_t count_left(const struct incoming_batch *batch)
{
    uint32_t n = 0;

    for (uint32_t i = batch->n - batch->left; i < batch->n; i++)
        n += lead_at(batch, i) != NULL;
    return n;
}

/* What comes from a queue and is not confirmed is given back to it. */
static void drop(struct receiver *r, int kind, struct incoming_batch *batch)
{
    if (kind == LEAD_TOPIC)
        inbox_lost(r, count_left(batch), DROP_ENDED);
    incoming_drop(batch, batch->left);
}

bool inbox_is_pressed(const struct receiver *r)
{
    return r->waiting_bytes > INBOX_PRESSED_BYTES && !call_sends_ahead(r->call);
}

static bool is_too_much(struct receiver *r, bool is_newest)
{
    return inbox_hold(r).code != ERR_OK ||
           (r->when_full == FULL_OLDEST && !is_newest && inbox_is_pressed(r));
}

/* Where memory has no room for what a topic has brought, the oldest goes: of other policies
 * messages wait in a line, and come with their memory. */
static void make_room(struct receiver *r, const struct incoming_batch *newest)
{
    struct inbox *inbox = &r->inboxes[LEAD_TOPIC];

    while (inbox->first != NULL && is_too_much(r, inbox->first == newest)) {
        inbox_lost(r, count_left(inbox->first), inbox->first == newest ? DROP_NEWEST : DROP_OLDEST);
        frame_release(r, LEAD_TOPIC, inbox->first->left);
    }
}

void inbox_take(struct receiver *r, int kind, struct incoming_batch *batch)
{
    struct inbox *inbox = &r->inboxes[kind];

    batch->holder = NULL;
    if (r->ending) {
        drop(r, kind, batch);
        return;
    }
    if (inbox->first == NULL)
        inbox->first = batch;
    else
        inbox->last->holder = batch;
    inbox->last = batch;
    r->waiting_bytes += inbox_bytes(batch);
    counter_add(&r->multicast->stats.received, batch->n);

    struct err err = ERR_NONE;

    if (kind == LEAD_TOPIC)
        make_room(r, batch);
    else
        err = inbox_hold(r);
    if (err.code != ERR_OK)
        receiver_end(r, err);
    else
        receiver_look(r);
}

void inbox_fail(struct receiver *r, const struct attachment *a, struct err err)
{
    pb_receive_failure *failure = arena_alloc(&r->failures_arena, sizeof *failure);

    if (r->failures.n == r->failures.room) {
        size_t room = r->failures.room > 0 ? r->failures.room * 2 : FEWEST_FAILURES;
        pb_receive_failure **at = arena_array(&r->failures_arena, room, sizeof *at);

        for (size_t i = 0; i < r->failures.n; i++)
            at[i] = r->failures.at[i];
        r->failures.at = at;
        r->failures.room = room;
    }
    prism__patterns__multicast_registry__receive_failure__init(failure);
    failure->identity = arena_strdup(&r->failures_arena, attachment_identity(a));
    failure->code = (int32_t)err.code;
    failure->error = arena_strdup(&r->failures_arena, slice_str(err.text));
    r->failures.at[r->failures.n++] = failure;
    receiver_note(r, err); /* of a Subscribe that has nothing left */
    r->has_news = true;
}

/* All of them read their topics from one source. */
void inbox_grant_sharers(const struct receiver *r, const struct incoming_batch *batch)
{
    const struct multicast *multicast = r->multicast;
    size_t each = batch->bytes / batch->n;

    for (uint32_t i = 0; i < batch->n; i++) {
        struct subscription *subscription = batch->sharers[i];

        if (subscription != NULL && subscription->state == SUB_RUNNING)
            multicast->plan.topic->source.grant(multicast->messaging, subscription, 1, each);
    }
}

/* The others stay. False: there are none who wait. */
static bool leave_batch(struct receiver *r, struct incoming_batch *batch, const struct lead *lead)
{
    uint32_t done = batch->n - batch->left;
    bool others = false;

    for (uint32_t i = 0; i < batch->n; i++) {
        if (lead_at(batch, i) == lead) {
            batch->sharers[i] = NULL;
            inbox_lost(r, i >= done, DROP_ENDED);
        }
        others = others || (i >= done && batch->sharers[i] != NULL);
    }
    return others;
}

static bool goes_with(struct receiver *r, struct incoming_batch *batch, const struct lead *lead)
{
    return batch->sharers != NULL ? !leave_batch(r, batch, lead) : lead_of(batch) == lead;
}

void inbox_forget(struct lead *lead)
{
    struct receiver *r = attachment_of(lead)->receiver;
    struct inbox *inbox = &r->inboxes[lead->kind];
    struct incoming_batch *kept = NULL, *batch, *next;

    for (batch = inbox->first, inbox->first = NULL; batch != NULL; batch = next) {
        next = inbox_next(batch);
        if (goes_with(r, batch, lead)) {
            if (kept == NULL)
                inbox->at = 0;
            r->waiting_bytes -= inbox_bytes(batch);
            if (batch->sharers != NULL)
                inbox_grant_sharers(r, batch); /* those who have had theirs */
            drop(r, lead->kind, batch);
            continue;
        }
        batch->holder = NULL;
        if (kept == NULL)
            inbox->first = batch;
        else
            kept->holder = batch;
        kept = batch;
    }
    inbox->last = kept;
    (void)inbox_hold(r); /* less than before: there is room */
}

void inbox_drop(struct receiver *r)
{
    for (int kind = 0; kind < LEAD_KINDS; kind++) {
        struct inbox *inbox = &r->inboxes[kind];

        while (inbox->first != NULL) {
            struct incoming_batch *batch = inbox->first;

            inbox->first = inbox_next(batch);
            drop(r, kind, batch);
        }
        inbox->at = 0;
    }
    r->waiting_bytes = 0;
    (void)inbox_hold(r);
}
