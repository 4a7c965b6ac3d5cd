/* The deprecated KeyValueBasicInterface and KeyValueTTLInterface. */
#include "patterns/keyvalue/deprecated/deprecated.h"

#include "src/base/container.h"

/* ---- Set ---- */

static void set_reply(struct single *single, struct err err)
{
    old_set_response response = PRISM__INTERFACES__KEYVALUE__SET_RESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.success = err.code == ERR_OK;
    response.error = old_error(err);
    call_reply(single->call, &response.base);
}

/* tags are accepted and not kept, as they never were: refusing them now would break callers. */
static void set(struct call *call)
{
    const old_set_request *request = call_request(call);
    struct single *single = single_new(call, set_reply);
    struct store_args args = {.key = slice_str(request->key), .value = pb_slice(request->value)};
    struct err err = check_key(single->kv, call_arena(call), args.key);

    if (err.code == ERR_OK)
        err = check_value(single->kv, call_arena(call), args.key, args.value);
    if (err.code != ERR_OK)
        set_reply(single, err);
    else
        store_start(single, &args);
}

/* ---- Get ---- */

static void get_reply(struct single *single, struct err err)
{
    old_get_response response = PRISM__INTERFACES__KEYVALUE__GET_RESPONSE__INIT;
    const struct kv_get *got = &single->get;

    if (err.code == ERR_OK && got->found)
        err = retrieve_check_size(single->kv, call_arena(single->call), got->value);
    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.found = err.code == ERR_OK && got->found;
    response.error = old_error(err);
    if (response.found)
        response.value = pb_bytes(got->value);
    call_reply_read(single->call, &response.base);
}

static void get(struct call *call)
{
    const old_get_request *request = call_request(call);
    struct single *single = single_new(call, get_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        get_reply(single, err);
    else
        retrieve_start(single, key, false);
}

/* ---- Delete ---- */

static void delete_reply(struct single *single, struct err err)
{
    old_delete_response response = PRISM__INTERFACES__KEYVALUE__DELETE_RESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.success = err.code == ERR_OK;
    response.error = old_error(err);
    call_reply(single->call, &response.base);
}

static void delete (struct call *call)
{
    const old_delete_request *request = call_request(call);
    struct single *single = single_new(call, delete_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        delete_reply(single, err);
    else
        remove_start(single, key);
}

/* ---- Exists ---- */

static void exists_reply(struct single *single, struct err err)
{
    old_exists_response response = PRISM__INTERFACES__KEYVALUE__EXISTS_RESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.exists = err.code == ERR_OK && single->exists.found;
    response.error = old_error(err);
    call_reply(single->call, &response.base);
}

static void exists(struct call *call)
{
    const old_exists_request *request = call_request(call);
    struct single *single = single_new(call, exists_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        exists_reply(single, err);
    else
        exists_start(single, key);
}

/* ---- Expire ---- */

static void expire_reply(struct single *single, struct err err)
{
    old_expire_response response = PRISM__INTERFACES__KEYVALUE__EXPIRE_RESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.success = err.code == ERR_OK;
    response.error = old_error(err);
    response.key_existed = response.success && set_expiration_existed(single);
    call_reply(single->call, &response.base);
}

static void expire(struct call *call)
{
    const old_expire_request *request = call_request(call);
    struct single *single = single_new(call, expire_reply);
    struct slice key = slice_str(request->key);
    struct err err = set_expiration_check(single->kv, call_arena(call), key, request->ttl_seconds);

    if (err.code != ERR_OK)
        expire_reply(single, err);
    else
        set_expiration_start(single, key, request->ttl_seconds);
}

/* ---- GetTTL ---- */

static void get_ttl_reply(struct single *single, struct err err)
{
    old_get_ttl_response response = PRISM__INTERFACES__KEYVALUE__GET_TTLRESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.error = old_error(err);
    if (err.code == ERR_OK)
        response.ttl_seconds = get_expiration_seconds(&single->ttl_get);
    call_reply(single->call, &response.base);
}

static void get_ttl(struct call *call)
{
    const old_get_ttl_request *request = call_request(call);
    struct single *single = single_new(call, get_ttl_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_expirable(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        get_ttl_reply(single, err);
    else
        get_expiration_start(single, key);
}

/* ---- Persist ---- */

static void persist_reply(struct single *single, struct err err)
{
    old_persist_response response = PRISM__INTERFACES__KEYVALUE__PERSIST_RESPONSE__INIT;

    if (old_is_status(err)) {
        call_fail(single->call, err);
        return;
    }
    response.success = err.code == ERR_OK;
    response.error = old_error(err);
    response.expiration_removed = response.success && single->persist.removed;
    call_reply(single->call, &response.base);
}

static void persist(struct call *call)
{
    const old_persist_request *request = call_request(call);
    struct single *single = single_new(call, persist_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_expirable(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        persist_reply(single, err);
    else
        clear_expiration_start(single, key);
}

/* ---- tables ---- */

#define BASIC "KeyValueBasicInterface"
#define TTL   "KeyValueTTLInterface"

static const struct method basic[] = {
    OLD_METHOD(BASIC, "Set", METHOD_UNARY, set_request, set_response, set, "Store"),
    OLD_METHOD(BASIC, "Get", METHOD_UNARY, get_request, get_response, get, "Retrieve"),
    OLD_METHOD(BASIC, "Delete", METHOD_UNARY, delete_request, delete_response, delete, "Remove"),
    OLD_METHOD(BASIC, "Exists", METHOD_UNARY, exists_request, exists_response, exists, "Exists"),
};

static const struct method ttl[] = {
    OLD_METHOD(TTL, "Expire", METHOD_UNARY, expire_request, expire_response, expire,
               "SetExpiration"),
    OLD_METHOD(TTL, "GetTTL", METHOD_UNARY, get_ttlrequest, get_ttlresponse, get_ttl,
               "GetExpiration"),
    OLD_METHOD(TTL, "Persist", METHOD_UNARY, persist_request, persist_response, persist,
               "ClearExpiration"),
};

const struct service keyvalue_old_basic = {
    .name = "prism.interfaces.keyvalue.KeyValueBasicInterface",
    .pattern = "keyvalue",
    .methods = basic,
    .method_count = ARRAY_LEN(basic),
};

const struct service keyvalue_old_ttl = {
    .name = "prism.interfaces.keyvalue.KeyValueTTLInterface",
    .pattern = "keyvalue",
    .methods = ttl,
    .method_count = ARRAY_LEN(ttl),
};
