/* Many keys in one statement: kv_batch and kv_txn. A statement is a transaction, so a batch of
 * writes is atomic in any case, and its items share one outcome.
 *
 * get_many is bounded before it asks: values that would fit if all were as long come with the first
 * answer, and of the others their lengths. What then fits into the room, in request order, is asked
 * for by place. */
#include "backends/postgres/postgres_kv.h"

/* A request under way, in the arena of its op. */
struct many {
    struct postgres *postgres;
    struct postgres_row *rows; /* sorted */
    size_t n;
    struct slice (*key_of)(const struct many *many, size_t i);
    void *req;
    bool second; /* values that were too long for the first question */
};

static struct many *many_new(struct backend *backend, struct op *op, void *req, size_t n,
                             struct slice (*key_of)(const struct many *, size_t))
{
    struct many *many = arena_zalloc(op_arena(op), sizeof *many);

    *many = (struct many){.postgres = postgres_of(backend), .n = n, .key_of = key_of, .req = req};
    many->rows = arena_array(op_arena(op), n, sizeof *many->rows);
    for (size_t i = 0; i < n; i++)
        many->rows[i] =
            (struct postgres_row){.digest = postgres_digest(key_of(many, i)), .place = (uint32_t)i};
    postgres_rows_sort(many->rows, n);
    return many;
}

/* Calls take for each item that the row of the result is about. */
static void each_item(struct many *many, const PGresult *result, int row,
                      void (*take)(struct many *, size_t place, const PGresult *, int row))
{
    struct slice digest = postgres_bytes(result, row, 0);
    size_t at = postgres_rows_find(many->rows, many->n, digest);

    for (; at < many->n && slice_equal(postgres_digest_slice(&many->rows[at].digest), digest); at++)
        take(many, many->rows[at].place, result, row);
}

/* ---- put ---- */

static struct slice put_key(const struct many *many, size_t i)
{
    return ((struct kv_put_many *)many->req)->items[i].base.key;
}

static void put_result(struct postgres_call *call, const PGresult *result)
{
    (void)call;
    (void)result; /* all or none */
}

static const struct postgres_kind put_kind = {.writes = true, .result = put_result};

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    struct arena *arena = op_arena(&req->op);
    struct many *many = many_new(backend, &req->op, req, req->n, put_key);
    struct postgres_write *writes = arena_array(arena, req->n, sizeof *writes);
    struct postgres_params params;

    for (size_t i = 0; i < req->n; i++) {
        req->items[i].base.err = ERR_NONE;
        writes[i] = (struct postgres_write){.key = req->items[i].base.key,
                                            .value = req->items[i].value,
                                            .ttl_ms = req->items[i].ttl_ms};
    }
    postgres_params_init(&params, arena);
    postgres_upsert_params(&params, many->postgres->space, many->rows, many->n, writes);
    postgres_run(many->postgres, &req->op, &put_kind, NULL, SQL_UPSERT, &params);
}

/* ---- del ---- */

static struct slice del_key(const struct many *many, size_t i)
{
    return ((struct kv_del_many *)many->req)->items[i].base.key;
}

/* Of items with the same key the first one removes it. */
static void del_result(struct postgres_call *call, const PGresult *result)
{
    struct many *many = call->state;
    struct kv_del_many *req = many->req;

    for (int row = 0; row < PQntuples(result); row++) {
        size_t at = postgres_rows_find(many->rows, many->n, postgres_bytes(result, row, 0));

        if (at < many->n)
            req->items[many->rows[at].place].existed = postgres_bool(result, row, 1);
    }
}

static const struct postgres_kind del_kind = {.writes = true, .result = del_result};

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    struct many *many = many_new(backend, &req->op, req, req->n, del_key);
    struct postgres_params params;
    struct postgres_array digests;

    postgres_params_init(&params, op_arena(&req->op));
    postgres_add_int4(&params, many->postgres->space);
    digests = postgres_add_array(&params, POSTGRES_BYTEA, req->n, req->n * DIGEST_BYTES);
    for (size_t i = 0; i < req->n; i++) {
        req->items[i].base.err = ERR_NONE;
        req->items[i].existed = false;
        postgres_element(&digests, postgres_digest_slice(&many->rows[i].digest));
    }
    postgres_run(many->postgres, &req->op, &del_kind, many, SQL_DELETE_MANY, &params);
}

/* ---- get ---- */

static struct slice get_key(const struct many *many, size_t i)
{
    return ((struct kv_get_many *)many->req)->items[i].base.key;
}

static void take_value(struct many *many, size_t place, const PGresult *result, int row)
{
    struct kv_get_many *req = many->req;
    struct kv_get_item *item = &req->items[place];

    item->found = true;
    if (PQgetisnull(result, row, 2))
        item->value = slice_of(NULL, (size_t)postgres_int4(result, row, 1));
    else
        item->value = kv_room_copy(req->room, op_arena(&req->op), postgres_bytes(result, row, 2));
}

static void get_result(struct postgres_call *call, const PGresult *result)
{
    struct many *many = call->state;

    for (int row = 0; row < PQntuples(result); row++)
        each_item(many, result, row, take_value);
}

static void get_end(struct postgres_call *call);

static const struct postgres_kind get_kind = {.result = get_result, .end = get_end};

static void ask(struct many *many, uint64_t cap)
{
    struct kv_get_many *req = many->req;
    struct postgres_params params;

    postgres_params_init(&params, op_arena(&req->op));
    postgres_lookup_params(&params, many->postgres->space, many->rows, many->n, cap);
    postgres_run(many->postgres, &req->op, &get_kind, many, SQL_LOOKUP_MANY, &params);
}

/* Keeps the rows of the items that fit into what is left of the room, in request order. An empty
 * value has no data, and fits anyhow. */
static size_t choose(struct many *many)
{
    struct kv_get_many *req = many->req;
    bool *chosen = arena_array(op_arena(&req->op), req->n, sizeof *chosen);
    uint64_t left = req->room->bytes;
    size_t kept = 0;

    for (size_t i = 0; i < req->n; i++) {
        struct slice value = req->items[i].value;

        if (!req->items[i].found || value.data != NULL || value.len == 0)
            continue;
        chosen[i] = value.len <= left;
        left -= chosen[i] ? value.len : 0;
        req->room->exceeded = req->room->exceeded || !chosen[i];
    }
    for (size_t i = 0; i < many->n; i++) {
        if (chosen[many->rows[i].place])
            many->rows[kept++] = many->rows[i];
    }
    return kept;
}

static void get_end(struct postgres_call *call)
{
    struct many *many = call->state;
    struct kv_get_many *req = many->req;

    if (call->err.code == ERR_OK && req->room != NULL && !many->second) {
        many->second = true;
        many->n = choose(many);
        if (many->n > 0) {
            ask(many, req->room->bytes);
            return;
        }
    }
    postgres_finish(many->postgres, &req->op, postgres_err(call, &req->op));
}

static void get_many(struct backend *backend, struct kv_get_many *req)
{
    struct many *many = many_new(backend, &req->op, req, req->n, get_key);

    for (size_t i = 0; i < req->n; i++) {
        req->items[i].base.err = ERR_NONE;
        req->items[i].found = false;
        req->items[i].value = slice_of(NULL, 0);
    }
    ask(many, req->room != NULL ? req->room->bytes / req->n : UINT64_MAX);
}

const struct kv_batch postgres_kv_batch = {.max_items = POSTGRES_BATCH_ITEMS,
                                           .calls = "1",
                                           .put_many = put_many,
                                           .get_many = get_many,
                                           .del_many = del_many};

const struct kv_txn postgres_kv_txn = {
    .max_items = POSTGRES_BATCH_ITEMS, .put_many = put_many, .del_many = del_many};
