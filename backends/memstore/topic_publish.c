/* Publishing to topics: runs of items for one topic, each under one lock; or one message for many
 * topics, whose names are looked up together, and which goes to those who wait for it by parcels.
 */
#include "backends/failed_keys.h"
#include "backends/memstore/parcel.h"

#include <time.h>

enum { RUN = 64, RETRY_MS = 100, CHARGED_BYTES = 64 << 10 };

static bool over(uint64_t limit, uint64_t now, uint64_t more)
{
    return limit > 0 && now + more > limit;
}

static struct err make_room(struct messaging *m, struct tail *tail, uint64_t cost)
{
    enum capacity limit;

    while (tail->backlog != NULL && (over(m->config.tail_bytes, tail->backlog->bytes, cost) ||
                                     over(m->config.tail_messages, tail->backlog->n, 1)))
        tail_drop_oldest(m, tail);
    while ((limit = capacity_take(m->store, 0, cost)) != CAPACITY_OK) {
        if (tail->backlog == NULL) {
            struct err err = capacity_error(m->store, limit);

            err.retry_after_ms = RETRY_MS;
            return err;
        }
        tail_drop_oldest(m, tail);
    }
    return ERR_NONE;
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

/* The message that items are made from. */
struct keeping {
    uint64_t now_ms;           /* Unix time; 0: not looked at yet */
    const struct outgoing *of; /* NULL: none is there that another topic could have as well */
    struct kept *kept;
};

/* One publish. */
struct publishing {
    struct messaging *m;
    struct publish *publish;
    struct failed_keys failed;
    struct keeping keeping;
    struct parcels parcels;
    uint64_t charged; /* of the store's capacity, for messages to come */
};

static bool is_same_slice(struct slice a, struct slice b)
{
    return a.data == b.data && a.len == b.len;
}

/* The same message, but for the topic: it lies in the same place. */
static bool is_alike(const struct outgoing *a, const struct outgoing *b)
{
    return a->shared == b->shared && a->headers == b->headers && a->n_headers == b->n_headers &&
           is_same_slice(a->key, b->key) && is_same_slice(a->id, b->id) &&
           is_same_slice(a->payload, b->payload);
}

static void keeping_end(struct keeping *keeping)
{
    if (keeping->of != NULL)
        kept_unref(keeping->kept);
    keeping->of = NULL;
}

/* With a reference, which is the keeper's where the item's payload is shared. */
static struct kept *look_up(struct keeping *keeping, const struct outgoing *item)
{
    if (keeping->of != NULL && is_alike(keeping->of, item))
        return keeping->kept;
    if (keeping->now_ms == 0) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        keeping->now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
    }
    keeping_end(keeping);
    keeping->kept = kept_new(item, keeping->now_ms);
    if (item->shared != NULL) /* else there is one message for each topic */
        keeping->of = item;
    return keeping->kept;
}

/* With a reference, the caller's. */
static struct kept *keep(struct keeping *keeping, const struct outgoing *item)
{
    struct kept *kept = look_up(keeping, item);

    return item->shared != NULL ? kept_ref(kept) : kept;
}

static void wake_those_who_wait(struct tail *tail)
{
    for (struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->waiting) {
            l->waiting = false;
            listener_wake(l);
        }
    }
}

/* ---- a run of items for one topic ---- */

static void append_run(struct publishing *p, struct tail *tail, struct outgoing *items, size_t n)
{
    pthread_mutex_t *lock = tail_lock(p->m, tail);
    struct kept *kept[RUN];

    for (size_t i = 0; i < n; i++)
        kept[i] = keep(&p->keeping, &items[i]);
    pthread_mutex_lock(lock);
    for (size_t i = 0; i < n; i++)
        append(p->m, tail, &p->failed, &items[i], kept[i]);
    wake_those_who_wait(tail);
    pthread_mutex_unlock(lock);
}

static size_t publish_run(struct publishing *p, size_t from)
{
    struct outgoing *item = &p->publish->items[from];
    struct named *named = NULL;
    bool full;

    messaging_forget(item);
    if (failed_stops(&p->failed, item))
        return 1;
    item->err = messaging_check(item);
    if (item->err.code != ERR_OK) {
        failed_add(&p->failed, item);
        return 1;
    }
    if (names_may_be_heard(p->m, item->topic))
        named = names_get(p->m, &named_topic, item->topic, false, &full);
    if (named == NULL) { /* nobody listens */
        item->receivers = 0;
        return 1;
    }

    size_t n = messaging_run(p->publish, from, RUN);

    append_run(p, CONTAINER_OF(named, struct tail, named), item, n);
    names_put(p->m, named);
    return n;
}

/* ---- a message for many topics ---- */

/* Items without keys, whose payload is one block: a page of a multicast. None of them waits for
 * another's outcome. */
static bool is_for_many(const struct publish *publish, size_t from)
{
    const struct outgoing *item = &publish->items[from];

    return item->shared != NULL && message_is_null(item->key) && from + 1 < publish->n &&
           is_alike(item, item + 1) && !slice_equal(item[1].topic, item->topic) &&
           kept_cost(item) <= MESSAGING_BYTES / 2; /* so each is, whatever its topic */
}

/* For as many as may need it, where that is little; if there is less, each sees for itself. */
static void charge(struct publishing *p, uint64_t bytes)
{
    if (bytes <= CHARGED_BYTES && capacity_take(p->m->store, 0, bytes) == CAPACITY_OK)
        p->charged += bytes;
}

static void give_charged(struct publishing *p)
{
    if (p->charged > 0)
        capacity_give(p->m->store, 0, p->charged);
    p->charged = 0;
}

/* Who listens, if it is one who waits for a message and has a bundle. */
static struct listener *waiting_alone(const struct tail *tail, const void **bundle)
{
    struct listener *listener = tail->listeners;

    if (tail->n_listeners != 1 || tail->backlog != NULL || !listener->waiting)
        return NULL;
    *bundle = subscription_bundle(listener->subscription);
    return *bundle != NULL ? listener : NULL;
}

/* Under the lock. */
static void hand_over(struct publishing *p, struct tail *tail, struct outgoing *item,
                      struct kept *kept)
{
    const void *bundle;
    struct listener *listener = waiting_alone(tail, &bundle);

    if (listener == NULL) {
        give_charged(p); /* the tail is not to be emptied for want of it */
        append(p->m, tail, &p->failed, item, kept_ref(kept));
        wake_those_who_wait(tail);
        return;
    }
    item->receivers = 1;
    if (p->charged >= kept->cost)
        p->charged -= kept->cost;
    else
        item->err = make_room(p->m, tail, kept->cost);
    if (item->err.code != ERR_OK)
        return;
    parcels_add(&p->parcels, listener, bundle, kept);
    listener->cursor = ++tail->next;
}

static size_t publish_many(struct publishing *p, size_t from)
{
    struct outgoing *items = &p->publish->items[from];
    size_t left = p->publish->n - from, n = 0;
    struct slice topics[NAMES_MANY];
    struct named *named[NAMES_MANY];
    pthread_mutex_t *held = NULL;
    struct kept *kept = look_up(&p->keeping, items);

    while (n < NAMES_MANY && n < left && is_alike(items, &items[n])) {
        messaging_forget(&items[n]);
        topics[n] = items[n].topic;
        if (topics[n].len > 0 && topics[n].len <= MESSAGE_TOPIC_BYTES) {
            items[n++].receivers = 0;
            continue;
        }
        items[n].err = messaging_check(&items[n]);
        topics[n++] = message_null();
    }
    names_get_many(p->m, &named_topic, topics, n, named);
    charge(p, n * kept->cost);
    for (size_t i = 0; i < n; i++) {
        if (named[i] == NULL)
            continue;

        struct tail *tail = CONTAINER_OF(named[i], struct tail, named);

        tail_lock_next(&held, tail_lock(p->m, tail));
        hand_over(p, tail, &items[i], kept);
    }
    tail_lock_next(&held, NULL);
    give_charged(p);
    names_put_many(p->m, named, n);
    return n;
}

void topic_publish(struct backend *backend, struct publish *publish)
{
    struct publishing p = {.m = messaging_of(backend), .publish = publish};

    failed_init(&p.failed, publish);
    counter_add(&backend->stats.calls, 1);
    for (size_t i = 0; i < publish->n;)
        i += is_for_many(publish, i) ? publish_many(&p, i) : publish_run(&p, i);
    parcels_send(&p.parcels);
    keeping_end(&p.keeping);
    counter_add_shared(&p.m->published, publish->n);
    messaging_end(backend, &publish->op, ERR_NONE);
}
