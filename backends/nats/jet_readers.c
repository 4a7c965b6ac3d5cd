/* Who reads in a group here, and how many messages they hold (jet_readers.h). */
#include "backends/nats/jet_priv.h"
#include "src/base/hash.h"

#include <stdlib.h>

/* There is one as long as there are members; their places name it. */
struct jet_readers {
    struct jet_readers *next, **at; /* in the bucket */
    struct jet_listener *members;
    _Atomic unsigned leaving;
    _Atomic uint64_t took, let_go; /* they only rise */
};

void jet_reading_table_init(struct jet_reading_table *table)
{
    table->seed = hash_seed();
    pthread_mutex_init(&table->lock, NULL);
}

void jet_reading_table_clear(struct jet_reading_table *table)
{
    pthread_mutex_destroy(&table->lock);
}

static struct jet_reading_table *table_of(const struct jet_listener *listener)
{
    return &jet_store_of(&listener->instance->base)->reading;
}

static struct jet_readers **bucket_of(struct jet_reading_table *table,
                                      const struct jet_place *place)
{
    uint64_t hash =
        hash_seeded(hash_seeded(table->seed, slice_str(place->topic)), slice_str(place->group));

    return &table->buckets[hash % JET_READERS_BUCKETS];
}

static struct jet_readers *find(struct jet_readers *readers, const struct jet_place *place)
{
    for (; readers != NULL; readers = readers->next) {
        const struct jet_place *theirs = &readers->members->place;

        if (strcmp(theirs->topic, place->topic) == 0 && strcmp(theirs->group, place->group) == 0)
            break;
    }
    return readers;
}

static struct jet_readers *make(struct jet_readers **bucket)
{
    struct jet_readers *readers = calloc(1, sizeof *readers);

    if (readers == NULL)
        abort();
    readers->next = *bucket;
    readers->at = bucket;
    if (readers->next != NULL)
        readers->next->at = &readers->next;
    *bucket = readers;
    return readers;
}

static void add_member(struct jet_readers *readers, struct jet_listener *listener)
{
    struct jet_reading *reading = &listener->reading;

    *reading = (struct jet_reading){.of = readers, .next = readers->members};
    reading->at = &readers->members;
    if (reading->next != NULL)
        reading->next->reading.at = &reading->next;
    readers->members = listener;
}

void jet_readers_join(struct jet_listener *listener)
{
    struct jet_reading_table *table = table_of(listener);
    struct jet_readers **bucket = bucket_of(table, &listener->place), *readers;

    pthread_mutex_lock(&table->lock);
    readers = find(*bucket, &listener->place);
    add_member(readers != NULL ? readers : make(bucket), listener);
    pthread_mutex_unlock(&table->lock);
    listener->unsettled.readers = listener->reading.of;
}

void jet_readers_leave(struct jet_listener *listener)
{
    struct jet_readers *readers = listener->reading.of;

    if (readers == NULL || listener->reading.leaves)
        return;
    listener->reading.leaves = true;
    atomic_fetch_add(&readers->leaving, 1);
    jet_readers_count_let_go(readers, jet_unsettled_held(&listener->unsettled));
    listener->unsettled.readers = NULL;
}

static void tell(struct jet_readers *readers)
{
    for (struct jet_listener *l = readers->members; l != NULL; l = l->reading.next) {
        pthread_mutex_lock(&l->lock);
        l->other_left = true;
        jet_listener_wake(l);
        pthread_mutex_unlock(&l->lock);
    }
}

static void drop(struct jet_readers *readers)
{
    *readers->at = readers->next;
    if (readers->next != NULL)
        readers->next->at = readers->at;
    free(readers);
}

void jet_readers_left(struct jet_listener *listener)
{
    struct jet_reading *reading = &listener->reading;
    struct jet_reading_table *table = table_of(listener);
    struct jet_readers *readers = reading->of;

    if (readers == NULL)
        return;
    jet_readers_leave(listener);
    pthread_mutex_lock(&table->lock);
    *reading->at = reading->next;
    if (reading->next != NULL)
        reading->next->reading.at = reading->at;
    atomic_fetch_sub(&readers->leaving, 1);
    if (readers->members == NULL)
        drop(readers);
    else
        tell(readers);
    pthread_mutex_unlock(&table->lock);
    reading->of = NULL;
}

bool jet_readers_leaving(const struct jet_listener *listener)
{
    const struct jet_readers *readers = listener->reading.of;

    return readers != NULL && atomic_load(&readers->leaving) > 0;
}

uint64_t jet_readers_took(const struct jet_listener *listener)
{
    const struct jet_readers *readers = listener->reading.of;

    return readers != NULL ? atomic_load(&readers->took) : 0;
}

uint64_t jet_readers_hold(const struct jet_listener *listener, uint64_t took)
{
    const struct jet_readers *readers = listener->reading.of;
    uint64_t let_go = readers != NULL ? atomic_load(&readers->let_go) : 0;

    return took > let_go ? took - let_go : 0;
}

void jet_readers_count_took(struct jet_readers *readers)
{
    if (readers != NULL)
        atomic_fetch_add(&readers->took, 1);
}

void jet_readers_count_let_go(struct jet_readers *readers, uint64_t n)
{
    if (readers != NULL)
        atomic_fetch_add(&readers->let_go, n);
}
