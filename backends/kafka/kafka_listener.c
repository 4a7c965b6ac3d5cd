/* Subscriptions: open, grant, withdraw, close, and what comes next. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    REOPEN_MS = 200,
    ORPHAN_NS = 1000000000, /* times 20: how long an orphan's first assignment is waited for */
    LOOK_NS = 1000000000,   /* times 60: the library wants to be polled now and then */
};

static struct kafka_listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

/* ---- deeds ---- */

void kafka_listener_do(struct kafka_listener *listener, void (*run)(struct kafka_task *),
                       void (*then)(struct job *), uint64_t after_ms)
{
    listener->busy = true;
    listener->task.run = run;
    listener->landed.run = then;
    kafka_desk_put(&kafka_listener_store(listener)->desk, &listener->task, after_ms);
}

/* ---- its share of what the store may hold ---- */

/* More than may be: it ends, and counts until it is gone. The store's lock is held. */
static struct err take_share(struct kafka_store *store, struct kafka_listener *listener)
{
    uint64_t half = (store->config.max_fetched_bytes - store->fetched_bytes) / 2;

    listener->fetched_bytes =
        half < store->config.subscription_bytes ? half : store->config.subscription_bytes;
    store->fetched_bytes += listener->fetched_bytes;
    if (++store->consumers <= store->config.max_consumers)
        return ERR_NONE;
    counter_add_shared(&store->full, 1);
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_consumers",
                     "as many topics and groups of Kafka are read as may be: max_consumers");
}

static void give_share_back(struct kafka_store *store, struct kafka_listener *listener)
{
    pthread_mutex_lock(&store->lock);
    store->fetched_bytes -= listener->fetched_bytes;
    store->consumers--;
    pthread_mutex_unlock(&store->lock);
}

/* ---- the end ---- */

static void after_destroy(struct job *job)
{
    struct kafka_listener *listener = CONTAINER_OF(job, struct kafka_listener, landed);
    struct kafka_instance *instance = listener->instance;

    close(listener->fd);
    give_share_back(kafka_listener_store(listener), listener);
    free(listener);
    kafka_instance_release(instance);
}

void kafka_listener_maybe_free(struct kafka_listener *listener)
{
    if (!listener->told || listener->batches > 0 || listener->busy || listener->turning)
        return;
    kafka_listener_do(listener, kafka_run_destroy, after_destroy, 0);
}

static void tell_closed(struct kafka_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    struct err end = listener->end;

    while (listener->seeks != NULL) {
        struct kafka_seeking *seeking = listener->seeks;

        listener->seeks = seeking->next;
        kafka_seek_finish(seeking, kafka_unavailable());
    }
    listener->told = true;
    subscription_closed(subscription, end);
    kafka_listener_maybe_free(listener);
}

static void after_close(struct job *job)
{
    struct kafka_listener *listener = CONTAINER_OF(job, struct kafka_listener, landed);

    listener->busy = false;
    listener->give_up_ns = listener->instance->base.home->now_ns + 300ull * NS_PER_S;
    tell_closed(listener);
}

static void after_orphan(struct job *job)
{
    struct kafka_listener *listener = CONTAINER_OF(job, struct kafka_listener, landed);

    listener->busy = false;
    kafka_listener_maybe_free(listener);
}

static void unlist(struct kafka_listener *listener)
{
    struct kafka_store *store = kafka_listener_store(listener);

    pthread_mutex_lock(&store->lock);
    *listener->at = listener->next;
    if (listener->next != NULL)
        listener->next->at = listener->at;
    pthread_mutex_unlock(&store->lock);
}

static void begin_close(struct kafka_listener *listener)
{
    struct worker *home = listener->instance->base.home;

    timer_disarm(&home->timers, &listener->commit_timer);
    timer_disarm(&home->timers, &listener->revoke_timer);
    timer_disarm(&home->timers, &listener->look_timer);
    timer_disarm(&home->timers, &listener->again_timer);
    unlist(listener);
    if (listener->event != NULL)
        rd_kafka_event_destroy(listener->event);
    listener->event = NULL;
    if (listener->group[0] != '\0')
        listener->commits = kafka_commits(listener, NULL, true);
    while (listener->parts != NULL)
        kafka_part_free(listener, listener->parts);
    if (listener->poll != NULL)
        kafka_poll_free(listener->poll);
    listener->poll = NULL;
    if (!listener->subscribed || listener->assigned) {
        kafka_listener_do(listener, kafka_run_close, after_close, 0);
        return;
    }
    listener->orphan = true;
    listener->give_up_ns = home->now_ns + 20ull * ORPHAN_NS;
    kafka_listener_do(listener, kafka_run_orphan, after_orphan, 0);
    tell_closed(listener);
}

void kafka_listener_end(struct kafka_listener *listener, struct err err)
{
    if (listener->closing)
        return;
    subscription_closing(listener->subscription);
    listener->closing = true;
    listener->end = err;
    atomic_store(&listener->abandoned, true);
    kafka_listener_wake(listener);
}

/* ---- what comes next ---- */

static void on_look_timer(struct timer *timer)
{
    struct kafka_listener *listener = CONTAINER_OF(timer, struct kafka_listener, look_timer);
    struct worker *home = listener->instance->base.home;

    timer_arm(&home->timers, timer, home->now_ns + 60ull * LOOK_NS, on_look_timer);
    kafka_listener_wake(listener);
}

static void turn(struct job *job)
{
    struct kafka_listener *listener = CONTAINER_OF(job, struct kafka_listener, turn);

    listener->turning = false;
    if (listener->told) {
        kafka_listener_maybe_free(listener);
        return;
    }
    if (!listener->busy && listener->closing) {
        begin_close(listener);
        return;
    }
    if (!listener->busy && !(listener->subscribed && kafka_control_step(listener)))
        kafka_control_places(listener);
    if (kafka_take_turn(listener))
        kafka_listener_wake(listener);
}

void kafka_listener_wake(struct kafka_listener *listener)
{
    if (listener->turning)
        return;
    listener->turning = true;
    listener->turn.run = turn;
    worker_land(listener->instance->base.home, &listener->turn);
}

static void ready(void *arg)
{
    kafka_listener_wake(arg);
}

/* ---- open ---- */

static void begin_open(struct kafka_listener *listener, uint64_t after_ms);

static bool may_come(struct err err)
{
    return err.code == ERR_UNAVAILABLE || err.code == ERR_RESOURCE_EXHAUSTED ||
           err.code == ERR_FAILED_PRECONDITION;
}

static void after_open(struct job *job)
{
    struct kafka_listener *listener = CONTAINER_OF(job, struct kafka_listener, landed);
    struct worker *home = listener->instance->base.home;
    struct err err = listener->err;

    listener->busy = false;
    if (!listener->closing && err.code == ERR_OK) {
        timer_arm(&home->timers, &listener->look_timer, home->now_ns + 60ull * LOOK_NS,
                  on_look_timer);
        if (listener->plan != NULL)
            kafka_control_adopt(listener);
    }
    kafka_control_forget(listener);
    if (!listener->closing && err.code != ERR_OK && may_come(err)) {
        begin_open(listener, REOPEN_MS);
        return;
    }
    if (!listener->closing && err.code != ERR_OK)
        kafka_listener_end(listener, err);
    kafka_listener_wake(listener);
}

static void begin_open(struct kafka_listener *listener, uint64_t after_ms)
{
    kafka_listener_do(listener, kafka_run_open, after_open, after_ms);
}

static void copy_name(char *to, struct slice from)
{
    if (from.len > 0)
        memcpy(to, from.data, from.len < MESSAGE_TOPIC_BYTES ? from.len : MESSAGE_TOPIC_BYTES);
}

/* Who listens to a topic hears what comes from now on. */
static void listen_only(struct kafka_listener *listener)
{
    listener->bare = true;
    memset(listener->group, 0, sizeof listener->group);
    listener->start = listener->if_none = START_LATEST;
}

static struct kafka_listener *listener_new(struct kafka_instance *instance,
                                           struct subscription *subscription)
{
    const struct subscription_want *want = &subscription->want;
    struct kafka_listener *listener = calloc(1, sizeof *listener);

    if (listener == NULL)
        abort();
    listener->instance = instance;
    listener->subscription = subscription;
    copy_name(listener->topic, want->topic);
    copy_name(listener->group, want->group);
    listener->start = want->start;
    listener->if_none = want->if_none;
    if (want->group.len == 0 && want->start == START_COMMITTED)
        listener->start = want->if_none;
    listener->on_gap = want->on_gap;
    listener->start_at = want->at;
    listener->start_partition = want->partition;
    listener->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (listener->fd < 0)
        abort();
    listener->poll = kafka_poll_new(instance, listener->fd, ready, listener);
    instance->busy++;
    return listener;
}

static struct err check_want(const struct subscription_want *want)
{
    if (want->start == START_POSITION)
        return err_about(ERR_FAILED_PRECONDITION, "position",
                         "places of Kafka are partitions and offsets");
    if (want->topic.len > MESSAGE_TOPIC_BYTES || want->group.len > MESSAGE_TOPIC_BYTES ||
        (want->group.len > 0 && memchr(want->group.data, '\0', want->group.len) != NULL))
        return err_about(ERR_FAILED_PRECONDITION, "consumer_group",
                         "this can be no group of Kafka");
    return ERR_NONE;
}

static void open_as(struct backend *backend, struct subscription *subscription, bool bare)
{
    struct kafka_instance *instance = kafka_instance_of(backend);
    struct kafka_store *store = kafka_store_of(backend);
    struct err err = bare ? ERR_NONE : check_want(&subscription->want);
    struct kafka_listener *listener;
    struct err share;

    if (err.code == ERR_OK)
        err = kafka_check_topic(subscription->want.topic);
    listener = listener_new(instance, subscription);
    if (bare)
        listen_only(listener);
    subscription_opening(subscription, listener);
    pthread_mutex_lock(&store->lock);
    listener->at = &store->listeners;
    listener->next = store->listeners;
    if (listener->next != NULL)
        listener->next->at = &listener->next;
    store->listeners = listener;
    share = take_share(store, listener);
    pthread_mutex_unlock(&store->lock);
    if (err.code == ERR_OK)
        err = share;
    if (err.code != ERR_OK)
        kafka_listener_end(listener, err);
    else
        begin_open(listener, 0);
}

void kafka_listener_open(struct backend *backend, struct subscription *subscription)
{
    open_as(backend, subscription, false);
}

void kafka_listener_open_topic(struct backend *backend, struct subscription *subscription)
{
    open_as(backend, subscription, true);
}

void kafka_listener_grant(struct backend *backend, struct subscription *subscription,
                          uint32_t messages, uint64_t bytes)
{
    (void)backend;
    subscription_granted(subscription, messages, bytes);
    kafka_listener_wake(listener_of(subscription));
}

void kafka_listener_withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend;
    subscription_withdrawn(subscription);
}

void kafka_listener_close(struct backend *backend, struct subscription *subscription)
{
    (void)backend;
    kafka_listener_end(listener_of(subscription), ERR_NONE);
}

/* ---- found by topic and group ---- */

static bool fits(const struct kafka_listener *listener, const char *topic, const char *group)
{
    return strcmp(listener->topic, topic) == 0 && strcmp(listener->group, group) == 0;
}

struct worker *kafka_listener_home(struct kafka_store *store, const char *topic, const char *group)
{
    struct worker *home = NULL;

    pthread_mutex_lock(&store->lock);
    for (struct kafka_listener *listener = store->listeners; listener != NULL && home == NULL;
         listener = listener->next) {
        if (group[0] != '\0' && fits(listener, topic, group))
            home = listener->instance->base.home;
    }
    pthread_mutex_unlock(&store->lock);
    return home;
}

struct kafka_listener *kafka_listener_here(struct kafka_store *store, const char *topic,
                                           const char *group)
{
    struct kafka_listener *listener;

    pthread_mutex_lock(&store->lock);
    for (listener = store->listeners; listener != NULL; listener = listener->next) {
        if (listener->instance->base.home == worker_current() && !listener->closing &&
            fits(listener, topic, group))
            break;
    }
    pthread_mutex_unlock(&store->lock);
    return listener;
}
