/* What the files of the sessions share. All under the lock, unless said. */
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

static inline bool node_lives(const struct session_node *node, uint64_t now_ms)
{
    return node->expires_ms > now_ms;
}

/* ---- sessions.c ---- */

/* Locks, takes out a few that have expired, returns the time. */
uint64_t sessions_lock(struct sessions *sessions);

/* The living one; NULL: there is none. */
struct session_node *sessions_find(const struct sessions *sessions, struct slice id,
                                   uint64_t now_ms);

/* Charged already. */
void sessions_enter(struct sessions *sessions, struct session_node *node);
void sessions_drop(struct sessions *sessions, struct session_node *node);
uint64_t sessions_hash(const struct sessions *sessions, struct slice text);
bool sessions_reap_locked(struct sessions *sessions, uint64_t now_ms, unsigned n);

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
