/* kv_scan: pages in ascending order of the keys' bytes. A cursor is the last key that was returned,
 * so a key that exists throughout is in exactly one page, and a cursor is good for ever and for any
 * process. "pg1.", 16 hexadecimal digits of a check, and the key in hex.
 *
 * The check is part of a SHA-256 over namespace, prefix and key. It is no secret: it finds cursors
 * that were cut, edited or made for another namespace or prefix. The prefix comes from the request,
 * so a cursor that somebody computes by hand reads nothing else either. */
#include "backends/postgres/postgres_kv.h"

#include <string.h>

static const char magic[] = "pg1.";

enum { MAGIC = 4, CHECK = 8, HEAD = MAGIC + 2 * CHECK };

/* ---- cursors ---- */

static void check_of(const struct backend *backend, struct slice prefix, struct slice key,
                     uint8_t check[CHECK])
{
    const struct slice parts[] = {slice_of(&prefix.len, sizeof prefix.len),
                                  slice_str(backend->store->namespace_name), slice_of("", 1),
                                  prefix, key};
    struct digest digest = digest_of(parts, ARRAY_LEN(parts));

    memcpy(check, digest.bytes, CHECK);
}

static char *put_hex(char *to, struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < bytes.len; i++) {
        *to++ = digits[bytes.data[i] >> 4];
        *to++ = digits[bytes.data[i] & 15];
    }
    return to;
}

static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_hex(struct slice text, uint8_t *to)
{
    for (size_t i = 0; i + 1 < text.len; i += 2) {
        int high = digit_of(text.data[i]), low = digit_of(text.data[i + 1]);

        if (high < 0 || low < 0)
            return false;
        *to++ = (uint8_t)(high << 4 | low);
    }
    return text.len % 2 == 0;
}

static struct slice cursor_of(const struct backend *backend, const struct kv_scan_page *req,
                              struct slice last)
{
    size_t len = HEAD + 2 * last.len;
    char *text = arena_alloc(req->op.arena, len), *at = text + MAGIC;
    uint8_t check[CHECK];

    check_of(backend, req->prefix, last, check);
    memcpy(text, magic, MAGIC);
    at = put_hex(at, slice_of(check, CHECK));
    put_hex(at, last);
    return slice_of(text, len);
}

static bool cursor_read(const struct backend *backend, const struct kv_scan_page *req,
                        struct slice *last)
{
    struct slice cursor = req->cursor;
    uint8_t told[CHECK], check[CHECK], *key;

    if (cursor.len < HEAD || cursor.len > HEAD + 2 * POSTGRES_KEY_BYTES ||
        !slice_starts_with(cursor, slice_of(magic, MAGIC)))
        return false;
    key = arena_alloc(req->op.arena, cursor.len);
    if (!get_hex(slice_of(cursor.data + MAGIC, 2 * CHECK), told) ||
        !get_hex(slice_of(cursor.data + HEAD, cursor.len - HEAD), key))
        return false;
    *last = slice_of(key, (cursor.len - HEAD) / 2);
    check_of(backend, req->prefix, *last, check);
    return memcmp(told, check, CHECK) == 0;
}

/* ---- ranges ---- */

/* The key right behind this one. */
static struct slice successor(struct arena *arena, struct slice key)
{
    uint8_t *bytes = arena_zalloc(arena, key.len + 1);

    memcpy(bytes, key.data, key.len);
    return slice_of(bytes, key.len + 1);
}

/* The first key behind all that start with the prefix; behind all keys, if there is none. */
static struct slice behind(struct arena *arena, struct slice prefix)
{
    uint8_t *bytes;

    while (prefix.len > 0 && prefix.data[prefix.len - 1] == 0xff)
        prefix.len--;
    if (prefix.len == 0)
        return slice_of(
            memset(arena_alloc(arena, POSTGRES_KEY_BYTES + 1), 0xff, POSTGRES_KEY_BYTES + 1),
            POSTGRES_KEY_BYTES + 1);
    bytes = arena_alloc(arena, prefix.len);
    memcpy(bytes, prefix.data, prefix.len);
    bytes[prefix.len - 1]++;
    return slice_of(bytes, prefix.len);
}

static void range_params(struct postgres_params *params, const struct backend *backend,
                         struct arena *arena, struct slice from, struct slice prefix)
{
    postgres_params_init(params, arena);
    postgres_add_int4(params, CONTAINER_OF(backend, const struct postgres, base)->space);
    postgres_add(params, from);
    postgres_add(params, behind(arena, prefix));
}

/* ---- pages ---- */

static void page_result(struct postgres_call *call, const PGresult *result)
{
    struct kv_scan_page *req = CONTAINER_OF(call->op, struct kv_scan_page, op);
    struct arena *arena = op_arena(&req->op);
    int rows = PQntuples(result);

    req->items = arena_array(arena, (size_t)rows, sizeof *req->items);
    for (int row = 0; row < rows; row++) {
        req->items[row].key = arena_copy(arena, postgres_bytes(result, row, 0));
        req->items[row].value = arena_copy(arena, postgres_bytes(result, row, 1));
    }
    req->n = (size_t)rows;
    req->more = rows > 0 && postgres_int8(result, 0, 2) > rows;
    if (req->more)
        req->next_cursor = cursor_of(&call->conn->postgres->base, req, req->items[rows - 1].key);
}

static const struct postgres_kind page_kind = {.result = page_result};

static void page(struct backend *backend, struct kv_scan_page *req)
{
    struct arena *arena = op_arena(&req->op);
    struct slice from = req->prefix, last;
    struct postgres_params params;

    if (req->cursor.len > 0) {
        if (!cursor_read(backend, req, &last)) {
            counter_add(&backend->stats.calls, 1);
            op_finish(&req->op, err_about(ERR_INVALID_ARGUMENT, "cursor",
                                          "is not one that a scan of this prefix has returned"));
            return;
        }
        from = successor(arena, last);
        if (slice_compare(from, req->prefix) < 0)
            from = req->prefix;
    }
    req->n = 0;
    req->more = false;
    range_params(&params, backend, arena, from, req->prefix);
    postgres_add_int8(&params, req->max_items);
    postgres_add_int8(&params, req->max_bytes < INT64_MAX ? (int64_t)req->max_bytes : INT64_MAX);
    postgres_add_bool(&params, req->with_values);
    postgres_run(postgres_of(backend), &req->op, &page_kind, NULL, SQL_PAGE, &params);
}

/* ---- counts: in slices, so that none holds postgres for long ---- */

struct counting {
    struct slice from;
    int64_t walked; /* rows of the last slice */
};

static void count_end(struct postgres_call *call);

static void count_result(struct postgres_call *call, const PGresult *result)
{
    struct kv_count *req = CONTAINER_OF(call->op, struct kv_count, op);
    struct counting *counting = call->state;

    counting->walked = 0;
    if (PQntuples(result) == 0)
        return;
    counting->walked = postgres_int8(result, 0, 1);
    counting->from = successor(op_arena(&req->op), postgres_bytes(result, 0, 0));
    req->count += (uint64_t)counting->walked;
}

static const struct postgres_kind count_kind = {.result = count_result, .end = count_end};

static void count_slice(struct postgres *postgres, struct kv_count *req, struct counting *counting)
{
    struct postgres_params params;

    range_params(&params, &postgres->base, op_arena(&req->op), counting->from, req->prefix);
    postgres_add_int8(&params, POSTGRES_COUNT_SLICE);
    postgres_run(postgres, &req->op, &count_kind, counting, SQL_COUNT, &params);
}

static void count_end(struct postgres_call *call)
{
    struct kv_count *req = CONTAINER_OF(call->op, struct kv_count, op);
    struct counting *counting = call->state;

    if (call->err.code == ERR_OK && counting->walked == POSTGRES_COUNT_SLICE)
        count_slice(call->conn->postgres, req, counting);
    else
        postgres_finish(call->conn->postgres, &req->op, postgres_err(call, &req->op));
}

static void count(struct backend *backend, struct kv_count *req)
{
    struct counting *counting = arena_zalloc(op_arena(&req->op), sizeof *counting);

    req->count = 0;
    counting->from = req->prefix;
    count_slice(postgres_of(backend), req, counting);
}

const struct kv_scan postgres_kv_scan = {.exactly_once = true,
                                         .ordered = true,
                                         .max_items = POSTGRES_SCAN_ITEMS,
                                         .calls = "1",
                                         .page = page,
                                         .count = count};
