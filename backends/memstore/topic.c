/* The topic interface. A topic is there while somebody listens. What is published goes into its
 * tail, once, and each listener has a place in the tail; so a publish costs the same whatever the
 * number of listeners, but for waking those that sleep. The tail is bounded by messages and bytes:
 * who falls behind its beginning has missed something, and is told how much. What all have read
 * goes at once while they are few; with many it goes when the tail is full. A message that one
 * publish has for many topics is kept once for all their tails; each is charged for it as if it
 * were alone. */
#include "backends/failed_keys.h"
#include "backends/memstore/backlog.h"
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { RUN = 64, FEW = 8, RETRY_MS = 100 };

struct tail {
    struct named named; /* first */
    /* ---- under the lock ---- */
    struct backlog *backlog;
    int64_t next; /* messages that have come, those that have left again included */
    struct listener *listeners;
    uint32_t n_listeners;
};

struct listener {
    struct subscription *subscription;
    struct memstore_instance *instance;
    struct tail *tail; /* with a reference; NULL: there are too many names */
    struct job job;
    /* ---- under the tail's lock ---- */
    struct listener *next;
    int64_t cursor; /* as tail->next: what it reads next */
    bool queued, waiting, closing;
    /* ---- home ---- */
    bool opened; /* it was told */
};

_Static_assert(sizeof(struct tail) <= 64 && sizeof(struct listener) <= 64,
               "an identity that is received for pays for both, and for its name");

/* ---- the tail ---- */

static void make(struct messaging *m, struct named *named)
{
    (void)m;
    (void)named;
}

/* Who listened last has taken all with it. */
static void unmake(struct named *named)
{
    assert(CONTAINER_OF(named, struct tail, named)->backlog == NULL);
    (void)named;
}

const struct named_kind named_topic = {
    .bytes = sizeof(struct tail), .make = make, .unmake = unmake, .passes = true};

static pthread_mutex_t *lock_of(struct messaging *m, const struct tail *tail)
{
    return &m->topic_locks[tail->named.hash % TOPIC_LOCKS];
}

static struct messaging *messaging_behind(const struct listener *listener)
{
    return messaging_of(&listener->instance->base);
}

static int64_t first(const struct tail *tail)
{
    return tail->next - backlog_count(tail->backlog);
}

static void drop_oldest(struct messaging *m, struct tail *tail)
{
    struct kept *kept = backlog_take(&tail->backlog);

    capacity_give(m->store, 0, kept->cost);
    kept_unref(kept);
}

static bool over(uint64_t limit, uint64_t now, uint64_t more)
{
    return limit > 0 && now + more > limit;
}

static struct err make_room(struct messaging *m, struct tail *tail, uint64_t cost)
{
    enum capacity limit;

    while (tail->backlog != NULL && (over(m->config.tail_bytes, tail->backlog->bytes, cost) ||
                                     over(m->config.tail_messages, tail->backlog->n, 1)))
        drop_oldest(m, tail);
    while ((limit = capacity_take(m->store, 0, cost)) != CAPACITY_OK) {
        if (tail->backlog == NULL) {
            struct err err = capacity_error(m->store, limit);

            err.retry_after_ms = RETRY_MS;
            return err;
        }
        drop_oldest(m, tail);
    }
    return ERR_NONE;
}

/* What all have read. */
static void trim(struct messaging *m, struct tail *tail)
{
    int64_t read = tail->next;

    if (tail->n_listeners > FEW)
        return;
    for (const struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->cursor < read)
            read = l->cursor;
    }
    while (first(tail) < read)
        drop_oldest(m, tail);
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
static void append(struct messaging *m, struct tail *tail, struct failed_keys *failed,
                   struct outgoing *item, struct kept *kept)
{
    messaging_forget(item);
    if (failed_stops(failed, item)) {
        kept_unref(kept);
        return;
    }
    item->receivers = (int32_t)tail->n_listeners;
    if (tail->n_listeners > 0)
        item->err = make_room(m, tail, kept->cost);
    if (item->err.code != ERR_OK)
        failed_add(failed, item);
    if (tail->n_listeners == 0 || item->err.code != ERR_OK) {
        kept_unref(kept);
        return;
    }
    backlog_add(&tail->backlog, kept);
    tail->next++;
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

static void append_run(struct messaging *m, struct tail *tail, struct failed_keys *failed,
                       struct keeping *keeping, struct outgoing *items, size_t n)
{
    pthread_mutex_t *lock = lock_of(m, tail);
    struct kept *kept[RUN];

    for (size_t i = 0; i < n; i++)
        kept[i] = keep(keeping, &items[i]);
    pthread_mutex_lock(lock);
    for (size_t i = 0; i < n; i++)
        append(m, tail, failed, &items[i], kept[i]);
    for (struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->waiting) {
            l->waiting = false;
            wake(l);
        }
    }
    pthread_mutex_unlock(lock);
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

    append_run(m, CONTAINER_OF(named, struct tail, named), failed, keeping, item, n);
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
    int64_t oldest = first(listener->tail);

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
    counter_add_shared(&messaging_behind(listener)->dropped, events->gap.count);
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
        struct kept *kept = backlog_at(tail->backlog, (uint32_t)(listener->cursor++ - first(tail)));

        events->taken[events->n++] =
            (struct taken){.kept = kept_ref(kept), .offset = -1, .attempt = 1};
        subscription_take(subscription, 1, kept_bytes(kept));
        bytes += kept_bytes(kept);
    }
    trim(messaging_behind(listener), tail);
    if (!subscription_may_take(subscription))
        return;
    if (listener->cursor < tail->next)
        wake(listener);
    else
        listener->waiting = true;
}

static void end(struct listener *listener, struct err err)
{
    struct subscription *subscription = listener->subscription;
    struct messaging *m = messaging_behind(listener);
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
    lock = lock_of(messaging_behind(listener), listener->tail);
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

    pthread_mutex_lock(lock_of(m, tail));
    listener->tail = tail;
    listener->cursor = tail->next;
    listener->next = tail->listeners;
    tail->listeners = listener;
    tail->n_listeners++;
    pthread_mutex_unlock(lock_of(m, tail));
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
    lock = lock_of(messaging_of(backend), tail);
    pthread_mutex_lock(lock);
    if (listener->cursor < tail->next)
        wake(listener);
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

    pthread_mutex_lock(lock_of(m, tail));
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    tail->n_listeners--;
    trim(m, tail);
    listener->closing = true;
    wake(listener);
    pthread_mutex_unlock(lock_of(m, tail));
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
