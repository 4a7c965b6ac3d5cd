/* Subscriptions. The library's thread puts each message into the listener's buffer and is gone; the
 * home worker takes from the buffer what the credit allows. What does not fit the buffer pushes the
 * oldest out.
 *
 * A listener outlives connections. On each it has an attachment, which ends with the library's last
 * callback for it; the next one begins after that, so messages never overtake. All of this happens
 * on the store's thread. */
#include "backends/nats/nats_priv.h"
#include "pool/worker.h"

#include <stdlib.h>

struct nats_listener {
    struct subscription *subscription;
    struct nats_instance *instance;
    struct job job; /* home */
    bool opened;    /* home: it was told */
    bool asked;     /* home: close was called */
    struct nats_task attach, detach;
    char *subject;

    /* ---- the store's thread ---- */
    struct nats_listener *next, **at;
    struct nats_attachment attachment;
    bool leaving;

    /* ---- under the lock ---- */
    pthread_mutex_t lock;
    struct nats_buffer buffer;
    uint64_t dropped;
    int64_t lib_dropped; /* what the library had dropped when a message came last */
    bool broken;         /* a connection was lost */
    bool running, queued, waiting, ended, detached;
    struct err err; /* of closed() */
};

static struct nats_store *store_of(const struct nats_listener *listener)
{
    return nats_store_of(&listener->instance->base);
}

/* Under the lock. */
static void wake(struct nats_listener *listener)
{
    if (listener->queued)
        return;
    listener->queued = true;
    worker_land(listener->subscription->home, &listener->job);
}

/* ---- from the library's threads ---- */

static struct nats_listener *attached_to(struct nats_attachment *attachment)
{
    return CONTAINER_OF(attachment, struct nats_listener, attachment);
}

static void on_message(struct nats_attachment *attachment, natsSubscription *subscription,
                       natsMsg *message)
{
    struct nats_listener *listener = attached_to(attachment);
    int64_t dropped = 0;
    uint64_t pushed_out;

    natsSubscription_GetDropped(subscription, &dropped);
    pthread_mutex_lock(&listener->lock);
    if (dropped > listener->lib_dropped)
        listener->dropped += (uint64_t)(dropped - listener->lib_dropped);
    listener->lib_dropped = dropped;
    pushed_out = nats_buffer_put(&listener->buffer, message);
    listener->dropped += pushed_out;
    if (listener->waiting) {
        listener->waiting = false;
        wake(listener);
    }
    pthread_mutex_unlock(&listener->lock);
    if (pushed_out > 0)
        counter_add_shared(&store_of(listener)->dropped, pushed_out);
}

/* ---- on the store's thread ---- */

/* Nothing of the library points to the listener any more. */
static void end_on_thread(struct nats_listener *listener)
{
    *listener->at = listener->next;
    if (listener->next != NULL)
        listener->next->at = listener->at;
    listener->at = NULL;
    pthread_mutex_lock(&listener->lock);
    listener->ended = true;
    wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

static void leave(struct nats_listener *listener)
{
    listener->leaving = true;
    if (listener->attachment.subscription == NULL)
        end_on_thread(listener);
    else
        nats_attachment_leave(&listener->attachment);
}

static void leave_because(struct nats_listener *listener, struct err err)
{
    pthread_mutex_lock(&listener->lock);
    listener->err = err;
    pthread_mutex_unlock(&listener->lock);
    leave(listener);
}

static void attach_and_ask(struct nats_store *store, struct nats_listener *listener, bool broken);

static void on_over(struct nats_attachment *attachment)
{
    struct nats_listener *listener = attached_to(attachment);

    if (listener->leaving)
        end_on_thread(listener);
    else if (attachment->store->connection != NULL)
        attach_and_ask(attachment->store, listener, true);
}

static void tell(struct nats_listener *listener, bool broken)
{
    pthread_mutex_lock(&listener->lock);
    listener->broken = listener->broken || (broken && listener->running);
    listener->running = true;
    wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

/* Was this subscription refused? The server says so before its PONG. */
static bool is_refused(struct nats_store *store, const struct nats_listener *listener)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];

    return nats_violated(store, "Permissions Violation for Subscription to \"", subject,
                         sizeof subject) &&
           strncmp(subject, listener->subject, strlen(subject)) == 0;
}

static void attached(struct nats_store *store, struct nats_listener *listener, bool broken)
{
    if (listener->leaving || listener->attachment.subscription == NULL)
        return;
    if (is_refused(store, listener))
        leave_because(listener, err_about(ERR_PERMISSION_DENIED, "topic",
                                          "NATS lets Prism's user not subscribe to it"));
    else
        tell(listener, broken);
}

/* One question for each: the server's refusal names the last subject only. */
static void attach_and_ask(struct nats_store *store, struct nats_listener *listener, bool broken)
{
    if (listener->attachment.subscription != NULL)
        return; /* the old one is not over yet: it attaches when it is */
    listener->lib_dropped = 0;
    nats_attach(&listener->attachment, listener->subject); /* refused: the next one tries again */
    if (nats_ask(store) == NATS_OK)
        attached(store, listener, broken);
    else
        natsConnection_Close(store->connection); /* the next one attaches everybody */
}

void nats_listeners_connected(struct nats_store *store)
{
    struct nats_listener *next;

    for (struct nats_listener *l = store->listeners; l != NULL; l = next) {
        next = l->next;
        if (!l->leaving)
            attach_and_ask(store, l, true);
    }
}

static bool run_attach(struct nats_store *store, struct nats_task *task)
{
    struct nats_listener *listener = CONTAINER_OF(task, struct nats_listener, attach);

    listener->next = store->listeners;
    listener->at = &store->listeners;
    if (listener->next != NULL)
        listener->next->at = &listener->next;
    store->listeners = listener;
    if (store->connection != NULL)
        attach_and_ask(store, listener, false);
    return false;
}

static bool run_detach(struct nats_store *store, struct nats_task *task)
{
    struct nats_listener *listener = CONTAINER_OF(task, struct nats_listener, detach);
    bool leaves = !listener->leaving;

    (void)store;
    pthread_mutex_lock(&listener->lock);
    listener->detached = true;
    if (listener->ended)
        wake(listener);
    pthread_mutex_unlock(&listener->lock);
    if (leaves) /* else it may be gone by now */
        leave(listener);
    return false;
}

/* ---- on the worker ---- */

struct events {
    bool ended, opened, has_gap;
    struct subscription_gap gap;
    struct incoming_batch *batch; /* NULL: nothing came */
};

static void look_for_gap(struct nats_listener *listener, struct events *events)
{
    events->has_gap = listener->dropped > 0 || listener->broken;
    if (!events->has_gap)
        return;
    events->gap = (struct subscription_gap){
        .partition = -1,
        .missing_from = -1,
        .goes_on_at = -1,
        .count = listener->broken ? 0 : listener->dropped,
        .text = listener->broken ? "the connection to NATS was lost for some time"
                                 : "the subscriber was too slow for its buffer",
    };
    listener->dropped = 0;
    listener->broken = false;
}

/* Under the lock. */
static void look(struct nats_listener *listener, struct events *events)
{
    listener->queued = listener->waiting = false;
    events->ended = listener->ended && (!listener->asked || listener->detached);
    events->opened = listener->running;
    if (listener->ended || !listener->running || listener->asked ||
        !subscription_may_take(listener->subscription))
        return;
    look_for_gap(listener, events);
    events->batch = nats_buffer_take(&listener->buffer, listener->subscription);
    if (!subscription_may_take(listener->subscription))
        return;
    if (listener->buffer.count > 0)
        wake(listener);
    else
        listener->waiting = true;
}

static void end(struct nats_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    struct err err = listener->err;

    nats_buffer_clear(&listener->buffer);
    listener->instance->subscriptions--;
    pthread_mutex_destroy(&listener->lock);
    free(listener->subject);
    free(listener);
    if (subscription->state != SUB_CLOSING)
        subscription_closing(subscription);
    subscription_closed(subscription, err);
}

static void run(struct job *job)
{
    struct nats_listener *listener = CONTAINER_OF(job, struct nats_listener, job);
    struct subscription *subscription = listener->subscription;
    struct events events = {0};

    pthread_mutex_lock(&listener->lock);
    look(listener, &events);
    pthread_mutex_unlock(&listener->lock);
    if (events.ended) {
        end(listener);
        return;
    }
    if (events.opened && !listener->opened && !listener->asked) {
        listener->opened = true;
        subscription_opened(subscription);
    }
    if (events.has_gap)
        subscription_gap(subscription, &events.gap);
    if (events.batch != NULL)
        subscription_deliver(subscription, events.batch);
}

static struct nats_listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

void nats_listener_open(struct backend *backend, struct subscription *subscription)
{
    struct nats_instance *instance = CONTAINER_OF(backend, struct nats_instance, base);
    struct nats_listener *listener = calloc(1, sizeof *listener);
    struct slice topic = subscription->want.topic;

    if (listener == NULL || (listener->subject = malloc(topic.len + 1)) == NULL)
        abort();
    if (topic.len > 0)
        memcpy(listener->subject, topic.data, topic.len);
    listener->subject[topic.len] = '\0';
    listener->subscription = subscription;
    listener->instance = instance;
    listener->buffer.max_bytes = store_of(listener)->config.subscription_bytes;
    listener->attachment = (struct nats_attachment){
        .store = store_of(listener), .message = on_message, .over = on_over};
    listener->job.run = run;
    listener->attach.run = run_attach;
    listener->detach.run = run_detach;
    pthread_mutex_init(&listener->lock, NULL);
    counter_add(&backend->stats.calls, 1);
    instance->subscriptions++;
    subscription_opening(subscription, listener);
    listener->err = nats_check_pattern(topic);
    if (listener->err.code == ERR_OK) {
        nats_store_put(store_of(listener), &listener->attach);
        return;
    }
    pthread_mutex_lock(&listener->lock);
    listener->ended = listener->detached = true;
    wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

void nats_listener_grant(struct backend *backend, struct subscription *subscription,
                         uint32_t messages, uint64_t bytes)
{
    struct nats_listener *listener = listener_of(subscription);

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    pthread_mutex_lock(&listener->lock);
    wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

void nats_listener_withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend; /* a wake-up that comes all the same finds no credit */
    subscription_withdrawn(subscription);
}

void nats_listener_close(struct backend *backend, struct subscription *subscription)
{
    struct nats_listener *listener = listener_of(subscription);
    bool refused;

    (void)backend;
    subscription_closing(subscription);
    listener->asked = true;
    pthread_mutex_lock(&listener->lock);
    refused = listener->detached; /* it never came to the store: its end is under way */
    pthread_mutex_unlock(&listener->lock);
    if (!refused)
        nats_store_put(store_of(listener), &listener->detach);
}
