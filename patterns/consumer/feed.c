/* A feed: the subscription of the backend, its credit, and whose turn it is. */
#include "patterns/consumer/feed.h"
#include "patterns/consumer/attempts.h"
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/hash.h"

static const struct subscription_events events;

static struct feed *feed_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct feed, subscription);
}

/* ---- beginning and end ---- */

struct feed *feed_new(struct consumer *consumer, const struct feed_want *want)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct feed *feed = arena_zalloc(&memory, sizeof *feed);

    feed->memory = memory;
    feed->consumer = consumer;
    feed->topic = arena_copy(&feed->memory, want->topic);
    feed->group_name = arena_copy(&feed->memory, want->group);
    feed->dead_topic = message_copy(&feed->memory, want->dead_topic);
    feed->letters = want->letters;
    feed->backend = want->letters ? consumer->dead : consumer->source;
    feed->from = want->letters ? &consumer->plan.letters : &consumer->plan.from;
    feed->shared = want->shared;
    feed->order = want->order;
    feed->members_end = &feed->members;
    feed->ready_end = &feed->ready;
    feed->claims_end = &feed->claims;
    recall_forget(&feed->recalls);
    subscription_init(&feed->subscription, consumer->base.home, &events);
    feed->subscription.want = (struct subscription_want){
        .topic = feed->topic,
        .group = want->group.len > 0 ? feed->group_name : message_null(),
        .start = want->start,
        .if_none = want->if_none,
        .at = want->at,
        .partition = want->partition,
        .position = message_copy(&feed->memory, want->position),
        .on_gap = want->on_gap,
        .ordered = want->order != ORDER_AS_READY,
    };
    arena_init(&feed->assigned_memory, NULL);
    feed_copy_places(feed, want);
    if (feed->order != ORDER_AS_READY)
        lanes_init(&feed->lanes, &feed->memory, FEED_BUCKETS, FEED_MAX_BUCKETS, hash_seed(),
                   delivery_lane_free);
    return feed;
}

void feed_open(struct feed *feed)
{
    struct consumer *consumer = feed->consumer;

    feed->opening = true;
    op_group_init(&feed->group, consumer->base.home, &feed->memory, 0);
    op_group_init(&feed->gets, consumer->base.home, &feed->memory, 0);
    op_group_init(&feed->tallies, consumer->base.home, &feed->memory, 0);
    feed->next = consumer->feeds;
    feed->at = &consumer->feeds;
    if (feed->next != NULL)
        feed->next->at = &feed->next;
    consumer->feeds = feed;
    feed_watch(feed);
    feed_retention_init(feed);
    if (!feed_retention_is_first(feed))
        feed_go(feed);
}

void feed_go(struct feed *feed)
{
    if (feed->n_places > 0)
        feed_go_to_places(feed);
    else
        feed_begin(feed);
}

void feed_begin(struct feed *feed)
{
    feed->begun = true;
    feed->from->source->open(feed->backend, &feed->subscription);
}

/* What watch.c and retention.c ask is answered in the feed's memory. */
static bool asks(const struct feed *feed)
{
    return feed->watch.group.pending > 0 || feed->retention.group.pending > 0;
}

static void stop_asking(struct feed *feed)
{
    struct err why = err_make(ERR_CANCELLED, "the subscription has ended");

    op_group_cancel(&feed->watch.group, why);
    op_group_cancel(&feed->retention.group, why);
}

static void maybe_free(struct feed *feed)
{
    struct consumer *consumer = feed->consumer;

    if (!feed->closed || !feed->going || feed->group.pending > 0 || feed->getting > 0 ||
        feed->parcels != NULL || feed->members != NULL || feed->queued ||
        !attempts_are_idle(feed) || asks(feed))
        return;

    struct arena memory = feed->memory;

    timer_disarm(&consumer->base.home->timers, &feed->leases);
    timer_disarm(&consumer->base.home->timers, &feed->frames);
    timer_disarm(&consumer->base.home->timers, &feed->ending);
    timer_disarm(&consumer->base.home->timers, &feed->recalls.timer);
    feed_watch_end(feed);
    attempts_clear(feed);
    arena_clear(&feed->assigned_memory);
    consumer->held -= feed->counted;
    if (feed->starved)
        consumer->starved--;
    *feed->at = feed->next;
    if (feed->next != NULL)
        feed->next->at = feed->at;
    arena_clear(&memory);
    consumer_feed_gone(consumer);
}

/* What is not settled then, the source gives to others. A message whose dead letter is on its way
 * would be both, dead and with somebody else: so it is waited for, for a while. What comes here
 * meanwhile (taken before, or not settled after all) goes back at once, as all else has. */
static void maybe_close(struct feed *feed)
{
    if (!feed->going || feed->closed || feed->closing)
        return;
    if (feed->dying > 0 && timer_armed(&feed->ending)) {
        if (feed->ready_count > 0)
            settle_living(feed);
        return;
    }
    timer_disarm(&feed->consumer->base.home->timers, &feed->ending);
    if (feed->opened)
        settle_untold(feed);
    feed->closing = true;
    if (feed->begun)
        feed->from->source->close(feed->backend, &feed->subscription);
}

static void waited_enough(struct timer *timer)
{
    feed_wake(CONTAINER_OF(timer, struct feed, ending));
}

void feed_close(struct feed *feed)
{
    struct worker *home = feed->consumer->base.home;

    feed->going = true;
    stop_asking(feed);
    if (feed->dying > 0 && !feed->closed) {
        feed_drain(feed);
        timer_arm(&home->timers, &feed->ending, home->now_ns + FEED_LETTERS_MS * NS_PER_MS,
                  waited_enough);
        settle_living(feed);
    }
    maybe_close(feed);
    feed_wake(feed);
}

void feed_drain(struct feed *feed)
{
    if (feed->draining || feed->closing || feed->closed)
        return;
    feed->draining = true;
    if (feed->begun)
        feed->from->source->withdraw(feed->backend, &feed->subscription);
}

/* ---- credit ---- */

static uint64_t in_credit(const struct feed *feed)
{
    return feed->subscription.credit_bytes > 0 ? (uint64_t)feed->subscription.credit_bytes : 0;
}

/* What the worker counts for this feed: messages held, and those that may still come. */
static void count(struct feed *feed)
{
    uint64_t now = feed->held + in_credit(feed);

    feed->consumer->held += now - feed->counted;
    feed->counted = now;
}

enum { CREDIT_BYTES = 4 * BATCH_BYTES, CREDIT_SHARE = 8 };

static bool fetches(const struct feed *feed)
{
    return feed->opened && !feed->draining && !feed->closing && !feed->closed;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Credit is memory that nobody else is given, whether messages come or not: a group has no more of
 * it than keeps its source busy, and never all that is left. */
static uint64_t bytes_to_grant(const struct feed *feed)
{
    const struct consumer_settings *settings = &feed->consumer->settings;
    uint64_t group = settings->max_group_bytes, all = settings->max_message_memory;
    uint64_t credit = in_credit(feed), used = feed->held + credit;
    uint64_t bytes = used < group ? group - used : 0;
    uint64_t left = feed->consumer->held < all ? all - feed->consumer->held : 0;

    bytes = smaller(bytes, credit < CREDIT_BYTES ? CREDIT_BYTES - credit : 0);
    bytes = smaller(bytes, (left + CREDIT_SHARE - 1) / CREDIT_SHARE);
    return bytes == 0 && used == 0 ? 1 : bytes; /* one message at a time always goes on */
}

static void set_starved(struct feed *feed, bool starved)
{
    if (feed->starved == starved)
        return;
    feed->starved = starved;
    if (starved)
        feed->consumer->starved++;
    else
        feed->consumer->starved--;
}

static uint64_t messages_to_grant(const struct feed *feed)
{
    uint64_t room = 0;
    uint64_t ahead = feed->ready_count + feed->subscription.credit_messages;
    uint64_t spoken = ahead + feed->fetching;

    if (feed->lanes.waiting >= FEED_MAX_WAITING)
        return 0;
    for (const struct member *member = feed->members; member != NULL; member = member->next)
        room += member_room(member);
    return smaller(room > spoken ? room - spoken : 0,
                   ahead < FEED_MOST_READY ? FEED_MOST_READY - ahead : 0);
}

/* A feed that fills its own bound goes on when it settles something, one that is starved when any
 * feed of the worker does: only the latter is to be woken by others. */
static void grant(struct feed *feed)
{
    struct subscription *subscription = &feed->subscription;
    uint64_t messages = fetches(feed) ? messages_to_grant(feed) : 0;
    bool wants = fetches(feed) && (messages > 0 || subscription->credit_messages > 0);
    bool overdrawn = subscription->credit_bytes <= 0;

    count(feed);

    uint64_t bytes = wants && (overdrawn || messages > 0) ? bytes_to_grant(feed) : 0;
    bool lacks = wants && overdrawn && bytes == 0;

    feed->full = lacks && feed->held >= feed->consumer->settings.max_group_bytes;
    set_starved(feed, lacks && !feed->full);
    if (!wants || (bytes == 0 && messages == 0))
        return;
    if (subscription->credit_bytes < 0 && bytes > 0)
        bytes += (uint64_t)-subscription->credit_bytes;
    feed->from->source->grant(feed->backend, subscription,
                              messages < UINT32_MAX ? (uint32_t)messages : UINT32_MAX, bytes);
    count(feed);
}

/* Memory that this feed gave back may be what others wait for. */
static void wake_starved(struct consumer *consumer)
{
    if (consumer->starved == 0 || consumer->held >= consumer->settings.max_message_memory)
        return;
    for (struct feed *feed = consumer->feeds; feed != NULL; feed = feed->next) {
        if (feed->starved)
            feed_wake(feed);
    }
}

/* ---- leases ---- */

static void look_at_leases(struct timer *timer)
{
    struct feed *feed = CONTAINER_OF(timer, struct feed, leases);
    uint64_t now = feed->consumer->base.home->now_ns;

    for (struct parcel *parcel = feed->parcels, *next; parcel != NULL; parcel = next) {
        next = parcel->next;
        parcel_hold(parcel);
        for (uint32_t i = 0; i < parcel->n; i++) {
            struct delivery *delivery = parcel_at(parcel, i);
            const struct delivery_more *more = more_of(delivery);

            if (delivery->state != DELIVERY_OUT || more == NULL || more->expires_ns == 0 ||
                more->expires_ns > now)
                continue;
            member_revoke(delivery, CONSUMER_PB(REVOKE_REASON__LEASE_EXPIRED));
            delivery_failed_unsaid(delivery,
                                   "delivered max_attempts times; the last lease ran out");
        }
        parcel_unhold(parcel);
    }
    feed_wake(feed);
}

/* The next look: at a tenth of the shortest lease in use. Leases end late by that, never early. */
static void arm_leases(struct feed *feed)
{
    struct worker *home = feed->consumer->base.home;
    uint64_t shortest = 0;

    if (timer_armed(&feed->leases) || feed->out_count == 0)
        return;
    for (const struct member *member = feed->members; member != NULL; member = member->next) {
        if (member->lease_ms != 0 && (shortest == 0 || member->lease_ms < shortest))
            shortest = member->lease_ms;
    }
    if (shortest == 0)
        return;
    shortest = shortest / 10 + 1;
    timer_arm(&home->timers, &feed->leases, home->now_ns + shortest * NS_PER_MS, look_at_leases);
}

/* ---- turns ---- */

/* Those who have nothing left to settle need not wait for the end of the drain. */
static void end_drained(struct feed *feed)
{
    struct err drained = err_make(ERR_UNAVAILABLE, "the server is draining");

    for (struct member *member = feed->members; member != NULL; member = member->next) {
        if (member->told_drain && member->n_frames == 0 && !member_has_news(member) &&
            member->settling.unsettled == 0)
            member_end(member, drained, false);
    }
}

static void end_members(struct feed *feed, struct err end)
{
    for (struct member *member = feed->members; member != NULL; member = member->next)
        member_end(member, end, false);
}

static void turn(struct job *job)
{
    struct feed *feed = CONTAINER_OF(job, struct feed, turn);
    struct consumer *consumer = feed->consumer;

    feed->queued = false;
    if (feed->closed && feed->end.code != ERR_OK)
        end_members(feed, feed->end);
    feed_deal(feed);
    object_pump(feed);
    recall_pump(feed);
    end_drained(feed);
    arm_leases(feed);
    grant(feed);
    maybe_close(feed);
    if (feed->closed)
        feed_forget(feed);
    wake_starved(consumer);
    maybe_free(feed);
}

void feed_wake(struct feed *feed)
{
    if (feed->queued)
        return;
    feed->queued = true;
    feed->turn.run = turn;
    worker_land(feed->consumer->base.home, &feed->turn);
}

/* ---- events of the source ---- */

static void opened(struct subscription *subscription)
{
    struct feed *feed = feed_of(subscription);

    feed->opened = true;
    feed_watch_begins(feed);
    feed_retention_ask(feed);
    feed_wake(feed);
}

static void delayed(struct subscription *subscription, const char *why)
{
    feed_of(subscription)->watch.delayed_by = why;
}

static void batch_came(struct subscription *subscription, struct incoming_batch *batch)
{
    struct feed *feed = feed_of(subscription);

    feed_watch_moves(feed);
    feed_take_batch(feed, batch);
}

static void gap_came(struct subscription *subscription, const struct subscription_gap *gap)
{
    struct feed *feed = feed_of(subscription);

    for (struct member *member = feed->members; member != NULL; member = member->next) {
        pb_gap *told = arena_alloc(&member->notes_memory, sizeof *told);

        prism__patterns__consumer__gap__init(told);
        if (gap->partition >= 0) {
            told->_partition_case = CONSUMER_PB(GAP___PARTITION_PARTITION);
            told->partition = gap->partition;
        }
        if (gap->missing_from >= 0)
            told->first_missing = arena_decimal(&member->notes_memory, gap->missing_from);
        if (gap->goes_on_at >= 0)
            told->first_available = arena_decimal(&member->notes_memory, gap->goes_on_at);
        if (gap->count > 0) {
            told->_count_case = CONSUMER_PB(GAP___COUNT_COUNT);
            told->count = (int64_t)gap->count;
        }
        member_note(member, &member->gaps, told);
    }
    counter_add(&feed->consumer->stats.lost, gap->count);
    feed_wake(feed);
}

static void closed(struct subscription *subscription, struct err err)
{
    feed_ended(feed_of(subscription), err);
}

void feed_ended(struct feed *feed, struct err err)
{
    feed->closed = true;
    feed->end = ERR_NONE;
    if (feed->letters && err.code != ERR_OK)
        err = about_dead_topic(&feed->memory, feed->topic, err);
    if (!feed->closing)
        feed->end = err_keep(err, arena_alloc(&feed->memory, ERR_KEPT_BYTES));
    shared_hide_feed(feed);
    feed_wake(feed);
}

static const struct subscription_events events = {.delayed = delayed,
                                                  .opened = opened,
                                                  .batch = batch_came,
                                                  .moved = feed_moved,
                                                  .gap = gap_came,
                                                  .closed = closed};
