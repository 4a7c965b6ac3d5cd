/* What the files of the sessions share. Under the lock of a session's shard, unless said. */
#ifndef PRISM_BACKENDS_MEMSTORE_SESSIONS_PRIV_H
#define PRISM_BACKENDS_MEMSTORE_SESSIONS_PRIV_H

#include "backends/memstore/sessions.h"

static inline struct slice node_id(const struct session_node *node)
{
    return slice_of(node->id, node->id_len);
}

static inline struct slice node_user(const struct session_node *node)
{
    return slice_of(node->text, node->user_len);
}

static inline struct slice node_region(const struct session_node *node)
{
    return slice_of(node->text + node->user_len, node->region_len);
}

static inline struct slice node_client(const struct session_node *node)
{
    return slice_of(node->text + node->user_len + node->region_len, node->client_len);
}

static inline struct slice node_attributes(const struct session_node *node)
{
    return slice_of(node->text + node->user_len + node->region_len + node->client_len,
                    node->attributes_len);
}

static inline uint64_t node_expires_ms(const struct session_node *node)
{
    return atomic_load_explicit(&node->expires_ms, memory_order_relaxed);
}

/* Also without the lock: then it may be used at the same moment, and live on. */
static inline bool node_lives(const struct session_node *node, uint64_t now_ms)
{
    return node_expires_ms(node) > now_ms;
}

/* ---- sessions_shard.c: orders and locks ---- */

uint64_t sessions_now_ms(const struct sessions *sessions);
uint64_t sessions_hash(const struct sessions *sessions, struct slice text);

struct sessions_shard *sessions_shard_of(struct sessions *sessions, struct slice id);

/* NULL: no user, and no lock. */
struct sessions_owners *sessions_owners_of(struct sessions *sessions, struct slice user);
void sessions_owners_lock(struct sessions_owners *owners); /* may be NULL */
void sessions_owners_unlock(struct sessions_owners *owners);

/* Takes out a few of the shard that have expired, and locks it. */
struct sessions_shard *sessions_lock(struct sessions *sessions, struct slice id, uint64_t *now_ms);

/* All that beginning and ending it takes. */
struct sessions_hold {
    struct sessions_owners *owners; /* NULL: it has no user */
    struct sessions_shard *shard;
};

/* Locks all three; NULL: there is none, also no expired one, and nothing is locked. */
struct session_node *sessions_hold(struct sessions *sessions, struct slice id,
                                   struct sessions_hold *hold);
void sessions_release(struct sessions *sessions, const struct sessions_hold *hold);

/* Takes it out if it is there and has expired. Without locks. */
void sessions_expire(struct sessions *sessions, struct slice id, uint64_t now_ms);

/* Whether it lives or not; NULL: there is none. */
struct session_node *sessions_find(const struct sessions *sessions,
                                   const struct sessions_shard *shard, struct slice id);

/* Charged already. The first under the lock of the shard, the second under the two others. */
void sessions_enter(struct sessions *sessions, struct sessions_shard *shard,
                    struct session_node *node);
void sessions_list(struct sessions *sessions, struct sessions_owners *owners,
                   struct session_node *node);

/* Under all three: takes it out of all orders and frees it. */
void sessions_drop(struct sessions *sessions, const struct sessions_hold *hold,
                   struct session_node *node);

/* It gets another identifier, and with it another shard. Under all three, and the lock of that. */
void sessions_rename(struct sessions *sessions, struct sessions_shard *from,
                     struct sessions_shard *to, struct session_node *node, struct slice id);

void sessions_set_expiry(struct sessions *sessions, struct sessions_shard *shard,
                         struct session_node *node, uint64_t expires_ms);

uint64_t node_cost(const struct session_node *node);
void node_free(struct session_node *node); /* that is in no order */

/* ---- sessions.c ---- */

/* Copies in the arena. */
struct session_owner node_owner(const struct session_node *node, struct arena *arena);
struct session_times node_times(const struct session_node *node);

/* ---- session_items.c: the values of one session ---- */

struct session_item *item_find(const struct session_node *node, struct slice name);

static inline struct slice item_name(const struct session_item *item)
{
    return slice_of(item->bytes, item->name_len);
}

static inline struct slice item_value(const struct session_item *item)
{
    return slice_of(item->bytes + item->name_len, item->value_len);
}

static inline uint64_t item_cost(struct slice name, struct slice value)
{
    return SESSIONS_VALUE_BYTES + name.len + value.len;
}

void item_set(struct session_node *node, const struct session_value *value, uint64_t version);
bool item_remove(struct session_node *node, struct slice name); /* false: absent */
void items_free(struct session_node *node);

/* The value, or (an empty name) all of them, in the op's arena. */
void items_read(const struct session_node *node, struct session_get *get);

#endif
