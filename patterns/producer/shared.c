/* The instances of one namespace on all workers, so that Flush and GetStats speak for all of them.
 * The list changes only while nothing is called: instances join in bind and leave in unbind. */
#include "patterns/producer/producer_priv.h"

#include "src/base/container.h"

#include <pthread.h>

struct producer_shared {
    struct pattern_shared base;
    struct arena memory; /* holds this struct */
    struct retention_book retention;
    pthread_mutex_t lock;
    struct producer *first;
};

static struct producer_shared *shared_of(const struct producer *producer)
{
    return CONTAINER_OF(producer->binding.shared, struct producer_shared, base);
}

struct pattern_shared *producer_open_shared(const struct pattern_sharing *sharing)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct producer_shared *shared = arena_zalloc(&memory, sizeof *shared);

    shared->memory = memory;
    pthread_mutex_init(&shared->lock, NULL);
    retention_book_init(&shared->retention, sharing->namespace_name, "message_sink",
                        producer_is_strict(sharing->behavior));
    return &shared->base;
}

void producer_close_shared(struct pattern_shared *base)
{
    struct producer_shared *shared = CONTAINER_OF(base, struct producer_shared, base);
    struct arena memory = shared->memory;

    pthread_mutex_destroy(&shared->lock);
    retention_book_clear(&shared->retention);
    arena_clear(&memory);
}

struct retention_book *producer_retention(const struct producer *producer)
{
    return producer->binding.shared != NULL ? &shared_of(producer)->retention : NULL;
}

void producer_join(struct producer *producer)
{
    if (producer->binding.shared == NULL)
        return;

    struct producer_shared *shared = shared_of(producer);

    pthread_mutex_lock(&shared->lock);
    producer->next = shared->first;
    shared->first = producer;
    pthread_mutex_unlock(&shared->lock);
}

void producer_leave(struct producer *producer)
{
    if (producer->binding.shared == NULL)
        return;

    struct producer_shared *shared = shared_of(producer);
    struct producer **at = &shared->first;

    pthread_mutex_lock(&shared->lock);
    while (*at != producer)
        at = &(*at)->next;
    *at = producer->next;
    pthread_mutex_unlock(&shared->lock);
}

void producer_each(struct producer *producer, void (*fn)(struct producer *, void *arg), void *arg)
{
    if (producer->binding.shared == NULL) { /* it stands alone */
        fn(producer, arg);
        return;
    }

    struct producer_shared *shared = shared_of(producer);

    pthread_mutex_lock(&shared->lock);
    for (struct producer *each = shared->first; each != NULL; each = each->next)
        fn(each, arg);
    pthread_mutex_unlock(&shared->lock);
}
