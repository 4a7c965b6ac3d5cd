/* Calls on one key. Each is prepare (check, fill the request), run, take (answer to result), so
 * that the asynchronous forms can use the first and the last. */
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"

typedef Prism__Patterns__Keyvalue__StoreResponse store_response;
typedef Prism__Patterns__Keyvalue__RetrieveResponse retrieve_response;
typedef Prism__Patterns__Keyvalue__RemoveResponse remove_response;
typedef Prism__Patterns__Keyvalue__ExistsResponse exists_response;

/* ---- store ---- */

static enum prism_code set_precondition(struct store_request *request,
                                        struct prism_keyvalue *keyvalue,
                                        const struct prism_store_item *item,
                                        struct prism_error *error)
{
    bool if_version = item->if_version.len > 0;
    enum prism_code code;

    if (item->if_absent && if_version)
        return error_about(error, "precondition", "if_absent and if_version exclude each other");
    if (!item->if_absent && !if_version)
        return PRISM_OK;
    code =
        feature_require(keyvalue, item->if_absent ? FEATURE_IF_ABSENT : FEATURE_IF_VERSION, error);
    if (code != PRISM_OK)
        return code;
    prism__patterns__keyvalue__precondition__init(&request->precondition);
    if (item->if_absent) {
        request->precondition.condition_case =
            PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_ABSENT;
        request->precondition.if_absent = true;
    } else {
        request->precondition.condition_case =
            PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_VERSION;
        request->precondition.if_version = keyvalue_bytes(item->if_version);
    }
    request->message.precondition = &request->precondition;
    return PRISM_OK;
}

enum prism_code store_request_init(struct store_request *request, struct prism_keyvalue *keyvalue,
                                   const struct prism_store_item *item, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__StoreRequest *message = &request->message;
    enum prism_code code = keyvalue_check_key(item->key, "key", error);

    prism__patterns__keyvalue__store_request__init(message);
    if (code == PRISM_OK && item->expiration_s < 0)
        code = error_about(error, "expiration_seconds", "must be 1 or more, or 0 for none");
    if (code == PRISM_OK && item->expiration_s > 0)
        code = feature_require(keyvalue, FEATURE_STORE_EXPIRATION, error);
    if (code == PRISM_OK)
        code = set_precondition(request, keyvalue, item, error);
    if (code != PRISM_OK)
        return code;
    message->key = (char *)(uintptr_t)item->key;
    message->value = keyvalue_bytes(item->value);
    if (item->expiration_s > 0) {
        message->_expiration_seconds_case =
            PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___EXPIRATION_SECONDS_EXPIRATION_SECONDS;
        message->expiration_seconds = item->expiration_s;
    }
    return PRISM_OK;
}

enum prism_code store_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                              struct prism_bytes value, const struct prism_store_options *options,
                              struct prism_error *error)
{
    struct prism_store_item item = {.key = key, .value = value};
    struct store_request request;
    enum prism_code code;

    if (options != NULL) {
        item.expiration_s = options->expiration_s;
        item.if_absent = options->if_absent;
        item.if_version = options->if_version;
    }
    code = store_request_init(&request, keyvalue, &item, error);
    if (code == PRISM_OK)
        keyvalue_prepare(rpc, keyvalue, KEYVALUE_STORE, options ? options->deadline_ms : 0,
                         &request.message.base);
    return code;
}

enum prism_code store_take(struct rpc *rpc, struct prism_buffer *version, struct prism_error *error)
{
    store_response *response = (store_response *)rpc->response;
    enum prism_code code =
        keyvalue_outcome(error, response->code, !response->success, response->error);

    if (response->_version_case == PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___VERSION_VERSION)
        *version = keyvalue_take_bytes(&response->version);
    rpc_clear(rpc);
    return code;
}

enum prism_code prism_keyvalue_store(struct prism_keyvalue *keyvalue, const char *key,
                                     struct prism_bytes value,
                                     const struct prism_store_options *options,
                                     struct prism_buffer *version, struct prism_error *error)
{
    struct prism_buffer unwanted = {0};
    struct rpc rpc;
    enum prism_code code;

    if (version != NULL)
        *version = unwanted;
    code = store_prepare(&rpc, keyvalue, key, value, options, error);
    if (code == PRISM_OK)
        code = keyvalue_run(&rpc, error);
    if (code == PRISM_OK)
        code = store_take(&rpc, version != NULL ? version : &unwanted, error);
    prism_buffer_free(&unwanted);
    return code;
}

/* ---- retrieve ---- */

enum prism_code retrieve_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                                 const struct prism_retrieve_options *options,
                                 struct prism_error *error)
{
    Prism__Patterns__Keyvalue__RetrieveRequest request =
        PRISM__PATTERNS__KEYVALUE__RETRIEVE_REQUEST__INIT;
    enum prism_code code = keyvalue_check_key(key, "key", error);

    request.key = (char *)(uintptr_t)key;
    request.with_version = options != NULL && options->with_version;
    if (code == PRISM_OK && request.with_version)
        code = feature_require(keyvalue, FEATURE_IF_VERSION, error);
    if (code == PRISM_OK)
        keyvalue_prepare(rpc, keyvalue, KEYVALUE_RETRIEVE, options ? options->deadline_ms : 0,
                         &request.base);
    return code;
}

enum prism_code retrieve_take(struct rpc *rpc, struct prism_value *value, struct prism_error *error)
{
    retrieve_response *response = (retrieve_response *)rpc->response;
    enum prism_code code =
        keyvalue_outcome(error, response->code, response->error != NULL && *response->error != '\0',
                         response->error);

    if (code == PRISM_OK && response->found) {
        value->found = true;
        value->data = keyvalue_take_bytes(&response->value);
        if (response->_version_case ==
            PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE___VERSION_VERSION)
            value->version = keyvalue_take_bytes(&response->version);
    }
    rpc_clear(rpc);
    return code;
}

enum prism_code prism_keyvalue_retrieve(struct prism_keyvalue *keyvalue, const char *key,
                                        const struct prism_retrieve_options *options,
                                        struct prism_value *value, struct prism_error *error)
{
    struct rpc rpc;
    enum prism_code code;

    *value = (struct prism_value){0};
    code = retrieve_prepare(&rpc, keyvalue, key, options, error);
    if (code == PRISM_OK)
        code = keyvalue_run(&rpc, error);
    return code == PRISM_OK ? retrieve_take(&rpc, value, error) : code;
}

void prism_value_free(struct prism_value *value)
{
    if (value == NULL)
        return;
    prism_buffer_free(&value->data);
    prism_buffer_free(&value->version);
    value->found = false;
}

/* ---- remove, exists ---- */

enum prism_code remove_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                               const struct prism_call_options *options, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__RemoveRequest request =
        PRISM__PATTERNS__KEYVALUE__REMOVE_REQUEST__INIT;
    enum prism_code code = keyvalue_check_key(key, "key", error);

    request.key = (char *)(uintptr_t)key;
    if (code == PRISM_OK)
        keyvalue_prepare(rpc, keyvalue, KEYVALUE_REMOVE, options ? options->deadline_ms : 0,
                         &request.base);
    return code;
}

enum prism_code remove_take(struct rpc *rpc, bool *existed, struct prism_error *error)
{
    const remove_response *response = (const remove_response *)rpc->response;
    enum prism_code code =
        keyvalue_outcome(error, response->code, !response->success, response->error);

    *existed = code == PRISM_OK && response->existed;
    rpc_clear(rpc);
    return code;
}

enum prism_code prism_keyvalue_remove(struct prism_keyvalue *keyvalue, const char *key,
                                      const struct prism_call_options *options, bool *existed,
                                      struct prism_error *error)
{
    struct rpc rpc;
    bool was_there = false;
    enum prism_code code = remove_prepare(&rpc, keyvalue, key, options, error);

    if (code == PRISM_OK)
        code = keyvalue_run(&rpc, error);
    if (code == PRISM_OK)
        code = remove_take(&rpc, &was_there, error);
    if (existed != NULL)
        *existed = was_there;
    return code;
}

enum prism_code prism_keyvalue_exists(struct prism_keyvalue *keyvalue, const char *key,
                                      const struct prism_call_options *options, bool *exists,
                                      struct prism_error *error)
{
    Prism__Patterns__Keyvalue__ExistsRequest request =
        PRISM__PATTERNS__KEYVALUE__EXISTS_REQUEST__INIT;
    const exists_response *response;
    struct rpc rpc;
    enum prism_code code = keyvalue_check_key(key, "key", error);

    *exists = false;
    if (code != PRISM_OK)
        return code;
    request.key = (char *)(uintptr_t)key;
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_EXISTS, options ? options->deadline_ms : 0,
                     &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK)
        return code;
    response = (const exists_response *)rpc.response;
    code = keyvalue_outcome(error, response->code,
                            response->error != NULL && *response->error != '\0', response->error);
    *exists = code == PRISM_OK && response->exists;
    rpc_clear(&rpc);
    return code;
}
