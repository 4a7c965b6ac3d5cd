/* The store itself, as synchronous functions that any thread may call. The backend's methods
 * (instance.h) are thin around them, and most tests use them directly. */
#ifndef PRISM_BACKENDS_MEMSTORE_STORE_H
#define PRISM_BACKENDS_MEMSTORE_STORE_H

#include "backends/kv.h"
#include "backends/memstore/hash.h"
#include "backends/memstore/shard.h"
#include "src/base/arena.h"

enum {
    MEMSTORE_SHARD_BITS = 8,
    MEMSTORE_SHARDS = 1 << MEMSTORE_SHARD_BITS,
    MEMSTORE_KEY_COST = 16, /* bytes charged for a key's share of the index */
    MEMSTORE_VERSION_BYTES = 8,
};

/* Where time and hashes come from; tests put their own here. */
struct memstore_sources {
    uint64_t (*now_ns)(void *arg); /* never goes back */
    uint64_t (*hash)(void *arg, struct slice key);
    void *arg;
};

/* Of topics, streams and queues; 0 = no limit. */
struct memstore_messaging {
    uint64_t max_names;
    uint64_t stream_messages, stream_bytes, stream_age_ms; /* kept of one stream or queue */
    uint64_t queue_age_ms; /* of the oldest of a queue: then new ones are refused; 0: any */
    bool drop_unread;      /* limits of streams also hold for what groups have not settled */
    uint64_t tail_messages, tail_bytes; /* of one topic */
    uint32_t max_parked;                /* of one group */
};

struct memstore_config {
    uint64_t max_keys, max_bytes; /* 0 = no limit */
    struct memstore_messaging messaging;
    const struct memstore_sources *sources; /* NULL: the monotonic clock, keyed hashes */
};

struct memstore_instance;
struct messaging;
struct roster;
struct sessions;

/* Who reclaims expired keys while nobody writes: one instance, by a timer, and only while there are
 * deadlines. */
struct memstore_sweep {
    _Atomic bool active; /* the sweeper's timer is armed or about to be */
    pthread_mutex_t lock;
    struct memstore_instance *instances;
    struct memstore_instance
        *sweeper; /* preferably on a worker with a loop; NULL: no instance is open */
};

struct memstore {
    struct backend_store base;
    struct memstore_sources sources;
    struct hash_key key_hash, cursor_hash;
    uint64_t opened_ns;
    uint64_t max_keys, max_bytes; /* UINT64_MAX = no limit */
    uint32_t nonce;               /* versions of another store never match */
    char full_of_keys[160], full_of_bytes[160];

    _Alignas(64) _Atomic uint64_t keys;
    _Atomic uint64_t bytes;
    struct counter refused; /* writes, for want of room; any writer */
    pthread_mutex_t judging;

    _Alignas(64) _Atomic uint32_t mortal_shards; /* with a wheel that holds notes */
    struct memstore_sweep sweep;
    void (*wake_sweep)(struct memstore *); /* a shard has got its first deadline; any thread, also
                                              under a shard's lock */
    struct messaging *messaging;
    struct roster *roster;
    struct sessions *sessions;

    struct shard shards[MEMSTORE_SHARDS];
};

/* ns since the store was opened. */
static inline uint64_t memstore_now_ns(const struct memstore *store)
{
    return store->sources.now_ns(store->sources.arg) - store->opened_ns;
}

/* The same if it matters: 0 where no key of the shard has an expiry. Under the shard's lock. */
static inline uint64_t memstore_now_for(const struct memstore *store, const struct shard *shard)
{
    return shard->mortal > 0 ? memstore_now_ns(store) : 0;
}

/* ---- store.c: writes ---- */

/* When a key with this life expires, ms since the store was opened; 0 if ttl_ms is 0. */
uint64_t memstore_expiry_ms(uint64_t now_ns, uint64_t ttl_ms);

enum memstore_condition { MEMSTORE_ALWAYS, MEMSTORE_IF_ABSENT, MEMSTORE_IF_VERSION };

struct memstore_write {
    struct slice key, value;
    uint64_t ttl_ms; /* 0 = stays */
    enum memstore_condition condition;
    uint32_t expected; /* MEMSTORE_IF_VERSION */
    /* out */
    bool stored;      /* false: the condition did not hold, or an error */
    uint32_t version; /* if stored */
};

static inline uint64_t memstore_hash(const struct memstore *store, struct slice key)
{
    return store->sources.hash(store->sources.arg, key);
}

/* The top bits of the hash choose the shard, the next ones are the tag; so the shard's number and
 * the tag together are a position in the space of hashes. */
static inline struct memstore_spot memstore_spot(struct memstore *store, uint64_t hash)
{
    return (struct memstore_spot){
        .shard = &store->shards[hash >> (64 - MEMSTORE_SHARD_BITS)],
        .tag = (uint32_t)(hash << MEMSTORE_SHARD_BITS >> (64 - INDEX_TAG_BITS))};
}

/* errors: ERR_RESOURCE_EXHAUSTED about "max_keys" or "max_bytes": nothing was written. */
struct err memstore_write(struct memstore *store, struct memstore_write *write);
struct err memstore_write_at(struct memstore *store, struct memstore_spot spot,
                             struct memstore_write *write);

/* ---- read.c ---- */

struct memstore_read {
    bool found;
    struct slice value; /* in the arena */
    uint32_t version;
};

struct memstore_read memstore_read(struct memstore *store, struct slice key, struct kv_room *room,
                                   struct arena *arena);
struct memstore_read memstore_read_at(struct memstore *store, struct memstore_spot spot,
                                      struct slice key, struct kv_room *room, struct arena *arena);

bool memstore_exists(struct memstore *store, struct slice key);
bool memstore_exists_at(struct memstore *store, struct memstore_spot spot, struct slice key);
bool memstore_remove(struct memstore *store, struct slice key); /* existed */
bool memstore_remove_at(struct memstore *store, struct memstore_spot spot, struct slice key);

/* False: no such key. */
bool memstore_expire(struct memstore *store, struct slice key, uint64_t ttl_ms);

/* False: no such key, or it had no expiry. */
bool memstore_persist(struct memstore *store, struct slice key);

/* False: no such key. *ttl_ms: what is left, 0 = the key stays. */
bool memstore_ttl(struct memstore *store, struct slice key, uint64_t *ttl_ms);

struct memstore_totals {
    uint64_t keys, bytes, expired, mortal, refused;
    uint64_t index_bytes, wheel_bytes; /* beside `bytes` */
};

struct memstore_totals memstore_totals(struct memstore *store);

/* ---- capacity.c ---- */

enum capacity { CAPACITY_OK, CAPACITY_KEYS, CAPACITY_BYTES };

/* Room for a new key (keys 1) or a longer value (keys 0). Not CAPACITY_OK: nothing was taken; the
 * limit in the way. */
enum capacity capacity_take(struct memstore *store, unsigned keys, uint64_t bytes);
/* Would there be room for so many bytes, if `given` were given back first? A hint. */
bool capacity_could(const struct memstore *store, uint64_t bytes, uint64_t given);
void capacity_give(struct memstore *store, unsigned keys, uint64_t bytes);
void capacity_give_entry(struct memstore *store, const struct entry *entry); /* a key's all */
struct err capacity_error(struct memstore *store, enum capacity limit);

/* ---- expiry.c ---- */

/* Under the lock: takes out what has expired, at most `steps` steps. Returns the steps taken. */
unsigned expiry_work(struct memstore *store, struct shard *shard, uint64_t now_ns, unsigned steps);

/* Under the lock: publishes when the shard has work next. To be called after any change of its
 * wheel. */
void expiry_publish(struct memstore *store, struct shard *shard);

/* Visits shards from *from on, at most `steps` steps in all. Returns the steps taken: fewer than
 * `steps` = no work is left. thread: any, no lock held. */
unsigned expiry_sweep(struct memstore *store, unsigned *from, unsigned steps);

/* The tick at which there is work; UINT64_MAX = no key has an expiry. thread: any. */
uint64_t expiry_next_tick(struct memstore *store);

/* ---- scan.c, cursor.c ---- */

/* A place between keys. Keys stand in the order (shard, tag, bytes of the key). */
struct memstore_position {
    uint32_t at; /* shard and tag: 28 bits; MEMSTORE_END = behind all */
    bool inside; /* among the keys with this tag, behind `after` */
    struct slice after;
};

enum { MEMSTORE_END = 1 << (MEMSTORE_SHARD_BITS + INDEX_TAG_BITS) };

/* Fills page->items, page->n, page->more, page->next_cursor. */
struct err memstore_page(struct memstore *store, struct kv_scan_page *page);

/* Counts at most about `budget` entries from *position on, moves it, adds to *count. */
void memstore_count(struct memstore *store, struct slice prefix, struct memstore_position *position,
                    size_t budget, uint64_t *count);

/* Printable; bound to the store and the prefix. */
struct slice cursor_write(const struct memstore *store, struct slice prefix,
                          const struct memstore_position *position, struct arena *arena);

/* ERR_INVALID_ARGUMENT about "cursor" for anything that cursor_write has not made of this prefix.
 */
struct err cursor_read(const struct memstore *store, struct slice prefix, struct slice cursor,
                       struct memstore_position *position, struct arena *arena);

#endif
