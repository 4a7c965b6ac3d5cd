/* Batches over a cluster: an operation of its own for each item, all of them under way together.
 *
 * What goes to one node shares a write, and each item is sent on alone when its slot has moved. The
 * outcomes are gathered when the last one is in; they have the places of the request. */
#include "backends/redis/redis_kv.h"

enum { ITEMS = 256 /* some 300 bytes each while the batch runs */ };

struct batch {
    struct op_group group; /* of the items' operations */
    struct redis *redis;
    struct op *op;                /* of the batch */
    bool (*step)(struct batch *); /* all operations are done: gathers (true), or starts others */
    void *parts;                  /* kv_put, kv_get or kv_del of each item */
};

static void on_done(struct op *op)
{
    (void)op; /* gathered later */
}

static void on_idle(struct op_group *group)
{
    struct batch *batch = CONTAINER_OF(group, struct batch, group);

    if (batch->step(batch))
        redis_finish(batch->redis, batch->op, ERR_NONE);
}

static void cancel(struct op *op, struct err why)
{
    struct batch *batch = op->backend_data;

    op_group_cancel(&batch->group, why);
}

static void begin(struct batch *batch, struct backend *backend, struct op *op, size_t parts_bytes)
{
    op_group_init(&batch->group, backend->home, op_arena(op), op_deadline_ns(op));
    batch->group.idle = on_idle;
    batch->redis = redis_of(backend);
    batch->op = op;
    batch->parts = arena_zalloc(op_arena(op), parts_bytes);
    op_group_enter(&batch->group);
    op->backend_data = batch;
    op_park(op, cancel);
}

static bool gather_puts(struct batch *batch)
{
    struct kv_put_many *req = CONTAINER_OF(batch->op, struct kv_put_many, op);
    const struct kv_put *parts = batch->parts;

    for (size_t i = 0; i < req->n; i++)
        req->items[i].base.err = parts[i].op.err;
    return true;
}

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    struct batch *batch = arena_zalloc(op_arena(&req->op), sizeof *batch);
    struct kv_put *parts;

    begin(batch, backend, &req->op, req->n * sizeof *parts);
    batch->step = gather_puts;
    parts = batch->parts;
    for (size_t i = 0; i < req->n; i++) {
        parts[i].key = req->items[i].base.key;
        parts[i].value = req->items[i].value;
        parts[i].ttl_ms = req->items[i].ttl_ms;
        op_start(&parts[i].op, &batch->group, on_done);
        redis_kv_basic.put(backend, &parts[i]);
    }
    op_group_leave(&batch->group);
}

/* ---- get_many ----
 *
 * The room is dealt out in the order of the request, whatever the order of the answers. So the
 * lengths are asked for first, unless values as large as any that this process has met would all
 * fit; then only what fits is fetched. */

struct length {
    struct op op;
    struct slice key;
    uint64_t bytes; /* 0: no such key, or an empty value */
};

struct gets {
    struct batch batch; /* first */
    struct length *lengths;
    bool measured;
};

static void length_at(struct redis *redis, struct op *op);

static void length_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_INTEGER || node->number < 0)
        redis_unexpected(call);
    else
        CONTAINER_OF(call->op, struct length, op)->bytes = (uint64_t)node->number;
}

static const struct redis_kind length_kind = {.node = length_node, .again = length_at};

static void length_at(struct redis *redis, struct op *op)
{
    struct slice key = CONTAINER_OF(op, struct length, op)->key;
    struct redis_call *call = redis_begin(redis, op, &length_kind, key.len + redis_words(3));

    if (call == NULL)
        return;
    redis_command(call, 2, "STRLEN");
    redis_word_key(call, key);
}

static bool gather_gets(struct batch *batch)
{
    struct kv_get_many *req = CONTAINER_OF(batch->op, struct kv_get_many, op);
    const struct gets *gets = CONTAINER_OF(batch, struct gets, batch);
    const struct kv_get *parts = batch->parts;

    for (size_t i = 0; i < req->n; i++) {
        struct kv_get_item *item = &req->items[i];

        if (parts[i].op.done == NULL) /* never started: it was measured, and does not fit */
            continue;
        item->base.err = parts[i].op.err;
        item->found = parts[i].found;
        item->value = parts[i].value;
        if (!gets->measured && item->found && !kv_room_take(req->room, item->value.len))
            item->value = slice_of(NULL, item->value.len);
    }
    return true;
}

static void start_get(struct gets *gets, size_t i)
{
    struct kv_get_many *req = CONTAINER_OF(gets->batch.op, struct kv_get_many, op);
    struct kv_get *part = (struct kv_get *)gets->batch.parts + i;

    part->key = req->items[i].base.key;
    op_start(&part->op, &gets->batch.group, on_done);
    redis_kv_basic.get(&gets->batch.redis->base, part);
}

/* A length that could not be asked for is found out by the GET. */
static bool fetch_what_fits(struct batch *batch)
{
    struct kv_get_many *req = CONTAINER_OF(batch->op, struct kv_get_many, op);
    struct gets *gets = CONTAINER_OF(batch, struct gets, batch);

    gets->measured = true;
    batch->step = gather_gets;
    op_group_enter(&batch->group);
    for (size_t i = 0; i < req->n; i++) {
        uint64_t bytes = gets->lengths[i].bytes;

        if (gets->lengths[i].op.err.code == ERR_OK && !kv_room_take(req->room, bytes)) {
            req->items[i].base.err = ERR_NONE;
            req->items[i].found = true;
            req->items[i].value = slice_of(NULL, bytes);
            continue;
        }
        start_get(gets, i);
    }
    op_group_leave(&batch->group); /* gathers, if nothing was started */
    return false;
}

static bool surely_fit(const struct redis *redis, const struct kv_get_many *req)
{
    uint64_t met = redis->values_met;
    const struct redis *primary = NULL;

    if (req->room == NULL)
        return true;
    while ((primary = redis_cluster_next(redis->cluster, primary)) != NULL)
        met += primary->values_met;
    return met >= req->n && redis_largest_value(redis) <= req->room->bytes / req->n;
}

static void get_many(struct backend *backend, struct kv_get_many *req)
{
    struct gets *gets = arena_zalloc(op_arena(&req->op), sizeof *gets);

    begin(&gets->batch, backend, &req->op, req->n * sizeof(struct kv_get));
    if (surely_fit(redis_of(backend), req)) {
        gets->batch.step = gather_gets;
        for (size_t i = 0; i < req->n; i++)
            start_get(gets, i);
    } else {
        gets->batch.step = fetch_what_fits;
        gets->lengths = arena_array(op_arena(&req->op), req->n, sizeof *gets->lengths);
        for (size_t i = 0; i < req->n; i++) {
            gets->lengths[i] = (struct length){.key = req->items[i].base.key};
            op_start(&gets->lengths[i].op, &gets->batch.group, on_done);
            length_at(redis_to(backend, gets->lengths[i].key), &gets->lengths[i].op);
        }
    }
    op_group_leave(&gets->batch.group);
}

/* ---- del_many ---- */

static bool gather_dels(struct batch *batch)
{
    struct kv_del_many *req = CONTAINER_OF(batch->op, struct kv_del_many, op);
    const struct kv_del *parts = batch->parts;

    for (size_t i = 0; i < req->n; i++) {
        req->items[i].base.err = parts[i].op.err;
        req->items[i].existed = parts[i].existed;
    }
    return true;
}

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    struct batch *batch = arena_zalloc(op_arena(&req->op), sizeof *batch);
    struct kv_del *parts;

    begin(batch, backend, &req->op, req->n * sizeof *parts);
    batch->step = gather_dels;
    parts = batch->parts;
    for (size_t i = 0; i < req->n; i++) {
        parts[i].key = req->items[i].base.key;
        op_start(&parts[i].op, &batch->group, on_done);
        redis_kv_basic.del(backend, &parts[i]);
    }
    op_group_leave(&batch->group);
}

const struct kv_batch redis_cluster_batch = {.max_items = ITEMS,
                                             .calls = "n",
                                             .put_many = put_many,
                                             .get_many = get_many,
                                             .del_many = del_many};
