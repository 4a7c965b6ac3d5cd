/* RemoveBatch: many keys in one call, each with its own outcome, or all or none. Faults as in
 * store_batch.c. */
#include "patterns/keyvalue/batch.h"

#include "src/base/container.h"

static void remove_batch_reply(struct batch *batch, struct err err);

/* ---- the kind ---- */

static struct remove_batch *of(struct batch *batch)
{
    return CONTAINER_OF(batch, struct remove_batch, batch);
}

static void start_many(struct batch_chunk *chunk, struct kv_item *items)
{
    chunk->del.items = CONTAINER_OF(items, struct kv_del_item, base);
    chunk->del.n = chunk->n;
    of(chunk->batch)->del_many(chunk->batch->kv->backend, &chunk->del);
}

static void start_one(struct batch_slot *slot, size_t i)
{
    slot->del.key = remove_item(slot->batch, i)->base.key;
    slot->batch->plan.basic->del(slot->batch->kv->backend, &slot->del);
}

static void end_one(struct batch_slot *slot, size_t i)
{
    remove_item(slot->batch, i)->existed = slot->del.existed;
}

static const struct batch_kind kind = {
    .item_bytes = sizeof(struct kv_del_item),
    .writes = true,
    .start_many = start_many,
    .start_one = start_one,
    .end_one = end_one,
};

struct remove_batch *remove_batch_new(struct call *call, batch_reply_fn *reply, char *const *keys,
                                      size_t n)
{
    struct remove_batch *removal = arena_zalloc(call_arena(call), sizeof *removal);
    struct batch *batch = &removal->batch;

    batch_init(batch, call, &kind, reply, n);
    counter_add(&batch->kv->stats.removed, n);
    if (batch->plan.batch != NULL)
        removal->del_many = batch->plan.batch->del_many;
    for (size_t i = 0; i < n; i++) {
        struct kv_del_item *item = remove_item(batch, i);

        item->base.key = slice_str(keys[i]);
        struct err err = check_key(batch->kv, call_arena(call), item->base.key);

        if (err.code != ERR_OK)
            batch_refuse(batch, i, err);
    }
    return removal;
}

/* ---- the call ---- */

static void remove_atomic(struct remove_batch *removal)
{
    struct batch *batch = &removal->batch;

    for (size_t i = 0; i < batch->n; i++) {
        struct err err = remove_item(batch, i)->base.err;

        if (err.code != ERR_OK) {
            err.subject = NULL; /* an item is nothing but its key */
            call_fail(batch->call, check_at_item(err, call_arena(batch->call), "keys", i));
            return;
        }
    }
    removal->del_many = batch->plan.txn->del_many;
    batch_run_whole(batch);
}

void keyvalue_remove_batch(struct call *call)
{
    const pb_remove_batch_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct err err = (request->atomic ? batch_check_atomic : batch_check)(kv, call_arena(call),
                                                                          request->n_keys, "keys");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct remove_batch *removal =
        remove_batch_new(call, remove_batch_reply, request->keys, request->n_keys);

    if (request->atomic)
        remove_atomic(removal);
    else
        removal->batch.plan.run_batch(&removal->batch);
}

static void fill_result(const struct kv_del_item *item, pb_remove_response *result)
{
    prism__patterns__keyvalue__remove_response__init(result);
    result->success = item->base.err.code == ERR_OK;
    result->code = (int32_t)item->base.err.code;
    if (result->success) {
        result->existed = item->existed;
        return;
    }
    result->_error_case = PRISM__PATTERNS__KEYVALUE__REMOVE_RESPONSE___ERROR_ERROR;
    result->error = pb_text(item->base.err.text);
}

/* Codes always fit; texts, which are for people, are left out where they would not. */
static void shorten(const struct keyvalue *kv, pb_remove_batch_response *response)
{
    if (protobuf_c_message_get_packed_size(&response->base) <= kv->max_message_bytes)
        return;
    for (size_t i = 0; i < response->n_results; i++)
        response->results[i]->_error_case =
            PRISM__PATTERNS__KEYVALUE__REMOVE_RESPONSE___ERROR__NOT_SET;
}

static void remove_batch_reply(struct batch *batch, struct err err)
{
    pb_remove_batch_response response = PRISM__PATTERNS__KEYVALUE__REMOVE_BATCH_RESPONSE__INIT;
    struct arena *arena = call_arena(batch->call);

    if (err.code != ERR_OK) {
        call_fail(batch->call, err);
        return;
    }

    pb_remove_response *results = arena_alloc(arena, batch->n * sizeof *results);

    response.n_results = batch->n;
    response.results = arena_alloc(arena, batch->n * sizeof(pb_remove_response *));
    for (size_t i = 0; i < batch->n; i++) {
        fill_result(remove_item(batch, i), &results[i]);
        response.results[i] = &results[i];
        response.success_count += results[i].success;
    }
    response.all_success = (size_t)response.success_count == batch->n;
    if (!response.all_success)
        shorten(batch->kv, &response);
    call_reply(batch->call, &response.base);
}
