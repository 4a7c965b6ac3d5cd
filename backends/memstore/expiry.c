/* Gives back the memory of expired keys, a few at a time: each write does a little for its own
 * shard, a timer does the rest (sweep.c). Nobody waits for it: an expired key is invisible from its
 * last millisecond on. */
#include "backends/memstore/store.h"
#include "src/base/container.h"

#include <stdlib.h>

enum {
    SLICE_STEPS = 64, /* under one hold of a lock: some 10 us */
    STALE_FREE = 64,  /* notes that no longer count, tolerated in any shard */
};

static uint64_t tick_of(uint64_t now_ns)
{
    return now_ns / (MEMSTORE_TICK_MS * NS_PER_MS);
}

/* More notes in the wheel than its keys can account for: removed keys and earlier deadlines have
 * left them. */
static bool crowded(const struct shard *shard)
{
    return shard->wheel->notes > 2 * shard->mortal + STALE_FREE;
}

/* A tag has fallen due: takes out what has expired. The living keys whose note this was share one
 * new note, for the first of their deadlines, under the next generation, so that other notes of the
 * old one stop counting. One note out, at most one in: that is why notes come to an end however
 * many keys have the same tag. */
static void settle(struct memstore *store, struct shard *shard, struct wheel_note note,
                   uint64_t now_ns)
{
    const struct index *index = &shard->index;
    uint32_t next_generation = (note.generation + 1) % WHEEL_GENERATIONS;
    uint64_t first_ms = UINT64_MAX;
    size_t at = index->buckets == NULL ? 0 : index_first(index, note.tag);

    while (index->buckets != NULL && index_tag(index, at) == note.tag) {
        struct entry *entry = index_entry(index, at);
        uint64_t expiry_ms = entry_expiry_ms(entry);

        if (!entry_lives(entry, now_ns)) {
            entry = shard_take(shard, at);
            capacity_give_entry(store, entry);
            free(entry);
            counter_add(&shard->expired, 1);
            at = index_first(index, note.tag); /* the table may be another one now */
            continue;
        }
        if (expiry_ms != 0 && entry_generation(entry) == note.generation) {
            entry_set_life(entry, next_generation, expiry_ms);
            first_ms = expiry_ms < first_ms ? expiry_ms : first_ms;
        }
        at++;
    }
    note.generation = next_generation;
    if (first_ms != UINT64_MAX)
        wheel_add(shard->wheel, note, shard_due_tick(first_ms));
}

/* Notes that are settled together: nobody has looked at their keys for long, so each is a cache
 * miss, and these overlap. */
struct notes {
    struct wheel_note list[16];
    size_t n;
};

static void settle_all(struct memstore *store, struct shard *shard, struct notes *notes,
                       uint64_t now_ns)
{
    for (size_t i = 0; i < notes->n; i++)
        index_bring(&shard->index, notes->list[i].tag, 1);
    for (size_t i = 0; i < notes->n; i++)
        settle(store, shard, notes->list[i], now_ns);
    notes->n = 0;
}

static enum wheel_step take_note(struct shard *shard, uint64_t now_ns, struct notes *notes)
{
    enum wheel_step step;

    if (shard->wheel->due == NULL && crowded(shard))
        wheel_review(shard->wheel);
    step = wheel_step(shard->wheel, tick_of(now_ns), &notes->list[notes->n]);
    notes->n += step == WHEEL_DUE;
    return step;
}

unsigned expiry_work(struct memstore *store, struct shard *shard, uint64_t now_ns, unsigned steps)
{
    struct notes notes = {.n = 0};
    unsigned done = 0;

    if (shard->wheel == NULL)
        return 0;
    while (done < steps) {
        if (take_note(shard, now_ns, &notes) != WHEEL_IDLE)
            done++;
        else if (notes.n == 0)
            return done;
        else
            settle_all(store, shard, &notes, now_ns); /* after which there may be more to do */
        if (notes.n == ARRAY_LEN(notes.list))
            settle_all(store, shard, &notes, now_ns);
    }
    settle_all(store, shard, &notes, now_ns);
    return steps;
}

void expiry_publish(struct memstore *store, struct shard *shard)
{
    uint64_t before = atomic_load_explicit(&shard->due_tick, memory_order_relaxed);
    uint64_t next = UINT64_MAX;

    if (shard->wheel != NULL && shard->wheel->notes > 0)
        next = crowded(shard) ? 0 : wheel_next_tick(shard->wheel);
    if (next == before)
        return;
    atomic_store_explicit(&shard->due_tick, next, memory_order_relaxed);
    if (next == UINT64_MAX)
        atomic_fetch_sub(&store->mortal_shards, 1);
    else if (before == UINT64_MAX && atomic_fetch_add(&store->mortal_shards, 1) == 0)
        store->wake_sweep(store);
}

static unsigned sweep_shard(struct memstore *store, struct shard *shard, uint64_t now_ns,
                            unsigned steps)
{
    unsigned done = 0, slice;

    do {
        slice = steps - done < SLICE_STEPS ? steps - done : SLICE_STEPS;
        pthread_mutex_lock(&shard->lock);

        unsigned n = expiry_work(store, shard, now_ns, slice);

        expiry_publish(store, shard);
        pthread_mutex_unlock(&shard->lock);
        done += n;
        if (n < slice)
            break;
    } while (done < steps);
    return done;
}

unsigned expiry_sweep(struct memstore *store, unsigned *from, unsigned steps)
{
    uint64_t now_ns = memstore_now_ns(store), tick = tick_of(now_ns);
    unsigned done = 0;

    for (unsigned i = 0; i < MEMSTORE_SHARDS && done < steps; i++) {
        struct shard *shard = &store->shards[*from % MEMSTORE_SHARDS];

        if (atomic_load_explicit(&shard->due_tick, memory_order_relaxed) <= tick)
            done += sweep_shard(store, shard, now_ns, steps - done);
        if (done < steps)
            *from = (*from + 1) % MEMSTORE_SHARDS;
    }
    return done;
}

uint64_t expiry_next_tick(struct memstore *store)
{
    uint64_t first = UINT64_MAX;

    for (unsigned i = 0; i < MEMSTORE_SHARDS && atomic_load(&store->mortal_shards) > 0; i++) {
        uint64_t tick = atomic_load_explicit(&store->shards[i].due_tick, memory_order_relaxed);

        first = tick < first ? tick : first;
    }
    return first;
}
