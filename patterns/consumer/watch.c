/* Every now and then the source is asked where a group stands: how far it is behind is a metric.
 *
 * And is it alive, and standing still? When a group has credit and gets nothing, and messages wait
 * for it that nobody holds, at two looks one after the other, it is stalled. That is counted,
 * logged and told by GetState until a message comes. Of sources that cannot tell how many
 * deliveries other processes hold (Kafka) those count that only this process can be handed: the
 * rest of the lag may be others'. So is a group whose source has not begun at two looks: it may
 * never begin, and nothing is known of messages by then.
 *
 * While nothing changes the looks become seldom: many idle groups shall cost their server next to
 * nothing. They are always seldom where the source says that the question is dear. Chance spreads
 * the looks of groups that began together. */
#include "patterns/consumer/feed.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/random.h"

enum { LOOK_MS = 10000, SELDOM_MS = 80000, ANSWER_MS = 5000 };

/* In the watch's memory, for as long as the source is asked: most groups wait most of the time. */
struct question {
    struct stream_position position;
    struct feed *feed;
};

static void look(struct timer *timer);

/* The shortest time between looks, but for the second one at a group that may stand still. */
static uint64_t soonest_ms(const struct feed *feed)
{
    const struct stream *stream = feed->from->stream;

    return stream != NULL && stream->dear_position ? SELDOM_MS : LOOK_MS;
}

static void again(struct feed *feed, uint64_t ms)
{
    struct worker *home = feed->consumer->base.home;

    ms = random_delay(&feed->consumer->random, ms);
    timer_arm(&home->timers, &feed->watch.timer, home->now_ns + ms * NS_PER_MS, look);
}

const char *feed_stalled(const struct feed *feed)
{
    if (!feed->watch.stalled)
        return NULL;
    if (feed->opened)
        return "messages wait, and the source hands over none";
    return feed->watch.delayed_by != NULL ? feed->watch.delayed_by : "the source has not begun";
}

static void set_stalled(struct feed *feed, uint64_t waiting)
{
    struct consumer *consumer = feed->consumer;

    if (feed->watch.stalled)
        return;
    feed->watch.stalled = true;
    counter_add(&consumer->stats.stalled, 1);
    log_limited(
        &consumer->stall_log, LOG_WARN, "group_stalled",
        (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                   LOG_B("topic", feed->topic), LOG_B("group", feed->group_name),
                                   LOG_U("waiting", waiting), LOG_S("reason", feed_stalled(feed))},
        5);
}

static void not_stalled(struct feed *feed)
{
    feed->watch.suspected = false;
    if (!feed->watch.stalled)
        return;
    feed->watch.stalled = false;
    gauge_lower(&feed->consumer->stats.stalled, 1);
}

void feed_watch_moves(struct feed *feed)
{
    not_stalled(feed);
    feed->watch.moved = true;
    feed->watch.every_ms = soonest_ms(feed);
}

/* Of the partitions of which it is known. */
static uint64_t lag_of(const struct stream_position *position, size_t *n_known)
{
    uint64_t lag = 0;

    *n_known = 0;
    for (size_t i = 0; i < position->n; i++) {
        if (position->partitions[i].lag < 0)
            continue;
        lag += (uint64_t)position->partitions[i].lag;
        ++*n_known;
    }
    return lag;
}

/* False: it is what it was. */
static bool set_lag(struct feed *feed, uint64_t now)
{
    uint64_t before = feed->watch.lag;

    feed->watch.lag = now;
    counter_add(&feed->consumer->stats.lag, now - before);
    return now != before;
}

/* An answer that says nothing changes nothing: an outage is no sign that all was settled. */
static bool take_lag(struct feed *feed, const struct stream_position *position)
{
    enum err_code code = position->op.err.code;
    size_t n_known;
    uint64_t lag;

    if (code == ERR_NOT_FOUND)
        return set_lag(feed, 0);
    if (code != ERR_OK)
        return false;
    lag = lag_of(position, &n_known);
    return n_known > 0 && set_lag(feed, lag);
}

uint64_t feed_waiting(const struct stream_position *position)
{
    size_t n_known;
    uint64_t lag = lag_of(position, &n_known), held;

    if (!position->found || position->unsettled < 0 || n_known < position->n)
        return position->next;
    held = (uint64_t)position->unsettled;
    held += position->parked > 0 ? (uint64_t)position->parked : 0;
    return lag > held ? lag - held : 0;
}

/* The second look comes soon. */
static void suspect(struct feed *feed)
{
    feed->watch.suspected = true;
    feed->watch.every_ms = soonest_ms(feed);
    timer_disarm(&feed->consumer->base.home->timers, &feed->watch.timer);
    again(feed, LOOK_MS);
}

static void known(struct op *op)
{
    const struct question *question = CONTAINER_OF(op, struct question, position.op);
    struct feed *feed = question->feed;
    bool changed = take_lag(feed, &question->position);
    bool told = op->err.code == ERR_OK && feed->watch.could_move;
    uint64_t n = told ? feed_waiting(&question->position) : 0;

    feed->watch.asking = false;
    arena_clear(&feed->watch.memory);
    if (changed)
        feed->watch.every_ms = soonest_ms(feed); /* of the look after the next */
    else if (n == 0 && feed->watch.every_ms < SELDOM_MS)
        feed->watch.every_ms *= 2;
    if (n == 0 || feed->watch.moved)
        feed->watch.suspected = false;
    else if (feed->watch.suspected)
        set_stalled(feed, n);
    else
        suspect(feed);
    feed_wake(feed); /* it may wait to be freed */
}

static bool waits_for_source(const struct feed *feed)
{
    const struct subscription *subscription = &feed->subscription;

    return !feed->draining && subscription->credit_messages > 0 && subscription->credit_bytes > 0;
}

static void look_whether_it_begins(struct feed *feed)
{
    again(feed, LOOK_MS);
    if (feed->watch.suspected)
        set_stalled(feed, 0);
    feed->watch.suspected = true;
}

static void look(struct timer *timer)
{
    struct feed *feed = CONTAINER_OF(timer, struct feed, watch.timer);
    struct worker *home = feed->consumer->base.home;

    if (!feed->opened && !feed->closing && !feed->closed) {
        look_whether_it_begins(feed);
        return;
    }
    again(feed, feed->watch.every_ms);
    feed->watch.could_move = !feed->watch.moved && waits_for_source(feed);
    feed->watch.moved = false;
    if (feed->watch.asking || feed->closing || feed->closed)
        return;
    feed->watch.asking = true;
    arena_init(&feed->watch.memory, &home->arenas);

    struct question *question = arena_zalloc(&feed->watch.memory, sizeof *question);

    question->feed = feed;
    question->position.topic = feed->topic;
    question->position.group = feed->group_name;
    feed->watch.group.deadline_ns = home->now_ns + ANSWER_MS * NS_PER_MS;
    op_start(&question->position.op, &feed->watch.group, known);
    feed->from->stream->position(feed->backend, &question->position);
}

void feed_watch(struct feed *feed)
{
    op_group_init(&feed->watch.group, feed->consumer->base.home, &feed->watch.memory, 0);
    feed->watch.every_ms = soonest_ms(feed);
    if (feed->from->stream != NULL && feed->shared)
        again(feed, LOOK_MS);
}

void feed_watch_begins(struct feed *feed)
{
    not_stalled(feed);
    if (!timer_armed(&feed->watch.timer))
        return;
    timer_disarm(&feed->consumer->base.home->timers, &feed->watch.timer);
    again(feed, feed->watch.every_ms);
}

void feed_watch_end(struct feed *feed)
{
    timer_disarm(&feed->consumer->base.home->timers, &feed->watch.timer);
    feed_watch_moves(feed);
    set_lag(feed, 0);
}
