/* Conditional writes.
 *
 * Redis keeps no version of a value, so the value is its own version: the SHA-1 of its bytes,
 * computed here for what is read or written and by the script for what is stored. Two equal values
 * have the same version, whoever wrote them; a value that was changed and changed back passes for
 * unchanged.
 *
 *   if absent    SET ... NX
 *   if version   EVALSHA; a server that does not know the script (restarted, flushed) answers
 *                NOSCRIPT and gets EVAL */
#include "backends/redis/redis_kv.h"

/* 1: written. Errors of the commands are handed on as they are, so that their first word still
 * tells what they mean. */
static const char script[] = "local v = redis.pcall('GET', KEYS[1])\n"
                             "if type(v) == 'table' and v.err then return v end\n"
                             "if not v or redis.sha1hex(v) ~= ARGV[1] then return 0 end\n"
                             "local r\n"
                             "if ARGV[3] == '0' then r = redis.pcall('SET', KEYS[1], ARGV[2])\n"
                             "else r = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end\n"
                             "if r.err then return r end\n"
                             "return 1\n";

static void by_script(struct redis *redis, struct kv_put_if *req, bool by_name);

static struct kv_put_if *request_of(struct redis_call *call)
{
    return CONTAINER_OF(call->op, struct kv_put_if, op);
}

static void finish(struct redis_call *call)
{
    struct kv_put_if *req = request_of(call);

    if (call->err.code == ERR_OK && req->stored)
        req->current_version = redis_version(op_arena(&req->op), req->value);
    redis_finish(call->redis, call->op, call->err);
}

/* ---- if absent ---- */

static void absent_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_STATUS && node->type != REDIS_REPLY_NIL)
        redis_unexpected(call);
    request_of(call)->stored = node->type == REDIS_REPLY_STATUS;
}

static void if_absent(struct redis *redis, struct op *op);

static const struct redis_kind absent_kind = {
    .writes = true, .node = absent_node, .end = finish, .again = if_absent};

static uint64_t ttl_of(const struct kv_put_if *req)
{
    return req->ttl_ms < REDIS_TTL_MAX_MS ? req->ttl_ms : REDIS_TTL_MAX_MS;
}

static void if_absent(struct redis *redis, struct op *op)
{
    const struct kv_put_if *req = CONTAINER_OF(op, struct kv_put_if, op);
    struct redis_call *call =
        redis_begin(redis, op, &absent_kind, redis_set_bytes(req->key, req->value));

    if (call == NULL)
        return;
    redis_command(call, req->ttl_ms > 0 ? 6 : 4, "SET");
    redis_word_key(call, req->key);
    redis_word(call, req->value);
    redis_word(call, slice_str("NX"));
    if (req->ttl_ms > 0) {
        redis_word(call, slice_str("PX"));
        redis_word_number(call, ttl_of(req));
    }
}

/* ---- if version ---- */

static void script_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR && redis_error_is(node->text, "NOSCRIPT"))
        call->state = call; /* unknown script: marks that end() has to send it */
    else if (node->type == REDIS_REPLY_ERROR)
        call->err = redis_error(op_arena(call->op), node->text);
    else if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    request_of(call)->stored = node->type == REDIS_REPLY_INTEGER && node->number == 1;
}

static void script_end(struct redis_call *call)
{
    if (call->state != NULL)
        by_script(call->redis, request_of(call), false);
    else
        finish(call);
}

/* As a whole: a node that wants ASKING before it wants that before each command. */
static void script_again(struct redis *redis, struct op *op)
{
    by_script(redis, CONTAINER_OF(op, struct kv_put_if, op), false);
}

static const struct redis_kind script_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = script_node,
                                              .end = script_end,
                                              .again = script_again};

static void by_script(struct redis *redis, struct kv_put_if *req, bool by_name)
{
    size_t bytes = req->key.len + req->value.len + req->version.len + sizeof script;
    struct redis_call *call = redis_begin(redis, &req->op, &script_kind, bytes + redis_words(7));
    char name[REDIS_SHA1_HEX];

    if (call == NULL)
        return;
    redis_command(call, 7, by_name ? "EVALSHA" : "EVAL");
    if (by_name)
        redis_sha1_hex(slice_str(script), name);
    redis_word(call, by_name ? slice_of(name, sizeof name) : slice_str(script));
    redis_word(call, slice_str("1"));
    redis_word_key(call, req->key);
    redis_word(call, req->version);
    redis_word(call, req->value);
    redis_word_number(call, ttl_of(req));
}

static void put_if(struct backend *backend, struct kv_put_if *req)
{
    switch (req->condition) {
    case KV_IF_ABSENT:
        if_absent(redis_to(backend, req->key), &req->op);
        return;
    case KV_IF_VERSION:
        by_script(redis_to(backend, req->key), req, true);
        return;
    }
}

const struct kv_cas redis_kv_cas = {
    .version_means =
        "the content: SHA-1 of the value; a value changed and changed back has its old "
        "version again",
    .put_if = put_if};
