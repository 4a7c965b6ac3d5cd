/* SetSessionData, DeleteSessionData, UpdateSession: one patch each. */
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <string.h>

struct writing {
    struct session_patch patch;
    struct session_value value;
    struct slice name;
    struct call *call;
    struct session_store *store;
};

static struct writing *writing_new(struct call *call)
{
    struct writing *w = arena_zalloc(call_arena(call), sizeof *w);

    w->call = call;
    w->store = session_store_of(call);
    return w;
}

/* What can be said in the answer: done, or not done. False: the call has failed. */
static bool write_done(struct writing *w)
{
    struct err err = w->patch.op.err;

    if (err.code == ERR_OK) {
        counter_add(&w->store->stats.written, 1);
        return true;
    }
    if (session_in_band(w->store, err))
        return true;
    if (err.code == ERR_NOT_FOUND)
        counter_add(&w->store->stats.write_missing, 1);
    call_fail(w->call, err);
    return false;
}

/* Unless there was a fault of the request. */
static void start(struct writing *w, struct err err, op_done_fn *done)
{
    if (err.code != ERR_OK) {
        call_fail(w->call, err);
        return;
    }
    w->patch.max_bytes = w->store->max_bytes;
    w->patch.use = w->store->settings.use;
    call_start(w->call, &w->patch.op, done);
    w->store->methods->patch(w->store->backend, &w->patch);
}

static int64_t version_of(const struct writing *w)
{
    enum err_code code = w->patch.op.err.code;

    return code == ERR_OK || code == ERR_ABORTED ? (int64_t)w->patch.version : 0;
}

/* ---- SetSessionData ---- */

static void value_set(struct op *op)
{
    struct writing *w = CONTAINER_OF(op, struct writing, patch.op);
    pb_set_data_response response = SESSION_PB(SET_SESSION_DATA_RESPONSE__INIT);

    if (!write_done(w))
        return;
    response.success = op->err.code == ERR_OK;
    response.version = version_of(w);
    response.code = (int32_t)op->err.code;
    if (!response.success) {
        response._error_case = SESSION_PB(SET_SESSION_DATA_RESPONSE___ERROR_ERROR);
        response.error = pb_text(op->err.text);
    }
    call_reply(w->call, &response.base);
}

void session_set_data(struct call *call)
{
    const pb_set_data_request *request = call_request(call);
    struct writing *w = writing_new(call);
    bool given = request->_if_version_case != 0;
    struct err err = convert_id(request->session_id, "session_id", &w->patch.id);

    if (err.code == ERR_OK)
        err = convert_key(request->key, "key", &w->value.name);
    if (err.code == ERR_OK)
        err = convert_value(call_arena(call), request->value, "value", &w->value.value);
    if (err.code == ERR_OK)
        err = convert_version(given, request->if_version, 0, &w->patch.if_version);
    w->patch.condition = given ? SESSION_VALUE_AT : SESSION_ALWAYS;
    w->patch.set = &w->value;
    w->patch.set_n = 1;
    start(w, err, value_set);
}

/* ---- DeleteSessionData ---- */

static void value_deleted(struct op *op)
{
    struct writing *w = CONTAINER_OF(op, struct writing, patch.op);
    pb_delete_data_response response = SESSION_PB(DELETE_SESSION_DATA_RESPONSE__INIT);

    if (!write_done(w))
        return;
    response.success = op->err.code == ERR_OK;
    response.version = version_of(w);
    response.code = (int32_t)op->err.code;
    if (!response.success) {
        response._error_case = SESSION_PB(DELETE_SESSION_DATA_RESPONSE___ERROR_ERROR);
        response.error = pb_text(op->err.text);
    }
    call_reply(w->call, &response.base);
}

void session_delete_data(struct call *call)
{
    const pb_delete_data_request *request = call_request(call);
    struct writing *w = writing_new(call);
    bool given = request->_if_version_case != 0;
    struct err err = convert_id(request->session_id, "session_id", &w->patch.id);

    if (err.code == ERR_OK)
        err = convert_key(request->key, "key", &w->name);
    if (err.code == ERR_OK)
        err = convert_version(given, request->if_version, 0, &w->patch.if_version);
    w->patch.condition = given ? SESSION_VALUE_AT : SESSION_ALWAYS;
    w->patch.remove = &w->name;
    w->patch.remove_n = 1;
    start(w, err, value_deleted);
}

/* ---- UpdateSession ---- */

static void updated(struct op *op)
{
    struct writing *w = CONTAINER_OF(op, struct writing, patch.op);
    pb_update_session_response response = SESSION_PB(UPDATE_SESSION_RESPONSE__INIT);

    if (!write_done(w))
        return;
    response.success = op->err.code == ERR_OK;
    response.version = version_of(w);
    response.code = (int32_t)op->err.code;
    if (response.success) {
        response.expires_at = convert_time(call_arena(w->call), w->patch.expires_ms);
    } else {
        response._error_case = SESSION_PB(UPDATE_SESSION_RESPONSE___ERROR_ERROR);
        response.error = pb_text(op->err.text);
    }
    call_reply(w->call, &response.base);
}

static int by_bytes(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static struct err read_set(struct writing *w, const pb_update_session_request *request)
{
    struct arena *arena = call_arena(w->call);
    struct session_pair *pairs = arena_array(arena, request->n_set, sizeof *pairs);
    struct session_value *values;
    struct err err;

    for (size_t i = 0; i < request->n_set; i++)
        pairs[i] = (struct session_pair){request->set[i]->key, request->set[i]->value};
    err = convert_values(arena, pairs, request->n_set, "set", &values, &w->patch.set_n);
    w->patch.set = values;
    return err;
}

/* Each name once, and none that is set: both lists are sorted. */
static struct err read_remove(struct writing *w, const pb_update_session_request *request)
{
    struct slice *names = arena_array(call_arena(w->call), request->n_remove, sizeof *names);
    struct err err = ERR_NONE;
    size_t n = 0, set = 0;

    for (size_t i = 0; i < request->n_remove && err.code == ERR_OK; i++)
        err = convert_key(request->remove[i], "remove", &names[i]);
    if (err.code != ERR_OK)
        return err;
    qsort(names, request->n_remove, sizeof *names, by_bytes);
    for (size_t i = 0; i < request->n_remove; i++) {
        while (set < w->patch.set_n && slice_compare(w->patch.set[set].name, names[i]) < 0)
            set++;
        if (set < w->patch.set_n && slice_equal(w->patch.set[set].name, names[i]))
            return err_about(ERR_INVALID_ARGUMENT, "remove", "a name is both in set and in remove");
        if (n == 0 || !slice_equal(names[n - 1], names[i]))
            names[n++] = names[i];
    }
    w->patch.remove = names;
    w->patch.remove_n = n;
    return ERR_NONE;
}

void session_update(struct call *call)
{
    const pb_update_session_request *request = call_request(call);
    struct writing *w = writing_new(call);
    bool given = request->_if_version_case != 0;
    struct err err = convert_id(request->session_id, "session_id", &w->patch.id);

    if (err.code == ERR_OK)
        err = read_set(w, request);
    if (err.code == ERR_OK)
        err = read_remove(w, request);
    if (err.code == ERR_OK)
        err = convert_version(given, request->if_version, 1, &w->patch.if_version);
    w->patch.condition = given ? SESSION_AT_VERSION : SESSION_ALWAYS;
    start(w, err, updated);
}
