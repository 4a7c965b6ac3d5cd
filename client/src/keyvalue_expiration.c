/* Expiry of keys, and counting them: single calls whose answer is one number or flag. */
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"

typedef Prism__Patterns__Keyvalue__SetExpirationResponse set_response;
typedef Prism__Patterns__Keyvalue__GetExpirationResponse get_response;
typedef Prism__Patterns__Keyvalue__ClearExpirationResponse clear_response;
typedef Prism__Patterns__Keyvalue__CountResponse count_response;

static enum prism_code check(struct prism_keyvalue *keyvalue, const char *key,
                             enum keyvalue_feature feature, struct prism_error *error)
{
    enum prism_code code = keyvalue_check_key(key, "key", error);

    return code == PRISM_OK ? feature_require(keyvalue, feature, error) : code;
}

static uint32_t deadline_of(const struct prism_call_options *options)
{
    return options != NULL ? options->deadline_ms : 0;
}

enum prism_code prism_keyvalue_set_expiration(struct prism_keyvalue *keyvalue, const char *key,
                                              int64_t seconds,
                                              const struct prism_call_options *options,
                                              bool *existed, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__SetExpirationRequest request =
        PRISM__PATTERNS__KEYVALUE__SET_EXPIRATION_REQUEST__INIT;
    const set_response *response;
    struct rpc rpc;
    enum prism_code code = check(keyvalue, key, FEATURE_SET_EXPIRATION, error);

    if (existed != NULL)
        *existed = false;
    if (code == PRISM_OK && seconds < 0)
        code = error_about(error, "expiration_seconds", "must not be negative");
    if (code != PRISM_OK)
        return code;
    request.key = (char *)(uintptr_t)key;
    request.expiration_seconds = seconds;
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_SET_EXPIRATION, deadline_of(options), &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK)
        return code;
    response = (const set_response *)rpc.response;
    code = keyvalue_outcome(error, response->code, !response->success, response->error);
    if (existed != NULL)
        *existed = code == PRISM_OK && response->key_existed;
    rpc_clear(&rpc);
    return code;
}

enum prism_code prism_keyvalue_get_expiration(struct prism_keyvalue *keyvalue, const char *key,
                                              const struct prism_call_options *options,
                                              int64_t *seconds, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__GetExpirationRequest request =
        PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_REQUEST__INIT;
    const get_response *response;
    struct rpc rpc;
    enum prism_code code = check(keyvalue, key, FEATURE_GET_EXPIRATION, error);

    *seconds = PRISM_NO_SUCH_KEY;
    if (code != PRISM_OK)
        return code;
    request.key = (char *)(uintptr_t)key;
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_GET_EXPIRATION, deadline_of(options), &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK)
        return code;
    response = (const get_response *)rpc.response;
    code = keyvalue_outcome(error, response->code,
                            response->error != NULL && *response->error != '\0', response->error);
    if (code == PRISM_OK)
        *seconds = response->expiration_seconds;
    rpc_clear(&rpc);
    return code;
}

enum prism_code prism_keyvalue_clear_expiration(struct prism_keyvalue *keyvalue, const char *key,
                                                const struct prism_call_options *options,
                                                bool *removed, struct prism_error *error)
{
    Prism__Patterns__Keyvalue__ClearExpirationRequest request =
        PRISM__PATTERNS__KEYVALUE__CLEAR_EXPIRATION_REQUEST__INIT;
    const clear_response *response;
    struct rpc rpc;
    enum prism_code code = check(keyvalue, key, FEATURE_CLEAR_EXPIRATION, error);

    if (removed != NULL)
        *removed = false;
    if (code != PRISM_OK)
        return code;
    request.key = (char *)(uintptr_t)key;
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_CLEAR_EXPIRATION, deadline_of(options),
                     &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK)
        return code;
    response = (const clear_response *)rpc.response;
    code = keyvalue_outcome(error, response->code, !response->success, response->error);
    if (removed != NULL)
        *removed = code == PRISM_OK && response->expiration_removed;
    rpc_clear(&rpc);
    return code;
}

enum prism_code prism_keyvalue_count(struct prism_keyvalue *keyvalue, const char *prefix,
                                     const struct prism_call_options *options, int64_t *count,
                                     struct prism_error *error)
{
    Prism__Patterns__Keyvalue__CountRequest request =
        PRISM__PATTERNS__KEYVALUE__COUNT_REQUEST__INIT;
    struct rpc rpc;
    enum prism_code code = feature_require(keyvalue, FEATURE_COUNT_KEYS, error);

    *count = 0;
    if (code != PRISM_OK)
        return code;
    if (prefix != NULL && *prefix != '\0') {
        request._prefix_case = PRISM__PATTERNS__KEYVALUE__COUNT_REQUEST___PREFIX_PREFIX;
        request.prefix = (char *)(uintptr_t)prefix;
    }
    keyvalue_prepare(&rpc, keyvalue, KEYVALUE_COUNT, deadline_of(options), &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK)
        return code;
    *count = ((const count_response *)rpc.response)->count;
    rpc_clear(&rpc);
    return error_none(error);
}
