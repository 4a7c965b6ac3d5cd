/* Deliveries: from the batch to the end of each message. */
#include "patterns/consumer/attempts.h"
#include "patterns/consumer/feed.h"
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

struct delivery_more *delivery_more(struct delivery *delivery)
{
    struct parcel *parcel = parcel_of(delivery);
    struct delivery_more *more;

    if (delivery->more)
        return more_of(delivery);
    if (parcel->more == NULL)
        parcel->more = arena_array(&parcel->memory, parcel->n, sizeof(struct delivery_more *));
    more = arena_zalloc(&parcel->memory, sizeof *more);
    more->delivery = delivery;
    parcel->more[delivery->index] = more;
    delivery->more = 1;
    return more;
}

/* ---- parcels ---- */

/* NULL: there is none. */
static struct parcel *next_newer(const struct parcel *parcel)
{
    return parcel->at != &parcel->feed->parcels ? CONTAINER_OF(parcel->at, struct parcel, next)
                                                : NULL;
}

static void free_if_done(struct parcel *parcel)
{
    struct feed *feed = parcel->feed;

    if (parcel->left > 0 || parcel->holds > 0)
        return;

    struct arena memory = parcel->memory;

    feed->held -= parcel->bytes;
    gauge_lower(&feed->consumer->stats.held_bytes, parcel->bytes);
    if (parcel->batch != NULL)
        incoming_drop(parcel->batch, parcel->n);
    packed_destroy(parcel->packed);
    arena_clear(&parcel->again);
    if (feed->not_packed == parcel)
        feed->not_packed = next_newer(parcel);
    *parcel->at = parcel->next;
    if (parcel->next != NULL)
        parcel->next->at = parcel->at;
    arena_clear(&memory);
    feed_wake(feed);
}

void parcel_hold(struct parcel *parcel)
{
    parcel->holds++;
}

/* ... into a frame: it would be made again at once. */
static bool some_go_out(struct parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->n; i++) {
        enum delivery_state state = parcel_at(parcel, i)->state;

        if (state == DELIVERY_ARRIVING || state == DELIVERY_WAITING || state == DELIVERY_READY ||
            state == DELIVERY_FETCHING)
            return true;
    }
    return false;
}

/* Large ones take more time to copy than their structs are worth. */
static void pack_if_written(struct parcel *parcel)
{
    enum { LARGE_BYTES = 4096 };

    struct feed *feed = parcel->feed;
    struct arena scratch;
    struct block *packed;

    if (parcel->messages == NULL || parcel->holds > 0 || parcel->claims ||
        parcel->bytes > (size_t)parcel->n * LARGE_BYTES || some_go_out(parcel))
        return;
    arena_init(&scratch, &feed->consumer->base.home->arenas);
    packed = packed_new(parcel->messages, parcel->n, &scratch);
    arena_clear(&scratch);
    if (packed == NULL)
        return;
    if (parcel->batch != NULL)
        incoming_drop(parcel->batch, parcel->n);
    parcel->batch = NULL;
    packed_destroy(parcel->packed);
    parcel->packed = packed;
    parcel->messages = NULL;
    arena_clear(&parcel->again);
}

/* Where little is out, it is settled before that would pay. Two of the older ones for each that is
 * new, so that no turn takes long. */
static void pack(struct parcel *parcel)
{
    struct feed *feed = parcel->feed;

    if (feed->out_count <= FEED_AS_THEY_CAME)
        return;
    pack_if_written(parcel);
    if (feed->out_count <= FEED_PACKS_ALL)
        return;
    for (int i = 0; i < 2 && feed->not_packed != NULL; i++) {
        pack_if_written(feed->not_packed);
        feed->not_packed = next_newer(feed->not_packed);
    }
}

void parcel_open(struct parcel *parcel)
{
    parcel->messages = packed_open(parcel->packed, &parcel->again);
}

const struct incoming *message_peek(struct delivery *delivery)
{
    struct parcel *parcel = parcel_of(delivery);

    parcel->peeked |= parcel->messages == NULL;
    return message_of(delivery);
}

void parcel_shut(struct parcel *parcel)
{
    if (!parcel->peeked)
        return;
    parcel->peeked = false;
    parcel->messages = NULL;
    arena_clear(&parcel->again);
}

void parcel_unhold(struct parcel *parcel)
{
    parcel->holds--;
    if (parcel->holds == 0 && parcel->left > 0)
        pack(parcel);
    free_if_done(parcel);
}

/* ---- states ---- */

/* A source that keeps one position has it back by not having it settled. */
void delivery_hand_back(struct delivery *delivery)
{
    if (parcel_of(delivery)->feed->from->settling->single)
        settle_one(delivery, SETTLE_RELEASE, NULL);
    else
        delivery_over(delivery);
}

void delivery_ready(struct delivery *delivery, bool in_front)
{
    struct feed *feed = parcel_of(delivery)->feed;

    if (recall_before_ready(delivery, in_front))
        return;
    if (delivery->leaving) {
        delivery_hand_back(delivery);
        return;
    }
    delivery->state = DELIVERY_READY;
    delivery->member = NULL;
    delivery->next = in_front ? feed->ready : NULL;
    if (in_front) {
        if (feed->ready == NULL)
            feed->ready_end = &delivery->next;
        feed->ready = delivery;
    } else {
        *feed->ready_end = delivery;
        feed->ready_end = &delivery->next;
    }
    feed->ready_count++;
    feed_wake(feed);
}

struct delivery *feed_next_ready(struct feed *feed)
{
    struct delivery *delivery = feed->ready;

    if (delivery == NULL)
        return NULL;
    feed->ready = delivery->next;
    if (feed->ready == NULL)
        feed->ready_end = &feed->ready;
    feed->ready_count--;
    return delivery;
}

void delivery_lane_free(struct lane_item *item)
{
    delivery_ready(&CONTAINER_OF(item, struct laned_delivery, lane)->base, false);
}

static void parked_enough(struct timer *timer)
{
    struct delivery *delivery = CONTAINER_OF(timer, struct delivery_more, timer)->delivery;
    struct feed *feed = parcel_of(delivery)->feed;

    feed->parked_count--;
    gauge_lower(&feed->consumer->stats.parked, 1);
    delivery_ready(delivery, true);
}

bool delivery_can_wait(const struct delivery *delivery, uint64_t delay_ms)
{
    const struct feed *feed = parcel_of(delivery)->feed;

    return delay_ms == 0 || delivery->leaving ||
           feed->parked_count < feed->consumer->settings.max_parked;
}

static void wait_here(struct delivery *delivery, uint64_t delay_ms)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct worker *home = feed->consumer->base.home;

    if (delay_ms == 0 || delivery->leaving) {
        delivery_ready(delivery, true);
        return;
    }
    delivery->state = DELIVERY_PARKED;
    delivery->member = NULL;
    object_release(delivery);
    feed->parked_count++;
    counter_add(&feed->consumer->stats.parked, 1);
    timer_arm(&home->timers, &delivery_more(delivery)->timer, home->now_ns + delay_ms * NS_PER_MS,
              parked_enough);
}

void delivery_failed(struct delivery *delivery)
{
    message_of(delivery)->attempt++;
    attempts_raised(delivery);
}

bool delivery_is_last(const struct delivery *delivery)
{
    uint32_t most = feed_max_attempts(parcel_of(delivery)->feed);

    return most != 0 && delivery_attempt(delivery) >= most;
}

void delivery_failed_unsaid(struct delivery *delivery, const char *reason)
{
    uint32_t most = feed_max_attempts(parcel_of(delivery)->feed);

    delivery_failed(delivery);
    delivery->untold = true;
    if (most != 0 && delivery_attempt(delivery) > most)
        delivery_die(delivery, delivery_made_before(delivery), reason, NULL);
    else
        delivery_ready(delivery, true);
}

void delivery_set_aside(struct delivery *delivery, uint64_t delay_ms)
{
    delivery_failed(delivery);
    delivery->untold = true;
    wait_here(delivery, delay_ms);
}

void delivery_give_way(struct delivery *delivery)
{
    enum { MOST_DOUBLINGS = 10 };

    uint64_t delay_ms = delivery->returns > 0 ? 1u << (delivery->returns - 1) : 0;

    if (delivery->returns < MOST_DOUBLINGS)
        delivery->returns++;
    if (delivery_can_wait(delivery, delay_ms))
        wait_here(delivery, delay_ms);
    else
        delivery_ready(delivery, false);
}

void delivery_over(struct delivery *delivery)
{
    struct parcel *parcel = parcel_of(delivery);

    delivery->state = DELIVERY_OVER;
    delivery->member = NULL;
    object_release(delivery);
    if (lane_item_of(delivery) != NULL)
        lanes_done(&parcel->feed->lanes, lane_item_of(delivery));
    parcel->left--;
    free_if_done(parcel);
}

/* ---- arrival ---- */

static struct slice lane_of(const struct feed *feed, const struct incoming *message)
{
    return feed->order == ORDER_BY_KEY ? message->key
                                       : slice_of(&message->partition, sizeof message->partition);
}

void delivery_arrived(struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    uint32_t most = feed_max_attempts(feed);

    delivery->state = DELIVERY_WAITING;
    if (most != 0 && delivery_attempt(delivery) > most && feed->from->settling != NULL)
        delivery_die(delivery, delivery_made_before(delivery),
                     "delivered max_attempts times without success", NULL);
    else if (feed->order != ORDER_AS_READY)
        lanes_put(&feed->lanes, lane_item_of(delivery));
    else
        delivery_ready(delivery, false);
}

/* Before any of them arrives. */
static void unwrap(struct parcel *parcel)
{
    struct feed *feed = parcel->feed;

    for (uint32_t i = 0; i < parcel->n; i++) {
        struct delivery *delivery = parcel_at(parcel, i);

        delivery->index = (uint8_t)i;
        delivery->behind =
            (size_t)((char *)delivery - (char *)parcel) / PARCEL_WORD & PARCEL_MOST_WORDS;
        delivery->laned = parcel->stride == sizeof(struct laned_delivery);
        if (delivery->laned)
            lanes_choose(&feed->lanes, lane_of(feed, &parcel->messages[i]), lane_item_of(delivery));
    }
}

static void arrive(struct parcel *parcel, uint32_t i)
{
    struct delivery *delivery = parcel_at(parcel, i);
    struct claim *claim = object_claim(&parcel->memory, &parcel->messages[i]);

    if (claim != NULL)
        delivery_more(delivery)->claim = claim;
    parcel->claims |= claim != NULL;
    if (!attempts_hold(delivery))
        delivery_arrived(delivery);
}

/* Messages may wait for long: they do not hold a block of the worker's, and no more than they need.
 */
void feed_take_batch(struct feed *feed, struct incoming_batch *batch)
{
    size_t stride =
        feed->order != ORDER_AS_READY ? sizeof(struct laned_delivery) : sizeof(struct delivery);
    size_t bytes = sizeof(struct parcel) + batch->n * stride;
    struct arena memory;

    arena_init(&memory, NULL);

    struct parcel *parcel = arena_zalloc(&memory, bytes);

    parcel->memory = memory;
    parcel->feed = feed;
    parcel->batch = batch;
    parcel->messages = batch->items;
    arena_init(&parcel->again, NULL);
    parcel->bytes = batch->bytes;
    parcel->stride = stride;
    parcel->n = parcel->left = batch->n;
    parcel->holds = 1; /* until all have arrived */
    parcel->next = feed->parcels;
    parcel->at = &feed->parcels;
    if (parcel->next != NULL)
        parcel->next->at = &parcel->next;
    feed->parcels = parcel;
    if (feed->not_packed == NULL)
        feed->not_packed = parcel;
    feed->held += batch->bytes;
    counter_add(&feed->consumer->stats.held_bytes, batch->bytes);
    unwrap(parcel);
    for (uint32_t i = 0; i < batch->n; i++)
        arrive(parcel, i);
    parcel_unhold(parcel);
    feed_wake(feed);
}

/* ---- the end ---- */

bool delivery_take_out(struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct worker *home = feed->consumer->base.home;

    switch ((enum delivery_state)delivery->state) {
    case DELIVERY_WAITING:
        return lanes_remove(&feed->lanes, lane_item_of(delivery));
    case DELIVERY_FETCHING:
        return object_take_out(delivery);
    case DELIVERY_RECALLING:
        return recall_take_out(delivery);
    case DELIVERY_PARKED:
        feed->parked_count--;
        gauge_lower(&feed->consumer->stats.parked, 1);
        timer_disarm(&home->timers, &more_of(delivery)->timer);
        return true;
    case DELIVERY_DYING:
        if (!timer_armed(&delivery_more(delivery)->timer))
            return false;
        timer_disarm(&home->timers, &more_of(delivery)->timer);
        return true;
    default:
        return false;
    }
}

/* What is being settled ends by its own outcome. */
static void forget(struct feed *feed, struct delivery *delivery)
{
    switch ((enum delivery_state)delivery->state) {
    case DELIVERY_OVER:
    case DELIVERY_SETTLING:
        return;
    case DELIVERY_ARRIVING:
        attempts_take_out(delivery);
        break;
    case DELIVERY_FETCHING:
    case DELIVERY_RECALLING:
    case DELIVERY_PARKED:
    case DELIVERY_DYING:
        if (!delivery_take_out(delivery))
            return;
        break;
    default:
        break;
    }
    counter_add(&feed->consumer->stats.given_back, feed->from->settling != NULL);
    object_release(delivery);
    delivery->state = DELIVERY_OVER;
    parcel_of(delivery)->left--;
}

void feed_forget(struct feed *feed)
{
    feed->ready = NULL;
    feed->ready_end = &feed->ready;
    feed->ready_count = 0;
    for (struct parcel *parcel = feed->parcels, *next; parcel != NULL; parcel = next) {
        next = parcel->next;
        for (uint32_t i = 0; i < parcel->n; i++) {
            struct delivery *delivery = parcel_at(parcel, i);

            if (lane_item_of(delivery) != NULL)
                lane_item_of(delivery)->in = false;
            forget(feed, delivery);
        }
        free_if_done(parcel);
    }
}
