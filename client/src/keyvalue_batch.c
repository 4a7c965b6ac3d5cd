/* Batches. The results point into the server's answer, which prism_batch.owned keeps together with
 * the array of results. */
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__Keyvalue__StoreBatchResponse store_response;
typedef Prism__Patterns__Keyvalue__RetrieveBatchResponse retrieve_response;
typedef Prism__Patterns__Keyvalue__RemoveBatchResponse remove_response;

struct owned {
    ProtobufCMessage *answer;
    struct prism_item_result items[];
};

void prism_batch_free(struct prism_batch *batch)
{
    if (batch == NULL)
        return;
    if (batch->owned != NULL)
        protobuf_c_message_free_unpacked(((struct owned *)batch->owned)->answer, NULL);
    free(batch->owned);
    *batch = (struct prism_batch){0};
}

/* Takes the answer out of the rpc and makes room for one result per item. */
static struct prism_item_result *batch_take(struct prism_batch *batch, struct rpc *rpc, size_t n)
{
    struct owned *owned = alloc_zeroed(1, sizeof *owned + n * sizeof owned->items[0]);

    owned->answer = rpc->response;
    rpc->response = NULL;
    rpc_clear(rpc);
    batch->owned = owned;
    batch->items = owned->items;
    batch->count = n;
    return owned->items;
}

/* An answer with another number of results cannot be matched to the items. */
static enum prism_code check_count(struct rpc *rpc, size_t results, size_t items,
                                   struct prism_error *error)
{
    const char *name = rpc->method->name;

    if (results == items)
        return error_none(error);
    rpc_clear(rpc);
    return error_set(error, PRISM_INTERNAL, "%s: %zu results for %zu items", name, results, items);
}

static void item_outcome(struct prism_batch *batch, struct prism_item_result *item, int32_t code,
                         bool failed, const char *text)
{
    item->message = "";
    if (code == 0 && !failed) {
        batch->succeeded++;
        return;
    }
    item->code = code > 0 && code <= PRISM_UNAUTHENTICATED ? (enum prism_code)code : PRISM_UNKNOWN;
    item->message = text != NULL && *text != '\0' ? text : "the server gives no reason";
}

static uint32_t deadline_of(const struct prism_batch_options *options)
{
    return options != NULL ? options->deadline_ms : 0;
}

static bool atomic_of(const struct prism_batch_options *options)
{
    return options != NULL && options->atomic;
}

/* Names the item in the field of an error that was made for a single call. */
static void point_at(struct prism_error *error, const char *list, size_t index)
{
    char field[sizeof error->field];

    if (error == NULL)
        return;
    if (error->field[0] != '\0')
        snprintf(field, sizeof field, "%s[%zu].%.64s", list, index, error->field);
    else
        snprintf(field, sizeof field, "%s[%zu]", list, index);
    memcpy(error->field, field, sizeof field);
}

/* ---- store ---- */

static enum prism_code fill_requests(struct prism_keyvalue *keyvalue,
                                     const struct prism_store_item *items, size_t n,
                                     struct store_request *requests, struct prism_error *error)
{
    for (size_t i = 0; i < n; i++) {
        enum prism_code code = store_request_init(&requests[i], keyvalue, &items[i], error);

        if (code != PRISM_OK) {
            point_at(error, "requests", i);
            return code;
        }
    }
    return PRISM_OK;
}

static enum prism_code take_stored(struct rpc *rpc, size_t n, struct prism_batch *batch,
                                   struct prism_error *error)
{
    const store_response *response = (const store_response *)rpc->response;
    enum prism_code code = check_count(rpc, response->n_results, n, error);
    struct prism_item_result *items;

    if (code != PRISM_OK)
        return code;
    items = batch_take(batch, rpc, n);
    for (size_t i = 0; i < n; i++) {
        const Prism__Patterns__Keyvalue__StoreResponse *result = response->results[i];

        item_outcome(batch, &items[i], result->code, !result->success, result->error);
        if (result->_version_case == PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___VERSION_VERSION)
            items[i].version = prism_bytes_of(result->version.data, result->version.len);
    }
    return PRISM_OK;
}

enum prism_code prism_keyvalue_store_batch(struct prism_keyvalue *keyvalue,
                                           const struct prism_store_item *items, size_t n,
                                           const struct prism_batch_options *options,
                                           struct prism_batch *batch, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__StoreBatchRequest request =
        PRISM__PATTERNS__KEYVALUE__STORE_BATCH_REQUEST__INIT;
    Prism__Patterns__Keyvalue__StoreRequest **list = alloc_zeroed(n, sizeof(void *));
    struct store_request *requests = alloc_zeroed(n, sizeof *requests);
    struct rpc rpc;
    enum prism_code code = feature_require(keyvalue, FEATURE_STORE_BATCH, error);

    *batch = (struct prism_batch){0};
    if (code == PRISM_OK && atomic_of(options))
        code = feature_require(keyvalue, FEATURE_ATOMIC_STORE_BATCH, error);
    if (code == PRISM_OK)
        code = fill_requests(keyvalue, items, n, requests, error);
    if (code == PRISM_OK) {
        for (size_t i = 0; i < n; i++)
            list[i] = &requests[i].message;
        request.n_requests = n;
        request.requests = list;
        request.atomic = atomic_of(options);
        keyvalue_prepare(&rpc, keyvalue, KEYVALUE_STORE_BATCH, deadline_of(options), &request.base);
        code = keyvalue_run(&rpc, error);
    }
    free(list);
    free(requests);
    return code == PRISM_OK ? take_stored(&rpc, n, batch, error) : code;
}

/* ---- retrieve, remove ---- */

static enum prism_code check_keys(const char *const *keys, size_t n, struct prism_error *error)
{
    for (size_t i = 0; i < n; i++) {
        if (keyvalue_check_key(keys[i], "keys", error) != PRISM_OK) {
            if (error != NULL)
                error->field[0] = '\0';
            point_at(error, "keys", i);
            return PRISM_INVALID_ARGUMENT;
        }
    }
    return PRISM_OK;
}

static enum prism_code take_retrieved(struct rpc *rpc, size_t n, struct prism_batch *batch,
                                      struct prism_error *error)
{
    const retrieve_response *response = (const retrieve_response *)rpc->response;
    enum prism_code code = check_count(rpc, response->n_results, n, error);
    struct prism_item_result *items;

    if (code != PRISM_OK)
        return code;
    items = batch_take(batch, rpc, n);
    for (size_t i = 0; i < n; i++) {
        const Prism__Patterns__Keyvalue__RetrieveResponse *result = response->results[i];

        item_outcome(batch, &items[i], result->code,
                     result->error != NULL && *result->error != '\0', result->error);
        items[i].found = result->found;
        items[i].value = prism_bytes_of(result->value.data, result->value.len);
    }
    return PRISM_OK;
}

enum prism_code prism_keyvalue_retrieve_batch(struct prism_keyvalue *keyvalue,
                                              const char *const *keys, size_t n,
                                              const struct prism_batch_options *options,
                                              struct prism_batch *batch, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__RetrieveBatchRequest request =
        PRISM__PATTERNS__KEYVALUE__RETRIEVE_BATCH_REQUEST__INIT;
    struct rpc rpc;
    enum prism_code code = feature_require(keyvalue, FEATURE_RETRIEVE_BATCH, error);

    *batch = (struct prism_batch){0};
    if (code == PRISM_OK)
        code = check_keys(keys, n, error);
    if (code != PRISM_OK)
        return code;
    request.n_keys = n;
    request.keys = (char **)(uintptr_t)keys;
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_RETRIEVE_BATCH, deadline_of(options), &request.base);
    code = keyvalue_run(&rpc, error);
    return code == PRISM_OK ? take_retrieved(&rpc, n, batch, error) : code;
}

static enum prism_code take_removed(struct rpc *rpc, size_t n, struct prism_batch *batch,
                                    struct prism_error *error)
{
    const remove_response *response = (const remove_response *)rpc->response;
    enum prism_code code = check_count(rpc, response->n_results, n, error);
    struct prism_item_result *items;

    if (code != PRISM_OK)
        return code;
    items = batch_take(batch, rpc, n);
    for (size_t i = 0; i < n; i++) {
        const Prism__Patterns__Keyvalue__RemoveResponse *result = response->results[i];

        item_outcome(batch, &items[i], result->code, !result->success, result->error);
        items[i].found = result->existed;
    }
    return PRISM_OK;
}

enum prism_code prism_keyvalue_remove_batch(struct prism_keyvalue *keyvalue,
                                            const char *const *keys, size_t n,
                                            const struct prism_batch_options *options,
                                            struct prism_batch *batch, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__RemoveBatchRequest request =
        PRISM__PATTERNS__KEYVALUE__REMOVE_BATCH_REQUEST__INIT;
    struct rpc rpc;
    enum prism_code code = feature_require(keyvalue, FEATURE_REMOVE_BATCH, error);

    *batch = (struct prism_batch){0};
    if (code == PRISM_OK && atomic_of(options))
        code = feature_require(keyvalue, FEATURE_ATOMIC_REMOVE_BATCH, error);
    if (code == PRISM_OK)
        code = check_keys(keys, n, error);
    if (code != PRISM_OK)
        return code;
    request.n_keys = n;
    request.keys = (char **)(uintptr_t)keys;
    request.atomic = atomic_of(options);
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_REMOVE_BATCH, deadline_of(options), &request.base);
    code = keyvalue_run(&rpc, error);
    return code == PRISM_OK ? take_removed(&rpc, n, batch, error) : code;
}
