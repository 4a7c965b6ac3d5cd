/* A subscription to a stream or a queue. All that it does and tells happens in one job on its home
 * worker, of which at most one is under way:
 *
 *   open, grant, new messages, a retry or a lease that is due, a seek  ->  reader_wake: the job
 *   run      what is due; events; one batch; more to take: the job again
 *   close    gives back what is out, leaves the group; the job tells closed() */
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t now_ns(const struct reader *reader)
{
    return memstore_now_ns(reader->channel->messaging->store);
}

/* ---- what is due ---- */

static void on_timer(struct timer *timer)
{
    struct reader *reader = CONTAINER_OF(timer, struct reader, timer);

    pthread_mutex_lock(&reader->channel->lock);
    reader_wake(reader);
    pthread_mutex_unlock(&reader->channel->lock);
}

/* Retries and leases of the group fall due also while nothing else happens. */
static void set_timer(struct reader *reader, uint64_t rest_ns)
{
    struct worker *home = reader->subscription->home;

    if (rest_ns == UINT64_MAX)
        timer_disarm(&home->timers, &reader->timer);
    else
        timer_arm(&home->timers, &reader->timer, home->now_ns + rest_ns, on_timer);
}

/* ---- where it begins ---- */

static struct err bad_offset(struct reader *reader, int64_t at)
{
    const struct msglog *log = &reader->channel->log;

    snprintf(reader->text, sizeof reader->text, "offset %lld: there are %lld to %lld",
             (long long)at, (long long)log->first, (long long)log->next);
    return err_about(ERR_OUT_OF_RANGE, "offset", reader->text);
}

static struct err go_to_start(struct reader *reader, bool is_new)
{
    const struct subscription_want *want = &reader->subscription->want;
    enum stream_start start = want->start;
    int64_t at = want->at, offset;

    if (start == START_COMMITTED && !is_new)
        return ERR_NONE;
    if (start == START_COMMITTED)
        start = want->if_none;
    if (start == START_POSITION && !channel_position(want->position, &at))
        return err_about(ERR_INVALID_ARGUMENT, "position", "this is no position of this topic");
    if (!channel_start(reader->channel, start, at, &offset))
        return bad_offset(reader, at);
    if (is_new)
        reader->group->cursor = offset;
    else
        group_seek(reader->group, offset);
    return ERR_NONE;
}

static struct err join(struct reader *reader)
{
    const struct subscription_want *want = &reader->subscription->want;
    struct channel *channel = reader->channel;
    struct group *group = channel->queue ? channel->groups : group_find(channel, want->group);
    bool is_new = group == NULL;

    if (is_new && channel->n_groups >= MESSAGING_GROUPS)
        return err_about(ERR_RESOURCE_EXHAUSTED, "group", "the topic has as many groups as it may");
    if (!is_new && group->readers != NULL && want->ordered != (group->lanes != NULL))
        return err_about(ERR_FAILED_PRECONDITION, "order",
                         "the group is being read with another order");
    if (is_new)
        group = group_new(channel, want->group);
    reader->group = group;

    struct err err = channel->queue ? ERR_NONE : go_to_start(reader, is_new);

    if (err.code != ERR_OK) {
        if (is_new)
            group_destroy(group);
        reader->group = NULL;
        return err;
    }
    if (group->readers == NULL)
        group_set_ordered(group, want->ordered);
    reader->number = ++group->numbers;
    reader->next = group->readers;
    group->readers = reader;
    return ERR_NONE;
}

static void leave(struct reader *reader)
{
    struct group *group = reader->group;
    struct reader **at;

    if (group == NULL)
        return;
    group_give_back_all(group, reader);
    for (at = &group->readers; *at != reader; at = &(*at)->next)
        ;
    *at = reader->next;
    reader->group = NULL;
    if (message_is_null(group->name))
        group_destroy(group);
    else
        reader_wake_waiting(group);
}

/* ---- the job ---- */

struct events {
    bool opened, seeked, has_gap, ended;
    uint64_t *lost; /* to be freed */
    size_t n_lost;
    struct subscription_gap gap;
    struct taken taken[BATCH_MESSAGES];
    size_t n;
    uint64_t rest_ns;
};

/* Messages that the group has not taken were removed. False: that ends the subscription. */
static bool look_for_gap(struct reader *reader, struct events *events)
{
    struct group *group = reader->group;
    const struct msglog *log = &reader->channel->log;
    enum gap_policy policy = reader->subscription->want.on_gap;

    if (reader->channel->queue || group->cursor >= log->first)
        return true;
    if (policy == GAP_FAIL) {
        snprintf(reader->text, sizeof reader->text,
                 "retention removed messages that the group has not read: offsets %lld to %lld; "
                 "the first that is there is %lld",
                 (long long)group->cursor, (long long)log->first - 1, (long long)log->first);
        reader->err = err_about(ERR_DATA_LOSS, "offset", reader->text);
        return false;
    }

    int64_t to = policy == GAP_LATEST ? log->next : log->first;

    events->has_gap = true;
    events->gap = (struct subscription_gap){
        .partition = -1,
        .missing_from = group->cursor,
        .goes_on_at = to,
        .count = (uint64_t)(to - group->cursor),
        .text = "retention removed messages that the group had not read",
    };
    counter_add_shared(&reader->channel->messaging->lost, events->gap.count);
    group->cursor = to;
    return true;
}

static void take(struct reader *reader, struct events *events)
{
    struct subscription *subscription = reader->subscription;
    struct group *group = reader->group;
    uint64_t now = now_ns(reader);
    size_t bytes = 0;

    while (events->n < BATCH_MESSAGES && bytes < BATCH_BYTES &&
           subscription_may_take(subscription) &&
           group_take(group, reader, now, &events->taken[events->n])) {
        size_t taken = kept_bytes(events->taken[events->n].kept);

        subscription_take(subscription, 1, taken);
        bytes += taken;
        events->n++;
    }
    if (!subscription_may_take(subscription))
        return;
    if (events->n == BATCH_MESSAGES || bytes >= BATCH_BYTES || group_has_more(group))
        reader_wake(reader);
    else
        reader->waiting = true;
}

/* Under the lock. */
static void look(struct reader *reader, struct events *events)
{
    struct group *group = reader->group;

    reader->queued = reader->waiting = false;
    events->ended = reader->closing || group == NULL;
    if (events->ended)
        return;
    group_advance(group, now_ns(reader));
    channel_age(reader->channel);
    if (!look_for_gap(reader, events)) {
        leave(reader);
        events->ended = true;
        return;
    }
    events->opened = !reader->opened;
    reader->opened = true;
    events->seeked = reader->seeked;
    events->lost = reader->lost;
    events->n_lost = reader->n_lost;
    reader->seeked = false;
    reader->lost = NULL;
    reader->n_lost = reader->lost_room = 0;
    take(reader, events);
    if (group->ready.first != 0 || group->ready_lanes.first != NULL)
        reader_wake_waiting(group);
    events->rest_ns = group_rest_ns(group, now_ns(reader));
}

static void end(struct reader *reader)
{
    struct subscription *subscription = reader->subscription;
    struct messaging *m = messaging_of(&reader->instance->base);
    struct channel *channel = reader->channel;

    timer_disarm(&subscription->home->timers, &reader->timer);
    reader->instance->subscriptions--;
    if (subscription->state != SUB_CLOSING)
        subscription_closing(subscription);
    subscription_closed(subscription, reader->err); /* err may be about reader->text */
    free(reader->lost);
    free(reader);
    if (channel != NULL)
        names_put(m, &channel->named);
}

static void tell(struct reader *reader, const struct events *events)
{
    struct subscription *subscription = reader->subscription;
    const struct subscription_move seeked = {.kind = MOVE_LOST, .reason = MOVED_BY_SEEK};
    const struct subscription_move lost = {.kind = MOVE_LOST,
                                           .reason = MOVED_BY_LEASE,
                                           .tokens = events->lost,
                                           .n_tokens = events->n_lost};

    if (events->opened)
        subscription_opened(subscription);
    if (events->seeked)
        subscription_moved(subscription, &seeked);
    if (events->n_lost > 0)
        subscription_moved(subscription, &lost);
    if (events->has_gap)
        subscription_gap(subscription, &events->gap);
    if (events->n > 0)
        subscription_deliver(subscription, kept_batch(events->taken, events->n, slice_of(NULL, 0)));
}

static void run(struct job *job)
{
    struct reader *reader = CONTAINER_OF(job, struct reader, job);
    struct events events;

    events.opened = events.seeked = events.has_gap = events.ended = false;
    events.lost = NULL;
    events.n_lost = events.n = 0;
    events.rest_ns = UINT64_MAX;
    if (reader->channel == NULL) {
        end(reader);
        return;
    }
    pthread_mutex_lock(&reader->channel->lock);
    look(reader, &events);
    pthread_mutex_unlock(&reader->channel->lock);
    if (events.ended) {
        end(reader);
        return;
    }
    set_timer(reader, events.rest_ns);
    tell(reader, &events);
    free(events.lost);
}

/* ---- methods ---- */

static struct reader *reader_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

void reader_open(struct backend *backend, struct subscription *subscription,
                 const struct named_kind *kind)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);
    struct reader *reader = calloc(1, sizeof *reader);
    bool full;

    if (reader == NULL)
        abort();
    counter_add(&backend->stats.calls, 1);
    instance->subscriptions++;
    reader->subscription = subscription;
    reader->instance = instance;
    reader->job.run = run;
    subscription_opening(subscription, reader);

    struct named *named =
        names_get(messaging_of(backend), kind, subscription->want.topic, true, &full);

    if (named == NULL) {
        reader->err = names_full();
        reader->queued = true;
        worker_land(subscription->home, &reader->job);
        return;
    }
    reader->channel = CONTAINER_OF(named, struct channel, named);
    pthread_mutex_lock(&reader->channel->lock);
    reader->err = join(reader);
    reader_wake(reader);
    pthread_mutex_unlock(&reader->channel->lock);
}

void reader_grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                  uint64_t bytes)
{
    struct reader *reader = reader_of(subscription);

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    if (reader->channel == NULL)
        return;
    pthread_mutex_lock(&reader->channel->lock);
    reader_wake(reader);
    pthread_mutex_unlock(&reader->channel->lock);
}

void reader_withdraw(struct backend *backend, struct subscription *subscription)
{
    struct reader *reader = reader_of(subscription);

    (void)backend;
    subscription_withdrawn(subscription);
    if (reader->channel == NULL)
        return;
    pthread_mutex_lock(&reader->channel->lock);
    reader->waiting = false;
    pthread_mutex_unlock(&reader->channel->lock);
}

void reader_close(struct backend *backend, struct subscription *subscription)
{
    struct reader *reader = reader_of(subscription);

    (void)backend;
    subscription_closing(subscription);
    if (reader->channel == NULL)
        return; /* its end is under way */
    pthread_mutex_lock(&reader->channel->lock);
    leave(reader);
    reader->closing = true;
    reader_wake(reader);
    pthread_mutex_unlock(&reader->channel->lock);
}

void reader_settle(struct backend *backend, struct settle *settle)
{
    struct reader *reader = reader_of(settle->subscription);
    struct group *group = reader->group;
    uint64_t now = now_ns(reader), rest_ns;

    assert(settle->subscription->state == SUB_RUNNING);
    counter_add(&backend->stats.calls, 1);
    pthread_mutex_lock(&reader->channel->lock);
    for (size_t i = 0; i < settle->n; i++)
        settle->items[i].err = group_settle(group, reader, &settle->items[i], now);
    reader_wake_waiting(group);
    rest_ns = group_rest_ns(group, now);
    pthread_mutex_unlock(&reader->channel->lock);
    set_timer(reader, rest_ns);
    messaging_end(backend, &settle->op, ERR_NONE);
}

void reader_extend(struct backend *backend, struct extend *extend)
{
    struct reader *reader = reader_of(extend->subscription);
    struct group *group = reader->group;
    uint64_t now = now_ns(reader), rest_ns;

    assert(extend->subscription->state == SUB_RUNNING);
    counter_add(&backend->stats.calls, 1);
    pthread_mutex_lock(&reader->channel->lock);
    for (size_t i = 0; i < extend->n; i++)
        extend->items[i].err =
            group_extend(group, reader, extend->items[i].token, now + extend->lease_ms * NS_PER_MS);
    rest_ns = group_rest_ns(group, now);
    pthread_mutex_unlock(&reader->channel->lock);
    set_timer(reader, rest_ns);
    messaging_end(backend, &extend->op, ERR_NONE);
}
