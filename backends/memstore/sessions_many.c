/* Creation, which may have to end others of the same user; all of a user; pages. */
#include "backends/memstore/sessions_priv.h"
#include "src/base/container.h"

#include <stdlib.h>

static const uint8_t start_place[SESSIONS_PLACE_BYTES];

static void write_place(uint8_t out[SESSIONS_PLACE_BYTES], uint64_t place)
{
    for (unsigned i = 0; i < SESSIONS_PLACE_BYTES; i++)
        out[i] = (uint8_t)(place >> (56 - 8 * i));
}

static uint64_t read_place(const uint8_t place[SESSIONS_PLACE_BYTES])
{
    uint64_t number = 0;

    for (unsigned i = 0; i < SESSIONS_PLACE_BYTES; i++)
        number = number << 8 | place[i];
    return number;
}

/* A walk along the sessions of a user, in the order of their places. */
static struct order_place user_start(const struct sessions_owners *owners, uint64_t hash)
{
    return order_seek(&owners->users, hash, slice_of(start_place, SESSIONS_PLACE_BYTES), false);
}

/* The next of this user; NULL: there is none. Another user may have the same hash. */
static struct session_node *user_next(struct order_place *place, uint64_t hash, struct slice user)
{
    struct session_node *node;

    while ((node = order_at(place, hash)) != NULL) {
        order_next(place);
        if (slice_equal(node_user(node), user))
            return node;
    }
    return NULL;
}

/* ---- create ---- */

/* A creation, under the locks of its user (if it has one) and of the lists. */
struct creation {
    struct sessions *sessions;
    struct session_create *req;
    struct sessions_owners *owners; /* NULL: no user */
    struct session_node *node;      /* the new one */
    uint64_t now_ms;
    /* what is there of the user already */
    struct session_node *dead[SESSIONS_STRIDE], *oldest[SESSION_ENDED];
    size_t dead_n;
    uint64_t living;
    size_t ends; /* of the oldest */
    bool full;   /* max_sessions refused it */
    bool taken;  /* the identifier is that of an expired one */
};

/* Up to so many living ones as matter. False: too many dead ones are in the way. */
static bool survey_user(struct creation *c)
{
    struct slice user = c->req->owner.user;
    uint64_t hash = sessions_hash(c->sessions, user);
    uint64_t enough = (uint64_t)c->req->max_per_user + SESSION_ENDED;
    struct order_place place = user_start(c->owners, hash);
    struct session_node *node;

    while (c->living < enough && (node = user_next(&place, hash, user)) != NULL) {
        if (!node_lives(node, c->now_ms)) {
            if (c->dead_n == SESSIONS_STRIDE)
                return false;
            c->dead[c->dead_n++] = node;
            continue;
        }
        if (c->living < SESSION_ENDED)
            c->oldest[c->living] = node;
        c->living++;
    }
    return true;
}

/* False: one of them was used at the last moment, and lives. */
static bool bury(struct creation *c)
{
    bool all = true;

    for (size_t i = 0; i < c->dead_n; i++) {
        struct sessions_hold hold = {.owners = c->owners,
                                     .shard = sessions_shard_of(c->sessions, node_id(c->dead[i]))};

        pthread_mutex_lock(&hold.shard->lock);
        if (node_lives(c->dead[i], c->now_ms)) {
            all = false;
        } else {
            sessions_drop(c->sessions, &hold, c->dead[i]);
            counter_add(&hold.shard->expired, 1);
        }
        pthread_mutex_unlock(&hold.shard->lock);
    }
    return all;
}

static void end_oldest(struct creation *c)
{
    for (size_t i = 0; i < c->ends; i++) {
        struct session_node *node = c->oldest[i];
        struct sessions_hold hold = {.owners = c->owners,
                                     .shard = sessions_shard_of(c->sessions, node_id(node))};

        pthread_mutex_lock(&hold.shard->lock);
        c->req->ended[c->req->ended_n++] = arena_copy(op_arena(&c->req->op), node_id(node));
        sessions_drop(c->sessions, &hold, node);
        pthread_mutex_unlock(&hold.shard->lock);
    }
}

/* Tells how many of the user's have to end, too. */
static struct err check_limits(struct creation *c)
{
    const struct session_create *req = c->req;

    if (req->max_per_user > 0 && c->living >= req->max_per_user) {
        if (!req->end_oldest)
            return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user",
                             "the user has as many sessions as a user may have");
        c->ends = c->living - req->max_per_user + 1;
        if (c->ends > SESSION_ENDED)
            c->ends = SESSION_ENDED;
    }
    c->full = req->max_sessions > 0 && c->sessions->all.entries - c->ends >= req->max_sessions;
    return c->full ? err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions",
                               "the namespace holds as many sessions as it may")
                   : ERR_NONE;
}

static uint64_t values_bytes(const struct session_create *create)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < create->n; i++)
        bytes += session_value_bytes(create->values[i].name, create->values[i].value);
    return bytes;
}

static uint64_t create_cost(const struct session_create *create)
{
    const struct session_owner *owner = &create->owner;
    uint64_t sum = SESSION_NODE_BYTES + 5 * SESSIONS_POSTING_BYTES + owner->user.len +
                   owner->region.len + owner->client.len + owner->attributes.len;

    for (size_t i = 0; i < create->n; i++)
        sum += item_cost(create->values[i].name, create->values[i].value);
    return sum;
}

static uint8_t *append(uint8_t *at, struct slice bytes)
{
    if (bytes.len > 0)
        memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static struct session_node *node_new(const struct session_create *create, uint64_t now_ms)
{
    const struct session_owner *owner = &create->owner;
    uint64_t end_ms = create->max_life_ms > 0 ? now_ms + create->max_life_ms : 0;
    uint64_t expires_ms = now_ms + create->ttl_ms;
    struct session_node *node = malloc(sizeof *node + owner->user.len + owner->region.len +
                                       owner->client.len + owner->attributes.len);

    if (node == NULL)
        abort();
    if (end_ms > 0 && expires_ms > end_ms)
        expires_ms = end_ms;
    *node = (struct session_node){.created_ms = now_ms,
                                  .used_ms = now_ms,
                                  .expires_ms = expires_ms,
                                  .end_ms = end_ms,
                                  .ttl_ms = create->ttl_ms,
                                  .version = 1,
                                  .user_len = (uint32_t)owner->user.len,
                                  .region_len = (uint32_t)owner->region.len,
                                  .client_len = (uint32_t)owner->client.len,
                                  .attributes_len = (uint32_t)owner->attributes.len,
                                  .id_len = (uint8_t)create->id.len};
    memcpy(node->id, create->id.data, create->id.len);
    append(append(append(append(node->text, owner->user), owner->region), owner->client),
           owner->attributes);
    for (size_t i = 0; i < create->n; i++)
        item_set(node, &create->values[i], node->version);
    return node;
}

/* It can be found from here on, if nothing speaks against it. */
static struct err enter(struct creation *c)
{
    struct sessions_shard *shard = sessions_shard_of(c->sessions, c->req->id);
    const struct session_node *other;
    enum capacity capacity = CAPACITY_OK;
    struct err err = ERR_NONE;

    pthread_mutex_lock(&shard->lock);
    other = sessions_find(c->sessions, shard, c->req->id);
    c->taken = other != NULL && !node_lives(other, c->now_ms);
    if (other != NULL)
        err = err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
    else
        err = check_limits(c);
    if (err.code == ERR_OK)
        capacity = capacity_take(c->sessions->store, 1, create_cost(c->req));
    if (capacity != CAPACITY_OK)
        err = capacity_error(c->sessions->store, capacity);
    if (err.code == ERR_OK) {
        write_place(c->node->place, ++c->sessions->place);
        sessions_enter(c->sessions, shard, c->node);
    }
    pthread_mutex_unlock(&shard->lock);
    return err;
}

static struct err create_now(struct creation *c)
{
    struct err err;

    c->req->times = node_times(c->node);
    err = enter(c);
    if (err.code != ERR_OK)
        return err;
    sessions_list(c->sessions, c->owners, c->node);
    c->node = NULL;
    end_oldest(c);
    return ERR_NONE;
}

/* False: expired sessions were in the way. */
static bool try_create(struct creation *c, struct err *err)
{
    bool ready;

    sessions_owners_lock(c->owners);
    ready = c->owners == NULL || c->req->max_per_user == 0 || survey_user(c);
    pthread_mutex_lock(&c->sessions->lists);
    ready = bury(c) && ready;
    if (ready)
        *err = create_now(c);
    pthread_mutex_unlock(&c->sessions->lists);
    sessions_owners_unlock(c->owners);
    if (ready && c->taken)
        sessions_expire(c->sessions, c->req->id, c->now_ms);
    return ready && !c->taken && (!c->full || sessions_reap(c->sessions, SESSIONS_STRIDE) == 0);
}

bool sessions_create(struct sessions *sessions, struct session_create *create, struct err *err)
{
    struct creation c = {.sessions = sessions, .req = create};
    bool over;

    if (values_bytes(create) > create->max_bytes) {
        *err = err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                         "the session would be larger than max_session_size");
        return false;
    }
    pthread_mutex_unlock(&sessions_lock(sessions, create->id, &c.now_ms)->lock);
    c.owners = sessions_owners_of(sessions, create->owner.user);
    c.node = node_new(create, c.now_ms);
    over = try_create(&c, err);
    if (c.node != NULL)
        node_free(c.node);
    return !over;
}

/* ---- all of a user ---- */

bool sessions_remove_user(struct sessions *sessions, struct session_remove_user *remove)
{
    uint64_t now_ms = sessions_now_ms(sessions), hash = sessions_hash(sessions, remove->user);
    struct sessions_hold hold = {.owners = sessions_owners_of(sessions, remove->user)};
    struct session_node *nodes[SESSIONS_STRIDE], *node;
    struct order_place place;
    size_t n = 0;

    if (hold.owners == NULL)
        return false;
    sessions_owners_lock(hold.owners);
    place = user_start(hold.owners, hash);
    while (n < SESSIONS_STRIDE && (node = user_next(&place, hash, remove->user)) != NULL) {
        if (!slice_equal(node_id(node), remove->except))
            nodes[n++] = node;
    }
    pthread_mutex_lock(&sessions->lists);
    for (size_t i = 0; i < n; i++) {
        hold.shard = sessions_shard_of(sessions, node_id(nodes[i]));
        pthread_mutex_lock(&hold.shard->lock);
        remove->removed += node_lives(nodes[i], now_ms);
        sessions_drop(sessions, &hold, nodes[i]);
        pthread_mutex_unlock(&hold.shard->lock);
    }
    pthread_mutex_unlock(&sessions->lists);
    sessions_owners_unlock(hold.owners);
    return n == SESSIONS_STRIDE;
}

/* ---- pages ---- */

/* The shortest of the orders that hold what is asked for, and its lock. */
struct walk {
    pthread_mutex_t *lock;
    const struct order *order;
    uint64_t number;
};

static struct walk walk_of(struct sessions *sessions, const struct session_page *page)
{
    struct sessions_owners *owners = sessions_owners_of(sessions, page->user);

    if (owners != NULL)
        return (struct walk){&owners->lock, &owners->users, sessions_hash(sessions, page->user)};
    if (page->region.len > 0)
        return (struct walk){&sessions->lists, &sessions->regions,
                             sessions_hash(sessions, page->region)};
    return (struct walk){&sessions->lists, &sessions->all, 0};
}

static bool is_any_or(struct slice wanted, struct slice text)
{
    return wanted.len == 0 || slice_equal(wanted, text);
}

static bool meets(const struct session_page *page, const struct session_node *node)
{
    return is_any_or(page->user, node_user(node)) && is_any_or(page->region, node_region(node)) &&
           is_any_or(page->client, node_client(node));
}

static void add_entry(struct session_page *page, const struct session_node *node, uint64_t *bytes)
{
    struct arena *arena = op_arena(&page->op);
    struct session_entry *entry = &page->entries[page->n++];

    *entry = (struct session_entry){.id = arena_copy(arena, node_id(node)),
                                    .owner = node_owner(node, arena),
                                    .times = node_times(node),
                                    .version = node->version};
    *bytes += sizeof *entry + node->id_len + node->user_len + node->region_len + node->client_len +
              node->attributes_len;
}

static bool is_full(const struct session_page *page, uint64_t bytes)
{
    return page->n == page->max_items || (page->max_bytes > 0 && bytes >= page->max_bytes);
}

/* Adds it if it is one that is asked for. */
static void consider(struct sessions *sessions, struct session_page *page,
                     const struct session_node *node, uint64_t now_ms, uint64_t *bytes)
{
    struct sessions_shard *shard = sessions_shard_of(sessions, node_id(node));

    if (!node_lives(node, now_ms) || !meets(page, node))
        return;
    pthread_mutex_lock(&shard->lock); /* of times and version */
    add_entry(page, node, bytes);
    pthread_mutex_unlock(&shard->lock);
}

/* True: there is more, and room for it. */
static bool stride(struct sessions *sessions, struct session_page *page, uint64_t *bytes)
{
    uint64_t now_ms = sessions_now_ms(sessions);
    struct walk walk = walk_of(sessions, page);
    uint8_t after[SESSIONS_PLACE_BYTES];
    struct session_node *node;
    struct order_place place;
    bool full = false;

    pthread_mutex_lock(walk.lock);
    write_place(after, page->next);
    place = order_seek(walk.order, walk.number, slice_of(after, sizeof after), true);
    for (int i = 0; i < SESSIONS_STRIDE && !full; i++) {
        node = order_at(&place, walk.number);
        if (node == NULL)
            break;
        order_next(&place);
        page->next = read_place(node->place);
        consider(sessions, page, node, now_ms, bytes);
        full = is_full(page, *bytes);
    }
    page->more = order_at(&place, walk.number) != NULL;
    pthread_mutex_unlock(walk.lock);
    return page->more && !full;
}

void sessions_page(struct sessions *sessions, struct session_page *page)
{
    uint64_t bytes = 0;

    page->entries = arena_array(op_arena(&page->op), page->max_items, sizeof *page->entries);
    page->n = 0;
    page->next = page->after;
    for (int i = 0; i < SESSIONS_PAGE_STRIDES && stride(sessions, page, &bytes); i++)
        ;
}
