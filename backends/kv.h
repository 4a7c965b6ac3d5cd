/* Key-value interfaces. Keys and values are binary-safe. The caller (the pattern) has checked
 * limits, empty keys and what the interfaces offer before any method is called.
 *
 * common to all methods
 *   thread   home worker of the backend instance
 *   in       borrowed until done()
 *   out      in op_arena(op) unless said otherwise; meaningful only when op.err is ERR_OK
 *   errors   ERR_UNAVAILABLE (no connection, connection lost: a write may or may not have
 *            happened), ERR_DEADLINE_EXCEEDED, ERR_CANCELLED, ERR_RESOURCE_EXHAUSTED (store full,
 *            too many in flight: nothing was written), ERR_FAILED_PRECONDITION,
 *            ERR_PERMISSION_DENIED, ERR_INTERNAL (an answer nobody expects) */
#ifndef PRISM_BACKENDS_KV_H
#define PRISM_BACKENDS_KV_H

#include "backends/backend.h"
#include "pool/op.h"
#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- kv_basic ---- */

/* Write one value. Replaces value and expiry: ttl_ms 0 leaves a key without expiry, also one that
 * had it. ttl_ms > 0 only where kv_ttl is offered; value and expiry are one atomic step. */
struct kv_put {
    struct op op;
    struct slice key, value;
    uint64_t ttl_ms;
};

/* How many bytes of values the caller can still use, for one read or for many that run at the same
 * time on one worker. A value that does not fit any more is not copied: its data is NULL, and its
 * len says what it would have taken.
 *
 * room bounds what a backend asks its server for, too: not more than about `bytes` and one value,
 * however many keys the request names. Items that were not asked for because the room was exceeded
 * are found, with data NULL and len 1 or what is known of it. */
struct kv_room {
    uint64_t bytes;
    bool exceeded; /* out: there was such a value */
};

/* For backends. A NULL room has no bound. */
static inline bool kv_room_take(struct kv_room *room, size_t len)
{
    if (room == NULL)
        return true;
    if (len > room->bytes) {
        room->exceeded = true;
        return false;
    }
    room->bytes -= len;
    return true;
}

static inline struct slice kv_room_copy(struct kv_room *room, struct arena *arena,
                                        struct slice value)
{
    return kv_room_take(room, value.len) ? arena_copy(arena, value) : slice_of(NULL, value.len);
}

/* Read one value. An expired key is not found. */
struct kv_get {
    struct op op;
    struct slice key;
    struct kv_room *room; /* NULL: no bound */
    bool want_version;    /* only where kv_cas is offered */
    /* out */
    bool found;
    struct slice value;
    struct slice version; /* opaque, 1..64 bytes, if wanted, found, and the value was copied */
};

/* Remove one key. An absent key is no error. */
struct kv_del {
    struct op op;
    struct slice key;
    bool existed; /* out */
};

struct kv_exists {
    struct op op;
    struct slice key;
    bool found; /* out */
};

struct kv_batch;

struct kv_basic {
    /* kv_del.existed tells what was there just before: of several removals at the same time more
     * than one may see the key. False: exactly one does. */
    bool del_races;
    void (*put)(struct backend *, struct kv_put *);
    void (*get)(struct backend *, struct kv_get *);
    void (*del)(struct backend *, struct kv_del *);
    void (*exists)(struct backend *, struct kv_exists *);
    /* Several of these operations handed over together, for a backend in process: each is still an
     * operation of its own, carried out in request order, but what leads to it is done once, and
     * the memory that all of them need is fetched side by side. Not a batch interface: nobody is
     * told that batches are native. NULL: not offered. */
    const struct kv_batch *window;
};

/* ---- kv_ttl: offered means that kv_put.ttl_ms is honoured, atomically ---- */

/* Set the remaining life of a key; ttl_ms >= 1. */
struct kv_expire {
    struct op op;
    struct slice key;
    uint64_t ttl_ms;
    bool existed; /* out: false = no such key, nothing done */
};

struct kv_ttl_get {
    struct op op;
    struct slice key;
    /* out */
    bool found;
    bool has_ttl;
    uint64_t ttl_ms; /* remaining, >= 1 if has_ttl */
};

/* Remove the expiry, keep the key. */
struct kv_persist {
    struct op op;
    struct slice key;
    bool removed; /* out: false = no such key, or it had no expiry */
};

struct kv_ttl {
    uint32_t step_ms; /* precision of expiry: a key may live this much longer than asked */
    void (*expire)(struct backend *, struct kv_expire *);
    void (*get)(struct backend *, struct kv_ttl_get *);
    void (*persist)(struct backend *, struct kv_persist *);
};

/* ---- kv_batch: many keys in few backend calls; each item has its own outcome ---- */

/* What every item begins with. */
struct kv_item {
    struct slice key;
    struct err err; /* out */
};

struct kv_put_item {
    struct kv_item base;
    struct slice value;
    uint64_t ttl_ms;
};

struct kv_get_item {
    struct kv_item base;
    /* out */
    bool found;
    struct slice value;
};

struct kv_del_item {
    struct kv_item base;
    bool existed; /* out */
};

/* op.err is ERR_OK when every item has an outcome of its own, good or bad; otherwise it holds for
 * all items. The same key twice in one request: executed in request order. n is 1..max_items. */
struct kv_put_many {
    struct op op;
    struct kv_put_item *items;
    size_t n;
};

struct kv_get_many {
    struct op op;
    struct kv_get_item *items;
    size_t n;
    struct kv_room *room; /* NULL: no bound */
};

struct kv_del_many {
    struct op op;
    struct kv_del_item *items;
    size_t n;
};

struct kv_batch {
    uint32_t max_items; /* in one call; the pattern sends more in chunks */
    const char *calls;  /* backend calls for n items, as a formula for clients: "1", "ceil(n/25)" */
    void (*put_many)(struct backend *, struct kv_put_many *);
    void (*get_many)(struct backend *, struct kv_get_many *);
    void (*del_many)(struct backend *, struct kv_del_many *);
};

/* ---- kv_txn: all items or none, isolated from others; op.err holds for all items, item errs are
 * not used ---- */

struct kv_txn {
    uint32_t max_items;
    void (*put_many)(struct backend *, struct kv_put_many *);
    void (*del_many)(struct backend *, struct kv_del_many *); /* existed is filled */
};

/* ---- kv_scan ---- */

struct kv_scan_item {
    struct slice key, value; /* value empty unless with_values */
};

/* One page of the keys that start with prefix. A key that exists from the first page to the last is
 * returned at least once (`exactly_once`: exactly once); keys written or removed meanwhile may or
 * may not appear. A page may be short or empty and yet not be the last: only `more` tells. */
struct kv_scan_page {
    struct op op;
    struct slice prefix; /* may be empty: all keys of the namespace */
    struct slice
        cursor; /* empty = from the start; else next_cursor of an earlier page, maybe forged:
                   anything that is not one of ours is ERR_INVALID_ARGUMENT about "cursor" */
    uint32_t max_items; /* 1..; never exceeded */
    uint64_t max_bytes; /* stop after the item that passes this many bytes of keys and values */
    bool with_values;
    /* out */
    struct kv_scan_item *items;
    size_t n;
    bool more;
    struct slice next_cursor; /* printable ASCII, <= 2 KiB + the longest key in hex; set if more */
};

struct kv_count {
    struct op op;
    struct slice prefix;
    uint64_t count; /* out: exact if nobody writes meanwhile */
};

struct kv_scan {
    bool emulated; /* sound, but costs more than the store's own scan would */
    bool exactly_once;
    bool ordered;       /* ascending by key */
    uint32_t max_items; /* one page at most */
    const char *calls;  /* backend calls for a page of n items */
    void (*page)(struct backend *, struct kv_scan_page *);
    void (*count)(struct backend *, struct kv_count *);
};

/* ---- kv_cas ---- */

enum kv_condition { KV_IF_ABSENT, KV_IF_VERSION };

/* Write if the condition holds, as one atomic step. ttl_ms as in kv_put. */
struct kv_put_if {
    struct op op;
    struct slice key, value;
    uint64_t ttl_ms;
    enum kv_condition condition;
    struct slice
        version; /* KV_IF_VERSION: from kv_get or from an earlier put_if. Not ours: never matches */
    /* out */
    bool stored;                  /* false: the condition did not hold, nothing was written */
    struct slice current_version; /* if stored: of the new value */
};

struct kv_cas {
    const char *version_means; /* for clients: what makes two versions equal */
    void (*put_if)(struct backend *, struct kv_put_if *);
};

#endif
