/*   add      the listener waits no longer: the message is its own, and its job counts as queued
 *   send     a job lands on the home of the bundle
 *   open     who is about to close gets nothing; the others wait again, unless more has come
 *   share    one batch for all of them */
#include "backends/memstore/parcel.h"

#include <assert.h>
#include <stdlib.h>

enum { FEWEST = 4 };

struct parcel {
    struct incoming_batch base; /* first. While it travels `landing` is its job */
    struct incoming item;
    struct kept *kept; /* with a reference */
    const void *bundle;
    size_t room;
    struct subscription *to[];
};

static void release(struct incoming_batch *base)
{
    struct parcel *parcel = CONTAINER_OF(base, struct parcel, base);

    kept_unref(parcel->kept);
    free(parcel);
}

/* ---- home ---- */

/* Under the lock. False: it gets nothing any more. */
static bool take(struct listener *listener, size_t bytes)
{
    struct subscription *subscription = listener->subscription;
    bool closing = listener->closing;

    listener->queued = false;
    if (!closing)
        subscription_take(subscription, 1, bytes);
    if (closing || (listener->cursor < listener->tail->next && subscription_may_take(subscription)))
        listener_wake(listener);
    else
        listener->waiting = subscription_may_take(subscription);
    return !closing;
}

/* Keeps those who get something. */
static uint32_t take_all(struct parcel *parcel, struct messaging *m)
{
    size_t bytes = kept_bytes(parcel->kept);
    pthread_mutex_t *held = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < parcel->base.n; i++) {
        struct listener *listener = parcel->to[i]->backend_data;

        tail_lock_next(&held, tail_lock(m, listener->tail));
        if (take(listener, bytes))
            parcel->to[n++] = parcel->to[i];
    }
    tail_lock_next(&held, NULL);
    return n;
}

static void open_parcel(struct job *job)
{
    struct parcel *parcel = CONTAINER_OF(job, struct parcel, base.landing);
    struct messaging *m = listener_messaging(parcel->to[0]->backend_data);
    uint32_t n;

    capacity_give(m->store, 0, (uint64_t)parcel->kept->cost * parcel->base.n);
    n = take_all(parcel, m);
    if (n == 0) {
        release(&parcel->base);
        return;
    }
    kept_tell(parcel->kept, &parcel->item);
    parcel->item.topic = message_null();
    parcel->item.attempt = 1;
    parcel->base.items = &parcel->item;
    parcel->base.sharers = parcel->to;
    parcel->base.n = n;
    parcel->base.bytes = n * kept_bytes(parcel->kept);
    subscription_share(&parcel->base);
}

/* ---- any ---- */

static void send(struct parcel *parcel)
{
    parcel->base.landing.run = open_parcel;
    worker_land(parcel->to[0]->home, &parcel->base.landing);
}

static struct parcel *sized(struct parcel *parcel, size_t room)
{
    parcel = realloc(parcel, sizeof *parcel + room * sizeof parcel->to[0]);
    if (parcel == NULL)
        abort();
    parcel->room = room;
    return parcel;
}

static struct parcel *begin(const void *bundle, struct kept *kept)
{
    struct parcel *parcel = sized(NULL, FEWEST);

    parcel->base = (struct incoming_batch){.release = release};
    parcel->kept = kept_ref(kept);
    parcel->bundle = bundle;
    return parcel;
}

void parcels_add(struct parcels *parcels, struct listener *listener, const void *bundle,
                 struct kept *kept)
{
    size_t place = ((uintptr_t)bundle * 0x9e3779b97f4a7c15u) >> 32;
    struct parcel **at = &parcels->open[place % PARCELS], *parcel = *at;

    if (parcel != NULL && (parcel->bundle != bundle || parcel->kept != kept)) {
        send(parcel);
        parcel = NULL;
    }
    if (parcel == NULL)
        parcel = begin(bundle, kept);
    else if (parcel->base.n == parcel->room)
        parcel = sized(parcel, 2 * parcel->room);
    *at = parcel;
    parcel->to[parcel->base.n++] = listener->subscription;
    listener->waiting = false;
    listener->queued = true;
}

void parcels_send(struct parcels *parcels)
{
    for (size_t i = 0; i < PARCELS; i++) {
        if (parcels->open[i] != NULL)
            send(parcels->open[i]);
        parcels->open[i] = NULL;
    }
}
