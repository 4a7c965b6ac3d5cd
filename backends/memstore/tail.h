/* A topic's tail, and those who listen to it. */
#ifndef PRISM_BACKENDS_MEMSTORE_TAIL_H
#define PRISM_BACKENDS_MEMSTORE_TAIL_H

#include "backends/memstore/backlog.h"
#include "backends/memstore/messaging.h"

struct tail {
    struct named named; /* first */
    /* ---- under the lock ---- */
    struct backlog *backlog;
    int64_t next; /* messages that have come, those that have left again included */
    struct listener *listeners;
    uint32_t n_listeners;
    uint32_t lock; /* which one */
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

static inline pthread_mutex_t *tail_lock(struct messaging *m, const struct tail *tail)
{
    return &m->topic_locks[tail->lock];
}

/* In place of the one that is held; NULL: of none. Neighbours mostly share theirs. */
static inline void tail_lock_next(pthread_mutex_t **held, pthread_mutex_t *lock)
{
    if (*held == lock)
        return;
    if (*held != NULL)
        pthread_mutex_unlock(*held);
    if (lock != NULL)
        pthread_mutex_lock(lock);
    *held = lock;
}

static inline struct messaging *listener_messaging(const struct listener *listener)
{
    return messaging_of(&listener->instance->base);
}

/* ---- under the tail's lock ---- */

static inline int64_t tail_first(const struct tail *tail)
{
    return tail->next - backlog_count(tail->backlog);
}

void tail_drop_oldest(struct messaging *m, struct tail *tail);

/* What all have read goes, while they are few. */
void tail_trim(struct messaging *m, struct tail *tail);

/* Its job runs, unless it is under way. */
void listener_wake(struct listener *listener);

/* ---- topic_publish.c ---- */

void topic_publish(struct backend *backend, struct publish *publish);

#endif
