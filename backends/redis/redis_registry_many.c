#include "backends/redis/redis_registry_many.h"

static struct slice identity_of(const uint8_t *item)
{
    struct slice identity;

    memcpy(&identity, item, sizeof identity);
    return identity;
}

/* ---- split ---- */

unsigned redis_many_part(const struct redis_many *many, const uint8_t *items, size_t item)
{
    return slice_hash(identity_of(items + item * many->kind->item_bytes)) % many->spread.parts;
}

/* The items that are left, partition by partition, each with its items in the request's order. */
static void split(struct redis_many *many)
{
    size_t begins[REDIS_TAGS + 1] = {0}, n, bytes = many->kind->item_bytes;
    const uint8_t *items = many->kind->items(many->spread.op, &n);

    for (size_t i = 0; i < many->left_n; i++)
        begins[redis_many_part(many, items, many->left[i]) + 1]++;
    many->portions_n = 0;
    for (unsigned part = 0; part < many->spread.parts; part++) {
        if (begins[part + 1] > 0)
            many->portions[many->portions_n++] =
                (struct redis_portion){.part = part, .from = begins[part], .n = begins[part + 1]};
        begins[part + 1] += begins[part];
    }
    for (size_t i = 0; i < many->left_n; i++) {
        size_t item = many->left[i], at = begins[redis_many_part(many, items, item)]++;

        memcpy(many->copies + at * bytes, items + item * bytes, bytes);
        many->origins[at] = item;
    }
}

static void start_portion(struct redis_many *many, struct redis_portion *portion)
{
    const struct redis_many_kind *kind = many->kind;
    struct op *request = redis_spread_copy(many->spread.op, kind->bytes);

    kind->give(request, many->copies + portion->from * kind->item_bytes, portion->n);
    if (kind->prepare != NULL)
        kind->prepare(many, request, portion->part);
    portion->request = request;
    redis_spread_start(&many->spread, request, portion->part);
    kind->method(many->spread.backend, request);
}

void redis_many_start(struct redis_spread *spread)
{
    struct redis_many *many = (struct redis_many *)spread;

    split(many);
    for (unsigned p = 0; p < many->portions_n; p++) {
        if (many->limits == NULL || many->limits[many->portions[p].part] > 0)
            start_portion(many, &many->portions[p]);
    }
}

void *redis_many_new(struct backend *backend, struct op *op, const struct redis_many_kind *kind,
                     size_t bytes)
{
    struct redis_many *many = redis_spread_new(backend, op, bytes);
    struct arena *arena = op_arena(op);
    size_t n;

    kind->items(op, &n);
    many->kind = kind;
    many->left = arena_array(arena, n, sizeof *many->left);
    many->left_n = n;
    many->origins = arena_array(arena, n, sizeof *many->origins);
    many->copies = arena_array(arena, n, kind->item_bytes);
    many->portions = arena_array(arena, n < REDIS_TAGS ? n : REDIS_TAGS, sizeof *many->portions);
    for (size_t i = 0; i < n; i++)
        many->left[i] = i;
    many->spread.start = redis_many_start;
    many->spread.done = redis_many_done;
    return many;
}

/* ---- gather ---- */

/* A part that failed as a whole has told none of its items. */
static void gather_portion(struct redis_many *many, const struct redis_portion *portion)
{
    const struct redis_many_kind *kind = many->kind;
    size_t n;
    uint8_t *items = (uint8_t *)(uintptr_t)kind->items(many->spread.op, &n);

    for (size_t i = 0; i < portion->n; i++) {
        uint8_t *item = items + many->origins[portion->from + i] * kind->item_bytes;

        memcpy(item, many->copies + (portion->from + i) * kind->item_bytes, kind->item_bytes);
        if (portion->request->err.code != ERR_OK)
            memcpy(item + kind->err_at, &portion->request->err, sizeof portion->request->err);
    }
}

struct err redis_many_gather(struct redis_many *many)
{
    struct err worst = ERR_NONE;
    bool answered = false;

    for (unsigned p = 0; p < many->portions_n; p++) {
        const struct redis_portion *portion = &many->portions[p];

        if (portion->request == NULL)
            continue;
        gather_portion(many, portion);
        answered = answered || portion->request->err.code == ERR_OK;
        worst = redis_spread_worse(worst, portion->request->err);
    }
    if (many->kind->whole && worst.code != ERR_OK && answered)
        return redis_in_part(op_arena(many->spread.op), worst);
    return answered ? ERR_NONE : worst;
}

void redis_many_done(struct redis_spread *spread)
{
    redis_spread_end(spread, redis_many_gather((struct redis_many *)spread));
}

bool redis_many_direct(struct backend *backend, struct op *op, const struct redis_many_kind *kind)
{
    unsigned parts = redis_spread_parts(backend);
    size_t n;
    const uint8_t *items = kind->items(op, &n);

    if (parts == 0 || (parts > 1 && n > 1))
        return false;
    op->backend_word = slice_hash(identity_of(items)) % parts;
    kind->method(backend, op);
    return true;
}
