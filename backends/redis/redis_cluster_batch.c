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
 * As redis_get_many, by the steps and for the reasons that are told there, with an operation of its
 * own for each key in each step. The room is dealt out in the order of the request, whatever the
 * order of the answers: first to the heads, then to what is longer. */

/* What is known of an item before its value is asked for. */
struct measure {
    struct op op;
    struct slice key;
    uint64_t head;      /* bytes that are asked for at once */
    struct slice value; /* the whole of it, unless `longer` */
    bool longer;        /* or it could not be asked for */
    uint64_t bytes;     /* of a longer one, once measured */
    bool settled;       /* the item has its outcome */
};

struct gets {
    struct batch batch; /* first */
    struct measure *measures;
};

static void head_at(struct redis *redis, struct op *op);
static void length_at(struct redis *redis, struct op *op);

static struct measure *measure_of(struct op *op)
{
    return CONTAINER_OF(op, struct measure, op);
}

static void head_node(struct redis_call *call, const struct redis_node *node)
{
    struct measure *measure = measure_of(call->op);

    if (node->type != REDIS_REPLY_STRING)
        redis_unexpected(call);
    else if (node->text.len > measure->head)
        measure->longer = true;
    else
        measure->value = arena_copy(op_arena(call->op), node->text);
}

static void length_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type != REDIS_REPLY_INTEGER || node->number < 0)
        redis_unexpected(call);
    else
        measure_of(call->op)->bytes = (uint64_t)node->number;
}

static const struct redis_kind head_kind = {.node = head_node, .again = head_at};
static const struct redis_kind length_kind = {.node = length_node, .again = length_at};

static void head_at(struct redis *redis, struct op *op)
{
    struct measure *measure = measure_of(op);
    struct redis_call *call = redis_begin(redis, op, &head_kind, measure->key.len + redis_words(5));

    if (call == NULL)
        return;
    redis_command(call, 4, "GETRANGE");
    redis_word_key(call, measure->key);
    redis_word_number(call, 0);
    redis_word_number(call, measure->head); /* a byte more: it is longer */
}

static void length_at(struct redis *redis, struct op *op)
{
    struct slice key = measure_of(op)->key;
    struct redis_call *call = redis_begin(redis, op, &length_kind, key.len + redis_words(3));

    if (call == NULL)
        return;
    redis_command(call, 2, "STRLEN");
    redis_word_key(call, key);
}

static struct kv_get_many *gets_req(const struct batch *batch)
{
    return CONTAINER_OF(batch->op, struct kv_get_many, op);
}

static bool gather_gets(struct batch *batch)
{
    struct kv_get_many *req = gets_req(batch);
    const struct kv_get *parts = batch->parts;

    for (size_t i = 0; i < req->n; i++) {
        struct kv_get_item *item = &req->items[i];

        if (parts[i].op.done == NULL) /* never started: the item has its outcome */
            continue;
        item->base.err = parts[i].op.err;
        item->found = parts[i].found;
        item->value = parts[i].value;
    }
    return true;
}

static void start_get(struct gets *gets, size_t i, struct kv_room *room)
{
    struct kv_get_many *req = gets_req(&gets->batch);
    struct kv_get *part = (struct kv_get *)gets->batch.parts + i;

    part->key = req->items[i].base.key;
    part->room = room;
    op_start(&part->op, &gets->batch.group, on_done);
    redis_kv_basic.get(&gets->batch.redis->base, part);
}

static void leave_out(struct kv_get_item *item, uint64_t bytes)
{
    item->found = true;
    item->value = slice_of(NULL, bytes);
}

/* What is empty may be absent: GET tells. What could not be measured is found out by it, too. */
static bool fetch_what_fits(struct batch *batch)
{
    struct kv_get_many *req = gets_req(batch);
    struct gets *gets = CONTAINER_OF(batch, struct gets, batch);

    batch->step = gather_gets;
    op_group_enter(&batch->group);
    for (size_t i = 0; i < req->n; i++) {
        const struct measure *measure = &gets->measures[i];
        bool known = measure->longer && measure->op.err.code == ERR_OK;

        if (measure->settled)
            continue;
        if (known && !kv_room_take(req->room, measure->bytes))
            leave_out(&req->items[i], measure->bytes);
        else
            start_get(gets, i, known ? NULL : req->room);
    }
    op_group_leave(&batch->group); /* gathers, if nothing was started */
    return false;
}

/* Takes what the head was all of. */
static void settle(struct kv_get_many *req, struct measure *measure, struct kv_get_item *item)
{
    size_t len = measure->value.len;

    if (measure->op.err.code == ERR_PERMISSION_DENIED) {
        measure->longer = true; /* as far as is known */
        return;
    }
    item->base.err = measure->op.err;
    measure->settled = len > 0 || item->base.err.code != ERR_OK;
    item->found = len > 0;
    if (len > 0)
        item->value = kv_room_take(req->room, len) ? measure->value : slice_of(NULL, len);
}

static bool measure_longer(struct batch *batch)
{
    struct kv_get_many *req = gets_req(batch);
    struct gets *gets = CONTAINER_OF(batch, struct gets, batch);

    batch->step = fetch_what_fits;
    op_group_enter(&batch->group);
    for (size_t i = 0; i < req->n; i++) {
        struct measure *measure = &gets->measures[i];

        settle(req, measure, &req->items[i]);
        if (!measure->longer)
            continue;
        op_start(&measure->op, &batch->group, on_done);
        length_at(redis_to(&batch->redis->base, measure->key), &measure->op);
    }
    op_group_leave(&batch->group);
    return false;
}

static void start_heads(struct gets *gets)
{
    struct batch *batch = &gets->batch;
    struct kv_get_many *req = gets_req(batch);

    batch->step = measure_longer;
    gets->measures = arena_zalloc(op_arena(&req->op), req->n * sizeof *gets->measures);
    for (size_t i = 0; i < req->n; i++) {
        struct measure *measure = &gets->measures[i];

        measure->key = req->items[i].base.key;
        measure->head = redis_value_head(req);
        req->items[i].base.err = ERR_NONE;
        req->items[i].found = false;
        op_start(&measure->op, &batch->group, on_done);
        head_at(redis_to(&batch->redis->base, measure->key), &measure->op);
    }
}

static void get_many(struct backend *backend, struct kv_get_many *req)
{
    struct gets *gets = arena_zalloc(op_arena(&req->op), sizeof *gets);

    begin(&gets->batch, backend, &req->op, req->n * sizeof(struct kv_get));
    if (req->room != NULL && req->n > 1) {
        start_heads(gets);
    } else {
        gets->batch.step = gather_gets;
        for (size_t i = 0; i < req->n; i++)
            start_get(gets, i, req->room);
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
                                             .calls = "n; to 3n for reads",
                                             .put_many = put_many,
                                             .get_many = get_many,
                                             .del_many = del_many};
