/* Deliveries of which a client has a token, before they go to somebody else here: the source makes
 * their tickets void first, and says whether they have been settled meanwhile.
 *
 *   delivery_ready, delivery_die -> RECALLING -> recalled: the same again
 *                                             -> it was settled, or is lost: over
 *                                             -> failed: told in the receipt, or once more, in a
 *                                                while: nobody gets it before
 *
 * All that wait go in one operation, one at a time. */
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

enum { AGAIN_MS = 200 };

struct recall_work {
    struct recall recall;
    struct arena memory; /* holds this struct */
    struct feed *feed;
    struct delivery **deliveries;
};

static void put(struct delivery *delivery)
{
    struct recalls *recalls = &parcel_of(delivery)->feed->recalls;

    delivery->state = DELIVERY_RECALLING;
    more_of(delivery)->recall_sent = false;
    delivery->next = NULL;
    *recalls->end = delivery;
    recalls->end = &delivery->next;
    recalls->n++;
}

void recall_forget(struct recalls *recalls)
{
    recalls->first = NULL;
    recalls->end = &recalls->first;
    recalls->n = 0;
}

/* ---- outcomes ---- */

static void refuse(struct delivery *delivery, struct receipt *receipt)
{
    counter_add(&parcel_of(delivery)->feed->consumer->stats.late, receipt != NULL);
    receipt_fail(receipt, delivery,
                 err_make(ERR_ABORTED, "no longer this subscription's: a token has settled it, or "
                                       "it was taken away"));
}

/* RECALLING no longer. The end of the feed waited for it, where it was to die. */
static void leave_recalls(struct delivery *delivery)
{
    if (more_of(delivery)->dies)
        parcel_of(delivery)->feed->dying--;
    more_of(delivery)->dies = false;
}

static void go_on(struct delivery *delivery)
{
    struct delivery_more *more = more_of(delivery);
    const char *reason = more->dying_of;
    bool dies = more->dies;

    leave_recalls(delivery);
    delivery->ticketed = false;
    more->dying_of = NULL;
    if (dies)
        delivery_die(delivery, more->deliveries, reason, more->receipt);
    else
        delivery_ready(delivery, more->in_front);
}

/* Whoever rejected it is there, and is told; else nobody waits for it any more. True: it stays
 * where it was. */
static bool is_told(struct delivery *delivery, struct err err)
{
    struct receipt *receipt = more_of(delivery)->receipt;
    bool stays = delivery->member != NULL && !delivery->member->leaving;

    if (receipt == NULL)
        return false;
    receipt_fail(receipt, delivery, err);
    more_of(delivery)->receipt = NULL;
    if (stays) {
        leave_recalls(delivery);
        delivery->state = DELIVERY_OUT;
    } else {
        member_release(delivery);
    }
    receipt_leave(receipt);
    return stays;
}

/* As a rule it stays what it was. */
static void set_token(struct delivery *delivery, uint64_t token)
{
    if (delivery_token(delivery) != token)
        message_of(delivery)->token = token;
}

static void one_recalled(struct recall_work *work, size_t i, struct err op_err)
{
    struct delivery *delivery = work->deliveries[i];
    const struct recalled *item = &work->recall.items[i];
    struct feed *feed = work->feed;
    struct receipt *receipt = more_of(delivery)->receipt;
    struct err err = op_err.code != ERR_OK ? op_err : item->err;

    if (err.code == ERR_OK)
        set_token(delivery, item->token);
    if (feed->closing || feed->closed || err.code == ERR_ABORTED) {
        leave_recalls(delivery);
        refuse(delivery, receipt);
        member_release(delivery);
        delivery_over(delivery);
    } else if (err.code == ERR_OK) {
        go_on(delivery);
    } else {
        if (!is_told(delivery, err))
            put(delivery);
        return;
    }
    receipt_leave(receipt);
}

static void again(struct timer *timer)
{
    struct feed *feed = CONTAINER_OF(timer, struct feed, recalls.timer);

    feed_wake(feed);
}

static void recalled(struct op *op)
{
    struct recall *recall = CONTAINER_OF(op, struct recall, op);
    struct recall_work *work = CONTAINER_OF(recall, struct recall_work, recall);
    struct feed *feed = work->feed;
    struct worker *home = feed->consumer->base.home;
    struct arena memory = work->memory;

    feed->recalls.under_way = false;
    for (size_t i = 0; i < recall->n; i++)
        one_recalled(work, i, op->err);
    if (op->err.code != ERR_OK && feed->recalls.n > 0)
        timer_arm(&home->timers, &feed->recalls.timer, home->now_ns + AGAIN_MS * NS_PER_MS, again);
    arena_clear(&memory);
    feed_wake(feed);
}

/* ---- beginning ---- */

bool recall_before_ready(struct delivery *delivery, bool in_front)
{
    struct delivery_more *more;

    if (!delivery->ticketed)
        return false;
    more = delivery_more(delivery);
    more->in_front = in_front;
    more->dies = false;
    more->receipt = NULL;
    delivery->member = NULL;
    put(delivery);
    feed_wake(parcel_of(delivery)->feed);
    return true;
}

bool recall_before_death(struct delivery *delivery, const char *reason, struct receipt *receipt)
{
    struct delivery_more *more;

    if (!delivery->ticketed)
        return false;
    more = delivery_more(delivery);
    more->dies = true;
    parcel_of(delivery)->feed->dying++;
    more->dying_of = arena_strdup(&parcel_of(delivery)->memory, slice_str(reason));
    more->receipt = receipt;
    receipt_enter(receipt);
    put(delivery);
    feed_wake(parcel_of(delivery)->feed);
    return true;
}

/* ---- the end ---- */

bool recall_take_out(struct delivery *delivery)
{
    struct recalls *recalls = &parcel_of(delivery)->feed->recalls;
    struct delivery **at = &recalls->first;

    if (more_of(delivery)->recall_sent)
        return false;
    while (*at != delivery)
        at = &(*at)->next;
    *at = delivery->next;
    if (*at == NULL)
        recalls->end = at;
    recalls->n--;
    leave_recalls(delivery);
    if (more_of(delivery)->receipt != NULL) {
        refuse(delivery, more_of(delivery)->receipt);
        member_release(delivery);
        receipt_leave(more_of(delivery)->receipt);
    }
    return true;
}

void recall_pump(struct feed *feed)
{
    struct recalls *recalls = &feed->recalls;
    struct arena memory;
    struct recall_work *work;

    if (recalls->n == 0 || recalls->under_way || timer_armed(&recalls->timer) || feed->closing ||
        feed->closed)
        return;
    arena_init(&memory, NULL);
    work = arena_zalloc(&memory, sizeof *work);
    work->memory = memory;
    work->feed = feed;
    work->deliveries = arena_array(&work->memory, recalls->n, sizeof(struct delivery *));
    work->recall.subscription = &feed->subscription;
    work->recall.items = arena_array(&work->memory, recalls->n, sizeof *work->recall.items);
    for (struct delivery *d = recalls->first; d != NULL; d = d->next) {
        work->deliveries[work->recall.n] = d;
        work->recall.items[work->recall.n++] = (struct recalled){.token = delivery_token(d)};
        more_of(d)->recall_sent = true;
    }
    recall_forget(recalls);
    recalls->under_way = true;
    op_start(&work->recall.op, &feed->group, recalled);
    work->recall.op.arena = &work->memory;
    feed->from->settling->tickets->recall(feed->backend, &work->recall);
}
