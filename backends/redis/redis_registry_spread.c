/* Put, patch, beat, remove, get over the partitions of a cluster. An item to put whose partition
 * cannot be reached has that as its outcome; if none can be, the whole request has. Other requests
 * fail if one partition does.
 *
 * A limit of identities is counted, over all partitions, before somebody comes in, unless the
 * partition has less than its floor (redis_spread_floor):
 *
 *   1. each partition lets in as many as its floor allows, without a floor nobody. Who is there
 *      has its outcome, which no other partition is needed for
 *   2. what was refused waits for the turn to count, and all partitions are counted
 *   3. each partition lets in so many more as it has among the first of the request that there is
 *      room for. Who was there already needs no room, so 2. comes again while some is left and
 *      somebody is refused
 *
 * One of an instance has the turn, so an instance alone keeps the limit exactly; what others let in
 * at that very moment comes on top. */
#include "backends/redis/redis_registry_many.h"
#include "backends/redis/redis_topic.h"

#define ITEMS(what)                                                                                \
    static const uint8_t *what##_items(const struct op *op, size_t *n)                             \
    {                                                                                              \
        const struct registry_##what *request = (const struct registry_##what *)op;                \
                                                                                                   \
        *n = request->n;                                                                           \
        return (const uint8_t *)request->items;                                                    \
    }                                                                                              \
                                                                                                   \
    static void what##_give(struct op *op, uint8_t *items, size_t n)                               \
    {                                                                                              \
        struct registry_##what *request = CONTAINER_OF(op, struct registry_##what, op);            \
                                                                                                   \
        request->items = (struct registry_##what##_item *)(void *)items;                           \
        request->n = n;                                                                            \
    }                                                                                              \
                                                                                                   \
    static void what##_method(struct backend *backend, struct op *op)                              \
    {                                                                                              \
        redis_registry.what(backend, CONTAINER_OF(op, struct registry_##what, op));                \
    }

#define KIND(what)                                                                                 \
    .bytes = sizeof(struct registry_##what), .item_bytes = sizeof(struct registry_##what##_item),  \
    .err_at = offsetof(struct registry_##what##_item, err), .items = what##_items,                 \
    .give = what##_give, .method = what##_method

ITEMS(put)
ITEMS(beat)
ITEMS(remove)

static const struct redis_many_kind beat_kind = {KIND(beat), .whole = true};
static const struct redis_many_kind remove_kind = {KIND(remove), .whole = true};

static void run_many(struct backend *backend, struct op *op, const struct redis_many_kind *kind)
{
    struct redis_many *many;

    if (redis_many_direct(backend, op, kind))
        return;
    many = redis_many_new(backend, op, kind, sizeof *many);
    redis_spread_run(&many->spread);
}

static void beat(struct backend *backend, struct registry_beat *beat)
{
    run_many(backend, &beat->op, &beat_kind);
}

static void remove_many(struct backend *backend, struct registry_remove *remove)
{
    run_many(backend, &remove->op, &remove_kind);
}

/* ---- put ---- */

enum { ROUNDS = 8 }; /* of counting: others may take the room that was counted */

struct putting {
    struct redis_many many; /* first */
    uint64_t most, floor, room, *limits;
    struct registry_count *counts; /* of each partition; NULL: not counted yet */
    unsigned rounds;
};

static struct registry_put *put_of(const struct redis_many *many)
{
    return CONTAINER_OF(many->spread.op, struct registry_put, op);
}

static void put_prepare(struct redis_many *many, struct op *op, unsigned part)
{
    if (many->limits != NULL)
        CONTAINER_OF(op, struct registry_put, op)->max_identities = many->limits[part];
}

static const struct redis_many_kind put_kind = {KIND(put), .prepare = put_prepare};

/* Those that were refused for want of room are left. */
static void keep_refused(struct redis_many *many)
{
    const struct registry_put_item *items = put_of(many)->items;
    size_t kept = 0;

    for (size_t i = 0; i < many->left_n; i++) {
        if (redis_registry_is_full(items[many->left[i]].err))
            many->left[kept++] = many->left[i];
    }
    many->left_n = kept;
}

/* Once an item has its outcome, an error is that of the items that are left, and not of the
 * request: it would say of what is stored that it was not sent. */
static struct err put_ends(struct redis_spread *spread, struct err err)
{
    const struct redis_many *many = (const struct redis_many *)spread;
    struct registry_put *put = put_of(many);

    if (err.code == ERR_OK || many->left_n == put->n)
        return err;
    for (size_t i = 0; i < many->left_n; i++)
        put->items[many->left[i]].err = err;
    return ERR_NONE;
}

static void count_done(struct redis_spread *spread);

static void count_start(struct redis_spread *spread)
{
    struct putting *putting = (struct putting *)spread;

    spread->done = count_done;
    for (unsigned part = 0; part < spread->parts; part++) {
        putting->counts[part] = (struct registry_count){.count = 0};
        redis_spread_start(spread, &putting->counts[part].op, part);
        redis_registry.count(spread->backend, &putting->counts[part]);
    }
}

/* What each partition may hold; the first of those that are left come into the room that there is
 * beside. */
static struct err set_limits(struct putting *putting)
{
    struct redis_many *many = &putting->many;
    const uint8_t *items = (const uint8_t *)put_of(many)->items;
    uint64_t sum = 0;

    for (unsigned part = 0; part < many->spread.parts; part++) {
        const struct registry_count *count = &putting->counts[part];

        if (count->op.err.code != ERR_OK)
            return count->op.err;
        putting->limits[part] = count->count > putting->floor ? count->count : putting->floor;
        sum += putting->limits[part];
    }
    putting->room = sum < putting->most ? putting->most - sum : 0;
    for (size_t i = 0; i < many->left_n && i < putting->room; i++)
        putting->limits[redis_many_part(many, items, many->left[i])]++;
    return ERR_NONE;
}

static void put_done(struct redis_spread *spread)
{
    struct putting *putting = (struct putting *)spread;
    struct redis_many *many = &putting->many;
    bool first = many->left_n == put_of(many)->n; /* no item has its outcome yet */
    struct err err = redis_many_gather(many);

    keep_refused(many);
    if (err.code != ERR_OK || many->left_n == 0 || putting->rounds == ROUNDS ||
        (putting->rounds > 0 && putting->room == 0)) {
        redis_spread_end(spread, first ? err : ERR_NONE);
        return;
    }
    if (putting->rounds++ == 0)
        putting->counts = arena_array(op_arena(spread->op), spread->parts, sizeof *putting->counts);
    spread->start = count_start;
    redis_spread_count(spread);
}

/* Without a count, what was refused is not known to have to be. */
static void count_done(struct redis_spread *spread)
{
    struct putting *putting = (struct putting *)spread;
    struct err err = set_limits(putting);

    spread->start = redis_many_start;
    spread->done = put_done;
    if (err.code == ERR_OK)
        redis_spread_again(spread);
    else
        redis_spread_end(spread, put_ends(spread, err));
}

static void put_start(struct redis_spread *spread)
{
    struct putting *putting = (struct putting *)spread;

    putting->floor = redis_spread_floor(putting->most, spread->parts);
    putting->limits = arena_array(op_arena(spread->op), spread->parts, sizeof *putting->limits);
    putting->many.limits = putting->limits;
    for (unsigned part = 0; part < spread->parts; part++)
        putting->limits[part] = putting->floor > 0 ? putting->floor : REDIS_REGISTRY_NOBODY;
    redis_many_start(spread);
}

static void put(struct backend *backend, struct registry_put *put)
{
    struct putting *putting;

    if (put->max_identities == 0 || redis_spread_parts(backend) == 1) {
        run_many(backend, &put->op, &put_kind);
        return;
    }
    putting = redis_many_new(backend, &put->op, &put_kind, sizeof *putting);
    putting->most = put->max_identities;
    putting->many.spread.start = put_start;
    putting->many.spread.done = put_done;
    putting->many.spread.ends = put_ends;
    redis_spread_run(&putting->many.spread);
}

/* ---- patch ---- */

static void patch_method(struct backend *backend, struct op *op)
{
    redis_registry.patch(backend, CONTAINER_OF(op, struct registry_patch, op));
}

static void patch(struct backend *backend, struct registry_patch *patch)
{
    static const struct redis_spread_kind kind = {sizeof *patch, patch_method};

    redis_spread_one(backend, &patch->op, &kind, slice_hash(patch->identity));
}

/* ---- get ---- */

static const uint8_t *get_items(const struct op *op, size_t *n)
{
    const struct registry_get *get = (const struct registry_get *)op;

    *n = get->n;
    return (const uint8_t *)get->identities;
}

static void get_give(struct op *op, uint8_t *items, size_t n)
{
    struct registry_get *get = CONTAINER_OF(op, struct registry_get, op);

    get->identities = (const struct slice *)(void *)items;
    get->n = n;
}

/* Together they keep half as much again as was asked for, and a little more for each. */
static void get_prepare(struct redis_many *many, struct op *op, unsigned part)
{
    struct registry_get *get = CONTAINER_OF(op, struct registry_get, op);

    (void)part;
    get->max_bytes = redis_spread_bytes(get->max_bytes, many->portions_n);
}

static void get_method(struct backend *backend, struct op *op)
{
    redis_registry.get(backend, CONTAINER_OF(op, struct registry_get, op));
}

static const struct redis_many_kind get_kind = {.bytes = sizeof(struct registry_get),
                                                .item_bytes = sizeof(struct slice),
                                                .items = get_items,
                                                .give = get_give,
                                                .prepare = get_prepare,
                                                .method = get_method};

/* Puts what was found into the order of the request; looked[i]: i was looked up. */
static struct err place(struct redis_many *many, struct registry_get *get, bool *looked)
{
    for (unsigned p = 0; p < many->portions_n; p++) {
        const struct redis_portion *portion = &many->portions[p];
        const struct registry_get *part = CONTAINER_OF(portion->request, struct registry_get, op);

        if (part->op.err.code != ERR_OK)
            return part->op.err;
        for (size_t i = 0; i < part->looked_up; i++) {
            size_t at = many->origins[portion->from + i];

            get->entries[at] = part->entries[i];
            looked[at] = true;
        }
    }
    return ERR_NONE;
}

/* Behind the first one that did not fit its partition's room, nothing counts as looked up. */
static void get_done(struct redis_spread *spread)
{
    struct registry_get *get = CONTAINER_OF(spread->op, struct registry_get, op);
    struct arena *arena = op_arena(spread->op);
    bool *looked = arena_zalloc(arena, get->n * sizeof *looked);
    uint64_t bytes = 0;
    struct err err;

    get->entries = arena_array(arena, get->n, sizeof *get->entries);
    get->looked_up = 0;
    err = place((struct redis_many *)spread, get, looked);
    while (get->looked_up < get->n && looked[get->looked_up] &&
           (get->max_bytes == 0 || bytes < get->max_bytes)) {
        const struct registry_entry *entry = &get->entries[get->looked_up++];

        bytes += entry->identity.len + entry->document.len + entry->tags.len;
    }
    redis_spread_end(spread, err);
}

static void get(struct backend *backend, struct registry_get *get)
{
    struct redis_many *many;

    if (redis_many_direct(backend, &get->op, &get_kind))
        return;
    many = redis_many_new(backend, &get->op, &get_kind, sizeof *many);
    many->spread.done = get_done;
    redis_spread_run(&many->spread);
}

const struct registry redis_registry_spread = {.native = REDIS_REGISTRY_OPS,
                                               .indexed = true,
                                               .calls = "1..ceil(n/100) for each partition",
                                               .page_calls = "1..16 for each partition",
                                               .put = put,
                                               .patch = patch,
                                               .beat = beat,
                                               .remove = remove_many,
                                               .get = get,
                                               .page = redis_registry_merge_page,
                                               .count = redis_registry_merge_count};
