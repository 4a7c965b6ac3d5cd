/* Sessions come, change and go; sessions_many.c: those of a user or of a page. */
#include "backends/memstore/sessions_priv.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <time.h>

enum { REAPED = 8 /* expired sessions that each call takes out, at most */, ORDERS = 5 };

static struct slice id_of(const void *node)
{
    return node_id(node);
}

static struct slice place_of(const void *node)
{
    return slice_of(((const struct session_node *)node)->place, SESSIONS_PLACE_BYTES);
}

static uint64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

struct sessions *sessions_new(struct memstore *store)
{
    struct sessions *sessions = calloc(1, sizeof *sessions);

    if (sessions == NULL)
        abort();
    sessions->store = store;
    sessions->opened_unix_ms = unix_ms();
    sessions->ids.name = id_of;
    sessions->all.name = sessions->users.name = sessions->regions.name = sessions->due.name =
        place_of;
    pthread_mutex_init(&sessions->lock, NULL);
    return sessions;
}

static void node_free(struct session_node *node)
{
    items_free(node);
    free(node);
}

void sessions_destroy(struct sessions *sessions)
{
    struct order_place place;
    struct session_node *node;

    if (sessions == NULL)
        return;
    order_clear(&sessions->ids);
    order_clear(&sessions->users);
    order_clear(&sessions->regions);
    order_clear(&sessions->due);
    place = order_seek(&sessions->all, 0, slice_of(NULL, 0), false);
    while ((node = order_at(&place, 0)) != NULL) {
        order_next(&place);
        node_free(node);
    }
    order_clear(&sessions->all);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

uint64_t sessions_hash(const struct sessions *sessions, struct slice text)
{
    return memstore_hash(sessions->store, text);
}

static uint64_t cost(const struct session_node *node)
{
    uint64_t values = node->bytes - (uint64_t)node->items_n * SESSION_VALUE_COST;

    return SESSION_NODE_BYTES + node->user_len + node->region_len + node->client_len +
           node->attributes_len + ORDERS * SESSIONS_POSTING_BYTES + values +
           (uint64_t)node->items_n * SESSIONS_VALUE_BYTES;
}

/* ---- the orders ---- */

static void enter_due(struct sessions *sessions, struct session_node *node)
{
    if (sessions->due.entries == 0)
        sessions->store->wake_sweep(sessions->store);
    order_insert(&sessions->due, node->expires_ms, node);
}

void sessions_enter(struct sessions *sessions, struct session_node *node)
{
    order_insert(&sessions->ids, 0, node);
    order_insert(&sessions->all, 0, node);
    if (node->user_len > 0)
        order_insert(&sessions->users, sessions_hash(sessions, node_user(node)), node);
    if (node->region_len > 0)
        order_insert(&sessions->regions, sessions_hash(sessions, node_region(node)), node);
    enter_due(sessions, node);
}

void sessions_drop(struct sessions *sessions, struct session_node *node)
{
    order_remove(&sessions->ids, 0, node);
    order_remove(&sessions->all, 0, node);
    if (node->user_len > 0)
        order_remove(&sessions->users, sessions_hash(sessions, node_user(node)), node);
    if (node->region_len > 0)
        order_remove(&sessions->regions, sessions_hash(sessions, node_region(node)), node);
    order_remove(&sessions->due, node->expires_ms, node);
    capacity_give(sessions->store, 1, cost(node));
    node_free(node);
}

static void set_expiry(struct sessions *sessions, struct session_node *node, uint64_t expires_ms)
{
    if (expires_ms == node->expires_ms)
        return;
    order_remove(&sessions->due, node->expires_ms, node);
    node->expires_ms = expires_ms;
    enter_due(sessions, node);
}

/* ---- time ---- */

static uint64_t now_ms_of(const struct sessions *sessions)
{
    return sessions->opened_unix_ms + memstore_now_ns(sessions->store) / NS_PER_MS;
}

bool sessions_reap_locked(struct sessions *sessions, uint64_t now_ms, unsigned n)
{
    struct session_node *node;
    uint64_t number;

    while ((node = order_first(&sessions->due, &number)) != NULL && number <= now_ms && n-- > 0) {
        sessions_drop(sessions, node);
        counter_add(&sessions->expired, 1);
    }
    return node != NULL && number <= now_ms;
}

uint64_t sessions_lock(struct sessions *sessions)
{
    pthread_mutex_lock(&sessions->lock);

    uint64_t now_ms = now_ms_of(sessions);

    sessions_reap_locked(sessions, now_ms, REAPED);
    return now_ms;
}

bool sessions_reap(struct sessions *sessions, unsigned n)
{
    pthread_mutex_lock(&sessions->lock);

    bool more = sessions_reap_locked(sessions, now_ms_of(sessions), n);

    pthread_mutex_unlock(&sessions->lock);
    return more;
}

uint64_t sessions_next_ns(struct sessions *sessions)
{
    uint64_t number = UINT64_MAX;

    pthread_mutex_lock(&sessions->lock);
    order_first(&sessions->due, &number);
    pthread_mutex_unlock(&sessions->lock);
    if (number == UINT64_MAX)
        return number;
    return number <= sessions->opened_unix_ms ? 0 : (number - sessions->opened_unix_ms) * NS_PER_MS;
}

struct sessions_totals sessions_totals(struct sessions *sessions)
{
    struct sessions_totals totals;

    pthread_mutex_lock(&sessions->lock);
    totals = (struct sessions_totals){
        .sessions = sessions->all.entries,
        .bytes = order_bytes(&sessions->ids) + order_bytes(&sessions->all) +
                 order_bytes(&sessions->users) + order_bytes(&sessions->regions) +
                 order_bytes(&sessions->due),
        .expired = counter_read(&sessions->expired)};
    pthread_mutex_unlock(&sessions->lock);
    return totals;
}

/* ---- one session ---- */

struct session_node *sessions_find(const struct sessions *sessions, struct slice id,
                                   uint64_t now_ms)
{
    struct order_place place = order_seek(&sessions->ids, 0, id, false);
    struct session_node *node = order_at(&place, 0);

    return node != NULL && slice_equal(node_id(node), id) && node_lives(node, now_ms) ? node : NULL;
}

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the session does not exist, or has expired");
}

static void use(struct sessions *sessions, struct session_node *node, const struct session_use *use,
                uint64_t now_ms)
{
    uint64_t until_ms =
        session_used_until(use, node->ttl_ms, node->end_ms, node->expires_ms, now_ms);

    if (until_ms == node->expires_ms)
        return;
    node->used_ms = now_ms;
    set_expiry(sessions, node, until_ms);
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
    return (struct session_times){
        .created_ms = node->created_ms, .used_ms = node->used_ms, .expires_ms = node->expires_ms};
}

struct err sessions_get(struct sessions *sessions, struct session_get *get)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct session_node *node = sessions_find(sessions, get->id, now_ms);

    if (node != NULL) {
        use(sessions, node, &get->use, now_ms);
        get->times = node_times(node);
        get->version = node->version;
        if (get->name.len == 0)
            get->owner = node_owner(node, op_arena(&get->op));
        items_read(node, get);
    }
    pthread_mutex_unlock(&sessions->lock);
    return node != NULL ? ERR_NONE : absent();
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
    struct sizes sizes = {node->bytes, cost(node)};

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
    uint64_t before = cost(node);
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
    uint64_t now_ms = sessions_lock(sessions);
    struct session_node *node = sessions_find(sessions, patch->id, now_ms);
    struct err err = node != NULL ? check_condition(node, patch) : absent();

    if (err.code == ERR_OK)
        err = charge(sessions, node, patch);
    if (err.code == ERR_OK) {
        change(node, patch);
        use(sessions, node, &patch->use, now_ms);
        patch->version = node->version;
        patch->expires_ms = node->expires_ms;
    }
    pthread_mutex_unlock(&sessions->lock);
    return err;
}

/* ---- rotate, extend, remove ---- */

static struct err rename_to(struct sessions *sessions, struct session_node *node, struct slice id)
{
    struct order_place place = order_seek(&sessions->ids, 0, id, false);
    const struct session_node *other = order_at(&place, 0);

    if (other != NULL && slice_equal(node_id(other), id))
        return err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
    order_remove(&sessions->ids, 0, node);
    memcpy(node->id, id.data, id.len);
    node->id_len = (uint8_t)id.len;
    order_insert(&sessions->ids, 0, node);
    return ERR_NONE;
}

struct err sessions_rotate(struct sessions *sessions, struct session_rotate *rotate)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct session_node *node = sessions_find(sessions, rotate->id, now_ms);
    struct err err = node != NULL ? rename_to(sessions, node, rotate->new_id) : absent();

    if (err.code == ERR_OK) {
        use(sessions, node, &rotate->use, now_ms);
        rotate->expires_ms = node->expires_ms;
    }
    pthread_mutex_unlock(&sessions->lock);
    return err;
}

struct err sessions_extend(struct sessions *sessions, struct session_extend *extend)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct session_node *node = sessions_find(sessions, extend->id, now_ms);

    if (node != NULL) {
        uint64_t until_ms =
            extend->add_ms > 0 ? node->expires_ms + extend->add_ms : extend->until_ms;

        if (until_ms > now_ms + extend->max_ttl_ms)
            until_ms = now_ms + extend->max_ttl_ms;
        if (node->end_ms > 0 && until_ms > node->end_ms)
            until_ms = node->end_ms;
        if (until_ms > node->expires_ms)
            set_expiry(sessions, node, until_ms);
        extend->expires_ms = node->expires_ms;
    }
    pthread_mutex_unlock(&sessions->lock);
    return node != NULL ? ERR_NONE : absent();
}

void sessions_remove(struct sessions *sessions, struct session_remove *remove)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct session_node *node = sessions_find(sessions, remove->id, now_ms);

    remove->existed = node != NULL;
    if (node != NULL)
        sessions_drop(sessions, node);
    pthread_mutex_unlock(&sessions->lock);
}
