#include "backends/memstore/tail.h"

#include <assert.h>

enum { FEW = 8 };

/* Those that a stream opens one after the other share a lock, some at a time: a multicast meets
 * them together, and takes it once. They are few, for busy topics that are opened one after the
 * other hold each other up by it. */
static void make(struct messaging *m, struct named *named)
{
    CONTAINER_OF(named, struct tail, named)->lock = m->topics_made++ / TOPICS_A_LOCK % TOPIC_LOCKS;
}

/* Who listened last has taken all with it. */
static void unmake(struct named *named)
{
    assert(CONTAINER_OF(named, struct tail, named)->backlog == NULL);
    (void)named;
}

const struct named_kind named_topic = {
    .bytes = sizeof(struct tail), .make = make, .unmake = unmake, .passes = true};

void tail_drop_oldest(struct messaging *m, struct tail *tail)
{
    struct kept *kept = backlog_take(&tail->backlog);

    capacity_give(m->store, 0, kept->cost);
    kept_unref(kept);
}

/* What all have read. */
void tail_trim(struct messaging *m, struct tail *tail)
{
    int64_t read = tail->next;

    if (tail->n_listeners > FEW)
        return;
    for (const struct listener *l = tail->listeners; l != NULL; l = l->next) {
        if (l->cursor < read)
            read = l->cursor;
    }
    while (tail_first(tail) < read)
        tail_drop_oldest(m, tail);
}

void listener_wake(struct listener *listener)
{
    if (listener->queued)
        return;
    listener->queued = true;
    worker_land(listener->subscription->home, &listener->job);
}
