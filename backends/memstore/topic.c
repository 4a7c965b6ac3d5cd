/* The topic interface. A topic is there while somebody listens. What is published goes into its
 * tail, once, and each listener has a place in the tail; so a publish costs the same whatever the
 * number of listeners, but for waking those that sleep. The tail is bounded by messages and bytes:
 * who falls behind its beginning has missed something, and is told how much. What all have read
 * goes at once while they are few; with many it goes when the tail is full. A message that one
 * publish has for many topics is kept once for all their tails; each is charged for it as if it
 * were alone. */
#include "backends/failed_keys.h"
#include "backends/memstore/messaging.h"

#include <stdlib.h>
#include <time.h>

enum { RUN = 64, FEW = 8, RETRY_MS = 100 };

struct tail {
    struct named named; /* first */
    struct messaging *messaging;
    pthread_mutex_t lock;
    struct msglog log; /* of struct kept */
    uint64_t bytes;
    struct listener *listeners;
    unsigned n_listeners;
};

struct listener {
    struct subscription *subscription;
    struct memstore_instance *instance;
    struct tail *tail; /* with a reference; NULL: there are too many names */
    struct job job;
    bool opened; /* home: it was told */
    /* ---- under the tail's lock ---- */
    struct listener *next;
    int64_t cursor;
    bool queued, waiting, closing;
};

/* ---- the tail ---- */

static struct named *make(struct messaging *m)
{
    struct tail *tail = calloc(1, sizeof *tail);

    if (tail == NULL)
        abort();
    tail->messaging = m;
    pthread_mutex_init(&tail->lock, NULL);
    msglog_init(&tail->log);
    return &tail->named;
}

static void drop_oldest(struct tail *tail)
{
    struct kept *kept = msglog_take(&tail->log, tail->log.first);

    tail->bytes -= kept->cost;
    capacity_give(tail->messaging->store, 0, kept->cost);
    kept_unref(kept);
}

static bool tail_is_empty(const struct tail *tail)
{
    return tail->log.first == tail->log.next;
}

static void unmake(struct named *named)
{
    struct tail *tail = CONTAINER_OF(named, struct tail, named);

    while (!tail_is_empty(tail))
        drop_oldest(tail);
    msglog_clear(&tail->log);
    pthread_mutex_destroy(&tail->lock);
    free(tail);
}

const struct named_kind named_topic = {.make = make, .unmake = unmake, .passes = true};

static bool over(uint64_t limit, uint64_t now, uint64_t more)
{
    return limit > 0 && now + more > limit;
}

static struct err make_room(struct tail *tail, uint64_t cost)
{
    const struct memstore_messaging *config = &tail->messaging->config;
    enum capacity limit;

    while (!tail_is_empty(tail) && (over(config->tail_bytes, tail->bytes, cost) ||
                                    over(config->tail_messages, tail->log.held, 1)))
        drop_oldest(tail);
    while ((limit = capacity_take(tail->messaging->store, 0, cost)) != CAPACITY_OK) {
        if (tail_is_empty(tail)) {
            struct err err = capacity_error(tail->messaging->store, limit);

            err.retry_after_ms = RETRY_MS;
            return err;
        }
        drop_oldest(tail);
    }
    return ERR_NONE;
}

/* What all have read. */
static void trim(struct tail *tail)
{
    int64_t read = tail->log.next;

    if (tail->n_listeners > FEW)
        return;
    for (const struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->cursor < read)
            read = l->cursor;
    }
    while (tail->log.first < read)
        drop_oldest(tail);
}

/* ---- publish ---- */

static void wake(struct listener *listener)
{
    if (listener->queued)
        return;
    listener->queued = true;
    worker_land(listener->subscription->home, &listener->job);
}

/* Under the lock. The item is sound. */
static void append(struct tail *tail, struct failed_keys *failed, struct outgoing *item,
                   struct kept *kept)
{
    messaging_forget(item);
    if (failed_stops(failed, item)) {
        kept_unref(kept);
        return;
    }
    item->receivers = (int32_t)tail->n_listeners;
    if (tail->n_listeners > 0)
        item->err = make_room(tail, kept->cost);
    if (item->err.code != ERR_OK)
        failed_add(failed, item);
    if (tail->n_listeners == 0 || item->err.code != ERR_OK) {
        kept_unref(kept);
        return;
    }
    tail->bytes += kept->cost;
    msglog_append(&tail->log, kept);
}

/* Of one publish. */
struct keeping {
    uint64_t now_ms;           /* Unix time; 0: not looked at yet */
    const struct outgoing *of; /* NULL: none is there that another topic could have as well */
    struct kept *kept;
};

static bool is_same_slice(struct slice a, struct slice b)
{
    return a.data == b.data && a.len == b.len;
}

/* The same message, but for the topic: it lies in the same place. */
static bool is_alike(const struct outgoing *a, const struct outgoing *b)
{
    return a->headers == b->headers && a->n_headers == b->n_headers &&
           is_same_slice(a->key, b->key) && is_same_slice(a->id, b->id) &&
           is_same_slice(a->payload, b->payload);
}

static void keeping_end(struct keeping *keeping)
{
    if (keeping->of != NULL)
        kept_unref(keeping->kept);
    keeping->of = NULL;
}

/* With a reference. */
static struct kept *keep(struct keeping *keeping, const struct outgoing *item)
{
    if (keeping->of != NULL && is_alike(keeping->of, item))
        return kept_ref(keeping->kept);
    if (keeping->now_ms == 0) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        keeping->now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
    }
    keeping_end(keeping);
    keeping->kept = kept_new(item, keeping->now_ms);
    if (item->shared == NULL) /* there is one message for each topic */
        return keeping->kept;
    keeping->of = item;
    return kept_ref(keeping->kept);
}

static void append_run(struct tail *tail, struct failed_keys *failed, struct keeping *keeping,
                       struct outgoing *items, size_t n)
{
    struct kept *kept[RUN];

    for (size_t i = 0; i < n; i++)
        kept[i] = keep(keeping, &items[i]);
    pthread_mutex_lock(&tail->lock);
    for (size_t i = 0; i < n; i++)
        append(tail, failed, &items[i], kept[i]);
    for (struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->waiting) {
            l->waiting = false;
            wake(l);
        }
    }
    pthread_mutex_unlock(&tail->lock);
}

static size_t publish_some(struct messaging *m, struct failed_keys *failed, struct keeping *keeping,
                           struct publish *publish, size_t from)
{
    struct outgoing *item = &publish->items[from];
    struct named *named = NULL;
    bool full;

    messaging_forget(item);
    if (failed_stops(failed, item))
        return 1;
    item->err = messaging_check(item);
    if (item->err.code != ERR_OK) {
        failed_add(failed, item);
        return 1;
    }
    if (names_may_be_heard(m, item->topic))
        named = names_get(m, &named_topic, item->topic, false, &full);
    if (named == NULL) { /* nobody listens */
        item->receivers = 0;
        return 1;
    }

    size_t n = messaging_run(publish, from, RUN);

    append_run(CONTAINER_OF(named, struct tail, named), failed, keeping, item, n);
    names_put(m, named);
    return n;
}

static void publish(struct backend *backend, struct publish *publish)
{
    struct messaging *m = messaging_of(backend);
    struct failed_keys failed;
    struct keeping keeping = {.now_ms = 0};

    failed_init(&failed, publish);
    counter_add(&backend->stats.calls, 1);
    for (size_t i = 0; i < publish->n;)
        i += publish_some(m, &failed, &keeping, publish, i);
    keeping_end(&keeping);
    counter_add_shared(&m->published, publish->n);
    messaging_end(backend, &publish->op, ERR_NONE);
}

/* ---- listening ---- */

struct events {
    bool ended, has_gap;
    struct subscription_gap gap;
    struct taken taken[BATCH_MESSAGES];
    size_t n;
};

static void look_for_gap(struct listener *listener, struct events *events)
{
    int64_t first = listener->tail->log.first;

    events->has_gap = listener->cursor < first;
    if (!events->has_gap)
        return;
    events->gap = (struct subscription_gap){
        .partition = -1,
        .missing_from = -1,
        .goes_on_at = -1,
        .count = (uint64_t)(first - listener->cursor),
        .text = "the subscriber was too slow for the topic's tail",
    };
    counter_add_shared(&listener->tail->messaging->dropped, events->gap.count);
    listener->cursor = first;
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
    while (events->n < BATCH_MESSAGES && bytes < BATCH_BYTES && listener->cursor < tail->log.next &&
           subscription_may_take(subscription)) {
        struct kept *kept = msglog_get(&tail->log, listener->cursor++);

        events->taken[events->n++] =
            (struct taken){.kept = kept_ref(kept), .offset = -1, .attempt = 1};
        subscription_take(subscription, 1, kept_bytes(kept));
        bytes += kept_bytes(kept);
    }
    trim(tail);
    if (!subscription_may_take(subscription))
        return;
    if (listener->cursor < tail->log.next)
        wake(listener);
    else
        listener->waiting = true;
}

static void end(struct listener *listener, struct err err)
{
    struct subscription *subscription = listener->subscription;
    struct messaging *m = messaging_of(&listener->instance->base);
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
    struct events events;

    events.ended = events.has_gap = false;
    events.n = 0;
    if (listener->tail == NULL) {
        end(listener, names_full());
        return;
    }
    pthread_mutex_lock(&listener->tail->lock);
    look(listener, &events);
    pthread_mutex_unlock(&listener->tail->lock);
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
        subscription_deliver(subscription,
                             kept_batch(events.taken, events.n, listener->tail->named.name));
}

static struct listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

static void open_listener(struct backend *backend, struct subscription *subscription)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);
    struct listener *listener = calloc(1, sizeof *listener);
    bool full;

    if (listener == NULL)
        abort();
    counter_add(&backend->stats.calls, 1);
    instance->subscriptions++;
    *listener = (struct listener){
        .subscription = subscription, .instance = instance, .job.run = run, .queued = true};
    subscription_opening(subscription, listener);

    struct named *named =
        names_get(messaging_of(backend), &named_topic, subscription->want.topic, true, &full);

    worker_land(subscription->home, &listener->job);
    if (named == NULL)
        return;

    struct tail *tail = CONTAINER_OF(named, struct tail, named);

    pthread_mutex_lock(&tail->lock);
    listener->tail = tail;
    listener->cursor = tail->log.next;
    listener->next = tail->listeners;
    tail->listeners = listener;
    tail->n_listeners++;
    pthread_mutex_unlock(&tail->lock);
}

static void grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                  uint64_t bytes)
{
    struct listener *listener = listener_of(subscription);

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    if (listener->tail == NULL)
        return;
    pthread_mutex_lock(&listener->tail->lock);
    if (listener->cursor < listener->tail->log.next)
        wake(listener);
    else
        listener->waiting = !listener->queued && subscription_may_take(subscription);
    pthread_mutex_unlock(&listener->tail->lock);
}

static void withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend; /* a wake-up that comes all the same finds no credit */
    subscription_withdrawn(subscription);
}

static void close_listener(struct backend *backend, struct subscription *subscription)
{
    struct listener *listener = listener_of(subscription);
    struct tail *tail = listener->tail;

    (void)backend;
    subscription_closing(subscription);
    if (tail == NULL)
        return; /* its end is under way */

    struct listener **at = &tail->listeners;

    pthread_mutex_lock(&tail->lock);
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    tail->n_listeners--;
    trim(tail);
    listener->closing = true;
    wake(listener);
    pthread_mutex_unlock(&tail->lock);
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
             .publish = publish},
    .source = {.max_buffer = MESSAGING_TAIL_BYTES,
               .open = open_listener,
               .grant = grant,
               .withdraw = withdraw,
               .close = close_listener},
    .may_be_heard = may_be_heard,
};
