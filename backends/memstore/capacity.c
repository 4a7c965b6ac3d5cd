/* The two limits. A key is charged its allocation and MEMSTORE_KEY_COST for its bucket; what the
 * allocator rounds up and the wheels of keys with an expiry come on top. Totals are exact: a write
 * that would pass a limit takes nothing.
 *
 * Health says DEGRADED while new keys are or will soon be refused: at max_keys, and within 1/64 of
 * max_bytes. */
#include "backends/memstore/store.h"

enum { NEARLY = 64 };

static uint64_t nearly(uint64_t limit)
{
    return limit == UINT64_MAX ? limit : limit - limit / NEARLY;
}

static const char *what_is_full(const struct memstore *store)
{
    if (atomic_load(&store->keys) >= store->max_keys)
        return "memstore is full: max_keys";
    if (atomic_load(&store->bytes) >= nearly(store->max_bytes))
        return "memstore is nearly full: max_bytes";
    return NULL;
}

/* Whoever crosses a threshold comes here after it, one at a time. One that crosses it back may not
 * see the state in time to come here: so it is looked at again after the state was written. */
static void judge(struct memstore *store)
{
    const char *text;

    pthread_mutex_lock(&store->judging);
    do {
        text = what_is_full(store);
        atomic_store(&store->base.state_text, text);
        atomic_store(&store->base.state, text == NULL ? BACKEND_READY : BACKEND_DEGRADED);
    } while (what_is_full(store) != text);
    pthread_mutex_unlock(&store->judging);
}

/* Adds unless that passes the limit. */
static bool add_within(_Atomic uint64_t *total, uint64_t n, uint64_t limit)
{
    uint64_t now = atomic_load_explicit(total, memory_order_relaxed);

    do {
        if (now > limit || limit - now < n)
            return false;
    } while (!atomic_compare_exchange_weak(total, &now, now + n));
    return true;
}

enum capacity capacity_take(struct memstore *store, unsigned keys, uint64_t bytes)
{
    if (keys > 0 && !add_within(&store->keys, keys, store->max_keys))
        return CAPACITY_KEYS;
    if (!add_within(&store->bytes, bytes, store->max_bytes)) {
        atomic_fetch_sub(&store->keys, keys);
        return CAPACITY_BYTES;
    }
    if (atomic_load_explicit(&store->keys, memory_order_relaxed) >= store->max_keys ||
        atomic_load_explicit(&store->bytes, memory_order_relaxed) >= nearly(store->max_bytes))
        judge(store);
    return CAPACITY_OK;
}

bool capacity_could(const struct memstore *store, uint64_t bytes, uint64_t given)
{
    uint64_t now = atomic_load_explicit(&store->bytes, memory_order_relaxed);
    uint64_t rest = now > given ? now - given : 0;

    return rest <= store->max_bytes && store->max_bytes - rest >= bytes;
}

void capacity_give(struct memstore *store, unsigned keys, uint64_t bytes)
{
    if (keys > 0)
        atomic_fetch_sub(&store->keys, keys);
    atomic_fetch_sub(&store->bytes, bytes);
    if (atomic_load(&store->base.state) != BACKEND_READY)
        judge(store);
}

void capacity_give_entry(struct memstore *store, const struct entry *entry)
{
    capacity_give(store, 1, entry_size(entry_key_len(entry), entry->value_len) + MEMSTORE_KEY_COST);
}

struct err capacity_error(struct memstore *store, enum capacity limit)
{
    struct err err = limit == CAPACITY_KEYS
                         ? err_about(ERR_RESOURCE_EXHAUSTED, "max_keys", store->full_of_keys)
                         : err_about(ERR_RESOURCE_EXHAUSTED, "max_bytes", store->full_of_bytes);

    counter_add_shared(&store->refused, 1);
    return err;
}
