/* Kept messages: what was sent of them, until the client confirms it. Each is settled by itself, at
 * its source; settlements of a stream overlap, so that many cost the time of one.
 *
 *   sent       a delivery, in the order of sequences
 *   confirmed  taken out, settled; the source's answer frees it and owes its lead one credit
 *   not ours   the source says that somebody else has it: taken out, and not to be confirmed
 *   closing    what is not confirmed is given back by the source; the oldest as one that failed */
#include "patterns/multicast_registry/receiver.h"

#include <stdlib.h>
#include <string.h>

enum { GRANT_AT_ONCE = ATTACHMENT_MESSAGES / 2 };

/* ---- the list ---- */

static struct delivery *take_spare(struct receiver *r)
{
    struct delivery *d = r->spare;

    if (d == NULL)
        return arena_zalloc(call_arena(r->call), sizeof *d);
    r->spare = d->next;
    memset(d, 0, offsetof(struct delivery, id));
    return d;
}

static void give_spare(struct receiver *r, struct delivery *d)
{
    d->next = r->spare;
    r->spare = d;
}

void kept_forget(struct delivery *d)
{
    if (d->lent)
        d->lead->lent--;
    else
        d->lead->out--;
    give_spare(d->receiver, d);
}

static void append(struct receiver *r, struct delivery *d)
{
    d->prev = r->last;
    d->next = NULL;
    if (r->last != NULL)
        r->last->next = d;
    else
        r->first = d;
    r->last = d;
    r->unsettled++;
    counter_add(&r->multicast->stats.unsettled, 1);
}

static void take_out(struct receiver *r, struct delivery *d)
{
    if (d->prev != NULL)
        d->prev->next = d->next;
    else
        r->first = d->next;
    if (d->next != NULL)
        d->next->prev = d->prev;
    else
        r->last = d->prev;
    r->unsettled--;
    counter_add(&r->multicast->stats.unsettled, UINT64_MAX); /* a gauge: minus one */
}

/* ---- credit ---- */

void kept_grant(struct lead *lead)
{
    const struct receiver *r = attachment_of(lead)->receiver;
    uint64_t bytes = lead->owed_bytes;
    uint32_t n = lead->owed;

    if (n == 0 || r->ending || r->draining || lead->subscription.state != SUB_RUNNING ||
        (lead->out > 0 && n < GRANT_AT_ONCE))
        return;
    lead->owed = 0;
    lead->owed_bytes = 0;
    lead_source(lead)->grant(lead_backend(lead), &lead->subscription, n, bytes);
}

/* One message less is out. */
static void owe(const struct delivery *d)
{
    struct lead *lead = d->lead;

    if (d->lent) {
        lead->lent--;
    } else {
        lead->out--;
        lead->owed++;
    }
    kept_grant(lead);
}

void kept_lend(struct delivery *d)
{
    struct lead *lead = d->lead;

    if (d->lent || lead->lent == DYING_MESSAGES)
        return;
    d->lent = true;
    lead->lent++;
    lead->out--;
    lead->owed++;
    kept_grant(lead);
}

/* ---- settlement ---- */

static void settled(struct op *op)
{
    struct delivery *d = CONTAINER_OF(op, struct delivery, settle.op);
    struct receiver *r = d->receiver;
    struct lead *lead = d->lead;
    bool confirmed = d->item.how == SETTLE_DONE;

    r->settling--;
    if (confirmed && d->sequence > 0 && op->err.code == ERR_OK && d->item.err.code == ERR_OK) {
        counter_add(&r->multicast->stats.confirmed, 1);
        telling_start(d);
    }
    lead->settling--;
    owe(d);
    give_spare(r, d);
    attachment_settled(attachment_of(lead));
    if (confirmed)
        receiver_look(r);
}

/* Behind the last step of its last settlement: the receiver may go. */
static void parted(struct op_group *group)
{
    receiver_look(CONTAINER_OF(group, struct parting, group)->receiver);
}

void kept_init(struct receiver *r)
{
    struct arena *arena = call_arena(r->call);

    r->parting = arena_alloc(arena, sizeof *r->parting);
    r->parting->receiver = r;
    op_group_init(&r->parting->group, r->multicast->base.home, arena, 0);
    r->parting->group.idle = parted;
}

void kept_settle(struct delivery *d, enum settle_how how)
{
    struct receiver *r = d->receiver;

    r->settling++;
    d->lead->settling++;
    d->item.how = how;
    d->settle.subscription = &d->lead->subscription;
    d->settle.items = &d->item;
    d->settle.n = 1;
    if (how == SETTLE_DONE)
        call_start(r->call, &d->settle.op, settled);
    else
        op_start(&d->settle.op, &r->parting->group, settled);
    r->multicast->plan.settling->settle(r->multicast->durability, &d->settle);
}

static void confirm(struct delivery *d)
{
    take_out(d->receiver, d);
    kept_settle(d, SETTLE_DONE);
}

struct delivery *kept_take(struct lead *lead, const struct incoming *message)
{
    struct receiver *r = attachment_of(lead)->receiver;
    struct delivery *d = take_spare(r);

    d->receiver = r;
    d->lead = lead;
    d->item.token = message->token;
    lead->out++;
    return d;
}

bool kept_is_replaced(const struct incoming_batch *batch, size_t at)
{
    struct slice key = travel_header(&batch->items[at], MULTICAST_HEADER_COLLAPSE);

    if (key.len == 0)
        return false;
    for (const struct incoming_batch *b = batch; b != NULL; b = inbox_next(b), at = SIZE_MAX) {
        for (size_t i = at + 1; b->subscription == batch->subscription && i < b->n; i++) {
            if (!slice_equal(travel_header(&b->items[i], MULTICAST_HEADER_COLLAPSE), key))
                continue;
            counter_add(&attachment_of(lead_of(batch))->receiver->multicast->stats.replaced, 1);
            return true;
        }
    }
    return false;
}

bool kept_is_over(struct lead *lead, const struct incoming *message, int64_t now_ms)
{
    int64_t expires_ms = travel_number(message, MULTICAST_HEADER_EXPIRES);

    if (expires_ms == 0 || now_ms < expires_ms)
        return false;
    counter_add(&attachment_of(lead)->receiver->multicast->stats.expired, 1);
    return true;
}

bool kept_has_failed(const struct lead *lead, const struct incoming *message)
{
    return message->attempt > attachment_of(lead)->receiver->multicast->settings.max_deliveries;
}

void kept_sent(struct lead *lead, const struct incoming *message, int64_t sequence)
{
    struct delivery *d = kept_take(lead, message);
    struct slice id = travel_id(message);

    d->sequence = sequence;
    if (id.len <= sizeof d->id) {
        d->id_len = (uint16_t)id.len;
        memcpy(d->id, id.data, id.len);
    }
    telling_note(d, message);
    append(attachment_of(lead)->receiver, d);
}

void kept_discard(struct lead *lead, const struct incoming *message)
{
    kept_settle(kept_take(lead, message), SETTLE_DONE);
}

bool kept_has_room(const struct receiver *r)
{
    return !r->draining && r->unsettled < r->max_in_flight;
}

/* ---- what the client confirms ---- */

size_t kept_through(struct receiver *r, int64_t sequence)
{
    size_t n = 0;

    while (r->first != NULL && r->first->sequence <= sequence) {
        confirm(r->first);
        n++;
    }
    return n;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Acknowledgements mostly come in the order of sending. */
void kept_sequences(struct receiver *r, int64_t *sequences, size_t n)
{
    struct delivery *d = r->first;

    for (size_t i = 1; i < n; i++) {
        if (sequences[i] < sequences[i - 1]) {
            qsort(sequences, n, sizeof *sequences, by_number);
            break;
        }
    }
    for (size_t i = 0; i < n && d != NULL;) {
        struct delivery *next = d->next;

        if (d->sequence > sequences[i]) {
            i++;
            continue;
        }
        if (d->sequence == sequences[i])
            confirm(d);
        d = next;
    }
}

void kept_named(struct receiver *r, const struct name_set *ids, const struct name_set *identities,
                bool *known)
{
    for (struct delivery *d = r->first, *next; d != NULL; d = next) {
        size_t id = name_set_find(ids, slice_of(d->id, d->id_len));
        struct slice identity = attachment_identity(attachment_of(d->lead));

        next = d->next;
        if (id == ids->n ||
            (identities->n > 0 && name_set_find(identities, identity) == identities->n))
            continue;
        known[id] = true;
        confirm(d);
    }
}

/* ---- what is ours no longer ---- */

/* If nobody ever confirms it, what is behind it shall come in the end. The others, which the client
 * may not have looked at, come again as they were; so do all if it is the server that goes. Where
 * giving back is an attempt by itself, none is added. */
void kept_fail_oldest(struct lead *lead)
{
    struct receiver *r = attachment_of(lead)->receiver;
    struct delivery *d = r->first;

    if (lead->kind != LEAD_QUEUE || lead->subscription.state != SUB_RUNNING || r->draining ||
        !r->multicast->plan.settling->release_is_free)
        return;
    while (d != NULL && d->lead != lead)
        d = d->next;
    if (d == NULL)
        return;
    take_out(d->receiver, d);
    kept_settle(d, SETTLE_RETRY);
}

/* Those that are being settled come to their end by themselves. */
void kept_let_go(struct lead *lead)
{
    struct receiver *r = attachment_of(lead)->receiver;

    if (lead->kind != LEAD_QUEUE)
        return;
    for (struct delivery *d = r->first, *next; d != NULL; d = next) {
        next = d->next;
        if (d->lead != lead)
            continue;
        take_out(r, d);
        kept_forget(d);
    }
    given_up_let_go(lead);
}

static bool is_named(const struct delivery *d, const struct subscription_move *move)
{
    if (move->n_tokens == 0)
        return true;
    for (size_t i = 0; i < move->n_tokens; i++) {
        if (move->tokens[i] == d->item.token)
            return true;
    }
    return false;
}

void kept_moved(struct subscription *subscription, const struct subscription_move *move)
{
    struct lead *lead = CONTAINER_OF(subscription, struct lead, subscription);
    struct receiver *r = attachment_of(lead)->receiver;

    if (move->kind != MOVE_LOST)
        return;
    for (struct delivery *d = r->first, *next; d != NULL; d = next) {
        next = d->next;
        if (d->lead != lead || !is_named(d, move))
            continue;
        take_out(r, d);
        owe(d);
        give_spare(r, d);
    }
    receiver_look(r);
}
