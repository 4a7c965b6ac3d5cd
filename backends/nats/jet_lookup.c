/* Messages that nobody took: "no responders". Either no stream takes their topic, and one is made
 * where that is configured, or it has no leader at the moment, and they are sent again until their
 * time is over. They hold their lanes meanwhile. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

struct jet_lookup {
    struct jet_errand errand; /* first */
    struct nats_task found;
    struct jet_lookup *next;
    struct jet_store *store;
    struct jet_list items;
    bool asking;
    uint64_t wait_ms;  /* the control thread's: for the next answer */
    uint64_t retry_ns; /* 0: they are sent again as soon as possible */
    /* the control thread's while asking */
    bool made;
    struct err err;
    char stream[JET_NAME_BYTES];
    char topic[MESSAGE_TOPIC_BYTES + 1];
};

static struct err leaderless(void)
{
    struct err err =
        err_make(ERR_UNAVAILABLE, "the stream has no leader at the moment; nothing was written");

    err.retry_after_ms = JET_RETRY_MS;
    return err;
}

static void work(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct jet_lookup *lookup = (struct jet_lookup *)errand;

    lookup->made = false;
    lookup->err = js != NULL ? jet_stream_find(store, js, lookup->topic, lookup->wait_ms,
                                               lookup->stream, &lookup->made)
                             : nats_unavailable();
    lookup->wait_ms = jet_ask_next(store, lookup->wait_ms, lookup->err.code != ERR_UNAVAILABLE);
}

static void worked(struct jet_store *store, struct jet_errand *errand)
{
    nats_store_put(&store->base, &((struct jet_lookup *)errand)->found);
}

static void forget(struct jet_store *store, struct jet_lookup *lookup)
{
    struct jet_lookup **at = &store->window.lookups;

    while (*at != lookup)
        at = &(*at)->next;
    *at = lookup->next;
    free(lookup);
}

static void send_all(struct jet_store *store, struct jet_lookup *lookup)
{
    struct jet_item *item;

    while ((item = jet_list_pop(&lookup->items)) != NULL)
        jet_window_send_again(store, item);
    forget(store, lookup);
}

static bool run_found(struct nats_store *base, struct nats_task *task)
{
    struct jet_lookup *lookup = CONTAINER_OF(task, struct jet_lookup, found);
    struct jet_store *store = jet_of(base);
    struct jet_item *item;

    lookup->asking = false;
    if (lookup->err.code == ERR_OK || lookup->err.code == ERR_UNAVAILABLE) {
        lookup->retry_ns = lookup->made ? 0 : clock_now_ns() + JET_RETRY_MS * NS_PER_MS;
        return false;
    }
    while ((item = jet_list_pop(&lookup->items)) != NULL)
        jet_item_end(store, item, lookup->err);
    forget(store, lookup);
    jet_window_pump(store);
    return false;
}

static struct jet_lookup *lookup_of(struct jet_store *store, const char *topic)
{
    struct jet_lookup *lookup = store->window.lookups;

    while (lookup != NULL && strcmp(lookup->topic, topic) != 0)
        lookup = lookup->next;
    if (lookup != NULL)
        return lookup;
    lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        abort();
    jet_list_init(&lookup->items);
    lookup->store = store;
    lookup->wait_ms = jet_ask_next(store, 0, true);
    lookup->errand.work = work;
    lookup->errand.worked = worked;
    lookup->found.run = run_found;
    memcpy(lookup->topic, topic, strlen(topic) + 1);
    lookup->next = store->window.lookups;
    store->window.lookups = lookup;
    lookup->asking = true;
    jet_control_put(store, &lookup->errand);
    return lookup;
}

void jet_lookup_put(struct jet_store *store, struct jet_item *item)
{
    jet_list_push(&lookup_of(store, natsMsg_GetSubject(item->message))->items, item);
}

static void end_some(struct jet_store *store, struct jet_lookup *lookup, uint64_t now_ns)
{
    struct jet_item *next;

    for (struct jet_item *item = lookup->items.first; item != NULL; item = next) {
        next = item->next;
        if (!jet_item_expired(store, item, now_ns) && !atomic_load(&item->publication->abandoned))
            continue;
        jet_list_remove(&lookup->items, item);
        jet_item_end(store, item, leaderless());
    }
}

uint64_t jet_lookup_tick(struct jet_store *store, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    struct jet_lookup *next;

    for (struct jet_lookup *lookup = store->window.lookups; lookup != NULL; lookup = next) {
        next = lookup->next;
        end_some(store, lookup, now_ns);
        if (lookup->asking || store->base.connection == NULL || now_ns < lookup->retry_ns)
            due_ns = now_ns + JET_RETRY_MS * NS_PER_MS;
        else
            send_all(store, lookup);
    }
    return due_ns;
}

/* No message is left in them. */
void jet_lookup_clear(struct jet_store *store)
{
    while (store->window.lookups != NULL)
        forget(store, store->window.lookups);
}
