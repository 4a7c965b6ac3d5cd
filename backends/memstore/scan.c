/* Pages and counts. A scan goes through the shards in order, each in the order of its tags, keys
 * with the same tag in the order of their bytes. No key ever changes its place in that order, so a
 * position between two keys stays right whatever is written, removed or resized meanwhile, and each
 * key that stays is met exactly once.
 *
 * A lock is held for a bounded stretch of the table, and a page ends after a bounded number of
 * entries, also when none of them has the prefix. */
#include "backends/memstore/store.h"

enum {
    STRETCH_ENTRIES = 1024,    /* looked at under one hold of a lock */
    STRETCH_BYTES = 256 << 10, /* copied under one hold of a lock, and one item more */
    PAGE_ENTRIES = 4096,       /* looked at for one page: a millisecond if all miss the cache */
    FIRST_ITEMS = 64,
    AHEAD = 8, /* entries fetched into the cache before they are looked at */
};

struct filling {
    struct kv_scan_page *page;
    struct arena *arena;
    struct memstore_position position;
    size_t room;              /* of page->items */
    uint64_t bytes;           /* of keys and values in the page */
    size_t looked, stretched; /* entries looked at; bytes copied in this stretch */
    bool full;
};

/* The keys with one tag: buckets [from, to) of a locked shard. */
struct group {
    const struct index *index;
    size_t from, to;
    uint64_t now_ns;
};

static struct group group_at(const struct index *index, size_t at, uint64_t now_ns)
{
    struct group group = {.index = index, .from = at, .to = at + 1, .now_ns = now_ns};

    while (index_tag(index, group.to) == index_tag(index, at))
        group.to++;
    if (at + AHEAD < index->room)
        __builtin_prefetch(index_entry(index, at + AHEAD));
    return group;
}

static bool wanted(const struct entry *entry, struct slice prefix, uint64_t now_ns)
{
    return slice_starts_with(entry_key(entry), prefix) && entry_lives(entry, now_ns);
}

/* The group's first entry, in the order of keys, that is behind the position and wanted. */
static const struct entry *next_in_group(const struct group *group, struct slice prefix,
                                         const struct memstore_position *position)
{
    const struct entry *next = NULL;

    for (size_t at = group->from; at < group->to; at++) {
        const struct entry *entry = index_entry(group->index, at);

        if (!wanted(entry, prefix, group->now_ns))
            continue;
        if (position->inside && slice_compare(entry_key(entry), position->after) <= 0)
            continue;
        if (next == NULL || slice_compare(entry_key(entry), entry_key(next)) < 0)
            next = entry;
    }
    return next;
}

static void grow_items(struct filling *f)
{
    size_t room = f->room == 0 ? FIRST_ITEMS : 2 * f->room;
    struct kv_scan_item *items = arena_array(f->arena, room, sizeof *items);

    if (f->page->n > 0)
        memcpy(items, f->page->items, f->page->n * sizeof *items);
    f->page->items = items;
    f->room = room;
}

static void add_item(struct filling *f, const struct entry *entry)
{
    struct kv_scan_page *page = f->page;

    if (page->n == f->room)
        grow_items(f);

    struct kv_scan_item *item = &page->items[page->n++];

    item->key = arena_copy(f->arena, entry_key(entry));
    item->value = page->with_values ? arena_copy(f->arena, entry_value(entry)) : slice_of(NULL, 0);
    f->bytes += item->key.len + item->value.len;
    f->stretched += item->key.len + item->value.len;
    f->position.inside = true;
    f->position.after = item->key;
}

/* False: the page is full, and there is an item that has not found room. */
static bool add_group(struct filling *f, const struct group *group)
{
    for (;;) {
        const struct entry *entry = next_in_group(group, f->page->prefix, &f->position);

        if (entry == NULL)
            return true;
        if (f->page->n == f->page->max_items || (f->page->n > 0 && f->bytes >= f->page->max_bytes))
            return false;
        add_item(f, entry);
        if (group->to - group->from == 1)
            return true;
    }
}

static uint32_t shard_of(const struct memstore_position *position)
{
    return position->at >> INDEX_TAG_BITS;
}

static uint32_t tag_of(const struct memstore_position *position)
{
    return position->at % INDEX_TAGS;
}

/* Behind the keys of this tag. */
static struct memstore_position behind(uint32_t shard, uint32_t tag)
{
    return (struct memstore_position){.at = (shard << INDEX_TAG_BITS | tag) + 1};
}

static void fill_stretch(struct memstore *store, struct filling *f)
{
    uint32_t number = shard_of(&f->position);
    struct shard *shard = &store->shards[number];
    const struct index *index = &shard->index;
    size_t until = f->looked + STRETCH_ENTRIES;

    f->stretched = 0;
    pthread_mutex_lock(&shard->lock);

    uint64_t now_ns = memstore_now_for(store, shard);
    size_t at = index_from(index, tag_of(&f->position));

    while (at < index->room && f->looked < until && f->stretched < STRETCH_BYTES) {
        struct group group = group_at(index, at, now_ns);
        uint32_t tag = index_tag(index, at);

        if (tag != tag_of(&f->position))
            f->position = (struct memstore_position){.at = number << INDEX_TAG_BITS | tag};
        f->full = !add_group(f, &group);
        if (f->full)
            break;
        f->looked += group.to - group.from;
        f->position = behind(number, tag);
        at = index_skip(index, group.to);
    }
    if (at == index->room)
        f->position = behind(number, INDEX_TAGS - 1);
    pthread_mutex_unlock(&shard->lock);
}

struct err memstore_page(struct memstore *store, struct kv_scan_page *page)
{
    struct filling f = {.page = page, .arena = op_arena(&page->op)};
    struct err err = cursor_read(store, page->prefix, page->cursor, &f.position, f.arena);

    if (err.code != ERR_OK)
        return err;
    page->items = NULL;
    page->n = 0;
    while (f.position.at < MEMSTORE_END && !f.full && f.looked < PAGE_ENTRIES)
        fill_stretch(store, &f);
    page->more = f.position.at < MEMSTORE_END;
    if (page->more)
        page->next_cursor = cursor_write(store, page->prefix, &f.position, f.arena);
    return ERR_NONE;
}

/* ---- count ---- */

static uint64_t count_group(const struct group *group, struct slice prefix)
{
    uint64_t count = 0;

    for (size_t at = group->from; at < group->to; at++)
        count += wanted(index_entry(group->index, at), prefix, group->now_ns);
    return count;
}

/* Returns the entries looked at. */
static size_t count_stretch(struct memstore *store, struct slice prefix,
                            struct memstore_position *position, uint64_t *count)
{
    uint32_t number = shard_of(position);
    struct shard *shard = &store->shards[number];
    const struct index *index = &shard->index;
    size_t looked = 0;

    pthread_mutex_lock(&shard->lock);

    uint64_t now_ns = memstore_now_for(store, shard);
    size_t at = index_from(index, tag_of(position));

    if (prefix.len == 0 && shard->mortal == 0 && tag_of(position) == 0) {
        *count += index->count;
        at = index->room;
    }
    while (at < index->room && looked < STRETCH_ENTRIES) {
        struct group group = group_at(index, at, now_ns);

        *count += count_group(&group, prefix);
        looked += group.to - group.from;
        *position = behind(number, index_tag(index, at));
        at = index_skip(index, group.to);
    }
    if (at == index->room)
        *position = behind(number, INDEX_TAGS - 1);
    pthread_mutex_unlock(&shard->lock);
    return looked;
}

void memstore_count(struct memstore *store, struct slice prefix, struct memstore_position *position,
                    size_t budget, uint64_t *count)
{
    for (size_t looked = 0; position->at < MEMSTORE_END && looked < budget;)
        looked += count_stretch(store, prefix, position, count);
}
