/* Sessions over the partitions of a cluster. An identifier tells its group, and a user has one
 * (backends/session.h), so what names either goes to one partition. Pages of all sessions, or of a
 * region, are put together from all partitions: each gives places of its own, and what lies behind
 * the place that the slowest of them has come to is thrown away.
 *
 * A limit of all sessions is counted, over all partitions, before each create, by one that has the
 * turn of its instance (redis_registry_spread.c). Nobody comes in without a count as identities do:
 * all sessions of a user are in one partition, so that partitions can be as uneven as users are,
 * and what others might hold is no measure of what they do. */
#include "backends/redis/redis_topic.h"

#include <stdlib.h>

static struct err other_group(void)
{
    return err_about(ERR_INVALID_ARGUMENT, "session_id",
                     "the identifier does not tell the group of its session");
}

/* ---- by an identifier or a user ---- */

#define ONE(what, hash)                                                                            \
    static void what##_method(struct backend *backend, struct op *op)                              \
    {                                                                                              \
        redis_session.what(backend, CONTAINER_OF(op, struct session_##what, op));                  \
    }                                                                                              \
                                                                                                   \
    static const struct redis_spread_kind what##_kind = {sizeof(struct session_##what),            \
                                                         what##_method};                           \
                                                                                                   \
    static void what##_one(struct backend *backend, struct session_##what *request)                \
    {                                                                                              \
        redis_spread_one(backend, &request->op, &what##_kind, hash);                               \
    }

ONE(create, session_group_of(request->id))
ONE(get, session_group_of(request->id))
ONE(patch, session_group_of(request->id))
ONE(rotate, session_group_of(request->id))
ONE(extend, session_group_of(request->id))
ONE(remove, session_group_of(request->id))
ONE(remove_user, session_group_of_user(request->user))
ONE(page, session_group_of_user(request->user))

static void rotate(struct backend *backend, struct session_rotate *rotate)
{
    if (session_group_of(rotate->id) == session_group_of(rotate->new_id))
        rotate_one(backend, rotate);
    else
        redis_finish(redis_of(backend), &rotate->op, other_group());
}

/* ---- create with a limit of all ---- */

struct entering {
    struct redis_spread spread;         /* first */
    struct redis_session_count *counts; /* of each partition */
    struct session_create *counted;     /* the create itself, with what the partition may hold */
    uint64_t limit;
    unsigned part;
};

static struct session_create *create_of(const struct redis_spread *spread)
{
    return CONTAINER_OF(spread->op, struct session_create, op);
}

static void enter_start(struct redis_spread *spread)
{
    struct entering *entering = (struct entering *)spread;
    struct op *copy = redis_spread_copy(spread->op, sizeof *entering->counted);

    entering->counted = CONTAINER_OF(copy, struct session_create, op);
    entering->counted->max_sessions = entering->limit;
    redis_spread_start(spread, copy, entering->part);
    redis_session.create(spread->backend, entering->counted);
}

static void enter_done(struct redis_spread *spread)
{
    struct entering *entering = (struct entering *)spread;
    uint64_t most = create_of(spread)->max_sessions;

    redis_spread_return(spread->op, &entering->counted->op, sizeof *entering->counted);
    create_of(spread)->max_sessions = most;
    redis_spread_end(spread, entering->counted->op.err);
}

static void count_start(struct redis_spread *spread)
{
    struct entering *entering = (struct entering *)spread;

    entering->part = session_group_of(create_of(spread)->id) % spread->parts;
    entering->counts = arena_array(op_arena(spread->op), spread->parts, sizeof *entering->counts);
    for (unsigned part = 0; part < spread->parts; part++) {
        entering->counts[part] = (struct redis_session_count){.count = 0};
        redis_spread_start(spread, &entering->counts[part].op, part);
        redis_session_count(spread->backend, &entering->counts[part]);
    }
}

/* What the partition may hold beside all others; one session may end others of its user. */
static struct err set_limit(struct entering *entering)
{
    uint64_t most = create_of(&entering->spread)->max_sessions, others = 0;

    for (unsigned part = 0; part < entering->spread.parts; part++) {
        const struct redis_session_count *count = &entering->counts[part];

        if (count->op.err.code != ERR_OK)
            return count->op.err;
        if (part != entering->part)
            others += count->count;
    }
    entering->limit = most > others ? most - others : 0;
    return entering->limit > 0 ? ERR_NONE : redis_session_full();
}

static void count_done(struct redis_spread *spread)
{
    struct err err = set_limit((struct entering *)spread);

    spread->start = enter_start;
    spread->done = enter_done;
    if (err.code == ERR_OK)
        redis_spread_again(spread);
    else
        redis_spread_end(spread, err);
}

/* The number of partitions is known. */
static void turn_start(struct redis_spread *spread)
{
    (void)spread; /* nothing but the turn is waited for */
}

static void turn_done(struct redis_spread *spread)
{
    spread->start = count_start;
    spread->done = count_done;
    redis_spread_count(spread);
}

static void create(struct backend *backend, struct session_create *create)
{
    struct slice user = create->owner.user;
    struct redis_spread *spread;

    if (user.len > 0 && session_group_of(create->id) != session_group_of_user(user)) {
        redis_finish(redis_of(backend), &create->op, other_group());
        return;
    }
    if (create->max_sessions == 0 || redis_spread_parts(backend) == 1) {
        create_one(backend, create);
        return;
    }
    spread = redis_spread_new(backend, &create->op, sizeof(struct entering));
    spread->start = turn_start;
    spread->done = turn_done;
    redis_spread_run(spread);
}

/* ---- pages ---- */

struct placed {
    uint64_t place;
    const struct session_entry *entry;
};

struct merge {
    struct redis_spread spread; /* first */
    struct session_page *pages; /* of each partition */
    uint64_t **places;          /* of their entries */
    struct placed *order;
};

static struct session_page *page_of(const struct redis_spread *spread)
{
    return CONTAINER_OF(spread->op, struct session_page, op);
}

static void page_start(struct redis_spread *spread)
{
    struct merge *merge = (struct merge *)spread;
    const struct session_page *page = page_of(spread);
    struct arena *arena = op_arena(spread->op);
    uint32_t share = redis_spread_share(page->max_items, spread->parts);

    merge->pages = arena_array(arena, spread->parts, sizeof *merge->pages);
    merge->places = arena_array(arena, spread->parts, sizeof *merge->places);
    for (unsigned part = 0; part < spread->parts; part++) {
        struct session_page *own = &merge->pages[part];

        *own =
            (struct session_page){.user = page->user,
                                  .region = page->region,
                                  .client = page->client,
                                  .after = page->after,
                                  .max_items = share,
                                  .max_bytes = redis_spread_bytes(page->max_bytes, spread->parts)};
        merge->places[part] = arena_array(arena, share, sizeof *merge->places[part]);
        redis_spread_start(spread, &own->op, part);
        redis_session_page_at(spread->backend, own, merge->places[part]);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

/* The place up to which all partitions were looked at; page->more: that is not the end. */
static struct err bound_of(const struct merge *merge, struct session_page *page)
{
    page->more = false;
    for (unsigned part = 0; part < merge->spread.parts; part++) {
        const struct session_page *own = &merge->pages[part];

        if (own->op.err.code != ERR_OK)
            return own->op.err;
        if (own->more && (!page->more || own->next < page->next))
            page->next = own->next;
        page->more = page->more || own->more;
    }
    return ERR_NONE;
}

/* Those up to that place, in order. */
static size_t collect(struct merge *merge, const struct session_page *page)
{
    size_t n = 0;

    for (unsigned part = 0; part < merge->spread.parts; part++)
        n += merge->pages[part].n;
    merge->order = arena_array(op_arena(merge->spread.op), n, sizeof *merge->order);
    n = 0;
    for (unsigned part = 0; part < merge->spread.parts; part++) {
        const struct session_page *own = &merge->pages[part];

        for (size_t i = 0; i < own->n; i++) {
            if (!page->more || merge->places[part][i] <= page->next)
                merge->order[n++] = (struct placed){merge->places[part][i], &own->entries[i]};
        }
    }
    qsort(merge->order, n, sizeof *merge->order, by_place);
    return n;
}

static uint64_t bytes_of(const struct session_entry *entry)
{
    const struct session_owner *owner = &entry->owner;

    return entry->id.len + owner->user.len + owner->region.len + owner->client.len +
           owner->attributes.len;
}

static void page_done(struct redis_spread *spread)
{
    struct merge *merge = (struct merge *)spread;
    struct session_page *page = page_of(spread);
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
        bytes += bytes_of(merge->order[page->n].entry);
        page->entries[page->n] = *merge->order[page->n].entry;
        page->n++;
    }
    if (page->n < n) {
        page->more = true;
        page->next = merge->order[page->n - 1].place;
    }
    redis_spread_end(spread, ERR_NONE);
}

static void page(struct backend *backend, struct session_page *page)
{
    struct redis_spread *spread;

    if (page->user.len > 0 || redis_spread_parts(backend) == 1) {
        page_one(backend, page);
        return;
    }
    spread = redis_spread_new(backend, &page->op, sizeof(struct merge));
    spread->start = page_start;
    spread->done = page_done;
    redis_spread_run(spread);
}

const struct session redis_session_spread = {.max_bytes = SESSION_MAX_BYTES,
                                             .native_expiry = true,
                                             .grouped = true,
                                             .create = create,
                                             .get = get_one,
                                             .patch = patch_one,
                                             .rotate = rotate,
                                             .extend = extend_one,
                                             .remove = remove_one,
                                             .remove_user = remove_user_one,
                                             .page = page};
