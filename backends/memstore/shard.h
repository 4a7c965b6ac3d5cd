/* A part of the keys, under a lock of its own: table, wheel of expiries, entries. Knows no store:
 * the time is passed in. The floors of this folder, lowest first, each built on those before:
 *
 *   entry hash index wheel    what a shard is made of
 *   shard                     one lock
 *   store.h                   the store, as synchronous functions: capacity, expiry, store, read,
 *                             cursor, scan
 *   instance.h                on a worker: sweep, enumerate, single, window, memstore
 *   messaging.h               topics, streams and queues */
#ifndef PRISM_BACKENDS_MEMSTORE_SHARD_H
#define PRISM_BACKENDS_MEMSTORE_SHARD_H

#include "backends/memstore/entry.h"
#include "backends/memstore/index.h"
#include "backends/memstore/wheel.h"
#include "src/base/clock.h"
#include "src/base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MEMSTORE_TICK_MS = 64 /* of the wheels: how late memory comes back. Keys expire to the ms */
};

struct shard {
    /* A mutex: alone it costs what a spinlock costs, and when a holder loses its core the others
     * sleep instead of burning theirs (measured: half the CPU for each operation, 2 threads on 2
     * busy cores). */
    _Alignas(64) pthread_mutex_t lock;
    /* ---- under the lock ---- */
    struct index index;
    struct wheel *wheel; /* NULL until a key of the shard gets an expiry */
    uint32_t mortal;     /* keys with an expiry */
    uint32_t version;    /* of the shard's last write */
    struct counter expired;
    /* ---- written under the lock, read by anyone ---- */
    _Atomic uint64_t due_tick; /* no expiry work before; UINT64_MAX = none at all */
};

/* A key's shard, and its tag there. */
struct memstore_spot {
    struct shard *shard;
    uint32_t tag;
};

void shard_init(struct shard *shard);
void shard_clear(struct shard *shard); /* frees the entries */

/* Asks for the memory of the first entry with this tag: nearly always the key's. thread: any,
 * without the lock. */
void shard_bring(struct memstore_spot spot);

static inline bool entry_lives(const struct entry *entry, uint64_t now_ns)
{
    return entry_expiry_ms(entry) == 0 || entry_expiry_ms(entry) * NS_PER_MS > now_ns;
}

/* The tick of the wheel by which a key with this expiry has gone. */
static inline uint64_t shard_due_tick(uint64_t expiry_ms)
{
    return expiry_ms / MEMSTORE_TICK_MS + 1;
}

/* ---- under the lock ---- */

/* The position of the key, expired or not; false: absent. */
bool shard_find(const struct shard *shard, uint32_t tag, struct slice key, size_t *at);

/* Sets or (0) removes an entry's expiry. now_ns: needed where expiry_ms is not 0. The caller
 * publishes (expiry_publish). */
void shard_set_expiry(struct memstore_spot spot, struct entry *entry, uint64_t expiry_ms,
                      uint64_t now_ns);

/* Takes the entry out of the table; the caller gives its capacity back and frees it, best after
 * unlocking. */
struct entry *shard_take(struct shard *shard, size_t at);

#endif
