#include "backends/memstore/store.h"

#include <assert.h>
#include <stdlib.h>

enum {
    WRITE_STEPS = 4,      /* of expiry work done by each write to a shard with deadlines */
    ROOM_STEPS = 256,     /* done before a write is refused */
    BUILD_OUTSIDE = 4096, /* values from this size on are copied before the lock is taken */
};

struct attempt {
    struct memstore_write *write;
    struct memstore_spot spot;
    uint64_t now_ns;
    struct entry
        *fresh; /* built before the lock was taken; NULL: not yet, or in the table by now */
    struct entry *garbage; /* replaced; freed after the lock is given back */
};

static struct entry *entry_new(struct slice key, struct slice value)
{
    struct entry *entry = malloc(entry_size(key.len, value.len));

    if (entry == NULL)
        abort();
    entry->meta = key.len;
    entry->value_len = (uint32_t)value.len;
    if (key.len > 0)
        memcpy(entry->bytes, key.data, key.len);
    if (value.len > 0)
        memcpy(entry->bytes + key.len, value.data, value.len);
    return entry;
}

static bool condition_holds(const struct memstore_write *write, const struct entry *live)
{
    switch (write->condition) {
    case MEMSTORE_ALWAYS:
        return true;
    case MEMSTORE_IF_ABSENT:
        return live == NULL;
    case MEMSTORE_IF_VERSION:
        return live != NULL && live->version == write->expected;
    }
    return false;
}

static enum capacity take_room(struct memstore *store, const struct memstore_write *write,
                               const struct entry *old)
{
    uint64_t size = entry_size(write->key.len, write->value.len);

    if (old == NULL)
        return capacity_take(store, 1, size + MEMSTORE_KEY_COST);

    uint64_t before = entry_size(entry_key_len(old), old->value_len);

    if (size > before)
        return capacity_take(store, 0, size - before);
    if (size < before)
        capacity_give(store, 0, before - size);
    return CAPACITY_OK;
}

/* Puts the value into the table: over the old one where it fits its allocation exactly, else in an
 * entry of its own, which takes over what the wheel knows about the key. */
static struct entry *place_value(struct attempt *attempt, struct entry *old, size_t at)
{
    const struct memstore_write *write = attempt->write;
    struct shard *shard = attempt->spot.shard;
    struct entry *entry = attempt->fresh;

    if (old != NULL && entry == NULL &&
        entry_size(write->key.len, write->value.len) ==
            entry_size(entry_key_len(old), old->value_len)) {
        if (write->value.len > 0)
            memcpy(old->bytes + write->key.len, write->value.data, write->value.len);
        old->value_len = (uint32_t)write->value.len;
        return old;
    }
    attempt->fresh = NULL;
    if (entry == NULL)
        entry = entry_new(write->key, write->value);
    if (old != NULL) {
        entry_set_life(entry, entry_generation(old), entry_expiry_ms(old));
        index_replace(&shard->index, at, entry);
        attempt->garbage = old;
    } else {
        entry_set_life(entry, shard->version, 0);
        index_insert(&shard->index, attempt->spot.tag, entry);
    }
    return entry;
}

/* Rounded up: never early. */
uint64_t memstore_expiry_ms(uint64_t now_ns, uint64_t ttl_ms)
{
    uint64_t now_ms = (now_ns + NS_PER_MS - 1) / NS_PER_MS;

    if (ttl_ms == 0)
        return 0;
    return ttl_ms < ENTRY_EXPIRY_MAX_MS - now_ms ? now_ms + ttl_ms : ENTRY_EXPIRY_MAX_MS;
}

/* Under the lock. */
static enum capacity write_locked(struct memstore *store, struct attempt *attempt)
{
    struct memstore_write *write = attempt->write;
    struct shard *shard = attempt->spot.shard;
    size_t at = 0;
    struct entry *old = shard_find(shard, attempt->spot.tag, write->key, &at)
                            ? index_entry(&shard->index, at)
                            : NULL;
    bool live = old != NULL && entry_lives(old, attempt->now_ns);

    write->stored = false;
    if (!condition_holds(write, live ? old : NULL))
        return CAPACITY_OK;

    enum capacity limit = take_room(store, write, old);

    if (limit != CAPACITY_OK)
        return limit;

    struct entry *entry = place_value(attempt, old, at);

    entry->version = ++shard->version;
    write->version = entry->version;
    write->stored = true;
    shard_set_expiry(attempt->spot, entry, memstore_expiry_ms(attempt->now_ns, write->ttl_ms),
                     attempt->now_ns);
    if (shard->wheel != NULL)
        expiry_publish(store, shard);
    return CAPACITY_OK;
}

/* Each write pays a little for the keys of its shard that have expired, so that writers cannot
 * outrun the sweep. */
static void pay(struct memstore *store, struct shard *shard, uint64_t now_ns)
{
    if (atomic_load_explicit(&shard->due_tick, memory_order_relaxed) >
        now_ns / (MEMSTORE_TICK_MS * NS_PER_MS))
        return;
    expiry_work(store, shard, now_ns, WRITE_STEPS);
    expiry_publish(store, shard);
}

static enum capacity try_write(struct memstore *store, struct attempt *attempt)
{
    struct shard *shard = attempt->spot.shard;

    pthread_mutex_lock(&shard->lock);
    attempt->now_ns =
        attempt->write->ttl_ms > 0 ? memstore_now_ns(store) : memstore_now_for(store, shard);

    enum capacity limit = write_locked(store, attempt);

    if (shard->wheel != NULL)
        pay(store, shard, attempt->now_ns);
    pthread_mutex_unlock(&shard->lock);
    if (attempt->garbage != NULL) /* seldom: the allocator need not be asked */
        free(attempt->garbage);
    attempt->garbage = NULL;
    return limit;
}

/* Keys that have expired may still take up room. */
static bool make_room(struct memstore *store, const struct shard *shard)
{
    unsigned from = (unsigned)(shard - store->shards);

    return atomic_load(&store->mortal_shards) > 0 && expiry_sweep(store, &from, ROOM_STEPS) > 0;
}

struct err memstore_write(struct memstore *store, struct memstore_write *write)
{
    return memstore_write_at(store, memstore_spot(store, memstore_hash(store, write->key)), write);
}

struct err memstore_write_at(struct memstore *store, struct memstore_spot spot,
                             struct memstore_write *write)
{
    struct attempt attempt = {.write = write, .spot = spot};

    assert(write->key.len <= ENTRY_KEY_MAX);
    if (write->value.len > UINT32_MAX)
        return err_about(ERR_INVALID_ARGUMENT, "value", "a value holds less than 4 GiB");
    if (write->value.len >= BUILD_OUTSIDE)
        attempt.fresh = entry_new(write->key, write->value);

    enum capacity limit = try_write(store, &attempt);

    if (limit != CAPACITY_OK && make_room(store, attempt.spot.shard))
        limit = try_write(store, &attempt);
    if (attempt.fresh != NULL)
        free(attempt.fresh);
    return limit == CAPACITY_OK ? ERR_NONE : capacity_error(store, limit);
}
