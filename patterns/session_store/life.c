/* RotateSession, ExtendSession, DeleteSession, DeleteUserSessions. */
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

enum { MS_PER_S = 1000, NS_PER_MILLI = 1000000, NS_PER_SECOND = 1000000000 };

struct ending {
    union {
        struct session_rotate rotate;
        struct session_extend extend;
        struct session_remove remove;
        struct session_remove_user remove_user;
    };
    struct call *call;
    struct session_store *store;
};

static struct ending *ending_new(struct call *call)
{
    struct ending *e = arena_zalloc(call_arena(call), sizeof *e);

    e->call = call;
    e->store = session_store_of(call);
    return e;
}

/* ---- RotateSession ---- */

static void rotated(struct op *op)
{
    struct ending *e = CONTAINER_OF(op, struct ending, rotate.op);
    pb_rotate_response response = SESSION_PB(ROTATE_SESSION_RESPONSE__INIT);
    struct arena *arena = call_arena(e->call);

    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    response.session_id = arena_strdup(arena, e->rotate.new_id);
    response.expires_at = convert_time(arena, e->rotate.expires_ms);
    counter_add(&e->store->stats.rotated, 1);
    call_reply(e->call, &response.base);
}

void session_rotate(struct call *call)
{
    const pb_rotate_request *request = call_request(call);
    struct ending *e = ending_new(call);
    struct err err = convert_id(request->session_id, "session_id", &e->rotate.id);

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    e->rotate.new_id =
        convert_new_id(call_arena(call), e->store->methods, slice_str(""), e->rotate.id);
    e->rotate.use = e->store->settings.use;
    call_start(call, &e->rotate.op, rotated);
    e->store->methods->rotate(e->store->backend, &e->rotate);
}

/* ---- ExtendSession ---- */

static void extended(struct op *op)
{
    struct ending *e = CONTAINER_OF(op, struct ending, extend.op);
    pb_extend_response response = SESSION_PB(EXTEND_SESSION_RESPONSE__INIT);

    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    response.new_expires_at = convert_time(call_arena(e->call), e->extend.expires_ms);
    counter_add(&e->store->stats.extended, 1);
    call_reply(e->call, &response.base);
}

static struct err read_seconds(int64_t seconds, uint64_t *ms)
{
    if (seconds < 1)
        return err_about(ERR_INVALID_ARGUMENT, "additional_seconds",
                         "additional_seconds has to be 1 or more");
    if ((uint64_t)seconds > SESSION_TTL_MAX_MS / MS_PER_S)
        return err_about(ERR_INVALID_ARGUMENT, "additional_seconds",
                         "additional_seconds is at most a hundred years");
    *ms = (uint64_t)seconds * MS_PER_S;
    return ERR_NONE;
}

static struct err read_time(const pb_timestamp *at, uint64_t *ms)
{
    static const int64_t last = 253402300799; /* of the year 9999 */

    if (at->seconds < 0 || at->seconds > last || at->nanos < 0 || at->nanos >= NS_PER_SECOND)
        return err_about(ERR_INVALID_ARGUMENT, "expires_at", "expires_at is no time");
    *ms = (uint64_t)at->seconds * MS_PER_S + (uint64_t)at->nanos / NS_PER_MILLI;
    return ERR_NONE;
}

static struct err read_until(const pb_extend_request *request, struct session_extend *extend)
{
    switch (request->until_case) {
    case SESSION_PB(EXTEND_SESSION_REQUEST__UNTIL_ADDITIONAL_SECONDS):
        return read_seconds(request->additional_seconds, &extend->add_ms);
    case SESSION_PB(EXTEND_SESSION_REQUEST__UNTIL_EXPIRES_AT):
        return read_time(request->expires_at, &extend->until_ms);
    default:
        return err_about(ERR_INVALID_ARGUMENT, "additional_seconds",
                         "additional_seconds or expires_at has to be given");
    }
}

void session_extend(struct call *call)
{
    const pb_extend_request *request = call_request(call);
    struct ending *e = ending_new(call);
    struct err err = convert_id(request->session_id, "session_id", &e->extend.id);

    if (err.code == ERR_OK)
        err = read_until(request, &e->extend);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    e->extend.max_ttl_ms = e->store->settings.max_ttl_ms;
    call_start(call, &e->extend.op, extended);
    e->store->methods->extend(e->store->backend, &e->extend);
}

/* ---- DeleteSession ---- */

static void removed(struct op *op)
{
    struct ending *e = CONTAINER_OF(op, struct ending, remove.op);
    pb_delete_session_response response = SESSION_PB(DELETE_SESSION_RESPONSE__INIT);

    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    response.success = true;
    response.existed = e->remove.existed;
    counter_add(&e->store->stats.deleted, e->remove.existed);
    call_reply(e->call, &response.base);
}

void session_delete(struct call *call)
{
    const pb_delete_session_request *request = call_request(call);
    struct ending *e = ending_new(call);
    struct err err = convert_id(request->session_id, "session_id", &e->remove.id);

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    call_start(call, &e->remove.op, removed);
    e->store->methods->remove(e->store->backend, &e->remove);
}

/* ---- DeleteUserSessions ---- */

static void user_removed(struct op *op)
{
    struct ending *e = CONTAINER_OF(op, struct ending, remove_user.op);
    pb_delete_user_response response = SESSION_PB(DELETE_USER_SESSIONS_RESPONSE__INIT);

    counter_add(&e->store->stats.of_user, e->remove_user.removed);
    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    response.deleted_count = (int64_t)e->remove_user.removed;
    call_reply(e->call, &response.base);
}

void session_delete_user(struct call *call)
{
    const pb_delete_user_request *request = call_request(call);
    struct ending *e = ending_new(call);
    struct err err = ERR_NONE;

    if (request->user_id[0] == '\0')
        err = err_about(ERR_INVALID_ARGUMENT, "user_id", "user_id must not be empty");
    if (err.code == ERR_OK)
        err = convert_text(request->user_id, "user_id", &e->remove_user.user);
    if (err.code == ERR_OK && request->except_session_id[0] != '\0')
        err = convert_id(request->except_session_id, "except_session_id", &e->remove_user.except);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    call_start(call, &e->remove_user.op, user_removed);
    e->store->methods->remove_user(e->store->backend, &e->remove_user);
}
