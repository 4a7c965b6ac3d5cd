/* The registry's methods. What is short is done before its method returns, unless others wait;
 * batches, pages and counts go by slices (enumerate.c), in the order in which they were started. */
#include "backends/memstore/instance.h"
#include "backends/memstore/roster.h"
#include "src/base/container.h"

enum { AT_ONCE = 16 /* items */, SLICE_ITEMS = 64 };

/* Does the next slice of an operation on n items, by item(). */
static bool items_slice(struct memstore_errand *errand, size_t n, size_t most,
                        void (*item)(struct roster *, struct op *, size_t))
{
    struct roster *roster = errand->store->roster;
    size_t end = n - errand->done < most ? n : errand->done + most;

    while (errand->done < end)
        item(roster, errand->op, errand->done++);
    return end < n;
}

static void run(struct backend *backend, struct op *op, size_t n,
                bool (*slice)(struct memstore_errand *))
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);
    struct memstore_errand now = {
        .store = CONTAINER_OF(backend->store, struct memstore, base), .op = op, .slice = slice};

    if (n > AT_ONCE || instance->turns.first != NULL) {
        enumerate_begin(instance, &instance->turns, op, slice);
        return;
    }
    counter_add(&backend->stats.calls, 1);
    slice(&now);
    if (now.err.code != ERR_OK)
        counter_add(&backend->stats.errors, 1);
    op_finish(op, now.err);
}

/* ---- put, beat, remove, get ---- */

static void put_item(struct roster *roster, struct op *op, size_t i)
{
    struct registry_put *put = CONTAINER_OF(op, struct registry_put, op);

    roster_put(roster, &put->items[i], put->max_identities);
}

static bool put_slice(struct memstore_errand *errand)
{
    return items_slice(errand, CONTAINER_OF(errand->op, struct registry_put, op)->n, SLICE_ITEMS,
                       put_item);
}

static void put(struct backend *backend, struct registry_put *put)
{
    run(backend, &put->op, put->n, put_slice);
}

static void beat_item(struct roster *roster, struct op *op, size_t i)
{
    struct registry_beat *beat = CONTAINER_OF(op, struct registry_beat, op);

    roster_beat(roster, &beat->items[i], beat->ttl_ms);
}

static bool beat_slice(struct memstore_errand *errand)
{
    return items_slice(errand, CONTAINER_OF(errand->op, struct registry_beat, op)->n,
                       2 * SLICE_ITEMS, beat_item);
}

static void beat(struct backend *backend, struct registry_beat *beat)
{
    run(backend, &beat->op, beat->n, beat_slice);
}

static void remove_item(struct roster *roster, struct op *op, size_t i)
{
    roster_remove(roster, &CONTAINER_OF(op, struct registry_remove, op)->items[i]);
}

static bool remove_slice(struct memstore_errand *errand)
{
    return items_slice(errand, CONTAINER_OF(errand->op, struct registry_remove, op)->n, SLICE_ITEMS,
                       remove_item);
}

static void remove_many(struct backend *backend, struct registry_remove *remove)
{
    run(backend, &remove->op, remove->n, remove_slice);
}

static bool get_slice(struct memstore_errand *errand)
{
    struct registry_get *get = CONTAINER_OF(errand->op, struct registry_get, op);

    for (int i = 0; i < 2 * SLICE_ITEMS && get->looked_up < get->n; i++) {
        struct registry_entry *entry = &get->entries[get->looked_up];

        if (get->max_bytes > 0 && errand->bytes >= get->max_bytes)
            return false;
        roster_get(errand->store->roster, get->identities[get->looked_up++], get->with_documents,
                   op_arena(errand->op), entry);
        errand->bytes += entry->identity.len + entry->document.len + entry->tags.len;
    }
    return get->looked_up < get->n;
}

static void get(struct backend *backend, struct registry_get *get)
{
    get->entries = arena_array(op_arena(&get->op), get->n, sizeof *get->entries);
    get->looked_up = 0;
    run(backend, &get->op, get->n, get_slice);
}

/* ---- patch ---- */

static bool patch_slice(struct memstore_errand *errand)
{
    errand->err =
        roster_patch(errand->store->roster, CONTAINER_OF(errand->op, struct registry_patch, op));
    return false;
}

static void patch(struct backend *backend, struct registry_patch *patch)
{
    run(backend, &patch->op, 1, patch_slice);
}

/* ---- page, count ---- */

static bool page_slice(struct memstore_errand *errand)
{
    roster_page(errand->store->roster, CONTAINER_OF(errand->op, struct registry_page, op));
    return false;
}

static void page(struct backend *backend, struct registry_page *page)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    enumerate_begin(instance, &instance->turns, &page->op, page_slice);
}

static bool count_slice(struct memstore_errand *errand)
{
    return roster_count(errand->store->roster, CONTAINER_OF(errand->op, struct registry_count, op),
                        &errand->after);
}

static void count(struct backend *backend, struct registry_count *count)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    count->count = 0;
    enumerate_begin(instance, &instance->counts, &count->op, count_slice);
}

static uint64_t estimate(struct backend_store *store)
{
    return roster_totals(CONTAINER_OF(store, struct memstore, base)->roster).identities;
}

const struct registry memstore_registry = {.native = 0,
                                           .indexed = true,
                                           .heeds_wanted = true,
                                           .calls = "1",
                                           .page_calls = "1",
                                           .put = put,
                                           .patch = patch,
                                           .beat = beat,
                                           .remove = remove_many,
                                           .get = get,
                                           .page = page,
                                           .count = count,
                                           .estimate = estimate};
