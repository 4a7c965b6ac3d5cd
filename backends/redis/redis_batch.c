/* Many keys in few commands.
 *
 *   get_many   redis_get_many.c
 *   put_many   one MSET if no item expires, else a SET for each item
 *   del_many   a DEL for each item, because each wants to know whether it existed
 *
 * Commands of one request go out together and their answers come back together: one round trip. */
#include "backends/redis/redis_kv.h"

/* ---- put_many ---- */

/* MSET: all items or, with one error for all, none. */
static void mset_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_STATUS)
        redis_unexpected(call);
}

static void mset_end(struct redis_call *call)
{
    struct kv_put_many *req = CONTAINER_OF(call->op, struct kv_put_many, op);

    for (size_t i = 0; i < req->n; i++)
        req->items[i].base.err = call->err;
    redis_finish(call->redis, call->op, call->err);
}

static const struct redis_kind mset_kind = {.writes = true, .node = mset_node, .end = mset_end};

static void set_each_node(struct redis_call *call, const struct redis_node *node)
{
    struct kv_put_many *req = CONTAINER_OF(call->op, struct kv_put_many, op);

    if (node->depth > 0)
        return;

    struct err *e = &req->items[node->index].base.err;

    if (node->type == REDIS_REPLY_ERROR)
        *e = redis_error(op_arena(&req->op), node->text);
    else if (node->type == REDIS_REPLY_STATUS)
        *e = ERR_NONE;
    else
        redis_unexpected(call);
}

static const struct redis_kind set_each_kind = {
    .writes = true, .item_errors = true, .node = set_each_node};

bool redis_put_is_plain(const struct kv_put_many *req)
{
    for (size_t i = 0; i < req->n; i++) {
        if (req->items[i].ttl_ms > 0)
            return false;
    }
    return true;
}

size_t redis_put_bytes(const struct kv_put_many *req)
{
    size_t bytes = 0;

    for (size_t i = 0; i < req->n; i++)
        bytes += redis_set_bytes(req->items[i].base.key, req->items[i].value);
    return bytes;
}

void redis_put_plain(struct backend *backend, struct kv_put_many *req)
{
    struct redis_call *call =
        redis_begin(redis_of(backend), &req->op, &mset_kind, redis_put_bytes(req));

    if (call == NULL)
        return;
    redis_command(call, 2 * (unsigned)req->n + 1, "MSET");
    for (size_t i = 0; i < req->n; i++) {
        redis_word_key(call, req->items[i].base.key);
        redis_word(call, req->items[i].value);
    }
}

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    if (redis_put_is_plain(req)) {
        redis_put_plain(backend, req);
        return;
    }

    struct redis_call *call =
        redis_begin(redis_of(backend), &req->op, &set_each_kind, redis_put_bytes(req));

    for (size_t i = 0; call != NULL && i < req->n; i++)
        redis_set(call, req->items[i].base.key, req->items[i].value, req->items[i].ttl_ms);
}

/* ---- del_many ---- */

static void del_each_node(struct redis_call *call, const struct redis_node *node)
{
    struct kv_del_many *req = CONTAINER_OF(call->op, struct kv_del_many, op);

    if (node->depth > 0)
        return;

    struct kv_del_item *item = &req->items[node->index];

    if (node->type == REDIS_REPLY_ERROR) {
        item->base.err = redis_error(op_arena(&req->op), node->text);
        return;
    }
    if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    item->base.err = ERR_NONE;
    item->existed = node->number > 0;
}

static const struct redis_kind del_each_kind = {
    .writes = true, .item_errors = true, .node = del_each_node};

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    size_t bytes = 0;

    for (size_t i = 0; i < req->n; i++)
        bytes += req->items[i].base.key.len + redis_words(3);

    struct redis_call *call = redis_begin(redis_of(backend), &req->op, &del_each_kind, bytes);

    for (size_t i = 0; call != NULL && i < req->n; i++) {
        redis_command(call, 2, "DEL");
        redis_word_key(call, req->items[i].base.key);
    }
}

const struct kv_batch redis_kv_batch = {.max_items = REDIS_BATCH_ITEMS,
                                        .calls = "ceil(n/1000); n to 3n for reads",
                                        .put_many = put_many,
                                        .get_many = redis_get_many,
                                        .del_many = del_many};
