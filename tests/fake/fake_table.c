/* A sorted array of entries. Slow and simple: the tests keep few keys. */
#include "tests/fake/fake_backend.h"

#include <stdlib.h>
#include <string.h>

static struct slice own(struct slice from)
{
    uint8_t *copy = malloc(from.len + 1);

    if (copy == NULL)
        abort();
    if (from.len > 0)
        memcpy(copy, from.data, from.len);
    return slice_of(copy, from.len);
}

static void drop(struct slice slice)
{
    free((void *)(uintptr_t)slice.data);
}

size_t fake_table_seek(const struct fake_world *world, struct slice key)
{
    size_t low = 0, high = world->n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (slice_compare(world->entries[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool fake_table_alive(const struct fake_world *world, const struct fake_entry *entry)
{
    return entry->expires_ms == 0 || entry->expires_ms > world->now_ms;
}

static struct fake_entry *entry_at(const struct fake_world *world, struct slice key)
{
    size_t at = fake_table_seek(world, key);

    return at < world->n && slice_equal(world->entries[at].key, key) ? &world->entries[at] : NULL;
}

const struct fake_entry *fake_find(const struct fake_world *world, struct slice key)
{
    const struct fake_entry *entry = entry_at(world, key);

    return entry != NULL && fake_table_alive(world, entry) ? entry : NULL;
}

static struct fake_entry *insert(struct fake_world *world, struct slice key)
{
    size_t at = fake_table_seek(world, key);

    if (world->n == world->cap) {
        world->cap = world->cap != 0 ? world->cap * 2 : 16;
        world->entries = realloc(world->entries, world->cap * sizeof *world->entries);
        if (world->entries == NULL)
            abort();
    }
    memmove(&world->entries[at + 1], &world->entries[at], (world->n - at) * sizeof *world->entries);
    world->n++;
    world->entries[at] = (struct fake_entry){.key = own(key)};
    return &world->entries[at];
}

struct fake_entry *fake_table_set(struct fake_world *world, struct slice key, struct slice value,
                                  uint64_t ttl_ms)
{
    struct fake_entry *entry = entry_at(world, key);

    if (entry == NULL)
        entry = insert(world, key);
    else
        drop(entry->value);
    entry->value = own(value);
    entry->expires_ms = ttl_ms != 0 ? world->now_ms + ttl_ms : 0;
    entry->version = ++world->next_version;
    return entry;
}

bool fake_table_remove(struct fake_world *world, struct slice key)
{
    struct fake_entry *entry = entry_at(world, key);
    bool alive = entry != NULL && fake_table_alive(world, entry);

    if (entry == NULL)
        return false;
    drop(entry->key);
    drop(entry->value);
    world->n--;
    memmove(entry, entry + 1, (size_t)(world->entries + world->n - entry) * sizeof *world->entries);
    return alive;
}

bool fake_table_full_for(const struct fake_world *world, struct slice key)
{
    return world->max_keys != 0 && world->n >= world->max_keys && fake_find(world, key) == NULL;
}

void fake_table_clear(struct fake_world *world)
{
    for (size_t i = 0; i < world->n; i++) {
        drop(world->entries[i].key);
        drop(world->entries[i].value);
    }
    free(world->entries);
    world->entries = NULL;
    world->n = world->cap = 0;
}

void fake_put(struct fake_world *world, const char *key, const char *value)
{
    fake_table_set(world, slice_str(key), slice_str(value), 0);
}

bool fake_has(const struct fake_world *world, const char *key, const char *value)
{
    const struct fake_entry *entry = fake_find(world, slice_str(key));

    return entry != NULL && slice_equal(entry->value, slice_str(value));
}

size_t fake_keys(const struct fake_world *world)
{
    size_t n = 0;

    for (size_t i = 0; i < world->n; i++)
        n += fake_table_alive(world, &world->entries[i]);
    return n;
}
