/* CreateSession. */
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

#include <string.h>

enum { MS_PER_S = 1000 };

struct creating {
    struct session_create create;
    struct call *call;
    struct session_store *store;
};

bool session_in_band(struct session_store *store, struct err err)
{
    static const char of_user[] = "max_sessions_per_user", of_all[] = "max_sessions",
                      size[] = "max_session_size";
    const char *about = err.subject != NULL ? err.subject : "";

    if (err.code == ERR_ABORTED)
        counter_add(&store->stats.aborted, 1);
    else if (err.code != ERR_RESOURCE_EXHAUSTED)
        return false;
    else if (strcmp(about, of_user) == 0)
        counter_add(&store->stats.refused_user, 1);
    else if (strcmp(about, of_all) == 0)
        counter_add(&store->stats.refused_namespace, 1);
    else if (strcmp(about, size) == 0)
        counter_add(&store->stats.too_large, 1);
    else
        return false; /* the backend's own want of room */
    return true;
}

static void reply_created(struct creating *c)
{
    const struct session_create *create = &c->create;
    struct arena *arena = call_arena(c->call);
    pb_create_session_response response = SESSION_PB(CREATE_SESSION_RESPONSE__INIT);

    response.session_id = arena_strdup(arena, create->id);
    response.created_at = convert_time(arena, create->times.created_ms);
    response.expires_at = convert_time(arena, create->times.expires_ms);
    response.version = 1;
    response.evicted_session_ids =
        arena_array(arena, create->ended_n, sizeof *response.evicted_session_ids);
    for (size_t i = 0; i < create->ended_n; i++)
        response.evicted_session_ids[response.n_evicted_session_ids++] =
            arena_strdup(arena, create->ended[i]);
    counter_add(&c->store->stats.created, 1);
    counter_add(&c->store->stats.evicted, create->ended_n);
    call_reply(c->call, &response.base);
}

static void created(struct op *op)
{
    struct creating *c = CONTAINER_OF(op, struct creating, create.op);
    pb_create_session_response response = SESSION_PB(CREATE_SESSION_RESPONSE__INIT);

    if (op->err.code == ERR_OK) {
        reply_created(c);
    } else if (session_in_band(c->store, op->err)) {
        response.code = (int32_t)op->err.code;
        response._error_case = SESSION_PB(CREATE_SESSION_RESPONSE___ERROR_ERROR);
        response.error = pb_text(op->err.text);
        call_reply(c->call, &response.base);
    } else {
        call_fail(c->call, op->err);
    }
}

static struct err read_ttl(const struct session_settings *settings, int64_t seconds, uint64_t *ms)
{
    *ms = settings->default_ttl_ms;
    if (seconds == 0)
        return ERR_NONE;
    if (seconds < 0)
        return err_about(ERR_INVALID_ARGUMENT, "ttl_seconds", "ttl_seconds must not be negative");
    if ((uint64_t)seconds > settings->max_ttl_ms / MS_PER_S)
        return err_about(ERR_INVALID_ARGUMENT, "ttl_seconds",
                         "ttl_seconds is larger than max_ttl_seconds");
    *ms = (uint64_t)seconds * MS_PER_S;
    return ERR_NONE;
}

static struct err read_values(struct creating *c, const pb_create_session_request *request)
{
    struct arena *arena = call_arena(c->call);
    struct session_pair *pairs = arena_array(arena, request->n_data, sizeof *pairs);
    struct session_value *values;
    struct err err;

    for (size_t i = 0; i < request->n_data; i++)
        pairs[i] = (struct session_pair){request->data[i]->key, request->data[i]->value};
    err = convert_values(arena, pairs, request->n_data, "data", &values, &c->create.n);
    c->create.values = values;
    return err;
}

void session_create(struct call *call)
{
    const pb_create_session_request *request = call_request(call);
    struct creating *c = arena_zalloc(call_arena(call), sizeof *c);
    struct session_store *store = session_store_of(call);
    struct err err;

    c->call = call;
    c->store = store;
    err = convert_owner(call_arena(call), request->metadata, &c->create.owner);
    if (err.code == ERR_OK)
        err = read_ttl(&store->settings, request->ttl_seconds, &c->create.ttl_ms);
    if (err.code == ERR_OK)
        err = read_values(c, request);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    c->create.id =
        convert_new_id(call_arena(call), store->methods, c->create.owner.user, slice_str(""));
    c->create.max_life_ms = store->settings.max_life_ms;
    c->create.max_bytes = store->max_bytes;
    c->create.max_sessions = store->settings.max_sessions;
    c->create.max_per_user = store->settings.max_per_user;
    c->create.end_oldest = store->settings.end_oldest;
    call_start(call, &c->create.op, created);
    store->methods->create(store->backend, &c->create);
}
