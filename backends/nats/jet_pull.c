/* Requests for messages, on the store's thread: a request is the credit. It has one inbox, which
 * ends with what was sent to it, so no message is left behind on the way. */
#include "backends/nats/jet_priv.h"

#include <stdio.h>
#include <stdlib.h>

static struct jet_listener *attached_to(struct nats_attachment *attachment)
{
    return CONTAINER_OF(attachment, struct jet_listener, attachment);
}

static void tell(struct jet_listener *listener, bool *flag)
{
    pthread_mutex_lock(&listener->lock);
    *flag = true;
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

/* thread: the library's. What comes is bounded by what was asked for. */
static void on_message(struct nats_attachment *attachment, natsSubscription *subscription,
                       natsMsg *message)
{
    struct jet_listener *listener = attached_to(attachment);

    (void)subscription;
    pthread_mutex_lock(&listener->lock);
    if (listener->n_arrived == listener->arrived_room) {
        listener->arrived_room = listener->arrived_room == 0 ? 64 : listener->arrived_room * 2;
        listener->arrived =
            realloc((void *)listener->arrived, listener->arrived_room * sizeof *listener->arrived);
        if (listener->arrived == NULL)
            abort();
    }
    listener->arrived[listener->n_arrived++] = message;
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

static void on_over(struct nats_attachment *attachment)
{
    struct jet_listener *listener = attached_to(attachment);

    tell(listener, &listener->over);
}

static bool attach(struct jet_listener *listener)
{
    char pattern[64];
    natsInbox *name;

    if (listener->attachment.store->connection == NULL)
        return false;
    if (natsInbox_Create(&name) != NATS_OK)
        abort();
    snprintf(listener->inbox, sizeof listener->inbox, "%s", name);
    natsInbox_Destroy(name);
    snprintf(pattern, sizeof pattern, "%s.*", listener->inbox);
    if (!nats_attach(&listener->attachment, pattern))
        return false;
    natsSubscription_SetPendingLimits(listener->attachment.subscription, -1, -1);
    return true;
}

static void request(struct nats_store *store, struct jet_listener *listener)
{
    char subject[2 * JET_NAME_BYTES + 64], text[192], reply[JET_REPLY_BYTES], bytes[48] = "",
                                                                              beats[48] = "";

    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", listener->place.stream,
             listener->place.consumer);
    if (listener->pull_bytes > 0)
        snprintf(bytes, sizeof bytes, "\"max_bytes\":%llu,",
                 (unsigned long long)listener->pull_bytes);
    if (listener->beats)
        snprintf(beats, sizeof beats, "\"idle_heartbeat\":%llu,", JET_BEAT_MS * 1000000ull);
    snprintf(text, sizeof text, "{\"batch\":%u,%s%s\"expires\":%llu}", listener->pull_messages,
             bytes, beats, listener->pull_ms * 1000000ull);
    snprintf(reply, sizeof reply, "%s.%llx", listener->inbox,
             (unsigned long long)listener->request);
    if (natsConnection_PublishRequest(store->connection, subject, reply, text, (int)strlen(text)) !=
        NATS_OK)
        store->write_failed = true;
}

static bool run_pull(struct nats_store *store, struct nats_task *task)
{
    struct jet_listener *listener = CONTAINER_OF(task, struct jet_listener, pull);

    if (listener->attach && !attach(listener))
        tell(listener, &listener->over);
    else if (listener->attachment.subscription != NULL)
        request(store, listener);
    atomic_store(&listener->pull_queued, false);
    return false;
}

static bool run_detach(struct nats_store *store, struct nats_task *task)
{
    struct jet_listener *listener = CONTAINER_OF(task, struct jet_listener, detach);

    (void)store;
    if (listener->attachment.subscription != NULL)
        nats_attachment_drain(&listener->attachment);
    tell(listener, &listener->detached);
    return false;
}

static bool run_arrive(struct nats_store *base, struct nats_task *task)
{
    struct jet_listener *listener = CONTAINER_OF(task, struct jet_listener, arrive);
    struct jet_store *store = jet_of(base);

    listener->next = store->listeners;
    listener->at = &store->listeners;
    if (listener->next != NULL)
        listener->next->at = &listener->next;
    store->listeners = listener;
    jet_journal_look(store);
    tell(listener, &listener->connected);
    return false;
}

static bool run_depart(struct nats_store *base, struct nats_task *task)
{
    struct jet_listener *listener = CONTAINER_OF(task, struct jet_listener, depart);

    (void)base;
    *listener->at = listener->next;
    if (listener->next != NULL)
        listener->next->at = listener->at;
    tell(listener, &listener->departed);
    return false;
}

void jet_pull_init(struct jet_listener *listener)
{
    listener->attachment =
        (struct nats_attachment){.store = &jet_store_of(&listener->instance->base)->base,
                                 .message = on_message,
                                 .over = on_over};
    listener->arrive.run = run_arrive;
    listener->pull.run = run_pull;
    listener->detach.run = run_detach;
    listener->depart.run = run_depart;
}

void jet_listeners_connected(struct jet_store *store)
{
    jet_journal_look(store);
    for (struct jet_listener *l = store->listeners; l != NULL; l = l->next)
        tell(l, &l->connected);
}

void jet_listeners_wake(struct jet_store *store)
{
    for (struct jet_listener *l = store->listeners; l != NULL; l = l->next) {
        pthread_mutex_lock(&l->lock);
        jet_listener_wake(l);
        pthread_mutex_unlock(&l->lock);
    }
}

void jet_listeners_noticed(struct jet_store *store, const uint64_t *hashes, size_t n, bool all)
{
    for (struct jet_listener *l = store->listeners; l != NULL; l = l->next) {
        uint64_t hash = atomic_load(&l->removed.name_hash);
        bool noticed = all;

        for (size_t i = 0; i < n && !noticed; i++)
            noticed = hashes[i] == hash;
        if (noticed)
            tell(l, &l->noticed);
    }
}

void jet_listeners_look(struct jet_store *store, const char *topic, const char *group)
{
    for (struct jet_listener *l = store->listeners; l != NULL; l = l->next) {
        if (strcmp(l->place.topic, topic) == 0 && strcmp(l->place.group, group) == 0)
            tell(l, &l->connected);
    }
}
