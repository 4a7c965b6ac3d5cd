/* SetExpiration, GetExpiration, ClearExpiration: the expiry of one key. Without
 * KeyValueTTLInterface each answers UNIMPLEMENTED. */
#include "patterns/keyvalue/keyvalue_priv.h"

static void set_expiration_reply(struct single *single, struct err err);
static void get_expiration_reply(struct single *single, struct err err);
static void clear_expiration_reply(struct single *single, struct err err);

struct err check_expirable(const struct keyvalue *kv, struct arena *arena, struct slice key)
{
    return kv->plan.ttl == NULL ? keyvalue_unsupported(NEED_TTL) : check_key(kv, arena, key);
}

/* ---- SetExpiration ---- */

struct err set_expiration_check(const struct keyvalue *kv, struct arena *arena, struct slice key,
                                int64_t seconds)
{
    struct err err = check_expirable(kv, arena, key);

    return err.code != ERR_OK ? err : check_expiration(kv, arena, seconds, 0);
}

void keyvalue_set_expiration(struct call *call)
{
    const pb_set_expiration_request *request = call_request(call);
    struct single *single = single_new(call, set_expiration_reply);
    struct slice key = slice_str(request->key);
    struct err err =
        set_expiration_check(single->kv, call_arena(call), key, request->expiration_seconds);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        set_expiration_start(single, key, request->expiration_seconds);
}

static void set_expiration_reply(struct single *single, struct err err)
{
    pb_set_expiration_response response = PRISM__PATTERNS__KEYVALUE__SET_EXPIRATION_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.success = true;
    response.key_existed = set_expiration_existed(single);
    call_reply(single->call, &response.base);
}

/* ---- GetExpiration ---- */

void keyvalue_get_expiration(struct call *call)
{
    const pb_get_expiration_request *request = call_request(call);
    struct single *single = single_new(call, get_expiration_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_expirable(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        get_expiration_start(single, key);
}

static void get_expiration_reply(struct single *single, struct err err)
{
    pb_get_expiration_response response = PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.expiration_seconds = get_expiration_seconds(&single->ttl_get);
    call_reply(single->call, &response.base);
}

/* ---- ClearExpiration ---- */

void keyvalue_clear_expiration(struct call *call)
{
    const pb_clear_expiration_request *request = call_request(call);
    struct single *single = single_new(call, clear_expiration_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_expirable(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        clear_expiration_start(single, key);
}

static void clear_expiration_reply(struct single *single, struct err err)
{
    pb_clear_expiration_response response =
        PRISM__PATTERNS__KEYVALUE__CLEAR_EXPIRATION_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.success = true;
    response.expiration_removed = single->persist.removed;
    call_reply(single->call, &response.base);
}
