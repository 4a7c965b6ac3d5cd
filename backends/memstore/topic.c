/* The topic interface. A topic is there while somebody listens. What is published goes into its
 * tail, once, and each listener has a place in the tail; so a publish costs the same whatever the
 * number of listeners, but for waking those that sleep. The tail is bounded by messages and bytes:
 * who falls behind its beginning has missed something, and is told how much. What all have read
 * goes at once while they are few; with many it goes when the tail is full. A message that one
 * publish has for many topics is kept once for all their tails; each is charged for it as if it
 * were alone. It goes past the tail of who listens alone and waits (parcel.h). */
#include "backends/memstore/tail.h"

#include <stdlib.h>

struct events {
    bool ended, has_gap;
    struct subscription_gap gap;
    struct taken taken[BATCH_MESSAGES];
    size_t n;
};

static void look_for_gap(struct listener *listener, struct events *events)
{
    int64_t oldest = tail_first(listener->tail);

    events->has_gap = listener->cursor < oldest;
    if (!events->has_gap)
        return;
    events->gap = (struct subscription_gap){
        .partition = -1,
        .missing_from = -1,
        .goes_on_at = -1,
        .count = (uint64_t)(oldest - listener->cursor),
        .text = "the subscriber was too slow for the topic's tail",
    };
    counter_add_shared(&listener_messaging(listener)->dropped, events->gap.count);
    listener->cursor = oldest;
}

/* Under the lock. */
static void look(struct listener *listener, struct events *events)
{
    struct subscription *subscription = listener->subscription;
    struct tail *tail = listener->tail;
    size_t bytes = 0;

    listener->queued = listener->waiting = false;
    events->ended = listener->closing;
    if (events->ended || !subscription_may_take(subscription))
        return;
    look_for_gap(listener, events);
    while (events->n < BATCH_MESSAGES && bytes < BATCH_BYTES && listener->cursor < tail->next &&
           subscription_may_take(subscription)) {
        struct kept *kept =
            backlog_at(tail->backlog, (uint32_t)(listener->cursor++ - tail_first(tail)));

        events->taken[events->n++] =
            (struct taken){.kept = kept_ref(kept), .offset = -1, .attempt = 1};
        subscription_take(subscription, 1, kept_bytes(kept));
        bytes += kept_bytes(kept);
    }
    tail_trim(listener_messaging(listener), tail);
    if (!subscription_may_take(subscription))
        return;
    if (listener->cursor < tail->next)
        listener_wake(listener);
    else
        listener->waiting = true;
}

static void end(struct listener *listener, struct err err)
{
    struct subscription *subscription = listener->subscription;
    struct messaging *m = listener_messaging(listener);
    struct tail *tail = listener->tail;

    listener->instance->subscriptions--;
    free(listener);
    if (subscription->state != SUB_CLOSING)
        subscription_closing(subscription);
    subscription_closed(subscription, err);
    if (tail != NULL)
        names_put(m, &tail->named);
}

static void run(struct job *job)
{
    struct listener *listener = CONTAINER_OF(job, struct listener, job);
    struct subscription *subscription = listener->subscription;
    pthread_mutex_t *lock;
    struct events events;

    events.ended = events.has_gap = false;
    events.n = 0;
    if (listener->tail == NULL) {
        end(listener, names_full());
        return;
    }
    lock = tail_lock(listener_messaging(listener), listener->tail);
    pthread_mutex_lock(lock);
    look(listener, &events);
    pthread_mutex_unlock(lock);
    if (events.ended) {
        end(listener, ERR_NONE);
        return;
    }
    if (!listener->opened) {
        listener->opened = true;
        subscription_opened(subscription);
    }
    if (events.has_gap)
        subscription_gap(subscription, &events.gap);
    if (events.n > 0)
        subscription_deliver(
            subscription, kept_batch(events.taken, events.n, named_name(&listener->tail->named)));
}

static struct listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

static void open_listener(struct backend *backend, struct subscription *subscription)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);
    struct messaging *m = messaging_of(backend);
    struct listener *listener = calloc(1, sizeof *listener);
    bool full;

    if (listener == NULL)
        abort();
    counter_add(&backend->stats.calls, 1);
    instance->subscriptions++;
    *listener = (struct listener){
        .subscription = subscription, .instance = instance, .job.run = run, .queued = true};
    subscription_opening(subscription, listener);

    struct named *named = names_get(m, &named_topic, subscription->want.topic, true, &full);

    worker_land(subscription->home, &listener->job);
    if (named == NULL)
        return;

    struct tail *tail = CONTAINER_OF(named, struct tail, named);

    pthread_mutex_lock(tail_lock(m, tail));
    listener->tail = tail;
    listener->cursor = tail->next;
    listener->next = tail->listeners;
    tail->listeners = listener;
    tail->n_listeners++;
    pthread_mutex_unlock(tail_lock(m, tail));
}

static void grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                  uint64_t bytes)
{
    struct listener *listener = listener_of(subscription);
    const struct tail *tail = listener->tail;
    bool had_credit = subscription_may_take(subscription);
    pthread_mutex_t *lock;

    subscription_granted(subscription, messages, bytes);
    if (tail == NULL || had_credit) /* with credit it waits, or its job is under way */
        return;
    lock = tail_lock(messaging_of(backend), tail);
    pthread_mutex_lock(lock);
    if (listener->cursor < tail->next)
        listener_wake(listener);
    else
        listener->waiting = !listener->queued && subscription_may_take(subscription);
    pthread_mutex_unlock(lock);
}

static void withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend; /* a wake-up that comes all the same finds no credit */
    subscription_withdrawn(subscription);
}

static void close_listener(struct backend *backend, struct subscription *subscription)
{
    struct listener *listener = listener_of(subscription);
    struct messaging *m = messaging_of(backend);
    struct tail *tail = listener->tail;

    subscription_closing(subscription);
    if (tail == NULL)
        return; /* its end is under way */

    struct listener **at = &tail->listeners;

    pthread_mutex_lock(tail_lock(m, tail));
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    tail->n_listeners--;
    tail_trim(m, tail);
    listener->closing = true;
    listener_wake(listener);
    pthread_mutex_unlock(tail_lock(m, tail));
}

static bool may_be_heard(struct backend *backend, struct slice level)
{
    return names_level_may_be_heard(messaging_of(backend), level);
}

const struct topic memstore_topic = {
    .sink = {.max_items = MESSAGING_ITEMS,
             .max_frame_bytes = MESSAGING_BYTES,
             .tells_receivers = true,
             .keyed = true,
             .null_payload = true,
             .null_header_values = true,
             .binary_headers = true,
             .many_topics = true,
             .ack_means = "the message is in this process's memory, for those who listen now",
             .check_topic = messaging_check_topic,
             .publish = topic_publish},
    .source = {.max_buffer = MESSAGING_TAIL_BYTES,
               .open = open_listener,
               .grant = grant,
               .withdraw = withdraw,
               .close = close_listener},
    .may_be_heard = may_be_heard,
};
