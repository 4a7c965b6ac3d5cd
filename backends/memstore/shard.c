#include "backends/memstore/shard.h"

#include <stdlib.h>

enum { LINES = 3 }; /* of an entry: all of one with a short key and a value of a hundred bytes */

void shard_init(struct shard *shard)
{
    pthread_mutex_init(&shard->lock, NULL);
    index_init(&shard->index);
    atomic_init(&shard->due_tick, UINT64_MAX);
}

void shard_clear(struct shard *shard)
{
    for (size_t at = index_from(&shard->index, 0); at < shard->index.room;
         at = index_skip(&shard->index, at + 1))
        free(index_entry(&shard->index, at));
    index_clear(&shard->index);
    if (shard->wheel != NULL)
        wheel_clear(shard->wheel);
    free(shard->wheel);
    pthread_mutex_destroy(&shard->lock);
}

/* The lock is held as for every look at buckets. */
void shard_bring(struct memstore_spot spot)
{
    pthread_mutex_lock(&spot.shard->lock);
    index_bring(&spot.shard->index, spot.tag, LINES);
    pthread_mutex_unlock(&spot.shard->lock);
}

bool shard_find(const struct shard *shard, uint32_t tag, struct slice key, size_t *at)
{
    if (shard->index.buckets == NULL)
        return false;
    for (*at = index_first(&shard->index, tag); index_tag(&shard->index, *at) == tag; ++*at) {
        if (slice_equal(entry_key(index_entry(&shard->index, *at)), key))
            return true;
    }
    return false;
}

struct entry *shard_take(struct shard *shard, size_t at)
{
    struct entry *entry = index_entry(&shard->index, at);

    index_remove(&shard->index, at);
    if (entry_expiry_ms(entry) != 0)
        shard->mortal--;
    return entry;
}

/* Under the entry's next generation. */
static void note_expiry(struct memstore_spot spot, struct entry *entry, uint64_t now_ns)
{
    struct shard *shard = spot.shard;
    uint32_t generation = (entry_generation(entry) + 1) % WHEEL_GENERATIONS;
    struct wheel_note note = {.tag = spot.tag, .generation = generation};

    if (shard->wheel == NULL) {
        shard->wheel = malloc(sizeof *shard->wheel);
        if (shard->wheel == NULL)
            abort();
        wheel_init(shard->wheel, now_ns / (MEMSTORE_TICK_MS * NS_PER_MS));
    }
    wheel_add(shard->wheel, note, shard_due_tick(entry_expiry_ms(entry)));
    entry_set_life(entry, generation, entry_expiry_ms(entry));
}

/* The rule of the lazy wheel: for each key with an expiry there is a note of its tag and
 * generation, due no later than the key. More time needs no new note: the old one falls due, finds
 * the key alive and is written again. */
void shard_set_expiry(struct memstore_spot spot, struct entry *entry, uint64_t expiry_ms,
                      uint64_t now_ns)
{
    uint64_t before = entry_expiry_ms(entry);

    if (before == 0 && expiry_ms == 0)
        return;
    if (before == 0)
        spot.shard->mortal++;
    if (expiry_ms == 0)
        spot.shard->mortal--;
    entry_set_life(entry, entry_generation(entry), expiry_ms);
    if (expiry_ms != 0 && (before == 0 || shard_due_tick(expiry_ms) < shard_due_tick(before)))
        note_expiry(spot, entry, now_ns);
}
