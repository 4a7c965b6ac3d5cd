/* RetrieveBatch: many keys in one call, each with its own outcome. The response never exceeds one
 * message: a value that does not fit any more becomes RESOURCE_EXHAUSTED, and what was not fetched
 * yet then is not fetched. */
#include "patterns/keyvalue/batch.h"

#include "src/base/container.h"

static void retrieve_batch_reply(struct batch *batch, struct err err);

/* ---- the kind ---- */

static struct retrieve_batch *of(struct batch *batch)
{
    return CONTAINER_OF(batch, struct retrieve_batch, batch);
}

static void start_many(struct batch_chunk *chunk, struct kv_item *items)
{
    chunk->get.items = CONTAINER_OF(items, struct kv_get_item, base);
    chunk->get.n = chunk->n;
    chunk->get.room = &chunk->batch->room;
    chunk->batch->plan.batch->get_many(chunk->batch->kv->backend, &chunk->get);
}

static void start_one(struct batch_slot *slot, size_t i)
{
    slot->get.key = retrieve_item(slot->batch, i)->base.key;
    slot->get.want_version = false;
    slot->get.room = &slot->batch->room;
    slot->batch->plan.basic->get(slot->batch->kv->backend, &slot->get);
}

static void end_one(struct batch_slot *slot, size_t i)
{
    struct kv_get_item *item = retrieve_item(slot->batch, i);

    item->found = slot->get.found;
    item->value = slot->get.found ? slot->get.value : (struct slice){0};
}

static const struct batch_kind kind = {
    .item_bytes = sizeof(struct kv_get_item),
    .start_many = start_many,
    .start_one = start_one,
    .end_one = end_one,
};

struct retrieve_batch *retrieve_batch_new(struct call *call, batch_reply_fn *reply,
                                          char *const *keys, size_t n)
{
    struct retrieve_batch *retrieve = arena_zalloc(call_arena(call), sizeof *retrieve);
    struct batch *batch = &retrieve->batch;

    batch_init(batch, call, &kind, reply, n);
    counter_add(&batch->kv->stats.retrieved, n);
    for (size_t i = 0; i < n; i++) {
        struct kv_get_item *item = retrieve_item(batch, i);

        item->base.key = slice_str(keys[i]);
        struct err err = check_key(batch->kv, call_arena(call), item->base.key);

        if (err.code != ERR_OK)
            batch_refuse(batch, i, err);
    }
    return retrieve;
}

/* ---- room in the response ---- */

enum {
    FRAME_BYTES = 16, /* found_count and the like */
    EMPTY_BYTES = 6,  /* of an entry with a code at most */
    FIELD_BYTES = 12, /* what a value or a text takes beside its own bytes, at most */
};

void retrieve_batch_room(struct retrieve_batch *retrieve)
{
    uint64_t fixed = FRAME_BYTES + EMPTY_BYTES * (uint64_t)retrieve->batch.n;
    uint64_t all = retrieve->batch.kv->max_message_bytes;

    retrieve->room = all > fixed ? all - fixed : 0;
}

static bool take(struct retrieve_batch *retrieve, size_t bytes)
{
    if (bytes + FIELD_BYTES > retrieve->room)
        return false;
    retrieve->room -= bytes + FIELD_BYTES;
    return true;
}

struct err retrieve_batch_take(struct retrieve_batch *retrieve, const struct kv_get_item *item)
{
    bool here = item->value.data != NULL || item->value.len == 0;

    if (item->base.err.code != ERR_OK || !item->found || (here && take(retrieve, item->value.len)))
        return item->base.err;
    return err_make(ERR_RESOURCE_EXHAUSTED, "the response is full: ask for this key again");
}

bool retrieve_batch_take_text(struct retrieve_batch *retrieve, const char *text)
{
    return take(retrieve, strlen(text));
}

/* ---- the call ---- */

void keyvalue_retrieve_batch(struct call *call)
{
    const pb_retrieve_batch_request *request = call_request(call);
    struct keyvalue *kv = keyvalue_of(call);
    struct err err = batch_check(kv, call_arena(call), request->n_keys, "keys");

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct retrieve_batch *retrieve =
        retrieve_batch_new(call, retrieve_batch_reply, request->keys, request->n_keys);

    retrieve->batch.plan.run_batch(&retrieve->batch);
}

static void fill_result(struct retrieve_batch *retrieve, size_t i, pb_retrieve_response *result)
{
    const struct kv_get_item *item = retrieve_item(&retrieve->batch, i);
    struct err err = retrieve_batch_take(retrieve, item);

    prism__patterns__keyvalue__retrieve_response__init(result);
    if (err.code == ERR_OK) {
        result->found = item->found;
        result->value = item->found ? pb_bytes(item->value) : (ProtobufCBinaryData){0};
        return;
    }
    result->code = (int32_t)err.code;
    if (retrieve_batch_take_text(retrieve, err.text)) {
        result->_error_case = PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE___ERROR_ERROR;
        result->error = pb_text(err.text);
    }
}

static void retrieve_batch_reply(struct batch *batch, struct err err)
{
    pb_retrieve_batch_response response = PRISM__PATTERNS__KEYVALUE__RETRIEVE_BATCH_RESPONSE__INIT;
    struct arena *arena = call_arena(batch->call);

    if (err.code != ERR_OK) {
        call_fail(batch->call, err);
        return;
    }

    pb_retrieve_response *results = arena_alloc(arena, batch->n * sizeof *results);

    retrieve_batch_room(of(batch));
    response.n_results = batch->n;
    response.results = arena_alloc(arena, batch->n * sizeof(pb_retrieve_response *));
    for (size_t i = 0; i < batch->n; i++) {
        fill_result(of(batch), i, &results[i]);
        response.results[i] = &results[i];
        response.found_count += results[i].found;
    }
    call_reply_read(batch->call, &response.base);
}
