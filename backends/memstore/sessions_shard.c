/* The orders of sessions and their locks; time and what has expired. */
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
    struct sessions *sessions = aligned_alloc(_Alignof(struct sessions), sizeof *sessions);

    if (sessions == NULL)
        abort();
    memset(sessions, 0, sizeof *sessions);
    sessions->store = store;
    sessions->opened_unix_ms = unix_ms();
    for (unsigned i = 0; i < SESSIONS_SHARDS; i++) {
        sessions->shards[i].ids.name = id_of;
        sessions->shards[i].due.name = sessions->owners[i].users.name = place_of;
        pthread_mutex_init(&sessions->shards[i].lock, NULL);
        pthread_mutex_init(&sessions->owners[i].lock, NULL);
    }
    sessions->all.name = sessions->regions.name = place_of;
    pthread_mutex_init(&sessions->lists, NULL);
    return sessions;
}

void node_free(struct session_node *node)
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
    for (unsigned i = 0; i < SESSIONS_SHARDS; i++) {
        order_clear(&sessions->shards[i].ids);
        order_clear(&sessions->shards[i].due);
        order_clear(&sessions->owners[i].users);
        pthread_mutex_destroy(&sessions->shards[i].lock);
        pthread_mutex_destroy(&sessions->owners[i].lock);
    }
    order_clear(&sessions->regions);
    place = order_seek(&sessions->all, 0, slice_of(NULL, 0), false);
    while ((node = order_at(&place, 0)) != NULL) {
        order_next(&place);
        node_free(node);
    }
    order_clear(&sessions->all);
    pthread_mutex_destroy(&sessions->lists);
    free(sessions);
}

uint64_t sessions_hash(const struct sessions *sessions, struct slice text)
{
    return memstore_hash(sessions->store, text);
}

struct sessions_shard *sessions_shard_of(struct sessions *sessions, struct slice id)
{
    return &sessions->shards[sessions_hash(sessions, id) % SESSIONS_SHARDS];
}

uint64_t node_cost(const struct session_node *node)
{
    uint64_t values = node->bytes - (uint64_t)node->items_n * SESSION_VALUE_COST;

    return SESSION_NODE_BYTES + node->user_len + node->region_len + node->client_len +
           node->attributes_len + ORDERS * SESSIONS_POSTING_BYTES + values +
           (uint64_t)node->items_n * SESSIONS_VALUE_BYTES;
}

/* ---- the orders ---- */

static void enter_due(struct sessions *sessions, struct sessions_shard *shard,
                      struct session_node *node)
{
    if (shard->due.entries == 0)
        sessions->store->wake_sweep(sessions->store);
    order_insert(&shard->due, node_expires_ms(node), node);
}

void sessions_enter(struct sessions *sessions, struct sessions_shard *shard,
                    struct session_node *node)
{
    order_insert(&shard->ids, sessions_hash(sessions, node_id(node)), node);
    enter_due(sessions, shard, node);
}

void sessions_list(struct sessions *sessions, struct sessions_owners *owners,
                   struct session_node *node)
{
    order_insert(&sessions->all, 0, node);
    if (owners != NULL)
        order_insert(&owners->users, sessions_hash(sessions, node_user(node)), node);
    if (node->region_len > 0)
        order_insert(&sessions->regions, sessions_hash(sessions, node_region(node)), node);
}

static void leave(struct sessions *sessions, struct sessions_shard *shard,
                  struct session_node *node)
{
    order_remove(&shard->ids, sessions_hash(sessions, node_id(node)), node);
    order_remove(&shard->due, node_expires_ms(node), node);
}

void sessions_drop(struct sessions *sessions, const struct sessions_hold *hold,
                   struct session_node *node)
{
    leave(sessions, hold->shard, node);
    order_remove(&sessions->all, 0, node);
    if (hold->owners != NULL)
        order_remove(&hold->owners->users, sessions_hash(sessions, node_user(node)), node);
    if (node->region_len > 0)
        order_remove(&sessions->regions, sessions_hash(sessions, node_region(node)), node);
    capacity_give(sessions->store, 1, node_cost(node));
    node_free(node);
}

void sessions_rename(struct sessions *sessions, struct sessions_shard *from,
                     struct sessions_shard *to, struct session_node *node, struct slice id)
{
    leave(sessions, from, node);
    memcpy(node->id, id.data, id.len);
    node->id_len = (uint8_t)id.len;
    sessions_enter(sessions, to, node);
}

void sessions_set_expiry(struct sessions *sessions, struct sessions_shard *shard,
                         struct session_node *node, uint64_t expires_ms)
{
    if (expires_ms == node_expires_ms(node))
        return;
    order_remove(&shard->due, node_expires_ms(node), node);
    atomic_store_explicit(&node->expires_ms, expires_ms, memory_order_relaxed);
    enter_due(sessions, shard, node);
}

struct session_node *sessions_find(const struct sessions *sessions,
                                   const struct sessions_shard *shard, struct slice id)
{
    uint64_t hash = sessions_hash(sessions, id);
    struct order_place place = order_seek(&shard->ids, hash, id, false);
    struct session_node *node = order_at(&place, hash);

    return node != NULL && slice_equal(node_id(node), id) ? node : NULL;
}

/* ---- all three locks ---- */

struct sessions_owners *sessions_owners_of(struct sessions *sessions, struct slice user)
{
    if (user.len == 0)
        return NULL;
    return &sessions->owners[sessions_hash(sessions, user) % SESSIONS_SHARDS];
}

void sessions_owners_lock(struct sessions_owners *owners)
{
    if (owners != NULL)
        pthread_mutex_lock(&owners->lock);
}

void sessions_owners_unlock(struct sessions_owners *owners)
{
    if (owners != NULL)
        pthread_mutex_unlock(&owners->lock);
}

/* Whose the session is, as it was a moment ago. False: there is none. */
static bool look_up_owners(struct sessions *sessions, struct slice id, struct sessions_hold *hold)
{
    struct session_node *node;

    pthread_mutex_lock(&hold->shard->lock);
    node = sessions_find(sessions, hold->shard, id);
    if (node != NULL)
        hold->owners = sessions_owners_of(sessions, node_user(node));
    pthread_mutex_unlock(&hold->shard->lock);
    return node != NULL;
}

void sessions_release(struct sessions *sessions, const struct sessions_hold *hold)
{
    pthread_mutex_unlock(&hold->shard->lock);
    pthread_mutex_unlock(&sessions->lists);
    sessions_owners_unlock(hold->owners);
}

/* The user's lock comes first, and only the session tells whose it is: so it is looked up, and once
 * more under the locks, where it may be another one's by now. */
struct session_node *sessions_hold(struct sessions *sessions, struct slice id,
                                   struct sessions_hold *hold)
{
    struct session_node *node;

    *hold = (struct sessions_hold){.shard = sessions_shard_of(sessions, id)};
    while (look_up_owners(sessions, id, hold)) {
        sessions_owners_lock(hold->owners);
        pthread_mutex_lock(&sessions->lists);
        pthread_mutex_lock(&hold->shard->lock);
        node = sessions_find(sessions, hold->shard, id);
        if (node != NULL && sessions_owners_of(sessions, node_user(node)) == hold->owners)
            return node;
        sessions_release(sessions, hold);
    }
    return NULL;
}

/* ---- time ---- */

uint64_t sessions_now_ms(const struct sessions *sessions)
{
    return sessions->opened_unix_ms + memstore_now_ns(sessions->store) / NS_PER_MS;
}

/* One that has expired, if there is one: its identifier. Under the lock of the shard. */
static size_t first_expired(const struct sessions_shard *shard, uint64_t now_ms,
                            uint8_t id[SESSION_ID_BYTES])
{
    uint64_t number;
    const struct session_node *node = order_first(&shard->due, &number);

    if (node == NULL || number > now_ms)
        return 0;
    memcpy(id, node->id, node->id_len);
    return node->id_len;
}

void sessions_expire(struct sessions *sessions, struct slice id, uint64_t now_ms)
{
    struct sessions_hold hold;
    struct session_node *node = sessions_hold(sessions, id, &hold);

    if (node == NULL)
        return;
    if (!node_lives(node, now_ms)) {
        sessions_drop(sessions, &hold, node);
        counter_add(&hold.shard->expired, 1);
    }
    sessions_release(sessions, &hold);
}

static unsigned reap_shard(struct sessions *sessions, struct sessions_shard *shard, uint64_t now_ms,
                           unsigned n)
{
    uint8_t id[SESSION_ID_BYTES];
    unsigned done = 0;
    size_t len;

    for (; done < n; done++) {
        pthread_mutex_lock(&shard->lock);
        len = first_expired(shard, now_ms, id);
        pthread_mutex_unlock(&shard->lock);
        if (len == 0)
            break;
        sessions_expire(sessions, slice_of(id, len), now_ms);
    }
    return done;
}

unsigned sessions_reap(struct sessions *sessions, unsigned n)
{
    uint64_t now_ms = sessions_now_ms(sessions);
    unsigned from = atomic_load_explicit(&sessions->reap_from, memory_order_relaxed), done = 0, i;

    for (i = 0; i < SESSIONS_SHARDS && done < n; i++)
        done +=
            reap_shard(sessions, &sessions->shards[(from + i) % SESSIONS_SHARDS], now_ms, n - done);
    atomic_store_explicit(&sessions->reap_from, from + i, memory_order_relaxed);
    return done;
}

struct sessions_shard *sessions_lock(struct sessions *sessions, struct slice id, uint64_t *now_ms)
{
    struct sessions_shard *shard = sessions_shard_of(sessions, id);
    uint8_t expired[SESSION_ID_BYTES];

    *now_ms = sessions_now_ms(sessions);
    pthread_mutex_lock(&shard->lock);
    if (first_expired(shard, *now_ms, expired) > 0) {
        pthread_mutex_unlock(&shard->lock);
        reap_shard(sessions, shard, *now_ms, REAPED);
        pthread_mutex_lock(&shard->lock);
    }
    return shard;
}

uint64_t sessions_next_ns(struct sessions *sessions)
{
    uint64_t first_ms = UINT64_MAX, number;

    for (unsigned i = 0; i < SESSIONS_SHARDS; i++) {
        pthread_mutex_lock(&sessions->shards[i].lock);
        if (order_first(&sessions->shards[i].due, &number) != NULL && number < first_ms)
            first_ms = number;
        pthread_mutex_unlock(&sessions->shards[i].lock);
    }
    if (first_ms == UINT64_MAX)
        return first_ms;
    return first_ms <= sessions->opened_unix_ms ? 0
                                                : (first_ms - sessions->opened_unix_ms) * NS_PER_MS;
}

/* ---- totals ---- */

struct sessions_totals sessions_totals(struct sessions *sessions)
{
    struct sessions_totals totals;

    pthread_mutex_lock(&sessions->lists);
    totals.sessions = sessions->all.entries;
    totals.bytes = order_bytes(&sessions->all) + order_bytes(&sessions->regions);
    pthread_mutex_unlock(&sessions->lists);
    totals.expired = 0;
    for (unsigned i = 0; i < SESSIONS_SHARDS; i++) {
        struct sessions_shard *shard = &sessions->shards[i];
        struct sessions_owners *owners = &sessions->owners[i];

        pthread_mutex_lock(&shard->lock);
        totals.bytes += order_bytes(&shard->ids) + order_bytes(&shard->due);
        totals.expired += counter_read(&shard->expired);
        pthread_mutex_unlock(&shard->lock);
        pthread_mutex_lock(&owners->lock);
        totals.bytes += order_bytes(&owners->users);
        pthread_mutex_unlock(&owners->lock);
    }
    return totals;
}
