/* One session: read, changed, extended, renamed, removed; sessions_many.c: those of a user or of a
 * page. */
#include "backends/memstore/sessions_priv.h"

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the session does not exist, or has expired");
}

/* One session, under the lock of its shard. */
struct at {
    struct sessions *sessions;
    struct sessions_shard *shard;
    struct session_node *node; /* NULL: there is none that lives */
    uint64_t now_ms;
};

static struct at lock_at(struct sessions *sessions, struct slice id)
{
    struct at at = {.sessions = sessions};

    at.shard = sessions_lock(sessions, id, &at.now_ms);
    at.node = sessions_find(sessions, at.shard, id);
    if (at.node != NULL && !node_lives(at.node, at.now_ms))
        at.node = NULL;
    return at;
}

static void unlock_at(const struct at *at)
{
    pthread_mutex_unlock(&at->shard->lock);
}

static void use(const struct at *at, const struct session_use *use)
{
    struct session_node *node = at->node;
    uint64_t until_ms =
        session_used_until(use, node->ttl_ms, node->end_ms, node_expires_ms(node), at->now_ms);

    if (until_ms == node_expires_ms(node))
        return;
    node->used_ms = at->now_ms;
    sessions_set_expiry(at->sessions, at->shard, node, until_ms);
}

struct session_owner node_owner(const struct session_node *node, struct arena *arena)
{
    return (struct session_owner){.user = arena_copy(arena, node_user(node)),
                                  .region = arena_copy(arena, node_region(node)),
                                  .client = arena_copy(arena, node_client(node)),
                                  .attributes = arena_copy(arena, node_attributes(node))};
}

struct session_times node_times(const struct session_node *node)
{
    return (struct session_times){.created_ms = node->created_ms,
                                  .used_ms = node->used_ms,
                                  .expires_ms = node_expires_ms(node)};
}

struct err sessions_get(struct sessions *sessions, struct session_get *get)
{
    struct at at = lock_at(sessions, get->id);

    if (at.node != NULL) {
        use(&at, &get->use);
        get->times = node_times(at.node);
        get->version = at.node->version;
        if (get->name.len == 0)
            get->owner = node_owner(at.node, op_arena(&get->op));
        items_read(at.node, get);
    }
    unlock_at(&at);
    return at.node != NULL ? ERR_NONE : absent();
}

/* ---- patch ---- */

static struct err check_condition(const struct session_node *node, struct session_patch *patch)
{
    const struct session_item *item;

    if (patch->condition == SESSION_ALWAYS)
        return ERR_NONE;
    patch->version = node->version;
    if (patch->condition == SESSION_VALUE_AT) {
        item = item_find(node, patch->set_n > 0 ? patch->set[0].name : patch->remove[0]);
        patch->version = item != NULL ? item->version : 0;
    }
    if (patch->version == patch->if_version)
        return ERR_NONE;
    return err_about(ERR_ABORTED, "if_version", "the version is another one by now");
}

/* What the patch would make of the session's values, and of its cost. */
struct sizes {
    uint64_t bytes, cost;
};

static struct sizes sizes_after(const struct session_node *node, const struct session_patch *patch)
{
    struct sizes sizes = {node->bytes, node_cost(node)};

    for (size_t i = 0; i < patch->set_n + patch->remove_n; i++) {
        bool sets = i < patch->set_n;
        struct slice name = sets ? patch->set[i].name : patch->remove[i - patch->set_n];
        const struct session_item *item = item_find(node, name);

        if (sets) {
            sizes.bytes += session_value_bytes(name, patch->set[i].value);
            sizes.cost += item_cost(name, patch->set[i].value);
        }
        if (item != NULL) {
            sizes.bytes -= session_value_bytes(name, item_value(item));
            sizes.cost -= item_cost(name, item_value(item));
        }
    }
    return sizes;
}

static struct err charge(struct sessions *sessions, const struct session_node *node,
                         const struct session_patch *patch)
{
    struct sizes after = sizes_after(node, patch);
    uint64_t before = node_cost(node);
    enum capacity capacity = CAPACITY_OK;

    if (after.bytes > patch->max_bytes && after.bytes > node->bytes)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                         "the session would be larger than max_session_size");
    if (after.cost > before)
        capacity = capacity_take(sessions->store, 0, after.cost - before);
    if (capacity != CAPACITY_OK)
        return capacity_error(sessions->store, capacity);
    if (after.cost < before)
        capacity_give(sessions->store, 0, before - after.cost);
    return ERR_NONE;
}

static void change(struct session_node *node, struct session_patch *patch)
{
    for (size_t i = 0; i < patch->set_n; i++)
        item_set(node, &patch->set[i], node->version + 1);
    patch->existed = false;
    for (size_t i = 0; i < patch->remove_n; i++)
        patch->existed |= item_remove(node, patch->remove[i]);
    node->version += patch->set_n > 0 || patch->existed;
}

struct err sessions_patch(struct sessions *sessions, struct session_patch *patch)
{
    struct at at = lock_at(sessions, patch->id);
    struct err err = at.node != NULL ? check_condition(at.node, patch) : absent();

    if (err.code == ERR_OK)
        err = charge(sessions, at.node, patch);
    if (err.code == ERR_OK) {
        change(at.node, patch);
        use(&at, &patch->use);
        patch->version = at.node->version;
        patch->expires_ms = node_expires_ms(at.node);
    }
    unlock_at(&at);
    return err;
}

/* ---- extend, rotate, remove ---- */

struct err sessions_extend(struct sessions *sessions, struct session_extend *extend)
{
    struct at at = lock_at(sessions, extend->id);

    if (at.node != NULL) {
        uint64_t expires_ms = node_expires_ms(at.node), until_ms = extend->until_ms;

        if (extend->add_ms > 0)
            until_ms = expires_ms + extend->add_ms;
        if (until_ms > at.now_ms + extend->max_ttl_ms)
            until_ms = at.now_ms + extend->max_ttl_ms;
        if (at.node->end_ms > 0 && until_ms > at.node->end_ms)
            until_ms = at.node->end_ms;
        if (until_ms > expires_ms)
            sessions_set_expiry(sessions, at.shard, at.node, until_ms);
        extend->expires_ms = node_expires_ms(at.node);
    }
    unlock_at(&at);
    return at.node != NULL ? ERR_NONE : absent();
}

/* Under the lists' lock, without which nobody holds two shards. */
static void lock_both(struct sessions_shard *held, struct sessions_shard *other)
{
    if (other == held)
        return;
    if (other > held) {
        pthread_mutex_lock(&other->lock);
        return;
    }
    pthread_mutex_unlock(&held->lock);
    pthread_mutex_lock(&other->lock);
    pthread_mutex_lock(&held->lock);
}

struct err sessions_rotate(struct sessions *sessions, struct session_rotate *rotate)
{
    struct at at = {.sessions = sessions, .now_ms = sessions_now_ms(sessions)};
    struct sessions_hold hold;
    struct err err = ERR_NONE;

    at.node = sessions_hold(sessions, rotate->id, &hold);
    if (at.node == NULL)
        return absent();
    at.shard = sessions_shard_of(sessions, rotate->new_id);
    lock_both(hold.shard, at.shard);
    if (!node_lives(at.node, at.now_ms))
        err = absent();
    else if (sessions_find(sessions, at.shard, rotate->new_id) != NULL)
        err = err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
    if (err.code == ERR_OK) {
        sessions_rename(sessions, hold.shard, at.shard, at.node, rotate->new_id);
        use(&at, &rotate->use);
        rotate->expires_ms = node_expires_ms(at.node);
    }
    if (at.shard != hold.shard)
        unlock_at(&at);
    sessions_release(sessions, &hold);
    return err;
}

void sessions_remove(struct sessions *sessions, struct session_remove *remove)
{
    uint64_t now_ms = sessions_now_ms(sessions);
    struct sessions_hold hold;
    struct session_node *node = sessions_hold(sessions, remove->id, &hold);

    remove->existed = node != NULL && node_lives(node, now_ms);
    if (node == NULL)
        return;
    if (remove->existed)
        sessions_drop(sessions, &hold, node);
    sessions_release(sessions, &hold);
}
