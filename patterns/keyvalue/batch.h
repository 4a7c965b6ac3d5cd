/* Many items in one call. The engine sends what the checks let through, in the backend's own
 * batches (chunks of its max_items) or as single operations, both bounded by the fan-out; what an
 * item is, and what becomes of the answer, its kind tells (store_batch.c, retrieve_batch.c,
 * remove_batch.c).
 *
 * Items that name the same key take effect in request order: within a chunk the backend sees to it;
 * single operations of one key follow each other where the backend would not keep their order. */
#ifndef PRISM_PATTERNS_KEYVALUE_BATCH_H
#define PRISM_PATTERNS_KEYVALUE_BATCH_H

#include "patterns/fanout.h"
#include "patterns/keyvalue/keyvalue_priv.h"
#include "src/base/container.h"

/* Request structs in flight. All begin with their op. */
struct batch_chunk {
    union {
        struct op op;
        struct kv_put_many put;
        struct kv_get_many get;
        struct kv_del_many del;
    };
    struct batch *batch;
    size_t first, n; /* in the order of what is sent */
};

struct batch_slot {
    union {
        struct op op;
        struct kv_put put;
        struct kv_put_if put_if;
        struct kv_get get;
        struct kv_del del;
    };
    struct batch *batch;
    struct batch_slot *next_free;
    uint32_t item; /* in request order */
};

struct batch_kind {
    size_t item_bytes; /* of kv_put_item and its kin */
    bool writes;

    /* Sends chunk->n items from `items`; the op is started. */
    void (*start_many)(struct batch_chunk *chunk, struct kv_item *items);
    /* Sends item i; the op is started. */
    void (*start_one)(struct batch_slot *slot, size_t i);
    /* The op of item i came back with ERR_OK: copies what it brought. */
    void (*end_one)(struct batch_slot *slot, size_t i);
};

/* Every item has its outcome. err is not ERR_OK when the backend failed for all items alike. Ends
 * the call. */
typedef void batch_reply_fn(struct batch *, struct err err);

struct batch {
    struct call *call;
    struct keyvalue *kv;
    const struct batch_kind *kind;
    batch_reply_fn *reply;
    struct keyvalue_plan plan; /* as it was when the call began */
    struct kv_item *items;     /* n of the kind's item structs, in request order */
    size_t n;

    /* private */
    struct fanout fanout;
    size_t refused;       /* by checks: never sent */
    struct kv_item *sent; /* the others, side by side; `items` itself when nothing was refused */
    uint32_t *sent_at;    /* their indices in request order; NULL: the same */
    size_t n_sent;
    uint32_t *heads; /* single operations: items that wait for no other; NULL: all */
    uint32_t *next;  /* item that follows on the same key, plus 1; NULL: none does */
    struct batch_chunk *chunks;
    struct batch_slot *free_slots;
    struct kv_room room; /* reads: for values in the response */
};

/* What is tried before a batch is built: batches offered, not too many items. */
struct err batch_check(const struct keyvalue *kv, struct arena *arena, size_t n,
                       const char *subject);

/* The same for one that is all or nothing. */
struct err batch_check_atomic(const struct keyvalue *kv, struct arena *arena, size_t n,
                              const char *subject);

/* Items are zeroed; call, kind and reply stay. */
void batch_init(struct batch *batch, struct call *call, const struct batch_kind *kind,
                batch_reply_fn *reply, size_t n);

/* Item i does not pass the checks: it is not sent, err is its outcome. Before the run. */
void batch_refuse(struct batch *batch, size_t i, struct err err);

/* plan.run_batch is one of these. */
void batch_run_many(struct batch *batch);
void batch_run_singles(struct batch *batch);

/* All sent items in one backend call. */
void batch_run_whole(struct batch *batch);

/* Item i of `items`, which are of the batch's kind. */
static inline struct kv_item *batch_nth(const struct batch *batch, struct kv_item *items, size_t i)
{
    return (void *)((char *)items + i * batch->kind->item_bytes);
}

static inline struct kv_item *batch_item(const struct batch *batch, size_t i)
{
    return batch_nth(batch, batch->items, i);
}

/* ---- the three kinds; both protocols fill them, run them, and tell their outcome ---- */

struct store_batch {
    struct batch batch; /* of kv_put_item */
    void (*put_many)(struct backend *, struct kv_put_many *);
    const pb_precondition **preconditions; /* by item; NULL: none has one */
    struct slice *versions;                /* of what was stored under one; as above */
};

struct retrieve_batch {
    struct batch batch; /* of kv_get_item */
    uint64_t room;      /* private: bytes left in the response */
};

struct remove_batch {
    struct batch batch; /* of kv_del_item */
    void (*del_many)(struct backend *, struct kv_del_many *);
};

static inline struct kv_put_item *store_item(const struct batch *batch, size_t i)
{
    return CONTAINER_OF(batch_item(batch, i), struct kv_put_item, base);
}

static inline struct kv_get_item *retrieve_item(const struct batch *batch, size_t i)
{
    return CONTAINER_OF(batch_item(batch, i), struct kv_get_item, base);
}

static inline struct kv_del_item *remove_item(const struct batch *batch, size_t i)
{
    return CONTAINER_OF(batch_item(batch, i), struct kv_del_item, base);
}

struct store_batch *store_batch_new(struct call *call, batch_reply_fn *reply, size_t n);
void store_batch_run(struct store_batch *batch);

/* Keys are checked; those at fault have their outcome. */
struct retrieve_batch *retrieve_batch_new(struct call *call, batch_reply_fn *reply,
                                          char *const *keys, size_t n);

/* Room in the response, for outcomes in request order. May this value be told, or is the response
 * full? (It then is an error of the item.) The same for the text of an item's error, which is for
 * people and may be left out. */
void retrieve_batch_room(struct retrieve_batch *batch);
struct err retrieve_batch_take(struct retrieve_batch *batch, const struct kv_get_item *item);
bool retrieve_batch_take_text(struct retrieve_batch *batch, const char *text);

struct remove_batch *remove_batch_new(struct call *call, batch_reply_fn *reply, char *const *keys,
                                      size_t n);

#endif
