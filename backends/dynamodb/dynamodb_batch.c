/* kv_batch: up to 25 items in one request. What the server hands back is sent again after a delay,
 * and in the end is an error of those items alone.
 *
 * Removals are a request each: a batch does not tell what was there. */
#include "backends/dynamodb/dynamodb_priv.h"

#include <cjson/cJSON.h>

enum { REQUEST_BYTES = 4096, ITEM_BYTES = 8192, ANSWER_MAX = 24 << 20 };

static struct err handed_back(void)
{
    struct err err =
        err_about(ERR_RESOURCE_EXHAUSTED, "rate",
                  "the table's throughput is used up: the server handed this item back");

    err.retry_after_ms = 500;
    return err;
}

/* ---- writes ---- */

struct put_batch {
    struct kv_put_many *req;
    struct dynamodb_many *many;
    const char **versions;
    bool *waits; /* by item: it is sent and has no outcome */
    size_t waiting;
};

static void put_send(struct put_batch *batch, struct aws_call *call)
{
    struct dynamodb_store *store = dynamodb_store_of(call->task);
    struct text body = text_new(call->task->arena, REQUEST_BYTES);
    const char *comma = "";

    text_add(&body, "{\"RequestItems\":{");
    text_string(&body, store->table);
    text_add(&body, ":[");
    for (size_t i = 0; i < batch->req->n; i++) {
        const struct kv_put_item *item = &batch->req->items[i];

        if (!batch->waits[i])
            continue;
        text_add(&body, comma);
        text_add(&body, "{\"PutRequest\":{\"Item\":");
        text_item(&body, store, item->base.key, item->value, dynamodb_expiry_ms(item->ttl_ms),
                  batch->versions[i]);
        text_add(&body, "}}");
        comma = ",";
    }
    text_add(&body, "]}}");
    call->body = slice_of(body.data, body.len);
}

/* What is not handed back is written. */
static size_t put_take(struct put_batch *batch, const cJSON *answer)
{
    struct dynamodb_store *store = dynamodb_store_of(batch->many->task);
    const cJSON *one, *back = cJSON_GetObjectItemCaseSensitive(answer, "UnprocessedItems");
    size_t before = batch->waiting;
    bool again[DYNAMODB_BATCH_ITEMS] = {false};

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(back, store->table))
    {
        const cJSON *put = cJSON_GetObjectItemCaseSensitive(one, "PutRequest");
        size_t i = dynamodb_many_find(batch->many, cJSON_GetObjectItemCaseSensitive(put, "Item"));

        if (i < batch->req->n && batch->waits[i])
            again[i] = true;
    }
    batch->waiting = 0;
    for (size_t i = 0; i < batch->req->n; i++) {
        batch->waits[i] = batch->waits[i] && again[i];
        batch->waiting += batch->waits[i];
    }
    return before - batch->waiting;
}

static void put_end(struct put_batch *batch, struct err err)
{
    struct kv_put_many *req = batch->req;

    for (size_t i = 0; i < req->n; i++)
        req->items[i].base.err = batch->waits[batch->many->twin[i]] ? handed_back() : ERR_NONE;
    aws_task_finish(batch->many->task, err);
}

static void on_put(struct aws_call *call)
{
    struct put_batch *batch = call->task->state;
    const cJSON *answer;
    struct err err = dynamodb_outcome(call, &answer);
    size_t written;

    if (err.code != ERR_OK) {
        put_end(batch, err);
        return;
    }
    written = put_take(batch, answer);
    if (batch->waiting == 0) {
        put_end(batch, ERR_NONE);
        return;
    }
    put_send(batch, call);
    if (!aws_call_later(call, written > 0))
        put_end(batch, ERR_NONE);
}

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct put_batch *batch;
    struct aws_call *call;

    if (task == NULL)
        return;
    batch = arena_zalloc(task->arena, sizeof *batch);
    batch->req = req;
    batch->many = dynamodb_many_new(task, req->items, sizeof *req->items, req->n, true);
    batch->versions = arena_array(task->arena, req->n, sizeof *batch->versions);
    batch->waits = arena_array(task->arena, req->n, sizeof *batch->waits);
    batch->waiting = batch->many->unique;
    for (size_t i = 0; i < req->n; i++) {
        batch->versions[i] = dynamodb_version(task->client, task->arena);
        batch->waits[i] = batch->many->twin[i] == i;
    }
    task->state = batch;
    call = dynamodb_call(task, "BatchWriteItem", on_put);
    call->max_answer = ANSWER_MAX;
    call->writes = true;
    put_send(batch, call);
    aws_call_start(call);
}

/* ---- reads ---- */

struct get_batch {
    struct kv_get_many *req;
    struct dynamodb_many *many;
    const cJSON **found; /* by item that is sent */
    bool *waits;
    size_t waiting;
    size_t next; /* one by one: the item that is asked for */
};

static void get_send(struct get_batch *batch, struct aws_call *call)
{
    struct dynamodb_store *store = dynamodb_store_of(call->task);
    struct text body = text_new(call->task->arena, REQUEST_BYTES);
    const char *comma = "";

    text_add(&body, "{\"RequestItems\":{");
    text_string(&body, store->table);
    text_add(&body, store->consistent ? ":{\"ConsistentRead\":true,\"Keys\":[" : ":{\"Keys\":[");
    for (size_t i = 0; i < batch->req->n; i++) {
        if (!batch->waits[i])
            continue;
        text_add(&body, comma);
        text_add(&body, "{");
        text_key(&body, store, batch->req->items[i].base.key);
        text_add(&body, "}");
        comma = ",";
    }
    text_add(&body, "]}}}");
    call->body = slice_of(body.data, body.len);
}

/* Those that are neither found nor handed back are absent. */
static size_t get_take(struct get_batch *batch, const cJSON *answer)
{
    struct dynamodb_store *store = dynamodb_store_of(batch->many->task);
    const cJSON *one, *all = cJSON_GetObjectItemCaseSensitive(answer, "Responses");
    const cJSON *back = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(answer, "UnprocessedKeys"), store->table);
    size_t before = batch->waiting;

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(all, store->table))
    {
        size_t i = dynamodb_many_find(batch->many, one);

        if (i < batch->req->n)
            batch->found[i] = one;
    }
    for (size_t i = 0; i < batch->req->n; i++)
        batch->waits[i] = false;
    batch->waiting = 0;
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(back, "Keys"))
    {
        size_t i = dynamodb_many_find(batch->many, one);

        if (i < batch->req->n && !batch->waits[i]) {
            batch->waits[i] = true;
            batch->waiting++;
        }
    }
    return before - batch->waiting;
}

/* In request order, so that the room goes to the first ones. */
static void get_end(struct get_batch *batch)
{
    struct kv_get_many *req = batch->req;

    for (size_t i = 0; i < req->n; i++) {
        uint32_t twin = batch->many->twin[i];
        struct kv_get_item *item = &req->items[i];

        item->base.err = batch->waits[twin] ? handed_back() : ERR_NONE;
        item->value =
            dynamodb_take(batch->found[twin], req->room, &item->found, batch->many->task->arena);
    }
    aws_task_finish(batch->many->task, ERR_NONE);
}

/* ---- reads one by one, when the answer for all is larger than the room ---- */

static void on_one(struct aws_call *call);

static void next_one(struct get_batch *batch)
{
    struct kv_get_many *req = batch->req;

    for (; batch->next < req->n; batch->next++) {
        struct kv_get_item *item = &req->items[batch->next];

        if (!req->room->exceeded) {
            aws_call_start(dynamodb_get_call(batch->many->task, item->base.key, req->room, on_one));
            return;
        }
        item->base.err = ERR_NONE; /* not asked for */
        item->found = true;
        item->value = slice_of(NULL, 1);
    }
    aws_task_finish(batch->many->task, ERR_NONE);
}

static void on_one(struct aws_call *call)
{
    struct get_batch *batch = call->task->state;
    struct kv_get_item *item = &batch->req->items[batch->next++];
    struct kv_get got = {.found = false};

    item->base.err = dynamodb_got(call, batch->req->room, &got);
    item->found = got.found;
    item->value = got.value;
    next_one(batch);
}

static void on_get(struct aws_call *call)
{
    struct get_batch *batch = call->task->state;
    const cJSON *answer;
    struct err err;
    size_t told;

    if (call->err.code == ERR_OK && call->http.too_long && batch->req->room != NULL) {
        next_one(batch);
        return;
    }
    err = dynamodb_outcome(call, &answer);
    if (err.code != ERR_OK) {
        aws_task_finish(call->task, err);
        return;
    }
    told = get_take(batch, answer);
    if (batch->waiting > 0) {
        get_send(batch, call);
        if (aws_call_later(call, told > 0))
            return;
    }
    get_end(batch);
}

static void get_many(struct backend *backend, struct kv_get_many *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct get_batch *batch;
    struct aws_call *call;

    if (task == NULL)
        return;
    batch = arena_zalloc(task->arena, sizeof *batch);
    batch->req = req;
    batch->many = dynamodb_many_new(task, req->items, sizeof *req->items, req->n, false);
    batch->found = arena_array(task->arena, req->n, sizeof *batch->found);
    batch->waits = arena_array(task->arena, req->n, sizeof *batch->waits);
    batch->waiting = batch->many->unique;
    for (size_t i = 0; i < req->n; i++)
        batch->waits[i] = batch->many->twin[i] == i;
    task->state = batch;
    call = dynamodb_call(task, "BatchGetItem", on_get);
    call->max_answer = ANSWER_MAX;
    if (req->room != NULL && req->room->bytes < ANSWER_MAX / 2)
        call->max_answer = req->room->bytes / 3 * 4 + req->n * ITEM_BYTES;
    get_send(batch, call);
    aws_call_start(call);
}

/* ---- removals ---- */

struct del_batch {
    struct kv_del_many *req;
    struct dynamodb_many *many;
    size_t left;
};

static void del_end(struct del_batch *batch)
{
    struct kv_del_many *req = batch->req;

    for (size_t i = 0; i < req->n; i++) {
        uint32_t twin = batch->many->twin[i];

        if (twin == i)
            continue;
        req->items[i].base.err = req->items[twin].base.err;
        req->items[i].existed = false; /* the first one removed it */
    }
    aws_task_finish(batch->many->task, ERR_NONE);
}

static void on_del(struct aws_call *call)
{
    struct del_batch *batch = call->task->state;
    struct kv_del_item *item = call->state;

    item->base.err = dynamodb_deleted(call, &item->existed);
    if (item->base.err.code != ERR_OK && call->unsure)
        item->base.err = err_lost(item->base.err);
    if (--batch->left == 0)
        del_end(batch);
}

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct del_batch *batch;

    if (task == NULL)
        return;
    batch = arena_zalloc(task->arena, sizeof *batch);
    batch->req = req;
    batch->many = dynamodb_many_new(task, req->items, sizeof *req->items, req->n, false);
    batch->left = batch->many->unique;
    task->state = batch;
    for (size_t i = 0; i < req->n; i++) {
        struct aws_call *call;

        if (batch->many->twin[i] != i)
            continue;
        call = dynamodb_delete_call(task, req->items[i].base.key, on_del);
        call->state = &req->items[i];
        aws_call_start(call);
    }
}

const struct kv_batch dynamodb_kv_batch = {.max_items = DYNAMODB_BATCH_ITEMS,
                                           .calls = "ceil(n/25); n for removals",
                                           .put_many = put_many,
                                           .get_many = get_many,
                                           .del_many = del_many};
