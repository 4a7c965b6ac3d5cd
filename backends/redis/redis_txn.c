/* All or none: MSET, which is atomic by itself, or a MULTI block.
 *
 * The connection is shared by all calls of the worker, and that is sound: a block is appended
 * without a pause, so no other command can come between. Redis refuses a block when one of its
 * commands is refused while it is queued (out of memory, read-only, not permitted): EXEC then
 * answers EXECABORT, and the first refusal is what the caller is told.
 *
 * A user who may write and may not use MULTI has the commands carried out one by one: all of them
 * are on their way before redis refuses the first. That is told as ERR_DATA_LOSS, and unknown. */
#include "backends/redis/redis_kv.h"

/* Answers: MULTI, one QUEUED for each item, EXEC; its array is the outcome of each item. */
static bool is_exec(const struct redis_call *call)
{
    return call->answered + 1 == call->answers;
}

static void refuse(struct redis_call *call, struct err e)
{
    if (call->err.code == ERR_OK)
        call->err = e;
}

static void exec_answer(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_NIL)
        refuse(call, (struct err){.code = ERR_ABORTED,
                                  .retry_after_ms = REDIS_RETRY_MS,
                                  .text = "redis discarded the transaction"});
    else if (node->type != REDIS_REPLY_ARRAY || (size_t)node->number + 2 != call->answers)
        redis_unexpected(call);
}

/* What is answered so was not queued, but carried out: MULTI was refused. */
static bool is_alone(const struct redis_call *call, const struct redis_node *node)
{
    return call->err.code != ERR_OK && call->answered > 0 &&
           (node->type == REDIS_REPLY_INTEGER ||
            (node->type == REDIS_REPLY_STATUS && slice_equal(node->text, slice_str("OK"))));
}

/* True: the outcome of one item. An error here would mean that redis ran a part of the block; SET
 * and DEL cannot fail once they are queued, unless somebody has changed what these names mean. */
static bool block_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->depth == 0) {
        if (is_exec(call))
            exec_answer(call, node);
        else if (is_alone(call, node))
            call->err = redis_alone();
        else if (node->type != REDIS_REPLY_STATUS)
            redis_unexpected(call);
        return false;
    }
    if (node->type != REDIS_REPLY_ERROR)
        return node->depth == 1;
    refuse(call, err_make(ERR_INTERNAL,
                          arena_printf(op_arena(call->op),
                                       "redis carried out a part of the transaction only: %.*s",
                                       (int)(node->text.len < 200 ? node->text.len : 200),
                                       (const char *)node->text.data)));
    return false;
}

/* Redis counts all of a block against client-query-buffer-limit, and hangs up beyond. */
static bool block_fits(struct backend *backend, struct op *op, size_t bytes)
{
    struct redis *redis = redis_of(backend);
    uint64_t most = redis->facts.query_bytes;

    if (most == 0 || bytes < most)
        return true;
    redis_finish(redis, op,
                 err_about(ERR_RESOURCE_EXHAUSTED, "client-query-buffer-limit",
                           "redis does not take a transaction of this size; nothing was sent"));
    return false;
}

static void put_node(struct redis_call *call, const struct redis_node *node)
{
    if (block_node(call, node) && node->type != REDIS_REPLY_STATUS)
        redis_unexpected(call);
}

static const struct redis_kind put_kind = {.writes = true, .node = put_node};

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    if (redis_put_is_plain(req)) {
        redis_put_plain(backend, req);
        return;
    }

    size_t bytes = redis_put_bytes(req) + redis_words(2);
    struct redis_call *call = NULL;

    if (block_fits(backend, &req->op, bytes))
        call = redis_begin(redis_of(backend), &req->op, &put_kind, bytes);
    if (call == NULL)
        return;
    redis_command(call, 1, "MULTI");
    for (size_t i = 0; i < req->n; i++)
        redis_set(call, req->items[i].base.key, req->items[i].value, req->items[i].ttl_ms);
    redis_command(call, 1, "EXEC");
}

static void del_node(struct redis_call *call, const struct redis_node *node)
{
    struct kv_del_many *req = CONTAINER_OF(call->op, struct kv_del_many, op);

    if (!block_node(call, node) || node->index >= req->n)
        return;
    if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    req->items[node->index].existed = node->number > 0;
}

static const struct redis_kind del_kind = {.writes = true, .node = del_node};

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    size_t bytes = redis_words(2);

    for (size_t i = 0; i < req->n; i++)
        bytes += req->items[i].base.key.len + redis_words(3);

    struct redis_call *call = NULL;

    if (block_fits(backend, &req->op, bytes))
        call = redis_begin(redis_of(backend), &req->op, &del_kind, bytes);
    if (call == NULL)
        return;
    redis_command(call, 1, "MULTI");
    for (size_t i = 0; i < req->n; i++) {
        redis_command(call, 2, "DEL");
        redis_word_key(call, req->items[i].base.key);
    }
    redis_command(call, 1, "EXEC");
}

const struct kv_txn redis_kv_txn = {
    .max_items = REDIS_BATCH_ITEMS, .put_many = put_many, .del_many = del_many};
