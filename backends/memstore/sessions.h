/* The sessions of a store, as synchronous functions that any thread may call (backends/session.h
 * says what they promise). No function holds a lock for longer than one session and SESSIONS_STRIDE
 * of others take.
 *
 *   shard     ids      by identifier, those whose hash falls into the shard
 *             due      of the same, by the millisecond in which they expire
 *   owners    users    those with a user, by its hash and then by place; by the user's hash
 *   lists     all      in the order of their places
 *             regions  those with a region, by its hash and then by place
 *
 * Locks, in this order: that of the user, that of the lists, that of a shard. What reads or changes
 * a session takes that of its shard alone. What begins or ends one takes all three, so that under
 * either of the first two no session of theirs comes, goes or gets another identifier. The lists
 * have one lock: it is held for the steps in two trees, and never by reads and changes.
 *
 * Memory: a session takes SESSION_NODE_BYTES, its texts, SESSIONS_POSTING_BYTES for each of these
 * orders, and for each value SESSIONS_VALUE_BYTES, its name and its bytes; all of it is charged to
 * max_bytes, and the session as one of max_keys. What has expired is taken out by whoever comes
 * next to the shard, a few at a time, and by the sweep. */
#ifndef PRISM_BACKENDS_MEMSTORE_SESSIONS_H
#define PRISM_BACKENDS_MEMSTORE_SESSIONS_H

#include "backends/memstore/order.h"
#include "backends/memstore/store.h"
#include "backends/session.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    SESSIONS_SHARDS = 64,
    SESSIONS_STRIDE = 128,      /* sessions looked at under the lock at a time */
    SESSIONS_PAGE_STRIDES = 16, /* of one page */
    SESSIONS_POSTING_BYTES = 24,
    SESSIONS_PLACE_BYTES = 8
};

struct session_item { /* a value */
    uint64_t version;
    uint32_t name_len, value_len;
    uint8_t bytes[]; /* name, value */
};

struct session_node {
    uint64_t created_ms, used_ms; /* Unix time */
    _Atomic uint64_t expires_ms;  /* likewise; written under the shard's lock, read by anyone */
    uint64_t ttl_ms, end_ms;      /* end: Unix time; 0: none */
    uint64_t version;
    uint64_t bytes;                      /* of its values, as session_value_bytes counts */
    uint8_t place[SESSIONS_PLACE_BYTES]; /* big-endian */
    struct session_item **items;         /* by name */
    uint32_t items_n, items_room;
    uint32_t user_len, region_len, client_len, attributes_len;
    uint8_t id_len, id[SESSION_ID_BYTES];
    uint8_t text[]; /* user, region, client, attributes */
};

enum {
    SESSION_NODE_BYTES = sizeof(struct session_node),
    SESSIONS_VALUE_BYTES = sizeof(struct session_item) + sizeof(void *)
};

struct sessions_shard {
    _Alignas(64) pthread_mutex_t lock;
    struct order ids, due;
    struct counter expired;
};

struct sessions_owners {
    _Alignas(64) pthread_mutex_t lock;
    struct order users;
};

struct sessions {
    struct memstore *store;
    uint64_t opened_unix_ms;
    _Atomic unsigned reap_from; /* the shard at which the next one to reap begins */
    struct sessions_shard shards[SESSIONS_SHARDS];
    struct sessions_owners owners[SESSIONS_SHARDS];
    _Alignas(64) pthread_mutex_t lists;
    /* ---- under the lock of the lists ---- */
    struct order all, regions;
    uint64_t place; /* of the last session */
};

struct sessions *sessions_new(struct memstore *store); /* after the store's sources */
void sessions_destroy(struct sessions *sessions);

/* True: expired sessions were in the way and are gone; again. */
bool sessions_create(struct sessions *sessions, struct session_create *create, struct err *err);

struct err sessions_get(struct sessions *sessions, struct session_get *get);
struct err sessions_patch(struct sessions *sessions, struct session_patch *patch);
struct err sessions_rotate(struct sessions *sessions, struct session_rotate *rotate);
struct err sessions_extend(struct sessions *sessions, struct session_extend *extend);
void sessions_remove(struct sessions *sessions, struct session_remove *remove);

/* One stride. True: there may be more. */
bool sessions_remove_user(struct sessions *sessions, struct session_remove_user *remove);

/* One page, within SESSIONS_PAGE_STRIDES. */
void sessions_page(struct sessions *sessions, struct session_page *page);

/* Takes out what has expired, n at most: how many. Fewer than n: there is no more. */
unsigned sessions_reap(struct sessions *sessions, unsigned n);

/* When the next one expires, ns on the store's clock; UINT64_MAX: none does. */
uint64_t sessions_next_ns(struct sessions *sessions);

struct sessions_totals {
    uint64_t sessions, bytes, expired; /* bytes: of the orders */
};

struct sessions_totals sessions_totals(struct sessions *sessions);

#endif
