/* What each operation does to the table. */
#include "tests/fake/fake_backend.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_world *world_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct fake_world, base);
}

/* What the interfaces say that the caller has checked. */
static void require(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "fake backend: the caller broke the contract: %s\n", what);
    abort();
}

static void require_key(const struct fake_world *world, struct slice key)
{
    uint64_t most = world->base.limits.key_bytes;

    require(key.len > 0, "an empty key");
    require(most == 0 || key.len <= most, "a key above the limit");
}

static void require_write(const struct fake_world *world, struct slice key, struct slice value,
                          uint64_t ttl_ms)
{
    uint64_t most = world->base.limits.value_bytes;

    require_key(world, key);
    require(most == 0 || value.len <= most, "a value above the limit");
    require(ttl_ms == 0 || world->type.interfaces.kv_ttl != NULL, "an expiry without kv_ttl");
}

static void require_many(const struct fake_world *world, size_t n, bool atomic)
{
    const struct backend_interfaces *has = &world->type.interfaces;
    const struct kv_batch *many = has->kv_batch != NULL ? has->kv_batch : has->kv_basic->window;

    require(n > 0 && n <= (atomic ? has->kv_txn->max_items : many->max_items),
            "a batch of a size outside its bounds");
}

static struct err full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_keys", "the fake holds no more keys");
}

static bool poisoned(const struct fake_world *world, struct slice key)
{
    return world->poison.len > 0 && slice_equal(world->poison, key);
}

static struct err put_item(struct fake_world *world, struct slice key, struct slice value,
                           uint64_t ttl_ms)
{
    require_write(world, key, value, ttl_ms);
    world->items_sent++;
    if (poisoned(world, key))
        return world->fail_with;
    if (fake_table_full_for(world, key))
        return full();
    fake_table_set(world, key, value, ttl_ms);
    return ERR_NONE;
}

/* ---- kv_basic ---- */

static struct err apply_put_op(struct fake_world *world, struct op *op)
{
    struct kv_put *put = CONTAINER_OF(op, struct kv_put, op);

    return put_item(world, put->key, put->value, put->ttl_ms);
}

static struct slice version_of(const struct fake_entry *entry, struct arena *arena)
{
    return slice_str(arena_printf(arena, "v%llu", (unsigned long long)entry->version));
}

static struct err apply_get(struct fake_world *world, struct op *op)
{
    struct kv_get *get = CONTAINER_OF(op, struct kv_get, op);
    const struct fake_entry *entry = fake_find(world, get->key);

    require_key(world, get->key);
    require(!get->want_version || world->type.interfaces.kv_cas != NULL,
            "a version without kv_cas");
    world->items_sent++;
    if (poisoned(world, get->key))
        return world->fail_with;
    get->found = entry != NULL;
    if (entry == NULL)
        return ERR_NONE;
    get->value = kv_room_copy(get->room, op_arena(op), entry->value);
    if (get->want_version && get->value.data != NULL)
        get->version = version_of(entry, op_arena(op));
    return ERR_NONE;
}

static struct err apply_del(struct fake_world *world, struct op *op)
{
    struct kv_del *del = CONTAINER_OF(op, struct kv_del, op);

    require_key(world, del->key);
    world->items_sent++;
    if (poisoned(world, del->key))
        return world->fail_with;
    del->existed = fake_table_remove(world, del->key);
    return ERR_NONE;
}

static struct err apply_exists(struct fake_world *world, struct op *op)
{
    struct kv_exists *exists = CONTAINER_OF(op, struct kv_exists, op);

    exists->found = fake_find(world, exists->key) != NULL;
    return ERR_NONE;
}

/* ---- kv_ttl ---- */

static struct fake_entry *entry_of(struct fake_world *world, struct slice key)
{
    return (struct fake_entry *)(uintptr_t)fake_find(world, key);
}

static struct err apply_expire(struct fake_world *world, struct op *op)
{
    struct kv_expire *expire = CONTAINER_OF(op, struct kv_expire, op);
    struct fake_entry *entry = entry_of(world, expire->key);

    require_key(world, expire->key);
    require(expire->ttl_ms > 0, "an expiry of nothing");
    expire->existed = entry != NULL;
    if (entry != NULL)
        entry->expires_ms = world->now_ms + expire->ttl_ms;
    return ERR_NONE;
}

static struct err apply_ttl_get(struct fake_world *world, struct op *op)
{
    struct kv_ttl_get *get = CONTAINER_OF(op, struct kv_ttl_get, op);
    const struct fake_entry *entry = fake_find(world, get->key);

    get->found = entry != NULL;
    get->has_ttl = entry != NULL && entry->expires_ms != 0;
    get->ttl_ms = get->has_ttl ? entry->expires_ms - world->now_ms : 0;
    return ERR_NONE;
}

static struct err apply_persist(struct fake_world *world, struct op *op)
{
    struct kv_persist *persist = CONTAINER_OF(op, struct kv_persist, op);
    struct fake_entry *entry = entry_of(world, persist->key);

    persist->removed = entry != NULL && entry->expires_ms != 0;
    if (entry != NULL)
        entry->expires_ms = 0;
    return ERR_NONE;
}

/* ---- kv_batch, kv_txn ---- */

static struct err apply_put_many(struct fake_world *world, struct op *op)
{
    struct kv_put_many *many = CONTAINER_OF(op, struct kv_put_many, op);

    require_many(world, many->n, false);
    for (size_t i = 0; i < many->n; i++) {
        struct kv_put_item *item = &many->items[i];

        item->base.err = put_item(world, item->base.key, item->value, item->ttl_ms);
    }
    return ERR_NONE;
}

static struct err apply_get_many(struct fake_world *world, struct op *op)
{
    struct kv_get_many *many = CONTAINER_OF(op, struct kv_get_many, op);

    require_many(world, many->n, false);
    for (size_t i = 0; i < many->n; i++) {
        struct kv_get_item *item = &many->items[i];
        const struct fake_entry *entry = fake_find(world, item->base.key);

        world->items_sent++;
        item->base.err = poisoned(world, item->base.key) ? world->fail_with : ERR_NONE;
        item->found = item->base.err.code == ERR_OK && entry != NULL;
        if (item->found)
            item->value = kv_room_copy(many->room, op_arena(op), entry->value);
    }
    return ERR_NONE;
}

static void remove_items(struct fake_world *world, struct kv_del_many *many)
{
    for (size_t i = 0; i < many->n; i++) {
        struct kv_del_item *item = &many->items[i];

        require_key(world, item->base.key);
        world->items_sent++;
        item->base.err = poisoned(world, item->base.key) ? world->fail_with : ERR_NONE;
        item->existed = item->base.err.code == ERR_OK && fake_table_remove(world, item->base.key);
    }
}

static struct err apply_del_many(struct fake_world *world, struct op *op)
{
    struct kv_del_many *many = CONTAINER_OF(op, struct kv_del_many, op);

    require_many(world, many->n, false);
    remove_items(world, many);
    return ERR_NONE;
}

static struct err apply_put_all(struct fake_world *world, struct op *op)
{
    struct kv_put_many *many = CONTAINER_OF(op, struct kv_put_many, op);

    require_many(world, many->n, true);
    for (size_t i = 0; i < many->n; i++) {
        require_write(world, many->items[i].base.key, many->items[i].value, many->items[i].ttl_ms);
        if (poisoned(world, many->items[i].base.key))
            return world->fail_with;
    }
    for (size_t i = 0; i < many->n; i++)
        fake_table_set(world, many->items[i].base.key, many->items[i].value, many->items[i].ttl_ms);
    return ERR_NONE;
}

static struct err apply_del_all(struct fake_world *world, struct op *op)
{
    struct kv_del_many *many = CONTAINER_OF(op, struct kv_del_many, op);

    require_many(world, many->n, true);
    for (size_t i = 0; i < many->n; i++) {
        if (poisoned(world, many->items[i].base.key))
            return world->fail_with;
    }
    remove_items(world, many);
    return ERR_NONE;
}

/* ---- kv_scan: the cursor is "after:" and the last key in hex ---- */

static const char cursor_head[] = "after:";

static struct slice cursor_after(struct slice key, struct arena *arena)
{
    enum { HEAD = sizeof cursor_head - 1 };
    char *text = arena_alloc(arena, HEAD + 2 * key.len + 1);

    memcpy(text, cursor_head, HEAD);
    for (size_t i = 0; i < key.len; i++)
        snprintf(text + HEAD + 2 * i, 3, "%02x", key.data[i]);
    return slice_of(text, HEAD + 2 * key.len);
}

static int hex(uint8_t c)
{
    const char *digits = "0123456789abcdef", *at = c != 0 ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

static bool cursor_key(struct slice cursor, struct arena *arena, struct slice *key)
{
    if (!slice_starts_with(cursor, slice_str(cursor_head)))
        return false;
    cursor = slice_of(cursor.data + strlen(cursor_head), cursor.len - strlen(cursor_head));

    uint8_t *bytes = arena_alloc(arena, cursor.len / 2);

    for (size_t i = 0; i < cursor.len; i += 2) {
        int high = hex(cursor.data[i]), low = i + 1 < cursor.len ? hex(cursor.data[i + 1]) : -1;

        if (high < 0 || low < 0)
            return false;
        bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    *key = slice_of(bytes, cursor.len / 2);
    return true;
}

static size_t first_after(const struct fake_world *world, struct slice after)
{
    size_t at = fake_table_seek(world, after);

    return at < world->n && slice_equal(world->entries[at].key, after) ? at + 1 : at;
}

static size_t next_match(const struct fake_world *world, size_t at, struct slice prefix)
{
    while (at < world->n && (!fake_table_alive(world, &world->entries[at]) ||
                             !slice_starts_with(world->entries[at].key, prefix)))
        at++;
    return at;
}

static void fill_page(struct fake_world *world, struct kv_scan_page *page, size_t at)
{
    struct arena *arena = op_arena(&page->op);
    size_t most = page->max_items;
    uint64_t bytes = 0;

    if (world->page_limit != 0 && world->page_limit < most)
        most = world->page_limit;
    page->items = arena_array(arena, most, sizeof *page->items);
    while (page->n < most && at < world->n && bytes <= page->max_bytes) {
        const struct fake_entry *entry = &world->entries[at];
        struct kv_scan_item *item = &page->items[page->n++];

        item->key = arena_copy(arena, entry->key);
        if (page->with_values)
            item->value = arena_copy(arena, entry->value);
        bytes += item->key.len + item->value.len;
        at = next_match(world, at + 1, page->prefix);
    }
    page->more = at < world->n;
    if (page->more)
        page->next_cursor = cursor_after(page->items[page->n - 1].key, arena);
}

static struct err apply_page(struct fake_world *world, struct op *op)
{
    struct kv_scan_page *page = CONTAINER_OF(op, struct kv_scan_page, op);
    struct slice after = {0};
    size_t at = 0;

    require(page->max_items > 0, "a page of no items");
    if (page->cursor.len > 0) {
        if (!cursor_key(page->cursor, op_arena(op), &after))
            return err_about(ERR_INVALID_ARGUMENT, "cursor", "this cursor is not one of ours");
        at = first_after(world, after);
    }
    page->n = 0;
    if (world->empty_pages > 0) {
        world->empty_pages--;
        page->more = true;
        page->next_cursor = cursor_after(after, op_arena(op));
        return ERR_NONE;
    }
    fill_page(world, page, next_match(world, at, page->prefix));
    return ERR_NONE;
}

static struct err apply_count(struct fake_world *world, struct op *op)
{
    struct kv_count *count = CONTAINER_OF(op, struct kv_count, op);
    size_t at = next_match(world, 0, count->prefix);

    for (count->count = 0; at < world->n; count->count++)
        at = next_match(world, at + 1, count->prefix);
    return ERR_NONE;
}

/* ---- kv_cas ---- */

static struct err apply_put_if(struct fake_world *world, struct op *op)
{
    struct kv_put_if *put = CONTAINER_OF(op, struct kv_put_if, op);
    const struct fake_entry *found = fake_find(world, put->key);

    require_write(world, put->key, put->value, put->ttl_ms);
    world->items_sent++;
    if (poisoned(world, put->key))
        return world->fail_with;
    put->stored = put->condition == KV_IF_ABSENT
                      ? found == NULL
                      : found != NULL && slice_equal(version_of(found, op_arena(op)), put->version);
    if (put->stored)
        put->current_version =
            version_of(fake_table_set(world, put->key, put->value, put->ttl_ms), op_arena(op));
    return ERR_NONE;
}

/* ---- methods ---- */

#define FAKE_METHOD(name, request)                                                                 \
    static void fake_##name(struct backend *backend, struct request *in)                           \
    {                                                                                              \
        fake_arrive(world_of(backend), &in->op, apply_##name);                                     \
    }

FAKE_METHOD(put_op, kv_put)
FAKE_METHOD(get, kv_get)
FAKE_METHOD(del, kv_del)
FAKE_METHOD(exists, kv_exists)
FAKE_METHOD(expire, kv_expire)
FAKE_METHOD(ttl_get, kv_ttl_get)
FAKE_METHOD(persist, kv_persist)
FAKE_METHOD(put_many, kv_put_many)
FAKE_METHOD(get_many, kv_get_many)
FAKE_METHOD(del_many, kv_del_many)
FAKE_METHOD(put_all, kv_put_many)
FAKE_METHOD(del_all, kv_del_many)
FAKE_METHOD(page, kv_scan_page)
FAKE_METHOD(count, kv_count)
FAKE_METHOD(put_if, kv_put_if)

const struct kv_basic fake_basic_without_window = {
    .put = fake_put_op, .get = fake_get, .del = fake_del, .exists = fake_exists};
static const struct kv_batch window = {64, "n", fake_put_many, fake_get_many, fake_del_many};
static const struct kv_basic basic = {
    .put = fake_put_op, .get = fake_get, .del = fake_del, .exists = fake_exists, .window = &window};
static const struct kv_ttl ttl = {1, fake_expire, fake_ttl_get, fake_persist};
static const struct kv_batch batch = {8, "ceil(n/8)", fake_put_many, fake_get_many, fake_del_many};
static const struct kv_txn txn = {20, fake_put_all, fake_del_all};
static const struct kv_scan scan = {false, true, true, 1000, "1", fake_page, fake_count};
static const struct kv_cas cas = {"a counter of writes", fake_put_if};

const struct backend_interfaces fake_interfaces = {
    .kv_basic = &basic,
    .kv_ttl = &ttl,
    .kv_scan = &scan,
    .kv_batch = &batch,
    .kv_txn = &txn,
    .kv_cas = &cas,
};
