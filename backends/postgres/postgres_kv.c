/* One key at a time: kv_basic and kv_cas; and what rows and versions have in common. */
#include "backends/postgres/postgres_kv.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

struct digest postgres_digest(struct slice key)
{
    return digest_of(&key, 1);
}

static int compare(const void *left, const void *right)
{
    const struct postgres_row *a = left, *b = right;
    int order = memcmp(a->digest.bytes, b->digest.bytes, sizeof a->digest.bytes);

    return order != 0 ? order : a->place < b->place ? -1 : a->place > b->place;
}

void postgres_rows_sort(struct postgres_row *rows, size_t n)
{
    if (n > 1)
        qsort(rows, n, sizeof *rows, compare);
}

size_t postgres_rows_find(const struct postgres_row *rows, size_t n, struct slice digest)
{
    size_t low = 0, high = n;

    if (digest.len != sizeof rows->digest.bytes)
        return n;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (memcmp(rows[middle].digest.bytes, digest.data, digest.len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < n && memcmp(rows[low].digest.bytes, digest.data, digest.len) == 0)
        return low;
    return n;
}

static bool is_last(const struct postgres_row *rows, size_t n, size_t i)
{
    return i + 1 == n || memcmp(&rows[i].digest, &rows[i + 1].digest, DIGEST_BYTES) != 0;
}

static struct postgres_array add_digests(struct postgres_params *params, size_t n)
{
    return postgres_add_array(params, POSTGRES_BYTEA, n, n * DIGEST_BYTES);
}

void postgres_upsert_params(struct postgres_params *params, int32_t space,
                            const struct postgres_row *rows, size_t n,
                            const struct postgres_write *writes)
{
    size_t unique = 0, key_bytes = 0, value_bytes = 0;
    struct postgres_array digests, keys, values, ttls;

    for (size_t i = 0; i < n; i++) {
        if (!is_last(rows, n, i))
            continue;
        unique++;
        key_bytes += writes[rows[i].place].key.len;
        value_bytes += writes[rows[i].place].value.len;
    }
    postgres_add_int4(params, space);
    digests = add_digests(params, unique);
    keys = postgres_add_array(params, POSTGRES_BYTEA, unique, key_bytes);
    values = postgres_add_array(params, POSTGRES_BYTEA, unique, value_bytes);
    ttls = postgres_add_array(params, POSTGRES_INT8, unique, unique * sizeof(int64_t));
    for (size_t i = 0; i < n; i++) {
        const struct postgres_write *write = &writes[rows[i].place];

        if (!is_last(rows, n, i))
            continue;
        postgres_element(&digests, postgres_digest_slice(&rows[i].digest));
        postgres_element(&keys, write->key);
        postgres_element(&values, write->value);
        postgres_element_int8(&ttls, postgres_ttl(write->ttl_ms));
    }
}

void postgres_lookup_params(struct postgres_params *params, int32_t space,
                            const struct postgres_row *rows, size_t n, uint64_t cap)
{
    struct postgres_array digests;
    size_t unique = 0;

    for (size_t i = 0; i < n; i++)
        unique += is_last(rows, n, i);
    postgres_add_int4(params, space);
    digests = add_digests(params, unique);
    for (size_t i = 0; i < n; i++) {
        if (is_last(rows, n, i))
            postgres_element(&digests, postgres_digest_slice(&rows[i].digest));
    }
    postgres_add_int8(params, cap < INT64_MAX ? (int64_t)cap : INT64_MAX);
}

/* ---- versions ---- */

enum { VERSION_CHARS = 16 };

struct slice postgres_version(struct arena *arena, int64_t version)
{
    return slice_str(arena_printf(arena, "%016llx", (unsigned long long)version));
}

bool postgres_version_read(struct slice text, int64_t *version)
{
    uint64_t number = 0;

    if (text.len != VERSION_CHARS)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return false;
        number = number << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *version = (int64_t)number;
    return true;
}

/* ---- statements about one key ---- */

void postgres_key_params(struct postgres_params *params, struct backend *backend, struct op *op,
                         struct slice key)
{
    struct digest digest = postgres_digest(key);

    postgres_params_init(params, op_arena(op));
    postgres_add_int4(params, postgres_of(backend)->space);
    postgres_add(params, arena_copy(op_arena(op), postgres_digest_slice(&digest)));
}

static void del_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct kv_del, op)->existed =
        PQntuples(result) > 0 && postgres_bool(result, 0, 0);
}

static const struct postgres_kind del_kind = {.writes = true, .result = del_result};

static void del(struct backend *backend, struct kv_del *req)
{
    struct postgres_params params;

    postgres_key_params(&params, backend, &req->op, req->key);
    postgres_run(postgres_of(backend), &req->op, &del_kind, NULL, SQL_DELETE, &params);
}

static void exists_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct kv_exists, op)->found = PQntuples(result) > 0;
}

static const struct postgres_kind exists_kind = {.result = exists_result};

static void exists(struct backend *backend, struct kv_exists *req)
{
    struct postgres_params params;

    postgres_key_params(&params, backend, &req->op, req->key);
    postgres_run(postgres_of(backend), &req->op, &exists_kind, NULL, SQL_EXISTS, &params);
}

const struct kv_basic postgres_kv_basic = {
    .put = postgres_put_one, .get = postgres_get_one, .del = del, .exists = exists};

/* ---- conditional writes ---- */

static void put_if_result(struct postgres_call *call, const PGresult *result)
{
    struct kv_put_if *req = CONTAINER_OF(call->op, struct kv_put_if, op);

    req->stored = PQntuples(result) > 0;
    if (req->stored)
        req->current_version = postgres_version(op_arena(&req->op), postgres_int8(result, 0, 0));
}

static const struct postgres_kind put_if_kind = {.writes = true, .result = put_if_result};

/* What is no version of ours is compared with one that no row has. */
static void put_if(struct backend *backend, struct kv_put_if *req)
{
    bool absent = req->condition == KV_IF_ABSENT;
    struct postgres_params params;
    int64_t version;

    postgres_key_params(&params, backend, &req->op, req->key);
    if (absent)
        postgres_add(&params, req->key);
    else
        postgres_add_int8(&params, postgres_version_read(req->version, &version) ? version : -1);
    postgres_add(&params, req->value);
    postgres_add_int8(&params, postgres_ttl(req->ttl_ms));
    postgres_run(postgres_of(backend), &req->op, &put_if_kind, NULL,
                 absent ? SQL_PUT_IF_ABSENT : SQL_PUT_IF_VERSION, &params);
}

const struct kv_cas postgres_kv_cas = {
    .version_means = "a number that each write takes anew from one sequence", .put_if = put_if};
