/* Retrieve, Remove, Exists: one key, one backend call. An absent key is an answer; what went wrong
 * is a status. */
#include "patterns/keyvalue/keyvalue_priv.h"

static void retrieve_reply(struct single *single, struct err err);
static void remove_reply(struct single *single, struct err err);
static void exists_reply(struct single *single, struct err err);

/* ---- Retrieve ---- */

void keyvalue_retrieve(struct call *call)
{
    const pb_retrieve_request *request = call_request(call);
    struct single *single = single_new(call, retrieve_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code == ERR_OK && request->with_version && single->kv->plan.cas == NULL)
        err = keyvalue_unsupported(NEED_CAS);
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        retrieve_start(single, key, request->with_version);
}

/* What was stored through a larger limit, or by somebody else, may not fit one message. */
struct err retrieve_check_size(const struct keyvalue *kv, struct arena *arena, struct slice value)
{
    enum { OTHER_FIELDS = 128 };

    if (value.len + OTHER_FIELDS <= kv->max_message_bytes)
        return ERR_NONE;
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_message_bytes",
                     arena_printf(arena, "the value has %zu bytes; a message takes %u", value.len,
                                  kv->max_message_bytes));
}

static void retrieve_reply(struct single *single, struct err err)
{
    pb_retrieve_response response = PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE__INIT;
    const struct kv_get *get = &single->get;

    if (err.code == ERR_OK && get->found)
        err = retrieve_check_size(single->kv, call_arena(single->call), get->value);
    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.found = get->found;
    if (get->found)
        response.value = pb_bytes(get->value);
    if (get->found && get->want_version) {
        response._version_case = PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE___VERSION_VERSION;
        response.version = pb_bytes(get->version);
    }
    call_reply_read(single->call, &response.base);
}

/* ---- Remove ---- */

void keyvalue_remove(struct call *call)
{
    const pb_remove_request *request = call_request(call);
    struct single *single = single_new(call, remove_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        remove_start(single, key);
}

static void remove_reply(struct single *single, struct err err)
{
    pb_remove_response response = PRISM__PATTERNS__KEYVALUE__REMOVE_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.success = true;
    response.existed = single->del.existed;
    call_reply(single->call, &response.base);
}

/* ---- Exists ---- */

void keyvalue_exists(struct call *call)
{
    const pb_exists_request *request = call_request(call);
    struct single *single = single_new(call, exists_reply);
    struct slice key = slice_str(request->key);
    struct err err = check_key(single->kv, call_arena(call), key);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        exists_start(single, key);
}

static void exists_reply(struct single *single, struct err err)
{
    pb_exists_response response = PRISM__PATTERNS__KEYVALUE__EXISTS_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.exists = single->exists.found;
    call_reply(single->call, &response.base);
}
