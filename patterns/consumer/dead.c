/* Dead letters: published first, settled afterwards, so that a message is never in neither place.
 *
 *   publish -> stored -> settle DONE
 *           -> failed -> told in the receipt, the delivery stays with its member
 *                     or, without a receipt, again after DEAD_AGAIN_MS, for as long as it takes */
#include "patterns/messaging/dead.h"
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

struct dead {
    struct publish publish;
    struct outgoing item;
    struct arena memory; /* holds this struct */
    struct delivery *delivery;
    struct receipt *receipt;
    const char *reason;
};

static void publish(struct dead *dead);

static void free_dead(struct dead *dead)
{
    struct arena memory = dead->memory;

    arena_clear(&memory);
}

static void again(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery, timer);

    if (delivery->leaving) {
        delivery_hand_back(delivery);
        return;
    }
    delivery_die(delivery, delivery->dying_of, NULL);
}

static void failed(struct dead *dead, struct err err)
{
    struct delivery *delivery = dead->delivery;
    struct consumer *consumer = delivery->parcel->feed->consumer;
    struct worker *home = consumer->base.home;

    counter_add(&consumer->stats.dead_letter_failures, 1);
    trouble_met(&consumer->dead_trouble, "dead letters cannot be written");
    log_limited(&consumer->dead_log, LOG_WARN, "dead_letter_failed",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_S("error", err.text)},
                2);
    if (dead->receipt != NULL && delivery->member != NULL && !delivery->member->leaving) {
        receipt_fail(dead->receipt, delivery->sequence, err);
        delivery->state = DELIVERY_OUT;
        return;
    }
    member_release(delivery);
    if (delivery->dying_of == NULL)
        delivery->dying_of = arena_strdup(&delivery->parcel->memory, slice_str(dead->reason));
    timer_arm(&home->timers, &delivery->timer, home->now_ns + DEAD_AGAIN_MS * NS_PER_MS, again);
}

static void published(struct op *op)
{
    struct publish *base = CONTAINER_OF(op, struct publish, op);
    struct dead *dead = CONTAINER_OF(base, struct dead, publish);
    struct err err = op->err.code != ERR_OK ? op->err : dead->item.err;
    struct delivery *delivery = dead->delivery;
    struct feed *feed = delivery->parcel->feed;
    struct receipt *receipt = dead->receipt;

    if (err.code != ERR_OK) {
        failed(dead, err);
    } else {
        counter_add(&feed->consumer->stats.dead_letters, 1);
        trouble_over(&feed->consumer->dead_trouble);
        feed->dead_lettered++;
        if (receipt != NULL)
            receipt->dead++;
        settle_one(delivery, SETTLE_DONE, receipt);
    }
    free_dead(dead);
    receipt_leave(receipt);
    feed_wake(feed);
}

/* The original bytes and headers, and what happened, in headers of a bounded size. */
static void fill(struct dead *dead)
{
    const struct delivery *delivery = dead->delivery;
    const struct incoming *message = delivery->message;
    const struct feed *feed = delivery->parcel->feed;
    const struct death death = {
        .message = message,
        .to = feed->dead_topic,
        .payload = delivery->claim != NULL ? message_empty() : message->payload,
        .group = feed->group_name,
        .id = feed_message_id(feed, message),
        .reason = dead->reason,
    };

    dead_letter_fill(&dead->item, &dead->memory, &death);
}

static void publish(struct dead *dead)
{
    struct feed *feed = dead->delivery->parcel->feed;
    struct consumer *consumer = feed->consumer;

    receipt_enter(dead->receipt);
    op_start(&dead->publish.op, &feed->group, published);
    dead->publish.op.arena = &dead->memory;
    consumer->plan.dead->publish(consumer->dead, &dead->publish);
}

static void drop(struct delivery *delivery, const char *reason, struct receipt *receipt)
{
    struct consumer *consumer = delivery->parcel->feed->consumer;

    counter_add(&consumer->stats.dropped, 1);
    log_limited(&consumer->drop_log, LOG_WARN, "message_dropped",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_B("topic", delivery->message->topic),
                                           LOG_I("offset", delivery->message->offset),
                                           LOG_S("reason", reason)},
                4);
    settle_one(delivery, SETTLE_DONE, receipt);
}

void delivery_die(struct delivery *delivery, const char *reason, struct receipt *receipt)
{
    struct arena memory;

    if (message_is_null(delivery->parcel->feed->dead_topic)) {
        drop(delivery, reason, receipt);
        return;
    }
    delivery->state = DELIVERY_DYING;
    arena_init(&memory, NULL);

    struct dead *dead = arena_zalloc(&memory, sizeof *dead);

    dead->memory = memory;
    dead->delivery = delivery;
    dead->receipt = receipt;
    dead->reason = arena_strdup(&dead->memory, slice_str(reason));
    dead->publish.items = &dead->item;
    dead->publish.n = 1;
    fill(dead);
    publish(dead);
}
