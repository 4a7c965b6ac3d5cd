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
    fprintf(stderr, "fake registry: the caller broke the contract: %s\n", what);
    abort();
}

static void require_value(struct slice value, size_t most, enum document_type type)
{
    require(value.len <= most, "a value above its bound");
    require(value.len == 0 || (document_valid(value) && document_type_of(value) == type),
            "a value that is not encoded");
}

static void require_identity(struct slice identity)
{
    require(identity.len > 0 && identity.len <= REGISTRY_IDENTITY_BYTES, "an identity's length");
}

uint64_t fake_registry_now_ms(const struct fake_world *world)
{
    return FAKE_UNIX_MS * 1000ull + world->now_ms;
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

static void disown(struct slice *slice)
{
    free((void *)(uintptr_t)slice->data);
    *slice = slice_of(NULL, 0);
}

/* ---- the array ---- */

/* The first that is not before the name; `behind`: that is behind it. */
static size_t seek(const struct fake_registry *registry, struct slice name, bool behind)
{
    size_t at = 0;

    while (at < registry->n) {
        int order = slice_compare(registry->items[at].entry.identity, name);

        if (order > 0 || (order == 0 && !behind))
            break;
        at++;
    }
    return at;
}

static bool lives(const struct fake_world *world, const struct fake_identity *item)
{
    return item->entry.expires_at_ms == 0 ||
           item->entry.expires_at_ms > fake_registry_now_ms(world);
}

static void erase(struct fake_registry *registry, size_t at)
{
    struct fake_identity *item = &registry->items[at];

    disown(&item->entry.identity);
    disown(&item->entry.document);
    disown(&item->entry.tags);
    registry->n--;
    memmove(item, item + 1, (registry->n - at) * sizeof *item);
}

static void forget_expired(struct fake_world *world)
{
    for (size_t i = world->registry.n; i-- > 0;) {
        if (!lives(world, &world->registry.items[i]))
            erase(&world->registry, i);
    }
}

static struct fake_identity *find(const struct fake_world *world, struct slice name)
{
    size_t at = seek(&world->registry, name, false);
    struct fake_identity *item;

    if (at == world->registry.n)
        return NULL; /* of none there is no array */
    item = &world->registry.items[at];
    return slice_equal(item->entry.identity, name) && lives(world, item) ? item : NULL;
}

static struct fake_identity *insert(struct fake_world *world, struct slice name)
{
    struct fake_registry *registry = &world->registry;
    size_t at = seek(registry, name, false);

    if (registry->n == registry->room) {
        registry->room = registry->room == 0 ? 16 : 2 * registry->room;
        registry->items = realloc(registry->items, registry->room * sizeof *registry->items);
        if (registry->items == NULL)
            abort();
    }
    memmove(&registry->items[at + 1], &registry->items[at],
            (registry->n - at) * sizeof *registry->items);
    registry->n++;
    registry->items[at] = (struct fake_identity){
        .entry = {.identity = own(name), .registered_at_ms = fake_registry_now_ms(world)}};
    return &registry->items[at];
}

static void set_life(struct fake_world *world, struct fake_identity *item, uint64_t ttl_ms)
{
    item->entry.expires_at_ms = ttl_ms > 0 ? fake_registry_now_ms(world) + ttl_ms : 0;
}

static bool poisoned(const struct fake_world *world, struct slice identity)
{
    return world->poison.len > 0 && slice_equal(world->poison, identity);
}

static struct err other_generation(void)
{
    return err_about(ERR_FAILED_PRECONDITION, "if_generation", "the fake has another generation");
}

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the fake does not know this identity");
}

/* ---- operations ---- */

static struct err put_err(const struct fake_world *world, const struct registry_put_item *item,
                          const struct fake_identity *old, uint64_t max_identities)
{
    if (poisoned(world, item->identity))
        return world->fail_with;
    if (item->if_generation != 0 && (old == NULL || old->entry.generation != item->if_generation))
        return other_generation();
    if (old != NULL && !item->replace)
        return err_make(ERR_ALREADY_EXISTS, "the fake knows this identity");
    if (old == NULL && max_identities > 0 && world->registry.n >= max_identities)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_identities", "the fake is full");
    return ERR_NONE;
}

static void put_item(struct fake_world *world, struct registry_put_item *item,
                     uint64_t max_identities)
{
    struct fake_identity *it;

    require_identity(item->identity);
    require_value(item->document, REGISTRY_DOCUMENT_BYTES, DOCUMENT_STRUCT);
    require_value(item->tags, REGISTRY_TAGS_BYTES, DOCUMENT_LIST);
    require(item->if_generation == 0 || item->replace, "if_generation without replace");
    forget_expired(world);
    it = find(world, item->identity);
    world->items_sent++;
    item->replaced = it != NULL;
    item->err = put_err(world, item, it, max_identities);
    if (item->err.code != ERR_OK)
        return;
    if (it == NULL)
        it = insert(world, item->identity);
    disown(&it->entry.document);
    disown(&it->entry.tags);
    it->entry.document = own(item->document.len > 0 ? item->document : document_empty());
    it->entry.tags = own(item->tags.len > 0 ? item->tags : slice_of(&(uint8_t){DOCUMENT_LIST}, 1));
    it->entry.generation = item->generation = ++world->registry.generation;
    it->ttl_ms = item->ttl_ms;
    set_life(world, it, item->ttl_ms);
    item->registered_at_ms = it->entry.registered_at_ms;
    item->expires_at_ms = it->entry.expires_at_ms;
}

static struct err apply_put(struct fake_world *world, struct op *op)
{
    struct registry_put *put = CONTAINER_OF(op, struct registry_put, op);

    require(put->n > 0 && put->n <= REGISTRY_BATCH, "a batch of a size outside its bounds");
    for (size_t i = 0; i < put->n; i++)
        put_item(world, &put->items[i], put->max_identities);
    return ERR_NONE;
}

static struct err patch_document(struct fake_identity *item, struct registry_patch *patch)
{
    struct slice document = patch->document;
    struct err err = ERR_NONE;

    if (patch->mode == REGISTRY_MERGE)
        err = document_merge(op_arena(&patch->op), item->entry.document, patch->document,
                             REGISTRY_DOCUMENT_BYTES, &document);
    if (err.code != ERR_OK) {
        err.subject = "metadata";
        return err;
    }
    document = own(document);
    disown(&item->entry.document);
    item->entry.document = document;
    return ERR_NONE;
}

static struct err apply_patch(struct fake_world *world, struct op *op)
{
    struct registry_patch *patch = CONTAINER_OF(op, struct registry_patch, op);
    struct fake_identity *item = find(world, patch->identity);
    struct err err = ERR_NONE;

    require_identity(patch->identity);
    if (patch->mode != REGISTRY_KEEP) {
        require(patch->document.len > 0, "a patch without a document");
        require_value(patch->document, REGISTRY_DOCUMENT_BYTES, DOCUMENT_STRUCT);
    }
    if (item == NULL)
        return absent();
    if (patch->if_generation != 0 && patch->if_generation != item->entry.generation)
        return other_generation();
    if (patch->mode != REGISTRY_KEEP)
        err = patch_document(item, patch);
    if (err.code != ERR_OK)
        return err;
    if (patch->set_ttl) {
        item->ttl_ms = patch->ttl_ms;
        set_life(world, item, patch->ttl_ms);
    }
    patch->generation = item->entry.generation;
    patch->expires_at_ms = item->entry.expires_at_ms;
    return ERR_NONE;
}

static struct err apply_beat(struct fake_world *world, struct op *op)
{
    struct registry_beat *beat = CONTAINER_OF(op, struct registry_beat, op);

    require(beat->n > 0 && beat->n <= REGISTRY_BATCH, "a batch of a size outside its bounds");
    for (size_t i = 0; i < beat->n; i++) {
        struct registry_beat_item *it = &beat->items[i];
        struct fake_identity *item = find(world, it->identity);

        require_identity(it->identity);
        it->err = ERR_NONE;
        if (item == NULL) {
            it->err = absent();
        } else if (it->if_generation != 0 && it->if_generation != item->entry.generation) {
            it->err = other_generation();
        } else {
            set_life(world, item, beat->ttl_ms > 0 ? beat->ttl_ms : item->ttl_ms);
            it->expires_at_ms = item->entry.expires_at_ms;
        }
    }
    return ERR_NONE;
}

static struct err apply_remove(struct fake_world *world, struct op *op)
{
    struct registry_remove *remove = CONTAINER_OF(op, struct registry_remove, op);

    require(remove->n > 0 && remove->n <= REGISTRY_BATCH, "a batch of a size outside its bounds");
    for (size_t i = 0; i < remove->n; i++) {
        struct registry_remove_item *it = &remove->items[i];
        struct fake_identity *item = find(world, it->identity);

        require_identity(it->identity);
        it->existed = item != NULL;
        it->err = ERR_NONE;
        if (item != NULL && it->if_generation != 0 && it->if_generation != item->entry.generation)
            it->err = other_generation();
        else if (item != NULL)
            erase(&world->registry, (size_t)(item - world->registry.items));
    }
    return ERR_NONE;
}

static size_t copy_entry(const struct registry_entry *from, bool with_documents,
                         struct arena *arena, struct registry_entry *entry)
{
    *entry = *from;
    entry->identity = arena_copy(arena, from->identity);
    entry->document = with_documents ? arena_copy(arena, from->document) : slice_of(NULL, 0);
    entry->tags = with_documents ? arena_copy(arena, from->tags) : slice_of(NULL, 0);
    return entry->identity.len + entry->document.len + entry->tags.len;
}

static struct err apply_get(struct fake_world *world, struct op *op)
{
    struct registry_get *get = CONTAINER_OF(op, struct registry_get, op);
    uint64_t bytes = 0;

    require(get->n > 0 && get->n <= REGISTRY_BATCH, "a batch of a size outside its bounds");
    get->entries = arena_array(op_arena(op), get->n, sizeof *get->entries);
    for (get->looked_up = 0; get->looked_up < get->n; get->looked_up++) {
        const struct fake_identity *item = find(world, get->identities[get->looked_up]);

        if (get->max_bytes > 0 && bytes >= get->max_bytes)
            break;
        if (item != NULL)
            bytes += copy_entry(&item->entry, get->with_documents, op_arena(op),
                                &get->entries[get->looked_up]);
    }
    return ERR_NONE;
}

static bool holds(const struct fake_world *world, const struct filter *filter,
                  const struct fake_identity *item)
{
    struct filter_subject subject = {item->entry.identity, item->entry.document, item->entry.tags};

    return lives(world, item) && (filter == NULL || filter_match(filter, &subject));
}

static struct err apply_page(struct fake_world *world, struct op *op)
{
    struct registry_page *page = CONTAINER_OF(op, struct registry_page, op);
    size_t most = page->max_items, at = seek(&world->registry, page->after, page->after.len > 0);
    uint64_t bytes = 0;

    require(most > 0 && most <= REGISTRY_PAGE_ITEMS, "a page of a size outside its bounds");
    if (world->page_limit > 0 && world->page_limit < most)
        most = world->page_limit;
    if (world->empty_pages > 0) {
        world->empty_pages--;
        most = 0;
    }
    world->registry.pages++;
    world->registry.whole_pages += page->with_documents;
    page->entries = arena_array(op_arena(op), most + 1, sizeof *page->entries);
    page->n = 0;
    page->examined = 0;
    page->next = page->after;
    for (; at < world->registry.n && page->n < most; at++) {
        const struct fake_identity *item = &world->registry.items[at];

        if (page->max_bytes > 0 && bytes >= page->max_bytes)
            break;
        page->examined++;
        page->next = arena_copy(op_arena(op), item->entry.identity);
        if (holds(world, page->filter, item))
            bytes += copy_entry(&item->entry, page->with_documents, op_arena(op),
                                &page->entries[page->n++]);
    }
    page->more = at < world->registry.n;
    return ERR_NONE;
}

static struct err apply_count(struct fake_world *world, struct op *op)
{
    struct registry_count *count = CONTAINER_OF(op, struct registry_count, op);

    count->count = 0;
    for (size_t i = 0; i < world->registry.n; i++) {
        count->count += holds(world, count->filter, &world->registry.items[i]);
        if (count->enough > 0 && count->count >= count->enough)
            break;
    }
    return ERR_NONE;
}

#define FAKE_METHOD(name)                                                                          \
    static void method_##name(struct backend *backend, struct registry_##name *in)                 \
    {                                                                                              \
        fake_arrive(world_of(backend), &in->op, apply_##name);                                     \
    }

FAKE_METHOD(put)
FAKE_METHOD(patch)
FAKE_METHOD(beat)
FAKE_METHOD(remove)
FAKE_METHOD(get)
FAKE_METHOD(page)
FAKE_METHOD(count)

/* ---- the world ---- */

void fake_registry_init(struct fake_world *world)
{
    world->registry.methods = (struct registry){.calls = "1",
                                                .page_calls = "1",
                                                .put = method_put,
                                                .patch = method_patch,
                                                .beat = method_beat,
                                                .remove = method_remove,
                                                .get = method_get,
                                                .page = method_page,
                                                .count = method_count};
}

void fake_registry_clear(struct fake_world *world)
{
    while (world->registry.n > 0)
        erase(&world->registry, world->registry.n - 1);
    free(world->registry.items);
    world->registry.items = NULL;
    world->registry.room = 0;
}

void fake_register(struct fake_world *world, const char *identity, const char *json,
                   uint64_t ttl_ms)
{
    struct registry_put_item item = {
        .identity = slice_str(identity), .ttl_ms = ttl_ms, .replace = true};
    struct arena arena;

    arena_init(&arena, NULL);
    if (json != NULL)
        require(document_from_json(&arena, slice_str(json), REGISTRY_DOCUMENT_BYTES, &item.document)
                        .code == ERR_OK,
                "fake_register takes JSON");
    put_item(world, &item, 0);
    arena_clear(&arena);
}

const struct registry_entry *fake_registered(const struct fake_world *world, const char *identity)
{
    const struct fake_identity *item = find(world, slice_str(identity));

    return item != NULL ? &item->entry : NULL;
}
