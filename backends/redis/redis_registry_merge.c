/* Pages and counts over the partitions of a cluster: each is asked, all at once.
 *
 * A page is in the order of identities whatever their partitions, so what a page ends with is where
 * the next one goes on, with any number of partitions. Each partition is asked for somewhat more
 * than its share. What lies behind the place that the slowest of them has come to is thrown away:
 * nobody knows yet what comes before it. */
#include "backends/redis/redis_registry.h"
#include "backends/redis/redis_spread.h"

#include <stdlib.h>

/* ---- pages ---- */

struct merge {
    struct redis_spread spread;  /* first */
    struct registry_page *pages; /* of each partition */
    const struct registry_entry **order;
};

static struct registry_page *page_of(const struct redis_spread *spread)
{
    return CONTAINER_OF(spread->op, struct registry_page, op);
}

static void page_start(struct redis_spread *spread)
{
    struct merge *merge = (struct merge *)spread;
    const struct registry_page *page = page_of(spread);

    merge->pages = arena_array(op_arena(spread->op), spread->parts, sizeof *merge->pages);
    for (unsigned part = 0; part < spread->parts; part++) {
        struct registry_page *own = &merge->pages[part];

        *own =
            (struct registry_page){.filter = page->filter,
                                   .after = page->after,
                                   .max_items = redis_spread_share(page->max_items, spread->parts),
                                   .max_bytes = redis_spread_bytes(page->max_bytes, spread->parts),
                                   .with_documents = page->with_documents};
        redis_spread_start(spread, &own->op, part);
        redis_registry.page(spread->backend, own);
    }
}

static int by_identity(const void *a, const void *b)
{
    return slice_compare((*(const struct registry_entry *const *)a)->identity,
                         (*(const struct registry_entry *const *)b)->identity);
}

/* The place up to which all partitions were looked at; page->more: that is not the end. */
static struct err bound_of(const struct merge *merge, struct registry_page *page)
{
    page->more = false;
    page->examined = 0;
    for (unsigned part = 0; part < merge->spread.parts; part++) {
        const struct registry_page *own = &merge->pages[part];

        if (own->op.err.code != ERR_OK)
            return own->op.err;
        page->examined += own->examined;
        if (own->more && (!page->more || slice_compare(own->next, page->next) < 0))
            page->next = own->next;
        page->more = page->more || own->more;
    }
    return ERR_NONE;
}

/* Those up to that place, in order. */
static size_t collect(struct merge *merge, const struct registry_page *page)
{
    size_t n = 0;

    for (unsigned part = 0; part < merge->spread.parts; part++)
        n += merge->pages[part].n;
    merge->order = arena_array(op_arena(merge->spread.op), n, sizeof *merge->order);
    n = 0;
    for (unsigned part = 0; part < merge->spread.parts; part++) {
        const struct registry_page *own = &merge->pages[part];

        for (size_t i = 0; i < own->n; i++) {
            if (!page->more || slice_compare(own->entries[i].identity, page->next) <= 0)
                merge->order[n++] = &own->entries[i];
        }
    }
    qsort(merge->order, n, sizeof *merge->order, by_identity);
    return n;
}

static void page_done(struct redis_spread *spread)
{
    struct merge *merge = (struct merge *)spread;
    struct registry_page *page = page_of(spread);
    struct err err = bound_of(merge, page);
    uint64_t bytes = 0;
    size_t n;

    page->n = 0;
    if (err.code != ERR_OK) {
        redis_spread_end(spread, err);
        return;
    }
    n = collect(merge, page);
    page->entries = arena_array(op_arena(spread->op), n, sizeof *page->entries);
    while (page->n < n && page->n < page->max_items &&
           (page->max_bytes == 0 || bytes < page->max_bytes)) {
        const struct registry_entry *entry = merge->order[page->n];

        bytes += entry->identity.len + entry->document.len + entry->tags.len;
        page->entries[page->n++] = *entry;
    }
    if (page->n < n) {
        page->more = true;
        page->next = page->entries[page->n - 1].identity;
    }
    redis_spread_end(spread, ERR_NONE);
}

void redis_registry_merge_page(struct backend *backend, struct registry_page *page)
{
    struct redis_spread *spread;

    if (redis_spread_parts(backend) == 1) {
        page->op.backend_word = 0;
        redis_registry.page(backend, page);
        return;
    }
    spread = redis_spread_new(backend, &page->op, sizeof(struct merge));
    spread->start = page_start;
    spread->done = page_done;
    redis_spread_run(spread);
}

/* ---- counts ---- */

struct counting {
    struct redis_spread spread;    /* first */
    struct registry_count *counts; /* of each partition */
};

static void count_start(struct redis_spread *spread)
{
    struct counting *counting = (struct counting *)spread;
    const struct registry_count *count = CONTAINER_OF(spread->op, struct registry_count, op);

    counting->counts = arena_array(op_arena(spread->op), spread->parts, sizeof *counting->counts);
    for (unsigned part = 0; part < spread->parts; part++) {
        counting->counts[part] = (struct registry_count){
            .filter = count->filter, .enough = count->enough, .aside = count->aside};
        redis_spread_start(spread, &counting->counts[part].op, part);
        redis_registry.count(spread->backend, &counting->counts[part]);
    }
}

static void count_done(struct redis_spread *spread)
{
    const struct counting *counting = (const struct counting *)spread;
    struct registry_count *count = CONTAINER_OF(spread->op, struct registry_count, op);
    struct err err = ERR_NONE;

    count->count = 0;
    for (unsigned part = 0; part < spread->parts; part++) {
        count->count += counting->counts[part].count;
        err = redis_spread_worse(err, counting->counts[part].op.err);
    }
    redis_spread_end(spread, err);
}

void redis_registry_merge_count(struct backend *backend, struct registry_count *count)
{
    unsigned parts = redis_spread_parts(backend);
    struct redis_spread *spread;

    if (parts == 0 && count->aside) {
        op_finish(&count->op, err_make(ERR_UNAVAILABLE, "how many partitions is not known yet"));
        return;
    }
    if (parts == 1) {
        count->op.backend_word = 0;
        redis_registry.count(backend, count);
        return;
    }
    spread = redis_spread_new(backend, &count->op, sizeof(struct counting));
    spread->start = count_start;
    spread->done = count_done;
    redis_spread_run(spread);
}
