/* What becomes of deliveries when the source takes them, or their partition, away. */
#include "patterns/consumer/attempts.h"
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"

#include "pool/worker.h"
#include "src/base/container.h"

static bool is_meant(const struct subscription_move *move, const struct delivery *delivery)
{
    for (size_t i = 0; i < move->n_partitions; i++) {
        if (move->partitions[i] == delivery_partition(delivery))
            return true;
    }
    for (size_t i = 0; i < move->n_tokens; i++) {
        if (move->tokens[i] == delivery_token(delivery))
            return true;
    }
    return move->n_partitions == 0 && move->n_tokens == 0;
}

static pb_revoke_reason reason_of(enum move_reason reason)
{
    switch (reason) {
    case MOVED_BY_SEEK:
        return CONSUMER_PB(REVOKE_REASON__SEEK);
    case MOVED_BY_LEASE:
        return CONSUMER_PB(REVOKE_REASON__LEASE_EXPIRED);
    default:
        return CONSUMER_PB(REVOKE_REASON__REBALANCED);
    }
}

/* Takes it out of the queue of those that are ready. */
static void unready(struct feed *feed, struct delivery *delivery)
{
    struct delivery **at = &feed->ready;

    while (*at != delivery)
        at = &(*at)->next;
    *at = delivery->next;
    if (*at == NULL)
        feed->ready_end = at;
    feed->ready_count--;
}

/* Out of what it waits in; false: a member has it, or its settlement is under way. */
static bool take_out(struct feed *feed, struct delivery *delivery)
{
    struct worker *home = feed->consumer->base.home;

    switch ((enum delivery_state)delivery->state) {
    case DELIVERY_ARRIVING:
        attempts_take_out(delivery);
        return true;
    case DELIVERY_WAITING:
        lanes_remove(&feed->lanes, lane_item_of(delivery));
        return true;
    case DELIVERY_READY:
        unready(feed, delivery);
        return true;
    case DELIVERY_PARKED:
        timer_disarm(&home->timers, &more_of(delivery)->timer);
        feed->parked_count--;
        gauge_lower(&feed->consumer->stats.parked, 1);
        return true;
    case DELIVERY_FETCHING:
        return object_take_out(delivery);
    case DELIVERY_RECALLING:
        return recall_take_out(delivery);
    default:
        return false;
    }
}

/* Settled like any other, but not by its member. */
static void settled_by_token(struct feed *feed, struct delivery *delivery)
{
    feed->settled++;
    feed->last_settled_ms = (uint64_t)unix_ms_of(feed->consumer->base.home->now_ns);
    member_release(delivery);
    delivery_over(delivery);
}

static void lose(struct delivery *delivery, const struct subscription_move *move)
{
    struct feed *feed = parcel_of(delivery)->feed;
    bool settled = move->reason == MOVED_BY_SETTLING;

    if (delivery->state == DELIVERY_OVER)
        return;
    if (settled && (delivery->state == DELIVERY_OUT || take_out(feed, delivery))) {
        settled_by_token(feed, delivery);
        return;
    }
    if (delivery->state == DELIVERY_OUT)
        member_revoke(delivery, reason_of(move->reason));
    else if (!take_out(feed, delivery)) {
        delivery->leaving = true; /* its own outcome tells */
        return;
    }
    /* With a token it may as well be settled: the source does not always tell. */
    counter_add(&feed->consumer->stats.lost, !delivery->ticketed);
    delivery_over(delivery);
}

static void leave(struct delivery *delivery, const struct subscription_move *move)
{
    (void)move;
    if (delivery->state == DELIVERY_OVER)
        return;
    delivery->leaving = true;
    if (take_out(parcel_of(delivery)->feed, delivery))
        delivery_hand_back(delivery);
}

void feed_moved(struct subscription *subscription, const struct subscription_move *move)
{
    struct feed *feed = CONTAINER_OF(subscription, struct feed, subscription);
    void (*go)(struct delivery *, const struct subscription_move *) =
        move->kind == MOVE_LOST ? lose : leave;

    if (move->kind != MOVE_LEAVING && move->n_tokens == 0)
        attempts_forget(feed, move->partitions, move->n_partitions);
    feed_partitions_moved(feed, move);
    if (move->kind == MOVE_GAINED) {
        feed_wake(feed);
        return;
    }
    for (struct parcel *parcel = feed->parcels, *next; parcel != NULL; parcel = next) {
        next = parcel->next;
        parcel_hold(parcel);
        /* Backwards: of a lane the later ones go before the first, which would start them. */
        for (uint32_t i = parcel->n; i-- > 0;) {
            if (is_meant(move, parcel_at(parcel, i)))
                go(parcel_at(parcel, i), move);
        }
        parcel_unhold(parcel);
    }
    feed_wake(feed);
}
