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
    redis_word(call, value);
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

static void put_at(struct redis *redis, struct op *op);

static const struct redis_kind put_kind = {.writes = true, .node = status_node, .again = put_at};

static void put_at(struct redis *redis, struct op *op)
{
    const struct kv_put *req = CONTAINER_OF(op, struct kv_put, op);
    struct redis_call *call =
        redis_begin(redis, op, &put_kind, redis_set_bytes(req->key, req->value));

    if (call != NULL)
        redis_set(call, req->key, req->value, req->ttl_ms);
}

static void put(struct backend *backend, struct kv_put *req)
{
    put_at(redis_to(backend, req->key), &req->op);
}

/* ---- commands with a key and nothing else ---- */

static void key_command(struct redis *redis, struct op *op, const struct redis_kind *kind,
                        const char *name, struct slice key)
{
    struct redis_call *call = redis_begin(redis, op, kind, key.len + redis_words(3));

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
    req->value = kv_room_copy(req->room, op_arena(&req->op), node->text);
    if (req->want_version && req->value.data != NULL)
        req->version = redis_version(op_arena(&req->op), req->value);
}

static void get_at(struct redis *redis, struct op *op);

static const struct redis_kind get_kind = {.node = get_node, .again = get_at};

static void get_at(struct redis *redis, struct op *op)
{
    key_command(redis, op, &get_kind, "GET", CONTAINER_OF(op, struct kv_get, op)->key);
}

static void get(struct backend *backend, struct kv_get *req)
{
    get_at(redis_to(backend, req->key), &req->op);
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

static void del_at(struct redis *redis, struct op *op);

static const struct redis_kind del_kind = {.writes = true, .node = del_node, .again = del_at};

static void del_at(struct redis *redis, struct op *op)
{
    key_command(redis, op, &del_kind, "DEL", CONTAINER_OF(op, struct kv_del, op)->key);
}

static void del(struct backend *backend, struct kv_del *req)
{
    del_at(redis_to(backend, req->key), &req->op);
}

static void exists_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_exists, op)->found = count_of(call, node);
}

static void exists_at(struct redis *redis, struct op *op);

static const struct redis_kind exists_kind = {.node = exists_node, .again = exists_at};

static void exists_at(struct redis *redis, struct op *op)
{
    key_command(redis, op, &exists_kind, "EXISTS", CONTAINER_OF(op, struct kv_exists, op)->key);
}

static void exists(struct backend *backend, struct kv_exists *req)
{
    exists_at(redis_to(backend, req->key), &req->op);
}

const struct kv_basic redis_kv_basic = {.put = put, .get = get, .del = del, .exists = exists};

/* ---- time to live ---- */

static void expire_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_expire, op)->existed = count_of(call, node);
}

static void expire_at(struct redis *redis, struct op *op);

static const struct redis_kind expire_kind = {
    .writes = true, .node = expire_node, .again = expire_at};

static void expire_at(struct redis *redis, struct op *op)
{
    const struct kv_expire *req = CONTAINER_OF(op, struct kv_expire, op);
    struct redis_call *call = redis_begin(redis, op, &expire_kind, req->key.len + redis_words(4));

    if (call == NULL)
        return;
    redis_command(call, 3, "PEXPIRE");
    redis_word_key(call, req->key);
    redis_word_number(call, req->ttl_ms < REDIS_TTL_MAX_MS ? req->ttl_ms : REDIS_TTL_MAX_MS);
}

static void expire(struct backend *backend, struct kv_expire *req)
{
    expire_at(redis_to(backend, req->key), &req->op);
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

static void ttl_get_at(struct redis *redis, struct op *op);

static const struct redis_kind ttl_kind = {.node = ttl_node, .again = ttl_get_at};

static void ttl_get_at(struct redis *redis, struct op *op)
{
    key_command(redis, op, &ttl_kind, "PTTL", CONTAINER_OF(op, struct kv_ttl_get, op)->key);
}

static void ttl_get(struct backend *backend, struct kv_ttl_get *req)
{
    ttl_get_at(redis_to(backend, req->key), &req->op);
}

static void persist_node(struct redis_call *call, const struct redis_node *node)
{
    CONTAINER_OF(call->op, struct kv_persist, op)->removed = count_of(call, node);
}

static void persist_at(struct redis *redis, struct op *op);

static const struct redis_kind persist_kind = {
    .writes = true, .node = persist_node, .again = persist_at};

static void persist_at(struct redis *redis, struct op *op)
{
    key_command(redis, op, &persist_kind, "PERSIST", CONTAINER_OF(op, struct kv_persist, op)->key);
}

static void persist(struct backend *backend, struct kv_persist *req)
{
    persist_at(redis_to(backend, req->key), &req->op);
}

const struct kv_ttl redis_kv_ttl = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};
