/* Create, patch, rotate, extend, remove: a statement each. */
#include "backends/postgres/postgres_session.h"

#include "src/base/container.h"

void postgres_session_params(struct postgres_params *params, struct backend *backend, struct op *op,
                             struct slice id)
{
    postgres_params_init(params, op_arena(op));
    postgres_add_int4(params, postgres_of(backend)->space);
    postgres_add(params, id);
}

struct err postgres_session_absent(void)
{
    return err_make(ERR_NOT_FOUND, "the session does not exist, or has expired");
}

void postgres_session_is_absent(struct postgres_call *call)
{
    if (call->err.code == ERR_OK)
        call->err = postgres_session_absent();
}

static struct err too_large(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                     "the session would be larger than max_session_size");
}

/* Of names or values; NULL names: an empty array. */
static void add_values(struct postgres_params *params, const struct session_value *values, size_t n,
                       bool names)
{
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += names ? values[i].name.len : values[i].value.len;
    array = postgres_add_array(params, POSTGRES_BYTEA, n, bytes);
    for (size_t i = 0; i < n; i++)
        postgres_element(&array, names ? values[i].name : values[i].value);
}

/* ---- create ---- */

/* The elements of an array of bytea, as postgres sends it: dimensions, flags, type; if there is a
 * dimension, its length and lower bound; then each with its length. */
static uint32_t number_at(struct slice bytes, size_t at)
{
    const uint8_t *b = bytes.data + at;

    if (at + 4 > bytes.len)
        return 0;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void take_ended(struct session_create *create, struct slice array)
{
    enum { LENGTH_AT = 12, ELEMENTS_AT = 20 };
    size_t at = ELEMENTS_AT, n = number_at(array, 0) == 1 ? number_at(array, LENGTH_AT) : 0;

    for (size_t i = 0; i < n && create->ended_n < SESSION_ENDED; i++) {
        size_t len = number_at(array, at);

        at += 4;
        if (at > array.len || len > array.len - at)
            return;
        create->ended[create->ended_n++] =
            arena_copy(op_arena(&create->op), slice_of(array.data + at, len));
        at += len;
    }
}

static struct err create_err(int32_t code)
{
    switch (code) {
    case 0:
        return ERR_NONE;
    case 1:
        return err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
    case 3:
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user",
                         "the user has as many sessions as a user may have");
    default:
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions",
                         "the namespace holds as many sessions as it may");
    }
}

static void create_result(struct postgres_call *call, const PGresult *result)
{
    struct session_create *create = CONTAINER_OF(call->op, struct session_create, op);

    if (PQntuples(result) != 1) {
        postgres_unexpected(call);
        return;
    }
    call->err = create_err(postgres_int4(result, 0, 0));
    create->times.created_ms = create->times.used_ms = (uint64_t)postgres_int8(result, 0, 1);
    create->times.expires_ms = (uint64_t)postgres_int8(result, 0, 2);
    if (!PQgetisnull(result, 0, 3))
        take_ended(create, postgres_bytes(result, 0, 3));
}

static const struct postgres_kind create_kind = {.writes = true, .result = create_result};

static uint64_t values_bytes(const struct session_create *create)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < create->n; i++)
        bytes += session_value_bytes(create->values[i].name, create->values[i].value);
    return bytes;
}

/* More than fits makes the function refuse nothing: so that is done here. */
static void create(struct backend *backend, struct session_create *create)
{
    uint64_t bytes = values_bytes(create);
    struct postgres_params params;

    create->ended_n = 0;
    if (bytes > create->max_bytes) {
        op_finish(&create->op, too_large());
        return;
    }
    postgres_session_params(&params, backend, &create->op, create->id);
    postgres_add(&params, create->owner.user);
    postgres_add(&params, create->owner.region);
    postgres_add(&params, create->owner.client);
    postgres_add(&params, create->owner.attributes);
    postgres_add_int8(&params, (int64_t)create->ttl_ms);
    postgres_add_int8(&params, (int64_t)create->max_life_ms);
    postgres_add_int8(&params, (int64_t)bytes);
    postgres_add_int8(&params, (int64_t)create->max_sessions);
    postgres_add_int8(&params, create->max_per_user);
    postgres_add_bool(&params, create->end_oldest);
    postgres_add_int8(&params, SESSION_ENDED);
    add_values(&params, create->values, create->n, true);
    add_values(&params, create->values, create->n, false);
    postgres_run(postgres_of(backend), &create->op, &create_kind, NULL, SQL_SESSION_CREATE,
                 &params);
}

/* ---- patch ---- */

static void patch_result(struct postgres_call *call, const PGresult *result)
{
    struct session_patch *patch = CONTAINER_OF(call->op, struct session_patch, op);

    if (PQntuples(result) != 1) {
        postgres_unexpected(call);
        return;
    }
    patch->version = (uint64_t)postgres_int8(result, 0, 1);
    patch->expires_ms = (uint64_t)postgres_int8(result, 0, 2);
    patch->existed = postgres_bool(result, 0, 3);
    switch (postgres_int4(result, 0, 0)) {
    case 0:
        break;
    case 1:
        postgres_session_is_absent(call);
        break;
    case 2:
        call->err = err_about(ERR_ABORTED, "if_version", "the version is another one by now");
        break;
    default:
        call->err = too_large();
    }
}

static const struct postgres_kind patch_kind = {.writes = true, .result = patch_result};

static void patch(struct backend *backend, struct session_patch *patch)
{
    struct postgres_params params;
    struct postgres_array gone;
    size_t bytes = 0;

    postgres_session_params(&params, backend, &patch->op, patch->id);
    postgres_add_int8(&params, patch->use.percent);
    postgres_add_int8(&params, (int64_t)patch->use.max_interval_ms);
    postgres_add_int4(&params, (int32_t)patch->condition);
    postgres_add_int8(&params, (int64_t)patch->if_version);
    postgres_add_int8(&params, (int64_t)patch->max_bytes);
    add_values(&params, patch->set, patch->set_n, true);
    add_values(&params, patch->set, patch->set_n, false);
    for (size_t i = 0; i < patch->remove_n; i++)
        bytes += patch->remove[i].len;
    gone = postgres_add_array(&params, POSTGRES_BYTEA, patch->remove_n, bytes);
    for (size_t i = 0; i < patch->remove_n; i++)
        postgres_element(&gone, patch->remove[i]);
    postgres_run(postgres_of(backend), &patch->op, &patch_kind, NULL, SQL_SESSION_PATCH, &params);
}

_Static_assert(SESSION_ALWAYS == 0 && SESSION_AT_VERSION == 1 && SESSION_VALUE_AT == 2,
               "what session_patch takes");

/* ---- rotate, extend ---- */

static void rotate_result(struct postgres_call *call, const PGresult *result)
{
    if (PQntuples(result) == 1)
        CONTAINER_OF(call->op, struct session_rotate, op)->expires_ms =
            (uint64_t)postgres_int8(result, 0, 0);
    else
        postgres_session_is_absent(call);
}

static const struct postgres_kind rotate_kind = {.writes = true, .result = rotate_result};

static void rotate(struct backend *backend, struct session_rotate *rotate)
{
    struct postgres_params params;

    postgres_session_params(&params, backend, &rotate->op, rotate->id);
    postgres_add(&params, rotate->new_id);
    postgres_add_int8(&params, rotate->use.percent);
    postgres_add_int8(&params, (int64_t)rotate->use.max_interval_ms);
    postgres_run(postgres_of(backend), &rotate->op, &rotate_kind, NULL, SQL_SESSION_ROTATE,
                 &params);
}

static void extend_result(struct postgres_call *call, const PGresult *result)
{
    if (PQntuples(result) == 1)
        CONTAINER_OF(call->op, struct session_extend, op)->expires_ms =
            (uint64_t)postgres_int8(result, 0, 0);
    else
        postgres_session_is_absent(call);
}

static const struct postgres_kind extend_kind = {.writes = true, .result = extend_result};

static void extend(struct backend *backend, struct session_extend *extend)
{
    struct postgres_params params;

    postgres_session_params(&params, backend, &extend->op, extend->id);
    postgres_add_int8(&params, (int64_t)extend->add_ms);
    postgres_add_int8(&params, (int64_t)extend->until_ms);
    postgres_add_int8(&params, (int64_t)extend->max_ttl_ms);
    postgres_run(postgres_of(backend), &extend->op, &extend_kind, NULL, SQL_SESSION_EXTEND,
                 &params);
}

/* ---- remove ---- */

static void remove_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct session_remove, op)->existed =
        PQntuples(result) == 1 && postgres_bool(result, 0, 0);
}

static const struct postgres_kind remove_kind = {.writes = true, .result = remove_result};

static void remove_one(struct backend *backend, struct session_remove *remove)
{
    struct postgres_params params;

    postgres_session_params(&params, backend, &remove->op, remove->id);
    postgres_run(postgres_of(backend), &remove->op, &remove_kind, NULL, SQL_SESSION_REMOVE,
                 &params);
}

static void remove_user_step(struct backend *backend, struct session_remove_user *remove);

static void remove_user_result(struct postgres_call *call, const PGresult *result)
{
    struct session_remove_user *remove = CONTAINER_OF(call->op, struct session_remove_user, op);
    bool *more = call->state;

    if (PQntuples(result) != 1) {
        postgres_unexpected(call);
        return;
    }
    remove->removed += (uint64_t)postgres_int8(result, 0, 0);
    *more = postgres_int8(result, 0, 1) == POSTGRES_SESSION_STEP;
}

static void remove_user_end(struct postgres_call *call)
{
    struct postgres *postgres = call->conn->postgres;
    struct op *op = call->op;
    struct session_remove_user *remove = CONTAINER_OF(op, struct session_remove_user, op);
    bool *more = call->state;

    if (call->err.code == ERR_OK && *more) {
        remove_user_step(&postgres->base, remove);
        return;
    }

    struct err err = postgres_err(call, op);

    postgres_finish(postgres, op, err.code != ERR_OK && remove->removed > 0 ? err_lost(err) : err);
}

static const struct postgres_kind remove_user_kind = {
    .writes = true, .result = remove_user_result, .end = remove_user_end};

static void remove_user_step(struct backend *backend, struct session_remove_user *remove)
{
    struct postgres_params params;
    bool *more = arena_zalloc(op_arena(&remove->op), sizeof *more);

    postgres_session_params(&params, backend, &remove->op, remove->user);
    postgres_add(&params, remove->except);
    postgres_add_int8(&params, POSTGRES_SESSION_STEP);
    postgres_run(postgres_of(backend), &remove->op, &remove_user_kind, more,
                 SQL_SESSION_REMOVE_USER, &params);
}

static void remove_user(struct backend *backend, struct session_remove_user *remove)
{
    remove->removed = 0;
    remove_user_step(backend, remove);
}

const struct session postgres_session = {.max_bytes = SESSION_MAX_BYTES,
                                         .native_expiry = false,
                                         .create = create,
                                         .get = postgres_session_get,
                                         .patch = patch,
                                         .rotate = rotate,
                                         .extend = extend,
                                         .remove = remove_one,
                                         .remove_user = remove_user,
                                         .page = postgres_session_page};
