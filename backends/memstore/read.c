/* Everything but writes of values: one lock, one search. */
#include "backends/memstore/store.h"

#include <stdlib.h>

static struct memstore_spot spot_of(struct memstore *store, struct slice key)
{
    return memstore_spot(store, memstore_hash(store, key));
}

/* Takes the lock, which the caller gives back. The entry, NULL if there is none or it has expired.
 */
static struct entry *lock_and_find(struct memstore *store, struct memstore_spot spot,
                                   struct slice key)
{
    size_t at;

    pthread_mutex_lock(&spot.shard->lock);
    if (!shard_find(spot.shard, spot.tag, key, &at))
        return NULL;

    struct entry *entry = index_entry(&spot.shard->index, at);

    if (entry_expiry_ms(entry) != 0 && !entry_lives(entry, memstore_now_ns(store)))
        return NULL;
    return entry;
}

struct memstore_read memstore_read(struct memstore *store, struct slice key, struct kv_room *room,
                                   struct arena *arena)
{
    return memstore_read_at(store, spot_of(store, key), key, room, arena);
}

struct memstore_read memstore_read_at(struct memstore *store, struct memstore_spot spot,
                                      struct slice key, struct kv_room *room, struct arena *arena)
{
    const struct entry *entry = lock_and_find(store, spot, key);
    struct memstore_read read = {.found = entry != NULL};

    if (entry != NULL) {
        read.value = kv_room_copy(room, arena, entry_value(entry));
        read.version = entry->version;
    }
    pthread_mutex_unlock(&spot.shard->lock);
    return read;
}

bool memstore_exists(struct memstore *store, struct slice key)
{
    return memstore_exists_at(store, spot_of(store, key), key);
}

bool memstore_exists_at(struct memstore *store, struct memstore_spot spot, struct slice key)
{
    bool found = lock_and_find(store, spot, key) != NULL;

    pthread_mutex_unlock(&spot.shard->lock);
    return found;
}

/* A key that has expired is taken out as well, but did not exist. */
bool memstore_remove(struct memstore *store, struct slice key)
{
    return memstore_remove_at(store, spot_of(store, key), key);
}

bool memstore_remove_at(struct memstore *store, struct memstore_spot spot, struct slice key)
{
    struct entry *entry = NULL;
    bool existed = false;
    size_t at;

    pthread_mutex_lock(&spot.shard->lock);
    if (shard_find(spot.shard, spot.tag, key, &at)) {
        uint64_t now_ns = memstore_now_for(store, spot.shard);

        entry = shard_take(spot.shard, at);
        capacity_give_entry(store, entry);
        existed = entry_lives(entry, now_ns);
        if (entry_expiry_ms(entry) != 0)
            expiry_publish(store, spot.shard);
    }
    pthread_mutex_unlock(&spot.shard->lock);
    free(entry);
    return existed;
}

static void set_expiry(struct memstore *store, struct memstore_spot spot, struct entry *entry,
                       uint64_t ttl_ms)
{
    uint64_t now_ns = memstore_now_ns(store);

    shard_set_expiry(spot, entry, memstore_expiry_ms(now_ns, ttl_ms), now_ns);
    expiry_publish(store, spot.shard);
}

bool memstore_expire(struct memstore *store, struct slice key, uint64_t ttl_ms)
{
    struct memstore_spot spot = spot_of(store, key);
    struct entry *entry = lock_and_find(store, spot, key);
    bool existed = entry != NULL;

    if (existed)
        set_expiry(store, spot, entry, ttl_ms);
    pthread_mutex_unlock(&spot.shard->lock);
    return existed;
}

bool memstore_persist(struct memstore *store, struct slice key)
{
    struct memstore_spot spot = spot_of(store, key);
    struct entry *entry = lock_and_find(store, spot, key);
    bool removed = entry != NULL && entry_expiry_ms(entry) != 0;

    if (removed)
        set_expiry(store, spot, entry, 0);
    pthread_mutex_unlock(&spot.shard->lock);
    return removed;
}

bool memstore_ttl(struct memstore *store, struct slice key, uint64_t *ttl_ms)
{
    struct memstore_spot spot = spot_of(store, key);
    const struct entry *entry = lock_and_find(store, spot, key);
    bool found = entry != NULL;

    *ttl_ms = 0;
    if (found && entry_expiry_ms(entry) != 0) {
        uint64_t expiry_ns = entry_expiry_ms(entry) * NS_PER_MS;
        uint64_t now_ns = memstore_now_ns(store);

        *ttl_ms = expiry_ns > now_ns + NS_PER_MS ? (expiry_ns - now_ns) / NS_PER_MS : 1;
    }
    pthread_mutex_unlock(&spot.shard->lock);
    return found;
}

struct memstore_totals memstore_totals(struct memstore *store)
{
    struct memstore_totals totals = {.refused = counter_read(&store->refused)};

    for (unsigned i = 0; i < MEMSTORE_SHARDS; i++) {
        struct shard *shard = &store->shards[i];

        pthread_mutex_lock(&shard->lock);
        totals.mortal += shard->mortal;
        totals.expired += counter_read(&shard->expired);
        totals.index_bytes += shard->index.room * sizeof *shard->index.buckets;
        totals.wheel_bytes += shard->wheel == NULL ? 0 : wheel_bytes(shard->wheel);
        pthread_mutex_unlock(&shard->lock);
    }
    totals.keys = atomic_load(&store->keys);
    totals.bytes = atomic_load(&store->bytes);
    return totals;
}
