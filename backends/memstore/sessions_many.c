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
static struct order_place user_start(const struct sessions *sessions, uint64_t hash)
{
    return order_seek(&sessions->users, hash, slice_of(start_place, SESSIONS_PLACE_BYTES), false);
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

/* What is there of the user already. */
struct survey {
    struct session_node *dead[SESSIONS_STRIDE], *oldest[SESSION_ENDED];
    size_t dead_n;
    uint64_t living;
};

/* Up to so many living ones as matter. False: too many dead ones are in the way. */
static bool survey_user(const struct sessions *sessions, const struct session_create *create,
                        uint64_t now_ms, struct survey *survey)
{
    struct slice user = create->owner.user;
    uint64_t hash = sessions_hash(sessions, user);
    uint64_t enough = (uint64_t)create->max_per_user + SESSION_ENDED;
    struct order_place place = user_start(sessions, hash);
    struct session_node *node;

    survey->dead_n = 0;
    survey->living = 0;
    while (survey->living < enough && (node = user_next(&place, hash, user)) != NULL) {
        if (!node_lives(node, now_ms)) {
            if (survey->dead_n == SESSIONS_STRIDE)
                return false;
            survey->dead[survey->dead_n++] = node;
            continue;
        }
        if (survey->living < SESSION_ENDED)
            survey->oldest[survey->living] = node;
        survey->living++;
    }
    return true;
}

static void bury(struct sessions *sessions, const struct survey *survey)
{
    for (size_t i = 0; i < survey->dead_n; i++)
        sessions_drop(sessions, survey->dead[i]);
    counter_add(&sessions->expired, survey->dead_n);
}

/* How many of the user's have to end. */
static struct err check_limits(const struct sessions *sessions, const struct session_create *create,
                               uint64_t living, size_t *ends)
{
    *ends = 0;
    if (create->max_per_user > 0 && living >= create->max_per_user) {
        if (!create->end_oldest)
            return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user",
                             "the user has as many sessions as a user may have");
        *ends = living - create->max_per_user + 1;
        if (*ends > SESSION_ENDED)
            *ends = SESSION_ENDED;
    }
    if (create->max_sessions > 0 && sessions->all.entries - *ends >= create->max_sessions)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions",
                         "the namespace holds as many sessions as it may");
    return ERR_NONE;
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

static struct session_node *node_new(const struct session_create *create, uint64_t place,
                                     uint64_t now_ms)
{
    const struct session_owner *owner = &create->owner;
    struct session_node *node = malloc(sizeof *node + owner->user.len + owner->region.len +
                                       owner->client.len + owner->attributes.len);

    if (node == NULL)
        abort();
    *node = (struct session_node){.created_ms = now_ms,
                                  .used_ms = now_ms,
                                  .expires_ms = now_ms + create->ttl_ms,
                                  .ttl_ms = create->ttl_ms,
                                  .version = 1,
                                  .user_len = (uint32_t)owner->user.len,
                                  .region_len = (uint32_t)owner->region.len,
                                  .client_len = (uint32_t)owner->client.len,
                                  .attributes_len = (uint32_t)owner->attributes.len,
                                  .id_len = (uint8_t)create->id.len};
    if (create->max_life_ms > 0)
        node->end_ms = now_ms + create->max_life_ms;
    if (node->end_ms > 0 && node->expires_ms > node->end_ms)
        node->expires_ms = node->end_ms;
    write_place(node->place, place);
    memcpy(node->id, create->id.data, create->id.len);
    append(append(append(append(node->text, owner->user), owner->region), owner->client),
           owner->attributes);
    for (size_t i = 0; i < create->n; i++)
        item_set(node, &create->values[i], node->version);
    return node;
}

static struct err create_now(struct sessions *sessions, struct session_create *create,
                             const struct survey *survey, uint64_t now_ms)
{
    struct order_place place = order_seek(&sessions->ids, 0, create->id, false);
    const struct session_node *other = order_at(&place, 0);
    enum capacity capacity;
    struct session_node *node;
    struct err err;
    size_t ends;

    if (other != NULL && slice_equal(node_id(other), create->id))
        return err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
    if (values_bytes(create) > create->max_bytes)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                         "the session would be larger than max_session_size");
    err = check_limits(sessions, create, survey->living, &ends);
    if (err.code != ERR_OK)
        return err;
    capacity = capacity_take(sessions->store, 1, create_cost(create));
    if (capacity != CAPACITY_OK)
        return capacity_error(sessions->store, capacity);
    for (create->ended_n = 0; create->ended_n < ends; create->ended_n++) {
        struct session_node *oldest = survey->oldest[create->ended_n];

        create->ended[create->ended_n] = arena_copy(op_arena(&create->op), node_id(oldest));
        sessions_drop(sessions, oldest);
    }
    node = node_new(create, ++sessions->place, now_ms);
    sessions_enter(sessions, node);
    create->times = node_times(node);
    return ERR_NONE;
}

bool sessions_create(struct sessions *sessions, struct session_create *create, struct err *err)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct survey survey = {.dead_n = 0};
    bool ready = create->owner.user.len == 0 || create->max_per_user == 0 ||
                 survey_user(sessions, create, now_ms, &survey);

    bury(sessions, &survey);
    if (ready && create->max_sessions > 0 && sessions->all.entries >= create->max_sessions)
        ready = !sessions_reap_locked(sessions, now_ms, SESSIONS_STRIDE);
    if (ready)
        *err = create_now(sessions, create, &survey, now_ms);
    pthread_mutex_unlock(&sessions->lock);
    return !ready;
}

/* ---- all of a user ---- */

bool sessions_remove_user(struct sessions *sessions, struct session_remove_user *remove)
{
    uint64_t now_ms = sessions_lock(sessions), hash = sessions_hash(sessions, remove->user);
    struct order_place place = user_start(sessions, hash);
    struct session_node *nodes[SESSIONS_STRIDE], *node;
    size_t n = 0;

    while (n < SESSIONS_STRIDE && (node = user_next(&place, hash, remove->user)) != NULL) {
        if (!slice_equal(node_id(node), remove->except))
            nodes[n++] = node;
    }
    for (size_t i = 0; i < n; i++) {
        remove->removed += node_lives(nodes[i], now_ms);
        sessions_drop(sessions, nodes[i]);
    }
    pthread_mutex_unlock(&sessions->lock);
    return n == SESSIONS_STRIDE;
}

/* ---- pages ---- */

struct walk {
    const struct order *order;
    uint64_t number;
};

static struct walk walk_of(const struct sessions *sessions, const struct session_page *page)
{
    if (page->user.len > 0)
        return (struct walk){&sessions->users, sessions_hash(sessions, page->user)};
    if (page->region.len > 0)
        return (struct walk){&sessions->regions, sessions_hash(sessions, page->region)};
    return (struct walk){&sessions->all, 0};
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

/* True: there is more, and room for it. */
static bool stride(struct sessions *sessions, struct session_page *page, uint64_t *bytes)
{
    uint64_t now_ms = sessions_lock(sessions);
    struct walk walk = walk_of(sessions, page);
    uint8_t after[SESSIONS_PLACE_BYTES];
    struct session_node *node;
    struct order_place place;
    bool full = false;

    write_place(after, page->next);
    place = order_seek(walk.order, walk.number, slice_of(after, sizeof after), true);
    for (int i = 0; i < SESSIONS_STRIDE && !full; i++) {
        node = order_at(&place, walk.number);
        if (node == NULL)
            break;
        order_next(&place);
        page->next = read_place(node->place);
        if (node_lives(node, now_ms) && meets(page, node))
            add_entry(page, node, bytes);
        full = is_full(page, *bytes);
    }
    page->more = order_at(&place, walk.number) != NULL;
    pthread_mutex_unlock(&sessions->lock);
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
