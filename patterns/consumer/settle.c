/* Settlement: from what a client names to what the source is told.
 *
 * A delivery that is being settled is SETTLING: it keeps its place in the member's ring, so that
 * settled_through tells only of what the source has. */
#include "patterns/consumer/attempts.h"
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <time.h>

/* One settle operation of the source. */
struct settlements {
    struct settle settle;
    struct arena memory; /* holds this struct */
    struct feed *feed;
    struct receipt *receipt; /* NULL: nobody waits */
    struct delivery **deliveries;
};

int64_t unix_ms_of(uint64_t monotonic_ns)
{
    struct timespec now;
    int64_t ahead = ((int64_t)monotonic_ns - (int64_t)clock_now_ns()) / (int64_t)NS_PER_MS;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / (long)NS_PER_MS + ahead;
}

/* ---- receipts ---- */

void receipt_init(struct receipt *receipt, struct member *member, void (*done)(struct receipt *))
{
    *receipt = (struct receipt){.member = member, .done = done, .pending = 1};
    arena_init(&receipt->memory, NULL);
    member->receipts++;
}

/* Many fail for the same reason. */
static char *keep_text(struct receipt *receipt, const char *text)
{
    if (receipt->n_failures > 0) {
        char *last = receipt->failures[receipt->n_failures - 1]->error;

        if (strcmp(last, text) == 0)
            return last;
    }
    return arena_strdup(&receipt->memory, slice_str(text));
}

static pb_settlement_failure *new_failure(struct receipt *receipt, uint64_t sequence,
                                          struct err err)
{
    pb_settlement_failure *failure = arena_alloc(&receipt->memory, sizeof *failure);

    prism__patterns__consumer__settlement_failure__init(failure);
    failure->sequence = (int64_t)sequence;
    failure->code = (int32_t)err.code;
    failure->error = keep_text(receipt, err.text != NULL ? err.text : "");
    if (receipt->n_failures == receipt->cap) {
        size_t cap = receipt->cap * 2 + 8;
        pb_settlement_failure **grown = arena_alloc(&receipt->memory, cap * sizeof(void *));

        if (receipt->n_failures > 0)
            memcpy(grown, receipt->failures, receipt->n_failures * sizeof(void *));
        receipt->failures = grown;
        receipt->cap = cap;
    }
    receipt->failures[receipt->n_failures++] = failure;
    return failure;
}

void receipt_fail(struct receipt *receipt, const struct delivery *delivery, struct err err)
{
    if (receipt != NULL)
        new_failure(receipt, member_sequence(receipt->member, delivery), err);
}

void receipt_enter(struct receipt *receipt)
{
    if (receipt != NULL)
        receipt->pending++;
}

void receipt_leave(struct receipt *receipt)
{
    if (receipt != NULL && --receipt->pending == 0)
        receipt->done(receipt);
}

/* ---- which deliveries ---- */

struct chosen {
    struct delivery **items;
    size_t n;
};

static void choose(struct receipt *receipt, uint64_t sequence, struct chosen *chosen)
{
    struct member *member = receipt->member;
    struct delivery *delivery = settling_find(&member->settling, sequence);

    if (delivery != NULL && delivery->state == DELIVERY_OUT) {
        delivery->state = DELIVERY_SETTLING;
        chosen->items[chosen->n++] = delivery;
        return;
    }
    if (delivery == NULL && member_lost(member, sequence)) {
        counter_add(&member->feed->consumer->stats.late, 1);
        new_failure(receipt, sequence,
                    err_make(ERR_ABORTED, "no longer this subscription's: it was taken away"));
        return;
    }
    new_failure(receipt, sequence,
                err_make(ERR_NOT_FOUND, "there is no such open delivery: it was not sent, or is "
                                        "settled already"));
}

static void choose_by_ids(struct receipt *receipt, const struct which *which, struct chosen *chosen)
{
    const uint64_t *sequences = member_sequences_of_ids(receipt->member, &receipt->memory,
                                                        which->message_ids, which->n_message_ids);

    for (size_t i = 0; i < which->n_message_ids; i++) {
        if (sequences[i] != 0) {
            choose(receipt, sequences[i], chosen);
            continue;
        }

        pb_settlement_failure *failure =
            new_failure(receipt, 0,
                        err_make(ERR_FAILED_PRECONDITION,
                                 "the identifier does not name exactly one open delivery"));

        failure->message_id = arena_strdup(&receipt->memory, slice_str(which->message_ids[i]));
    }
}

static struct chosen choose_all(struct receipt *receipt, const struct which *which)
{
    struct settling *settling = &receipt->member->settling;
    uint64_t behind = settling_through(settling); /* what is settled need not be looked for */
    uint64_t span = which->through > behind ? which->through - behind : 0;
    size_t most =
        which->n + which->n_message_ids + (span < settling->unsettled ? span : settling->unsettled);
    struct chosen chosen = {.items = arena_alloc(&receipt->memory, most * sizeof(void *))};

    for (size_t i = 0; i < which->n; i++)
        choose(receipt, (uint64_t)which->sequences[i], &chosen);
    if (which->n_message_ids > 0)
        choose_by_ids(receipt, which, &chosen);
    for (uint64_t s = settling_next(settling, 0); s != 0 && s <= which->through;
         s = settling_next(settling, s + 1)) {
        const struct delivery *delivery = settling_find(settling, s);

        if (delivery->state == DELIVERY_OUT)
            choose(receipt, s, &chosen);
    }
    return chosen;
}

/* ---- the source ---- */

/* Not settled: it stays where it was, or goes to somebody else. */
static void put_back(struct delivery *delivery)
{
    struct member *member = delivery->member;

    if (member != NULL && !member->leaving) {
        delivery->state = DELIVERY_OUT;
        return;
    }
    if (member != NULL && member->last_through >= member_sequence(member, delivery))
        member->last_through = member_sequence(member, delivery) - 1;
    member_release(delivery);
    delivery_give_way(delivery);
}

static void count_settled(struct feed *feed, enum settle_how how)
{
    struct consumer_stats *stats = &feed->consumer->stats;

    if (how == SETTLE_RETRY || how == SETTLE_RELEASE) {
        counter_add(how == SETTLE_RETRY ? &stats->retried : &stats->released, 1);
        return;
    }
    counter_add(&stats->settled, 1);
    feed->settled++;
}

static void one_settled(struct settlements *work, size_t i, struct err err)
{
    struct delivery *delivery = work->deliveries[i];
    struct delivery_more *more = more_of(delivery);
    struct feed *feed = work->feed;

    if (more != NULL && more->dead) {
        more->dead = false;
        feed->dying--;
    }
    if (err.code != ERR_OK)
        receipt_fail(work->receipt, delivery, err);
    if (err.code != ERR_OK && err.code != ERR_ABORTED &&
        work->settle.items[i].how != SETTLE_RELEASE) {
        put_back(delivery);
        return;
    }
    if (err.code == ERR_OK) {
        count_settled(feed, work->settle.items[i].how);
        if (work->settle.items[i].how == SETTLE_DONE)
            attempts_settled(delivery);
        if (work->receipt != NULL)
            work->receipt->settled++;
    } else {
        counter_add(&feed->consumer->stats.late, 1);
    }
    member_release(delivery);
    delivery_over(delivery);
}

static void source_settled(struct op *op)
{
    struct settle *settle = CONTAINER_OF(op, struct settle, op);
    struct settlements *work = CONTAINER_OF(settle, struct settlements, settle);
    struct feed *feed = work->feed;
    struct receipt *receipt = work->receipt;
    struct arena memory = work->memory;
    uint64_t settled = feed->settled;

    for (size_t i = 0; i < settle->n; i++)
        one_settled(work, i, op->err.code != ERR_OK ? op->err : settle->items[i].err);
    if (feed->settled != settled)
        feed->last_settled_ms = (uint64_t)unix_ms_of(feed->consumer->base.home->now_ns);
    arena_clear(&memory);
    receipt_leave(receipt);
    feed_wake(feed);
}

static struct settlements *settlements_new(struct feed *feed, const struct chosen *chosen,
                                           struct receipt *receipt)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct settlements *work = arena_zalloc(&memory, sizeof *work);

    work->memory = memory;
    work->feed = feed;
    work->receipt = receipt;
    work->deliveries = arena_alloc(&work->memory, chosen->n * sizeof(void *));
    memcpy(work->deliveries, chosen->items, chosen->n * sizeof(void *));
    work->settle.subscription = &feed->subscription;
    work->settle.items = arena_alloc(&work->memory, chosen->n * sizeof(struct settlement));
    work->settle.n = chosen->n;
    return work;
}

static void settle(struct feed *feed, const struct chosen *chosen, enum settle_how how,
                   uint64_t delay_ms, struct receipt *receipt)
{
    const struct message_settling *settling = feed->from->settling;
    struct settlements *work;

    if (chosen->n == 0)
        return;
    work = settlements_new(feed, chosen, receipt);
    for (size_t i = 0; i < chosen->n; i++) {
        work->settle.items[i] = (struct settlement){
            .token = delivery_token(chosen->items[i]), .how = how, .delay_ms = delay_ms};
        if (lane_item_of(chosen->items[i]) != NULL)
            lanes_expect(&feed->lanes, lane_item_of(chosen->items[i]));
    }
    receipt_enter(receipt);
    op_start(&work->settle.op, &feed->group, source_settled);
    work->settle.op.arena = &work->memory;
    if (feed->closing || feed->closed)
        op_finish(&work->settle.op,
                  err_make(ERR_ABORTED, "no longer this subscription's: it has ended"));
    else if (settling == NULL)
        op_finish(&work->settle.op, ERR_NONE);
    else
        settling->settle(feed->backend, &work->settle);
}

void settle_one(struct delivery *delivery, enum settle_how how, struct receipt *receipt)
{
    struct chosen chosen = {.items = &delivery, .n = 1};

    delivery->state = DELIVERY_SETTLING;
    settle(parcel_of(delivery)->feed, &chosen, how, 0, receipt);
}

void settle_frame(struct member *member, struct frame *frame)
{
    struct chosen chosen = {.items = arena_alloc(&frame->arena, frame->n * sizeof(void *))};

    for (size_t i = 0; i < frame->n; i++) {
        struct delivery *delivery =
            settling_find(&member->settling, (uint64_t)frame->messages[i].sequence);

        if (delivery == NULL || delivery->state != DELIVERY_OUT)
            continue;
        member_release(delivery);
        delivery->state = DELIVERY_SETTLING;
        chosen.items[chosen.n++] = delivery;
    }
    settle(member->feed, &chosen, SETTLE_DONE, 0, NULL);
}

void settle_all(struct feed *feed, struct delivery **deliveries, size_t n, enum settle_how how)
{
    const struct chosen chosen = {.items = deliveries, .n = n};

    settle(feed, &chosen, how, 0, NULL);
}

/* ---- what clients say ---- */

void settle_acknowledge(struct receipt *receipt, const struct which *which)
{
    struct chosen chosen = choose_all(receipt, which);

    settle(receipt->member->feed, &chosen, SETTLE_DONE, 0, receipt);
}

static void release_here(struct delivery *delivery, struct receipt *receipt)
{
    counter_add(&parcel_of(delivery)->feed->consumer->stats.released, 1);
    member_release(delivery);
    delivery_give_way(delivery);
    receipt->settled++;
}

static void park_here(struct delivery *delivery, uint64_t delay_ms, struct receipt *receipt)
{
    if (!delivery_can_wait(delivery, delay_ms)) {
        receipt_fail(receipt, delivery,
                     err_about(ERR_RESOURCE_EXHAUSTED, "max_parked",
                               "as many messages of the group as may wait for a retry"));
        put_back(delivery);
        return;
    }
    counter_add(&parcel_of(delivery)->feed->consumer->stats.retried, 1);
    receipt->settled++;
    member_release(delivery);
    delivery_set_aside(delivery, delay_ms);
}

static void refuse_death(struct delivery *delivery, struct receipt *receipt)
{
    receipt_fail(receipt, delivery,
                 err_make(ERR_FAILED_PRECONDITION, parcel_of(delivery)->feed->letters
                                                       ? "it is a dead letter already"
                                                       : "no backend in slot `dead_letter_queue`"));
    put_back(delivery);
}

/* Retries wait in the source where it can, so that their attempts survive this process. Where order
 * is kept per key they wait here: the key's lane stays theirs. */
static bool waits_here(const struct delivery *delivery, uint64_t delay_ms)
{
    const struct feed *feed = parcel_of(delivery)->feed;
    const struct message_settling *settling = feed->from->settling;

    if (!settling->single || delivery->leaving)
        return !settling->single;
    return feed->order != ORDER_AS_READY || (delay_ms > 0 && !settling->delays);
}

/* True: the source is to be told. */
static bool reject_one(struct delivery *delivery, struct receipt *receipt,
                       pb_disposition disposition, uint64_t delay_ms, const char *reason)
{
    bool dies = disposition == CONSUMER_PB(DISPOSITION__DEAD_LETTER);
    bool comes_again = !dies && disposition != CONSUMER_PB(DISPOSITION__DROP);

    if (disposition == CONSUMER_PB(DISPOSITION__RELEASE))
        release_here(delivery, receipt);
    else if (dies && message_is_null(parcel_of(delivery)->feed->dead_topic))
        refuse_death(delivery, receipt);
    else if (dies || (comes_again && delivery_is_last(delivery)))
        delivery_die(delivery, delivery_attempt(delivery), reason, receipt);
    else if (comes_again && waits_here(delivery, delay_ms))
        park_here(delivery, delay_ms, receipt);
    else
        return true;
    return false;
}

/* Those of a parcel follow one another as a rule: what they open of it is packed once. */
void settle_reject(struct receipt *receipt, const struct which *which, pb_disposition disposition,
                   uint64_t delay_ms, const char *reason)
{
    struct feed *feed = receipt->member->feed;
    struct chosen chosen = choose_all(receipt, which);
    struct chosen source = {.items = chosen.items}; /* filled behind what is read */
    struct parcel *held = NULL;
    enum settle_how how =
        disposition == CONSUMER_PB(DISPOSITION__DROP) ? SETTLE_DONE : SETTLE_RETRY;

    for (size_t i = 0; i < chosen.n; i++) {
        struct delivery *delivery = chosen.items[i];
        struct parcel *parcel = parcel_of(delivery);

        if (parcel != held) {
            parcel_hold(parcel);
            if (held != NULL)
                parcel_unhold(held);
            held = parcel;
        }
        if (reject_one(delivery, receipt, disposition, delay_ms, reason))
            source.items[source.n++] = delivery;
    }
    if (held != NULL)
        parcel_unhold(held);
    if (how == SETTLE_DONE)
        counter_add(&feed->consumer->stats.dropped, source.n);
    settle(feed, &source, how, delay_ms, receipt);
}

/* A delivery without a lease is its member's as long as that stands: there is nothing to move. */
struct extension settle_extend(struct receipt *receipt, const struct which *which,
                               uint64_t lease_ms)
{
    struct member *member = receipt->member;
    uint64_t until = member->feed->consumer->base.home->now_ns + lease_ms * NS_PER_MS;
    struct chosen chosen = choose_all(receipt, which);
    struct extension extension = {
        .n = (int32_t)chosen.n,
        .sequences = arena_alloc(&receipt->memory, chosen.n * sizeof *extension.sequences)};

    for (size_t i = 0; i < chosen.n; i++) {
        struct delivery *delivery = chosen.items[i];
        uint64_t sequence = member_sequence(member, delivery);

        delivery->state = DELIVERY_OUT;
        if (sequence > which->through)
            extension.sequences[extension.n_sequences++] = (int64_t)sequence;
        if (member->lease_ms == 0)
            continue;

        struct delivery_more *more = more_of(delivery);

        if (until > more->most_ns)
            until = more->most_ns;
        more->expires_ns = until;
    }
    if (chosen.n > 0 && member->lease_ms != 0)
        extension.expires_at_ms = unix_ms_of(until);
    return extension;
}
