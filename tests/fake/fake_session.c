#include "tests/fake/fake_backend.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>

static struct fake_world *world_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct fake_world, base);
}

static void require(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "fake sessions: the caller broke the contract: %s\n", what);
    abort();
}

static void require_id(struct slice id)
{
    require(id.len > 0 && id.len <= SESSION_ID_BYTES, "an identifier's length");
}

static struct slice own(struct slice from)
{
    uint8_t *copy = malloc(from.len + 1);

    if (copy == NULL)
        abort();
    if (from.len > 0)
        memcpy(copy, from.data, from.len);
    return slice_of(copy, from.len);
}

static void disown(struct slice slice)
{
    free((void *)(uintptr_t)slice.data);
}

/* ---- the array ---- */

static void erase(struct fake_sessions *sessions, struct fake_stay *kept)
{
    for (size_t i = 0; i < kept->n; i++) {
        disown(kept->values[i].name);
        disown(kept->values[i].value);
    }
    free(kept->values);
    disown(kept->id);
    disown(kept->owner.user);
    disown(kept->owner.region);
    disown(kept->owner.client);
    disown(kept->owner.attributes);
    sessions->n--;
    memmove(kept, kept + 1, (size_t)(sessions->items + sessions->n - kept) * sizeof *kept);
}

static void forget_expired(struct fake_world *world)
{
    for (size_t i = world->sessions.n; i-- > 0;) {
        if (world->sessions.items[i].times.expires_ms <= fake_registry_now_ms(world))
            erase(&world->sessions, &world->sessions.items[i]);
    }
}

static struct fake_stay *find(struct fake_world *world, struct slice id)
{
    require_id(id);
    forget_expired(world);
    for (size_t i = 0; i < world->sessions.n; i++) {
        if (slice_equal(world->sessions.items[i].id, id))
            return &world->sessions.items[i];
    }
    return NULL;
}

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the fake does not know this session");
}

static struct err too_large(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size", "the fake says: too large");
}

static void use(struct fake_world *world, struct fake_stay *kept, const struct session_use *use)
{
    uint64_t now_ms = fake_registry_now_ms(world);
    uint64_t until_ms =
        session_used_until(use, kept->ttl_ms, kept->end_ms, kept->times.expires_ms, now_ms);

    if (until_ms != kept->times.expires_ms)
        kept->times.used_ms = now_ms;
    kept->times.expires_ms = until_ms;
}

/* ---- values ---- */

static struct session_value *value_of(const struct fake_stay *kept, struct slice name)
{
    for (size_t i = 0; i < kept->n; i++) {
        if (slice_equal(kept->values[i].name, name))
            return &kept->values[i];
    }
    return NULL;
}

static bool take_away(struct fake_stay *kept, struct slice name)
{
    struct session_value *value = value_of(kept, name);

    if (value == NULL)
        return false;
    disown(value->name);
    disown(value->value);
    *value = kept->values[--kept->n];
    return true;
}

static void set(struct fake_stay *kept, const struct session_value *value, uint64_t version)
{
    take_away(kept, value->name);
    kept->values = realloc(kept->values, (kept->n + 1) * sizeof *kept->values);
    if (kept->values == NULL)
        abort();
    kept->values[kept->n++] = (struct session_value){
        .name = own(value->name), .value = own(value->value), .version = version};
}

static uint64_t bytes_of(const struct session_value *values, size_t n)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += session_value_bytes(values[i].name, values[i].value);
    return bytes;
}

/* ---- operations ---- */

static size_t count_of(const struct fake_world *world, struct slice user)
{
    size_t n = 0;

    for (size_t i = 0; i < world->sessions.n; i++)
        n += slice_equal(world->sessions.items[i].owner.user, user);
    return n;
}

static void end_oldest(struct fake_world *world, struct session_create *create)
{
    struct fake_sessions *sessions = &world->sessions;
    size_t i = 0;

    while (!slice_equal(sessions->items[i].owner.user, create->owner.user))
        i++;
    create->ended[create->ended_n++] = arena_copy(op_arena(&create->op), sessions->items[i].id);
    erase(sessions, &sessions->items[i]);
}

static struct err make_room(struct fake_world *world, struct session_create *create)
{
    size_t cap = create->owner.user.len > 0 ? create->max_per_user : 0;

    if (find(world, create->id) != NULL)
        return err_make(ERR_ALREADY_EXISTS, "the fake knows this session");
    if (bytes_of(create->values, create->n) > create->max_bytes)
        return too_large();
    if (cap > 0 && count_of(world, create->owner.user) >= cap && !create->end_oldest)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user", "the fake says: enough");
    while (cap > 0 && count_of(world, create->owner.user) >= cap && create->ended_n < SESSION_ENDED)
        end_oldest(world, create);
    if (create->max_sessions > 0 && world->sessions.n >= create->max_sessions)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions", "the fake is full");
    return ERR_NONE;
}

static struct err apply_create(struct fake_world *world, struct op *op)
{
    struct session_create *create = CONTAINER_OF(op, struct session_create, op);
    struct fake_sessions *sessions = &world->sessions;
    uint64_t now_ms = fake_registry_now_ms(world);
    struct fake_stay *kept;
    struct err err;

    require(create->ttl_ms > 0 && create->ttl_ms <= SESSION_TTL_MAX_MS, "a ttl in its bounds");
    create->ended_n = 0;
    err = make_room(world, create);
    if (err.code != ERR_OK)
        return err;
    sessions->items = realloc(sessions->items, (sessions->n + 1) * sizeof *sessions->items);
    if (sessions->items == NULL)
        abort();
    kept = &sessions->items[sessions->n++];
    *kept = (struct fake_stay){.id = own(create->id),
                               .owner = {.user = own(create->owner.user),
                                         .region = own(create->owner.region),
                                         .client = own(create->owner.client),
                                         .attributes = own(create->owner.attributes)},
                               .times = {now_ms, now_ms, now_ms + create->ttl_ms},
                               .ttl_ms = create->ttl_ms,
                               .version = 1,
                               .place = ++sessions->place};
    if (create->max_life_ms > 0)
        kept->end_ms = now_ms + create->max_life_ms;
    if (kept->end_ms > 0 && kept->times.expires_ms > kept->end_ms)
        kept->times.expires_ms = kept->end_ms;
    for (size_t i = 0; i < create->n; i++)
        set(kept, &create->values[i], 1);
    create->times = kept->times;
    return ERR_NONE;
}

static struct session_owner copy_owner(const struct session_owner *from, struct arena *arena)
{
    return (struct session_owner){.user = arena_copy(arena, from->user),
                                  .region = arena_copy(arena, from->region),
                                  .client = arena_copy(arena, from->client),
                                  .attributes = arena_copy(arena, from->attributes)};
}

static struct err apply_get(struct fake_world *world, struct op *op)
{
    struct session_get *get = CONTAINER_OF(op, struct session_get, op);
    struct fake_stay *kept = find(world, get->id);
    struct arena *arena = op_arena(op);

    if (kept == NULL)
        return absent();
    use(world, kept, &get->use);
    get->owner = copy_owner(&kept->owner, arena);
    get->times = kept->times;
    get->version = kept->version;
    get->values = arena_array(arena, kept->n, sizeof *get->values);
    get->n = 0;
    for (size_t i = 0; i < kept->n; i++) {
        if (get->name.len > 0 && !slice_equal(kept->values[i].name, get->name))
            continue;
        get->values[get->n++] =
            (struct session_value){.name = arena_copy(arena, kept->values[i].name),
                                   .value = arena_copy(arena, kept->values[i].value),
                                   .version = kept->values[i].version};
    }
    return ERR_NONE;
}

static struct err check_patch(const struct fake_stay *kept, struct session_patch *patch)
{
    uint64_t before = bytes_of(kept->values, kept->n);
    uint64_t after = before + bytes_of(patch->set, patch->set_n);
    const struct session_value *value;

    patch->version = kept->version;
    if (patch->condition == SESSION_VALUE_AT) {
        value = value_of(kept, patch->set_n > 0 ? patch->set[0].name : patch->remove[0]);
        patch->version = value != NULL ? value->version : 0;
    }
    if (patch->condition != SESSION_ALWAYS && patch->version != patch->if_version)
        return err_about(ERR_ABORTED, "if_version", "the fake has another version");
    for (size_t i = 0; i < patch->set_n + patch->remove_n; i++) {
        value =
            value_of(kept, i < patch->set_n ? patch->set[i].name : patch->remove[i - patch->set_n]);
        if (value != NULL)
            after -= session_value_bytes(value->name, value->value);
    }
    return after > patch->max_bytes && after > before ? too_large() : ERR_NONE;
}

static struct err apply_patch(struct fake_world *world, struct op *op)
{
    struct session_patch *patch = CONTAINER_OF(op, struct session_patch, op);
    struct fake_stay *kept = find(world, patch->id);
    struct err err = kept != NULL ? check_patch(kept, patch) : absent();

    if (err.code != ERR_OK)
        return err;
    patch->existed = false;
    for (size_t i = 0; i < patch->set_n; i++)
        set(kept, &patch->set[i], kept->version + 1);
    for (size_t i = 0; i < patch->remove_n; i++)
        patch->existed |= take_away(kept, patch->remove[i]);
    kept->version += patch->set_n > 0 || patch->existed;
    use(world, kept, &patch->use);
    patch->version = kept->version;
    patch->expires_ms = kept->times.expires_ms;
    return ERR_NONE;
}

static struct err apply_rotate(struct fake_world *world, struct op *op)
{
    struct session_rotate *rotate = CONTAINER_OF(op, struct session_rotate, op);
    struct fake_stay *kept = find(world, rotate->id);

    if (kept == NULL)
        return absent();
    if (find(world, rotate->new_id) != NULL)
        return err_make(ERR_ALREADY_EXISTS, "the fake knows this session");
    disown(kept->id);
    kept->id = own(rotate->new_id);
    use(world, kept, &rotate->use);
    rotate->expires_ms = kept->times.expires_ms;
    return ERR_NONE;
}

static struct err apply_extend(struct fake_world *world, struct op *op)
{
    struct session_extend *extend = CONTAINER_OF(op, struct session_extend, op);
    struct fake_stay *kept = find(world, extend->id);
    uint64_t until_ms, most_ms = fake_registry_now_ms(world) + extend->max_ttl_ms;

    if (kept == NULL)
        return absent();
    until_ms = extend->add_ms > 0 ? kept->times.expires_ms + extend->add_ms : extend->until_ms;
    if (until_ms > most_ms)
        until_ms = most_ms;
    if (kept->end_ms > 0 && until_ms > kept->end_ms)
        until_ms = kept->end_ms;
    if (until_ms > kept->times.expires_ms)
        kept->times.expires_ms = until_ms;
    extend->expires_ms = kept->times.expires_ms;
    return ERR_NONE;
}

static struct err apply_remove(struct fake_world *world, struct op *op)
{
    struct session_remove *remove = CONTAINER_OF(op, struct session_remove, op);
    struct fake_stay *kept = find(world, remove->id);

    remove->existed = kept != NULL;
    if (kept != NULL)
        erase(&world->sessions, kept);
    return ERR_NONE;
}

static struct err apply_remove_user(struct fake_world *world, struct op *op)
{
    struct session_remove_user *remove = CONTAINER_OF(op, struct session_remove_user, op);

    require(remove->user.len > 0, "a user");
    remove->removed = 0;
    forget_expired(world);
    for (size_t i = world->sessions.n; i-- > 0;) {
        struct fake_stay *kept = &world->sessions.items[i];

        if (!slice_equal(kept->owner.user, remove->user) || slice_equal(kept->id, remove->except))
            continue;
        erase(&world->sessions, kept);
        remove->removed++;
    }
    return ERR_NONE;
}

static bool any_or(struct slice wanted, struct slice text)
{
    return wanted.len == 0 || slice_equal(wanted, text);
}

static struct err apply_page(struct fake_world *world, struct op *op)
{
    struct session_page *page = CONTAINER_OF(op, struct session_page, op);
    struct arena *arena = op_arena(op);
    size_t most = page->max_items;
    bool empty = world->empty_pages > 0;

    require(page->max_items > 0 && page->max_items <= SESSION_PAGE_ITEMS, "a page's size");
    if (world->page_limit > 0 && most > world->page_limit)
        most = world->page_limit;
    if (page->max_bytes == 1)
        most = 1;
    world->empty_pages -= empty;
    page->entries = arena_array(arena, page->max_items, sizeof *page->entries);
    page->n = 0;
    page->next = page->after;
    page->more = empty;
    forget_expired(world);
    for (size_t i = 0; i < world->sessions.n && !page->more; i++) {
        const struct fake_stay *kept = &world->sessions.items[i];

        if (kept->place <= page->after || !any_or(page->user, kept->owner.user) ||
            !any_or(page->region, kept->owner.region) || !any_or(page->client, kept->owner.client))
            continue;
        page->more = page->n == most;
        if (page->more)
            break;
        page->next = kept->place;
        page->entries[page->n++] = (struct session_entry){.id = arena_copy(arena, kept->id),
                                                          .owner = copy_owner(&kept->owner, arena),
                                                          .times = kept->times,
                                                          .version = kept->version};
    }
    return ERR_NONE;
}

#define FAKE_METHOD(name)                                                                          \
    static void method_##name(struct backend *backend, struct session_##name *in)                  \
    {                                                                                              \
        fake_arrive(world_of(backend), &in->op, apply_##name);                                     \
    }

FAKE_METHOD(create)
FAKE_METHOD(get)
FAKE_METHOD(patch)
FAKE_METHOD(rotate)
FAKE_METHOD(extend)
FAKE_METHOD(remove)
FAKE_METHOD(remove_user)
FAKE_METHOD(page)

/* ---- the world ---- */

void fake_sessions_init(struct fake_world *world)
{
    world->sessions.methods = (struct session){.max_bytes = SESSION_MAX_BYTES,
                                               .create = method_create,
                                               .get = method_get,
                                               .patch = method_patch,
                                               .rotate = method_rotate,
                                               .extend = method_extend,
                                               .remove = method_remove,
                                               .remove_user = method_remove_user,
                                               .page = method_page};
}

void fake_sessions_clear(struct fake_world *world)
{
    while (world->sessions.n > 0)
        erase(&world->sessions, &world->sessions.items[world->sessions.n - 1]);
    free(world->sessions.items);
    world->sessions.items = NULL;
}

void fake_session(struct fake_world *world, const char *id, const char *user)
{
    enum { AN_HOUR_MS = 3600000 };
    struct session_create create = {.id = slice_str(id),
                                    .owner = {.user = slice_str(user)},
                                    .ttl_ms = AN_HOUR_MS,
                                    .max_bytes = SESSION_MAX_BYTES};

    require(apply_create(world, &create.op).code == ERR_OK, "a session that is new");
}
