/* One key at a time: kv_basic and kv_ttl, each method one command. */
#include "backends/redis/redis_kv.h"

static struct kv_get *get_of(struct redis_call *call)
{
    return CONTAINER_OF(call->op, struct kv_get, op);
}

/* ---- put ---- */

size_t redis_set_bytes(struct slice key, struct slice value)
{
    return key.len + value.len + redis_words(8);
}

void redis_set(struct redis_call *call, struct slice key, struct slice value, uint64_t ttl_ms)
{
    redis_command(call, ttl_ms > 0 ? 5 : 3, "SET");
    redis_word_key(call, key);
    redis_word_value(call, value);
    if (ttl_ms == 0)
        return;
    redis_word(call, slice_str("PX"));
    redis_word_number(call, ttl_ms < REDIS_TTL_MAX_MS ? ttl_ms : REDIS_TTL_MAX_MS);
}

static void status_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_STATUS)
        redis_unexpected(call);
}

static const struct redis_kind put_kind = {.writes = true, .node = status_node};

static void put(struct backend *backend, struct kv_put *req)
{
    struct redis_call *call =
        redis_begin(redis_of(backend), &req->op, &put_kind, redis_set_bytes(req->key, req->value));

    if (call != NULL)
        redis_set(call, req->key, req->value, req->ttl_ms);
}

/* ---- commands with a key and nothing else ---- */

static void key_command(struct backend *backend, struct op *op, const struct redis_kind *kind,
                        const char *name, struct slice key)
{
    struct redis_call *call = redis_begin(redis_of(backend), op, kind, key.len + redis_words(3));

    if (call == NULL)
        return;
    redis_command(call, 2, name);
    redis_word_key(call, key);
}

static void get_node(struct redis_call *call, const struct redis_node *node)
{
    struct kv_get *req = get_of(call);

    if (node->type != REDIS_REPLY_STRING && node->type != REDIS_REPLY_NIL) {
        redis_unexpected(call);
        return;
    }
    req->found = node->type == REDIS_REPLY_STRING;
    if (!req->found)
        return;
    redis_met_value(call->redis, node->text.len);
    req->value = kv_room_copy(req->room, op_arena(&req->op), node->text);
    if (req->want_version && req->value.data != NULL)
        req->version = redis_version(op_arena(&req->op), req->value);
}

static const struct redis_kind get_kind = {.node = get_node};

static void get(struct backend *backend, struct kv_get *req)
{
    key_command(backend, &req->op, &get_kind, "GET", req->key);
}

/* 0 or 1. */
static bool count_of(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    return node->number > 0;
}

static void del_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_del, op)->existed = count_of(call, node);
}

static const struct redis_kind del_kind = {.writes = true, .node = del_node};

static void del(struct backend *backend, struct kv_del *req)
{
    key_command(backend, &req->op, &del_kind, "DEL", req->key);
}

static void exists_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_exists, op)->found = count_of(call, node);
}

static const struct redis_kind exists_kind = {.node = exists_node};

static void exists(struct backend *backend, struct kv_exists *req)
{
    key_command(backend, &req->op, &exists_kind, "EXISTS", req->key);
}

const struct kv_basic redis_kv_basic = {.put = put, .get = get, .del = del, .exists = exists};

/* ---- time to live ---- */

static void expire_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_expire, op)->existed = count_of(call, node);
}

static const struct redis_kind expire_kind = {.writes = true, .node = expire_node};

static void expire(struct backend *backend, struct kv_expire *req)
{
    struct redis_call *call =
        redis_begin(redis_of(backend), &req->op, &expire_kind, req->key.len + redis_words(4));

    if (call == NULL)
        return;
    redis_command(call, 3, "PEXPIRE");
    redis_word_key(call, req->key);
    redis_word_number(call, req->ttl_ms < REDIS_TTL_MAX_MS ? req->ttl_ms : REDIS_TTL_MAX_MS);
}

/* -2: no such key; -1: no expiry; 0: in its last millisecond. */
static void ttl_node(struct redis_call *call, const struct redis_node *node)
{
    struct kv_ttl_get *req = CONTAINER_OF(call->op, struct kv_ttl_get, op);

    if (node->type != REDIS_REPLY_INTEGER || node->number < -2) {
        redis_unexpected(call);
        return;
    }
    req->found = node->number != -2;
    req->has_ttl = node->number >= 0;
    req->ttl_ms = node->number > 0 ? (uint64_t)node->number : req->has_ttl;
}

static const struct redis_kind ttl_kind = {.node = ttl_node};

static void ttl_get(struct backend *backend, struct kv_ttl_get *req)
{
    key_command(backend, &req->op, &ttl_kind, "PTTL", req->key);
}

static void persist_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_persist, op)->removed = count_of(call, node);
}

static const struct redis_kind persist_kind = {.writes = true, .node = persist_node};

static void persist(struct backend *backend, struct kv_persist *req)
{
    key_command(backend, &req->op, &persist_kind, "PERSIST", req->key);
}

const struct kv_ttl redis_kv_ttl = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};
