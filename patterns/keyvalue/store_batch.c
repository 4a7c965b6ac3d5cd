/* StoreBatch: many values in one call, each with its own outcome, or all or none.
 *
 * independent   a faulty item gets its code and never reaches the backend; the others go on
 * atomic        a faulty item refuses the call, by a status that names it; else one transaction of
 *               the backend
 *
 * Preconditions are checked by operations on one key, so a batch that holds some is sent item by
 * item; an atomic one may hold none. */
#include "patterns/keyvalue/batch.h"

#include "src/base/container.h"

static void store_batch_reply(struct batch *batch, struct err err);

/* ---- the kind ---- */

static struct store_batch *of(struct batch *batch)
{
    return CONTAINER_OF(batch, struct store_batch, batch);
}

static void start_many(struct batch_chunk *chunk, struct kv_item *items)
{
    chunk->put.items = CONTAINER_OF(items, struct kv_put_item, base);
    chunk->put.n = chunk->n;
    of(chunk->batch)->put_many(chunk->batch->kv->backend, &chunk->put);
}

static void start_one(struct batch_slot *slot, size_t i)
{
    struct store_batch *store = of(slot->batch);
    const struct kv_put_item *item = store_item(slot->batch, i);
    struct backend *backend = slot->batch->kv->backend;

    if (store->preconditions != NULL && store->preconditions[i] != NULL) {
        store_fill_put_if(&slot->put_if,
                          &(struct store_args){.key = item->base.key,
                                               .value = item->value,
                                               .ttl_ms = item->ttl_ms,
                                               .precondition = store->preconditions[i]});
        slot->batch->plan.cas->put_if(backend, &slot->put_if);
        return;
    }
    slot->put.key = item->base.key;
    slot->put.value = item->value;
    slot->put.ttl_ms = item->ttl_ms;
    slot->batch->plan.basic->put(backend, &slot->put);
}

static void end_one(struct batch_slot *slot, size_t i)
{
    struct store_batch *store = of(slot->batch);

    if (store->preconditions == NULL || store->preconditions[i] == NULL)
        return;
    store_item(slot->batch, i)->base.err = store_condition_outcome(&slot->put_if);
    if (slot->put_if.stored)
        store->versions[i] = slot->put_if.current_version;
}

static const struct batch_kind kind = {
    .item_bytes = sizeof(struct kv_put_item),
    .writes = true,
    .start_many = start_many,
    .start_one = start_one,
    .end_one = end_one,
};

struct store_batch *store_batch_new(struct call *call, batch_reply_fn *reply, size_t n)
{
    struct store_batch *store = arena_zalloc(call_arena(call), sizeof *store);

    batch_init(&store->batch, call, &kind, reply, n);
    counter_add(&store->batch.kv->stats.stored, n);
    return store;
}

void store_batch_run(struct store_batch *store)
{
    const struct kv_batch *many = store->batch.plan.batch;

    if (many != NULL)
        store->put_many = many->put_many;
    if (store->preconditions != NULL)
        batch_run_singles(&store->batch);
    else
        store->batch.plan.run_batch(&store->batch);
}

/* ---- the call ---- */

static void set_precondition(struct store_batch *store, size_t i,
                             const pb_precondition *precondition)
{
    struct arena *arena = call_arena(store->batch.call);
    size_t n = store->batch.n;

    if (store->preconditions == NULL) {
        store->preconditions = arena_array(arena, n, sizeof *store->preconditions);
        store->versions = arena_array(arena, n, sizeof *store->versions);
    }
    store->preconditions[i] = precondition;
}

static struct err read_item(struct store_batch *store, size_t i, const pb_store_request *request)
{
    struct keyvalue *kv = store->batch.kv;
    struct kv_put_item *item = store_item(&store->batch, i);
    struct store_args args;
    struct err err = store_read(kv, call_arena(store->batch.call), request, &args);

    if (err.code == ERR_OK)
        err = store_grant(kv, request);
    item->base.key = args.key;
    item->value = args.value;
    item->ttl_ms = args.ttl_ms;
    if (err.code == ERR_OK && args.precondition != NULL)
        set_precondition(store, i, args.precondition);
    return err;
}

static void store_atomic(struct store_batch *store, const pb_store_batch_request *request)
{
    struct call *call = store->batch.call;

    for (size_t i = 0; i < request->n_requests; i++) {
        struct err err = read_item(store, i, request->requests[i]);

        if (err.code == ERR_OK && request->requests[i]->precondition != NULL)
            err = err_about(ERR_UNIMPLEMENTED, "precondition",
                            "preconditions are not supported in atomic batches");
        if (err.code != ERR_OK) {
            call_fail(call, check_at_item(err, call_arena(call), "requests", i));
            return;
        }
    }
    store->put_many = store->batch.plan.txn->put_many;
    batch_run_whole(&store->batch);
}

void keyvalue_store_batch(struct call *call)
{
    const pb_store_batch_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct err err = (request->atomic ? batch_check_atomic : batch_check)(
        kv, call_arena(call), request->n_requests, "requests");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct store_batch *store = store_batch_new(call, store_batch_reply, request->n_requests);

    if (request->atomic) {
        store_atomic(store, request);
        return;
    }
    for (size_t i = 0; i < request->n_requests; i++) {
        err = read_item(store, i, request->requests[i]);
        if (err.code != ERR_OK)
            batch_refuse(&store->batch, i, err);
    }
    store_batch_run(store);
}

/* ---- the answer ---- */

/* Successes without a version are all alike: one message stands for them. */
static pb_store_response *result_of(struct store_batch *store, size_t i, pb_store_response *success)
{
    struct err err = store_item(&store->batch, i)->base.err;
    bool versioned = store->versions != NULL && store->versions[i].len > 0;
    pb_store_response *result;

    if (err.code == ERR_OK && !versioned)
        return success;
    result = arena_alloc(call_arena(store->batch.call), sizeof *result);
    store_response_fill(result, err);
    if (versioned)
        store_response_version(result, store->versions[i]);
    return result;
}

/* Codes always fit; texts, which are for people, are left out where they would not. */
static void shorten(const struct keyvalue *kv, pb_store_batch_response *response)
{
    if (protobuf_c_message_get_packed_size(&response->base) <= kv->max_message_bytes)
        return;
    for (size_t i = 0; i < response->n_results; i++)
        response->results[i]->_error_case =
            PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR__NOT_SET;
}

static void store_batch_reply(struct batch *batch, struct err err)
{
    pb_store_batch_response response = PRISM__PATTERNS__KEYVALUE__STORE_BATCH_RESPONSE__INIT;
    pb_store_response success;

    if (err.code != ERR_OK) {
        call_fail(batch->call, err);
        return;
    }
    store_response_fill(&success, ERR_NONE);
    response.n_results = batch->n;
    response.results = arena_alloc(call_arena(batch->call), batch->n * sizeof(pb_store_response *));
    for (size_t i = 0; i < batch->n; i++) {
        response.results[i] = result_of(of(batch), i, &success);
        response.success_count += response.results[i]->success;
    }
    response.all_success = (size_t)response.success_count == batch->n;
    if (!response.all_success)
        shorten(batch->kv, &response);
    call_reply(batch->call, &response.base);
}
