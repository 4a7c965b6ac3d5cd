/* The deprecated KeyValueBatchInterface. Too many items are a status; everything else is told item
 * by item. */
#include "patterns/keyvalue/batch.h"
#include "patterns/keyvalue/deprecated/deprecated.h"

#include "src/base/container.h"

static bool fits(const struct keyvalue *kv, const ProtobufCMessage *message)
{
    return protobuf_c_message_get_packed_size(message) <= kv->max_message_bytes;
}

/* ---- BatchSet ---- */

static void batch_set_reply(struct batch *batch, struct err err)
{
    old_batch_set_response response = PRISM__INTERFACES__KEYVALUE__BATCH_SET_RESPONSE__INIT;
    struct arena *arena = call_arena(batch->call);

    if (old_is_status(err)) {
        call_fail(batch->call, err);
        return;
    }

    old_set_response *results = arena_alloc(arena, batch->n * sizeof *results);

    response.n_results = batch->n;
    response.results = arena_alloc(arena, batch->n * sizeof(old_set_response *));
    response.all_success = true;
    for (size_t i = 0; i < batch->n; i++) {
        const struct kv_put_item *item = store_item(batch, i);

        prism__interfaces__keyvalue__set_response__init(&results[i]);
        results[i].success = item->base.err.code == ERR_OK;
        results[i].error = old_error(item->base.err);
        response.all_success = response.all_success && results[i].success;
        response.results[i] = &results[i];
    }
    if (!response.all_success && !fits(batch->kv, &response.base)) {
        for (size_t i = 0; i < batch->n; i++)
            results[i].error = pb_text(""); /* for people; `success` always fits */
    }
    call_reply(batch->call, &response.base);
}

static void batch_set(struct call *call)
{
    const old_batch_set_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct arena *arena = call_arena(call);
    struct err err = batch_check(kv, arena, request->n_requests, "requests");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct store_batch *store = store_batch_new(call, batch_set_reply, request->n_requests);

    for (size_t i = 0; i < request->n_requests; i++) {
        struct kv_put_item *item = store_item(&store->batch, i);

        item->base.key = slice_str(request->requests[i]->key);
        item->value = pb_slice(request->requests[i]->value);
        err = check_key(kv, arena, item->base.key);
        if (err.code == ERR_OK)
            err = check_value(kv, arena, item->base.key, item->value);
        if (err.code != ERR_OK)
            batch_refuse(&store->batch, i, err);
    }
    store_batch_run(store);
}

/* ---- BatchGet ---- */

/* False: not even the error fits, without which the key would look absent. */
static bool fill_get(struct retrieve_batch *retrieve, const struct kv_get_item *item,
                     old_get_response *result)
{
    struct err err = retrieve_batch_take(retrieve, item);

    prism__interfaces__keyvalue__get_response__init(result);
    result->found = err.code == ERR_OK && item->found;
    result->error = old_error(err);
    if (result->found)
        result->value = pb_bytes(item->value);
    return err.code == ERR_OK || retrieve_batch_take_text(retrieve, err.text);
}

static void batch_get_reply(struct batch *batch, struct err err)
{
    old_batch_get_response response = PRISM__INTERFACES__KEYVALUE__BATCH_GET_RESPONSE__INIT;
    struct arena *arena = call_arena(batch->call);
    struct retrieve_batch *retrieve = CONTAINER_OF(batch, struct retrieve_batch, batch);

    if (old_is_status(err)) {
        call_fail(batch->call, err);
        return;
    }

    old_get_response *results = arena_alloc(arena, batch->n * sizeof *results);

    retrieve_batch_room(retrieve);
    response.n_results = batch->n;
    response.results = arena_alloc(arena, batch->n * sizeof(old_get_response *));
    for (size_t i = 0; i < batch->n; i++) {
        if (!fill_get(retrieve, retrieve_item(batch, i), &results[i])) {
            call_fail(batch->call, err_about(ERR_RESOURCE_EXHAUSTED, "max_message_bytes",
                                             "the outcomes do not fit one message"));
            return;
        }
        response.found_count += results[i].found;
        response.results[i] = &results[i];
    }
    call_reply_read(batch->call, &response.base);
}

static void batch_get(struct call *call)
{
    const old_batch_get_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct err err = batch_check(kv, call_arena(call), request->n_keys, "keys");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct retrieve_batch *retrieve =
        retrieve_batch_new(call, batch_get_reply, request->keys, request->n_keys);

    retrieve->batch.plan.run_batch(&retrieve->batch);
}

/* ---- BatchDelete ---- */

static void batch_delete_reply(struct batch *batch, struct err err)
{
    old_batch_delete_response response = PRISM__INTERFACES__KEYVALUE__BATCH_DELETE_RESPONSE__INIT;
    struct arena *arena = call_arena(batch->call);

    if (old_is_status(err)) {
        call_fail(batch->call, err);
        return;
    }

    old_delete_response *results = arena_alloc(arena, batch->n * sizeof *results);

    response.n_results = batch->n;
    response.results = arena_alloc(arena, batch->n * sizeof(old_delete_response *));
    response.all_success = true;
    for (size_t i = 0; i < batch->n; i++) {
        const struct kv_del_item *item = remove_item(batch, i);

        prism__interfaces__keyvalue__delete_response__init(&results[i]);
        results[i].success = item->base.err.code == ERR_OK;
        results[i].error = old_error(item->base.err);
        response.all_success = response.all_success && results[i].success;
        response.results[i] = &results[i];
    }
    if (!response.all_success && !fits(batch->kv, &response.base)) {
        for (size_t i = 0; i < batch->n; i++)
            results[i].error = pb_text(""); /* for people; `success` always fits */
    }
    call_reply(batch->call, &response.base);
}

static void batch_delete(struct call *call)
{
    const old_batch_delete_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct err err = batch_check(kv, call_arena(call), request->n_keys, "keys");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct remove_batch *removal =
        remove_batch_new(call, batch_delete_reply, request->keys, request->n_keys);

    removal->batch.plan.run_batch(&removal->batch);
}

/* ---- table ---- */

#define BATCH "KeyValueBatchInterface"

static const struct method methods[] = {
    OLD_METHOD(BATCH, "BatchSet", METHOD_UNARY, batch_set_request, batch_set_response, batch_set,
               "StoreBatch"),
    OLD_METHOD(BATCH, "BatchGet", METHOD_UNARY, batch_get_request, batch_get_response, batch_get,
               "RetrieveBatch"),
    OLD_METHOD(BATCH, "BatchDelete", METHOD_UNARY, batch_delete_request, batch_delete_response,
               batch_delete, "RemoveBatch"),
};

const struct service keyvalue_old_batch = {
    .name = "prism.interfaces.keyvalue.KeyValueBatchInterface",
    .pattern = "keyvalue",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
