/* Store: write one value, with its expiry and under a precondition if wanted.
 *
 * happy path     store -> backend (put or put_if) -> store_reply
 * fault          the request breaks a rule: a status, the backend is not asked
 * not granted    the backend has no expiry: told in-band, the backend is not asked
 * not met        the precondition does not hold: told in-band, nothing was written */
#include "patterns/keyvalue/keyvalue_priv.h"

static void store_reply(struct single *single, struct err err);
static void store_answer(struct single *single, struct err outcome);

/* ---- checks, also for the items of a batch ---- */

static struct err check_precondition(const struct keyvalue *kv, const pb_precondition *wanted)
{
    const char *fault = NULL;

    switch (wanted->condition_case) {
    case PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_ABSENT:
        if (!wanted->if_absent)
            fault = "if_absent is false; set it to true or leave the precondition out";
        break;
    case PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_VERSION:
        if (wanted->if_version.len == 0)
            fault = "if_version is empty; it has to be a version that a response gave";
        break;
    default:
        fault = "the precondition names no condition; set if_absent or if_version";
    }
    if (fault != NULL)
        return err_about(ERR_INVALID_ARGUMENT, "precondition", fault);
    return kv->plan.cas != NULL ? ERR_NONE : keyvalue_unsupported(NEED_CAS);
}

static bool wants_expiration(const pb_store_request *request)
{
    return request->_expiration_seconds_case !=
           PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___EXPIRATION_SECONDS__NOT_SET;
}

struct err store_read(const struct keyvalue *kv, struct arena *arena,
                      const pb_store_request *request, struct store_args *args)
{
    struct err err;

    *args = (struct store_args){
        .key = slice_str(request->key),
        .value = pb_slice(request->value),
        .precondition = request->precondition,
    };
    err = check_key(kv, arena, args->key);
    if (err.code == ERR_OK)
        err = check_value(kv, arena, args->key, args->value);
    if (err.code == ERR_OK && wants_expiration(request)) {
        err = check_expiration(kv, arena, request->expiration_seconds, 1);
        args->ttl_ms = err.code == ERR_OK ? (uint64_t)request->expiration_seconds * 1000 : 0;
    }
    if (err.code == ERR_OK && args->precondition != NULL)
        err = check_precondition(kv, args->precondition);
    return err;
}

struct err store_grant(const struct keyvalue *kv, const pb_store_request *request)
{
    if (wants_expiration(request) && kv->plan.ttl == NULL)
        return keyvalue_unsupported(NEED_TTL);
    if (request->tags != NULL && request->tags->n_tags > 0)
        return err_about(ERR_UNIMPLEMENTED, "tags", "tags not supported: no backend stores them");
    return ERR_NONE;
}

struct err store_condition_outcome(const struct kv_put_if *put_if)
{
    if (put_if->stored)
        return ERR_NONE;
    if (put_if->condition == KV_IF_ABSENT)
        return err_make(ERR_ALREADY_EXISTS, "the key is present already");
    return err_make(ERR_FAILED_PRECONDITION, "the key is absent or has another version");
}

/* ---- the call ---- */

void keyvalue_store(struct call *call)
{
    const pb_store_request *request = call_request(call);
    struct single *single = single_new(call, store_reply);
    struct store_args args;
    struct err err = store_read(single->kv, call_arena(call), request, &args);

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    err = store_grant(single->kv, request);
    if (err.code != ERR_OK) {
        store_answer(single, err);
        return;
    }
    store_start(single, &args);
}

static void store_reply(struct single *single, struct err err)
{
    const pb_store_request *request = call_request(single->call);

    if (err.code != ERR_OK)
        call_fail(single->call, err);
    else
        store_answer(single, request->precondition != NULL
                                 ? store_condition_outcome(&single->put_if)
                                 : ERR_NONE);
}

static void store_answer(struct single *single, struct err outcome)
{
    pb_store_response response;
    const pb_store_request *request = call_request(single->call);

    store_response_fill(&response, outcome);
    if (outcome.code == ERR_OK && request->precondition != NULL)
        store_response_version(&response, single->put_if.current_version);
    call_reply(single->call, &response.base);
}

void store_response_fill(pb_store_response *response, struct err outcome)
{
    prism__patterns__keyvalue__store_response__init(response);
    response->success = outcome.code == ERR_OK;
    response->code = (int32_t)outcome.code;
    if (outcome.code == ERR_OK)
        return;
    response->_error_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR_ERROR;
    response->error = pb_text(outcome.text);
}

void store_response_version(pb_store_response *response, struct slice version)
{
    response->_version_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___VERSION_VERSION;
    response->version = pb_bytes(version);
}
