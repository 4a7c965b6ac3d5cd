/* GetSession and GetSessionData. */
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

struct reading {
    struct session_get get;
    struct call *call;
    struct session_store *store;
};

/* Counts. False: the call has failed. */
static bool read_done(struct reading *r, bool *found)
{
    const struct op *op = &r->get.op;

    *found = op->err.code == ERR_OK;
    if (op->err.code != ERR_OK && op->err.code != ERR_NOT_FOUND) {
        call_fail(r->call, op->err);
        return false;
    }
    counter_add(*found ? &r->store->stats.read : &r->store->stats.read_missing, 1);
    return true;
}

static void start(struct reading *r, struct call *call, const char *id, bool no_touch,
                  op_done_fn *done)
{
    struct session_store *store = session_store_of(call);
    struct err err = convert_id(id, "session_id", &r->get.id);

    r->call = call;
    r->store = store;
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    if (!no_touch)
        r->get.use = store->settings.use;
    call_start(call, &r->get.op, done);
    store->methods->get(store->backend, &r->get);
}

/* ---- GetSession ---- */

static void fill_values(struct arena *arena, const struct session_get *get, pb_session_data *to)
{
    to->data = arena_array(arena, get->n, sizeof *to->data);
    to->value_versions = arena_array(arena, get->n, sizeof *to->value_versions);
    for (size_t i = 0; i < get->n; i++) {
        pb_session_data_entry *entry = arena_alloc(arena, sizeof *entry);
        pb_session_version_entry *version = arena_alloc(arena, sizeof *version);

        prism__patterns__session_store__session_data__data_entry__init(entry);
        prism__patterns__session_store__session_data__value_versions_entry__init(version);
        entry->key = version->key = arena_strdup(arena, get->values[i].name);
        entry->value = convert_any(arena, get->values[i].value);
        version->value = (int64_t)get->values[i].version;
        to->data[to->n_data++] = entry;
        to->value_versions[to->n_value_versions++] = version;
    }
}

static void session_read(struct op *op)
{
    struct reading *r = CONTAINER_OF(op, struct reading, get.op);
    struct arena *arena = call_arena(r->call);
    pb_get_session_response response = SESSION_PB(GET_SESSION_RESPONSE__INIT);
    bool found;

    if (!read_done(r, &found))
        return;
    response.found = found;
    if (found) {
        response.session =
            convert_session(arena, r->get.id, &r->get.owner, &r->get.times, r->get.version);
        fill_values(arena, &r->get, response.session);
    }
    call_reply_read(r->call, &response.base);
}

void session_get(struct call *call)
{
    const pb_get_session_request *request = call_request(call);
    struct reading *r = arena_zalloc(call_arena(call), sizeof *r);

    start(r, call, request->session_id, request->no_touch, session_read);
}

/* ---- GetSessionData ---- */

static void value_read(struct op *op)
{
    struct reading *r = CONTAINER_OF(op, struct reading, get.op);
    pb_get_data_response response = SESSION_PB(GET_SESSION_DATA_RESPONSE__INIT);
    bool found;

    if (!read_done(r, &found))
        return;
    if (found && r->get.n > 0) {
        response.found = true;
        response.value = convert_any(call_arena(r->call), r->get.values[0].value);
        response.version = (int64_t)r->get.values[0].version;
    }
    call_reply_read(r->call, &response.base);
}

void session_get_data(struct call *call)
{
    const pb_get_data_request *request = call_request(call);
    struct reading *r = arena_zalloc(call_arena(call), sizeof *r);
    struct err err = convert_key(request->key, "key", &r->get.name);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        start(r, call, request->session_id, request->no_touch, value_read);
}
