/* Dead letters: published first, settled afterwards, so that a message is never in neither place.
 *
 *   publish -> stored  -> settle DONE
 *           -> failed  -> told in the receipt, the delivery stays with its member
 *                      or, without a receipt, again after DEAD_AGAIN_MS, for as long as it takes
 *           -> refused, as too large -> once more without its payload
 *                      refused again -> told in the receipt, the delivery stays with its member
 *                                    or, without a receipt, or with its last attempt, dropped */
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

struct dead {
    struct publish publish;
    struct letter letter;
    struct arena memory; /* holds this struct */
    struct delivery *delivery;
    struct parcel *parcel; /* of it; held: the letter reads from it */
    struct receipt *receipt;
    const char *reason;
};

static void publish(struct dead *dead);

static void free_dead(struct dead *dead)
{
    struct parcel *parcel = dead->parcel;
    struct arena memory = dead->memory;

    arena_clear(&memory);
    parcel_unhold(parcel);
}

static void again(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery_more, timer)->delivery;

    if (delivery->leaving) {
        delivery_hand_back(delivery);
        return;
    }
    delivery_die(delivery, more_of(delivery)->deliveries, more_of(delivery)->dying_of, NULL);
}

/* Whoever rejected it is there: it is his to decide. */
static bool is_told(const struct dead *dead, struct err err)
{
    struct delivery *delivery = dead->delivery;

    if (dead->receipt == NULL || delivery->member == NULL || delivery->member->leaving)
        return false;
    receipt_fail(dead->receipt, delivery, err);
    delivery->state = DELIVERY_OUT;
    return true;
}

static void failed(struct dead *dead, struct err err)
{
    struct delivery *delivery = dead->delivery;
    struct worker *home = parcel_of(delivery)->feed->consumer->base.home;
    struct delivery_more *more;

    if (is_told(dead, err))
        return;
    member_release(delivery);
    more = delivery_more(delivery);
    if (more->dying_of == NULL)
        more->dying_of = arena_strdup(&parcel_of(delivery)->memory, slice_str(dead->reason));
    timer_arm(&home->timers, &more->timer, home->now_ns + DEAD_AGAIN_MS * NS_PER_MS, again);
}

/* The end of the feed waits for it. */
static void settle_dead(struct delivery *delivery, struct receipt *receipt)
{
    delivery_more(delivery)->dead = true;
    parcel_of(delivery)->feed->dying++;
    settle_one(delivery, SETTLE_DONE, receipt);
}

static void drop(struct delivery *delivery, const char *reason, struct receipt *receipt)
{
    struct parcel *parcel = parcel_of(delivery);
    struct consumer *consumer = parcel->feed->consumer;

    parcel_hold(parcel);
    counter_add(&consumer->stats.dropped, 1);
    log_limited(&consumer->drop_log, LOG_WARN, "message_dropped",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_B("topic", message_of(delivery)->topic),
                                           LOG_I("offset", message_of(delivery)->offset),
                                           LOG_S("reason", reason)},
                4);
    settle_dead(delivery, receipt);
    parcel_unhold(parcel);
}

/* Nothing is gained by keeping it from those behind. */
static void refused(struct dead *dead, struct err err)
{
    if (!delivery_is_last(dead->delivery) && is_told(dead, err))
        return;
    drop(dead->delivery, dead->reason, dead->receipt);
}

static void stored(struct dead *dead)
{
    struct feed *feed = parcel_of(dead->delivery)->feed;

    counter_add(&feed->consumer->stats.dead_letters, 1);
    feed->dead_lettered++;
    if (dead->receipt != NULL)
        dead->receipt->dead++;
    settle_dead(dead->delivery, dead->receipt);
}

static void published(struct op *op)
{
    struct dead *dead = CONTAINER_OF(op, struct dead, publish.op);
    struct err err = op->err.code != ERR_OK ? op->err : dead->letter.item.err;
    struct feed *feed = parcel_of(dead->delivery)->feed;
    struct receipt *receipt = dead->receipt;

    feed->dying--;
    switch (letters_outcome(&feed->consumer->letters, &dead->letter, &dead->memory, err)) {
    case LETTER_STORED:
        stored(dead);
        break;
    case LETTER_FAILED:
        failed(dead, err);
        break;
    case LETTER_REFUSED:
        refused(dead, err);
        break;
    case LETTER_CUT:
        publish(dead);
        receipt_leave(receipt);
        return;
    }
    free_dead(dead);
    receipt_leave(receipt);
    feed_wake(feed);
}

/* The original bytes and headers, and what happened, in headers of a bounded size. */
static void fill(struct dead *dead)
{
    const struct delivery *delivery = dead->delivery;
    const struct incoming *message = message_of(delivery);
    const struct feed *feed = parcel_of(delivery)->feed;

    dead->letter.death = (struct death){
        .message = message,
        .to = feed->dead_topic,
        .payload = claim_of(delivery) != NULL ? message_empty() : message->payload,
        .group = feed->group_name,
        .id = feed_message_id(feed, message),
        .deliveries = more_of(delivery)->deliveries,
        .reason = dead->reason,
    };
    dead_letter_fill(&dead->letter.item, &dead->memory, &dead->letter.death);
}

static void publish(struct dead *dead)
{
    struct feed *feed = parcel_of(dead->delivery)->feed;
    struct consumer *consumer = feed->consumer;

    receipt_enter(dead->receipt);
    feed->dying++;
    op_start(&dead->publish.op, &feed->group, published);
    dead->publish.op.arena = &dead->memory;
    consumer->plan.dead->publish(consumer->dead, &dead->publish);
}

void delivery_die(struct delivery *delivery, uint32_t deliveries, const char *reason,
                  struct receipt *receipt)
{
    struct arena memory;

    delivery_more(delivery)->deliveries = deliveries;
    if (recall_before_death(delivery, reason, receipt))
        return;
    if (message_is_null(parcel_of(delivery)->feed->dead_topic)) {
        drop(delivery, reason, receipt);
        return;
    }
    delivery->state = DELIVERY_DYING;
    arena_init(&memory, NULL);

    struct dead *dead = arena_zalloc(&memory, sizeof *dead);

    dead->memory = memory;
    dead->delivery = delivery;
    dead->parcel = parcel_of(delivery);
    parcel_hold(dead->parcel);
    dead->receipt = receipt;
    dead->reason = arena_strdup(&dead->memory, slice_str(reason));
    dead->publish.items = &dead->letter.item;
    dead->publish.n = 1;
    fill(dead);
    publish(dead);
}
