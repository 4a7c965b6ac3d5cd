/* Single operations handed over together. On a large store an operation is mostly waiting: for the
 * bucket, then for the entry that it points to. Here the waits of a group overlap: all buckets are
 * asked for, then all entries, and by the time that the first operation runs, its memory is near.
 *
 *   hash all   the home bucket of each, prefetched without a lock: an address that is out of date
 *              costs a useless prefetch and nothing else
 *   bring all  the entries, prefetched
 *   do all     as if each had come alone */
#include "backends/memstore/instance.h"
#include "src/base/container.h"

enum { GROUP = 16 };

struct group {
    struct memstore *store;
    struct memstore_spot spots[GROUP];
    size_t n;
};

/* Items of `stride` bytes each. */
static void approach(struct group *group, struct memstore *store, const void *items, size_t stride,
                     size_t n)
{
    group->store = store;
    group->n = n < GROUP ? n : GROUP;
    for (size_t i = 0; i < group->n; i++) {
        const struct kv_item *item = (const void *)((const char *)items + i * stride);

        group->spots[i] = memstore_spot(store, memstore_hash(store, item->key));
        index_prefetch(&group->spots[i].shard->index, group->spots[i].tag);
    }
    for (size_t i = 0; i < group->n; i++)
        shard_bring(group->spots[i]);
}

static struct memstore *begin(struct backend *backend, size_t n)
{
    counter_add(&backend->stats.calls, n);
    return CONTAINER_OF(backend->store, struct memstore, base);
}

static void put_many(struct backend *backend, struct kv_put_many *many)
{
    struct memstore *store = begin(backend, many->n);
    struct group group;

    for (size_t done = 0; done < many->n; done += group.n) {
        struct kv_put_item *items = many->items + done;

        approach(&group, store, items, sizeof *items, many->n - done);
        for (size_t i = 0; i < group.n; i++) {
            struct memstore_write write = {
                .key = items[i].base.key, .value = items[i].value, .ttl_ms = items[i].ttl_ms};

            items[i].base.err = memstore_write_at(store, group.spots[i], &write);
            if (items[i].base.err.code != ERR_OK)
                counter_add(&backend->stats.errors, 1);
        }
    }
    op_finish(&many->op, ERR_NONE);
}

static void get_many(struct backend *backend, struct kv_get_many *many)
{
    struct memstore *store = begin(backend, many->n);
    struct group group;

    for (size_t done = 0; done < many->n; done += group.n) {
        struct kv_get_item *items = many->items + done;

        approach(&group, store, items, sizeof *items, many->n - done);
        for (size_t i = 0; i < group.n; i++) {
            struct memstore_read read = memstore_read_at(store, group.spots[i], items[i].base.key,
                                                         many->room, op_arena(&many->op));

            items[i].found = read.found;
            items[i].value = read.value;
            items[i].base.err = ERR_NONE;
        }
    }
    op_finish(&many->op, ERR_NONE);
}

static void del_many(struct backend *backend, struct kv_del_many *many)
{
    struct memstore *store = begin(backend, many->n);
    struct group group;

    for (size_t done = 0; done < many->n; done += group.n) {
        struct kv_del_item *items = many->items + done;

        approach(&group, store, items, sizeof *items, many->n - done);
        for (size_t i = 0; i < group.n; i++) {
            items[i].existed = memstore_remove_at(store, group.spots[i], items[i].base.key);
            items[i].base.err = ERR_NONE;
        }
    }
    op_finish(&many->op, ERR_NONE);
}

const struct kv_batch memstore_window = {.max_items = 65536,
                                         .calls = "n",
                                         .put_many = put_many,
                                         .get_many = get_many,
                                         .del_many = del_many};
