/* Get, extend, rotate: a read, and a write that holds only if nobody else has written in between;
 * else both again. */
#include "backends/dynamodb/dynamodb_session.h"

#include "backends/aws/base64.h"

#include <cjson/cJSON.h>
#include <string.h>

struct moving {
    struct dynamodb_session session;
    uint64_t before_ms; /* its expiry, as it was read */
    unsigned rounds;
};

/* Sets the expiry, where it is still what it was. */
static void move(struct aws_task *task, const struct moving *m, void (*done)(struct aws_call *))
{
    const struct dynamodb_session *session = &m->session;
    struct aws_call *call = dynamodb_session_call(task, "UpdateItem", done);
    struct text body = text_new(task->arena, 512);

    text_add(&body, "{");
    text_session_at(&body, dynamodb_store_of(task), session->id);
    text_add(&body, ",\"UpdateExpression\":\"SET e=:e,t=:t,w=:w\",\"ConditionExpression\":\"l = :l "
                    "AND e = :b\",\"ExpressionAttributeValues\":{\":l\":{\"N\":\"");
    text_number(&body, session->place);
    text_add(&body, "\"}");
    text_count(&body, ":b", m->before_ms);
    text_count(&body, ":e", session->times.expires_ms);
    text_count(&body, ":t", session->times.expires_ms / 1000 + 1);
    text_count(&body, ":w", session->times.used_ms);
    text_add(&body, "}}");
    dynamodb_send(call, &body);
}

/* Begins one, whose task begins; NULL: it was refused. */
static struct aws_task *begin(struct backend *backend, struct op *op, struct slice id,
                              void (*done)(struct aws_call *))
{
    struct aws_task *task = aws_task_begin(backend, op);

    if (task == NULL)
        return NULL;
    task->state = arena_zalloc(task->arena, sizeof(struct moving));
    dynamodb_session_fetch(task, id, done);
    return task;
}

/* Others came before. */
static void again(struct aws_task *task, struct slice id, void (*done)(struct aws_call *))
{
    struct moving *m = task->state;

    if (++m->rounds < DYNAMODB_SESSION_ROUNDS)
        dynamodb_session_fetch(task, id, done);
    else
        aws_task_finish(task, dynamodb_session_contended());
}

/* ---- get ---- */

static void take_value(const struct session_held *held, struct session_get *get)
{
    struct arena *arena = op_arena(&get->op);
    struct session_value *value = &get->values[get->n++];
    uint8_t *out = arena_alloc(arena, base64_decoded_bytes(held->base64) + 1);
    bool good = held->base64.len > 0 && base64_decode(held->base64, out);

    value->name = arena_copy(arena, held->name);
    value->value = slice_of(out, good ? base64_decoded_bytes(held->base64) : 0);
    value->version = held->version;
}

static void take_session(const struct dynamodb_session *session, struct session_get *get)
{
    struct arena *arena = op_arena(&get->op);
    const struct session_held *one;
    struct session_held *held;
    size_t n;

    held = dynamodb_session_values(session->json, &n, arena);
    get->owner = session->owner;
    get->times = session->times;
    get->version = session->version;
    get->values = arena_array(arena, n + 1, sizeof *get->values);
    get->n = 0;
    if (get->name.len > 0) {
        one = dynamodb_session_held(held, n, get->name);
        if (one != NULL)
            take_value(one, get);
        return;
    }
    for (size_t i = 0; i < n; i++)
        take_value(&held[i], get);
}

static void on_get(struct aws_call *call);

static void on_touched(struct aws_call *call)
{
    struct session_get *req = CONTAINER_OF(call->task->op, struct session_get, op);
    struct moving *m = call->task->state;
    const cJSON *answer;
    struct err err;

    if (dynamodb_unheld(call)) {
        again(call->task, req->id, on_get);
        return;
    }
    err = dynamodb_outcome(call, &answer);
    if (err.code == ERR_OK)
        take_session(&m->session, req);
    aws_task_finish(call->task, err);
}

static void on_get(struct aws_call *call)
{
    struct session_get *req = CONTAINER_OF(call->task->op, struct session_get, op);
    struct moving *m = call->task->state;
    struct err err = dynamodb_session_fetched(call, &m->session);

    m->before_ms = m->session.times.expires_ms;
    if (err.code == ERR_OK && dynamodb_session_use(&m->session, &req->use)) {
        move(call->task, m, on_touched);
        return;
    }
    if (err.code == ERR_OK)
        take_session(&m->session, req);
    aws_task_finish(call->task, err);
}

void dynamodb_session_get(struct backend *backend, struct session_get *req)
{
    begin(backend, &req->op, req->id, on_get);
}

/* ---- extend ---- */

static void on_extend(struct aws_call *call);

static void on_extended(struct aws_call *call)
{
    struct session_extend *req = CONTAINER_OF(call->task->op, struct session_extend, op);
    struct moving *m = call->task->state;
    const cJSON *answer;

    if (dynamodb_unheld(call)) {
        again(call->task, req->id, on_extend);
        return;
    }
    req->expires_ms = m->session.times.expires_ms;
    aws_task_finish(call->task, dynamodb_outcome(call, &answer));
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t extended(const struct dynamodb_session *session, const struct session_extend *req)
{
    uint64_t now_ms = dynamodb_now_ms(), before_ms = session->times.expires_ms;
    uint64_t until_ms = req->add_ms > 0 ? before_ms + req->add_ms : req->until_ms;

    until_ms = least(until_ms, now_ms + req->max_ttl_ms);
    if (session->end_ms > 0)
        until_ms = least(until_ms, session->end_ms);
    return until_ms > before_ms ? until_ms : before_ms;
}

static void on_extend(struct aws_call *call)
{
    struct session_extend *req = CONTAINER_OF(call->task->op, struct session_extend, op);
    struct moving *m = call->task->state;
    struct err err = dynamodb_session_fetched(call, &m->session);

    if (err.code != ERR_OK) {
        aws_task_finish(call->task, err);
        return;
    }
    m->before_ms = m->session.times.expires_ms;
    m->session.times.expires_ms = req->expires_ms = extended(&m->session, req);
    if (req->expires_ms > m->before_ms)
        move(call->task, m, on_extended);
    else
        aws_task_finish(call->task, ERR_NONE);
}

void dynamodb_session_extend(struct backend *backend, struct session_extend *req)
{
    begin(backend, &req->op, req->id, on_extend);
}

/* ---- rotate ---- */

static void on_rotate(struct aws_call *call);

static void on_rotated(struct aws_call *call)
{
    struct session_rotate *req = CONTAINER_OF(call->task->op, struct session_rotate, op);
    struct moving *m = call->task->state;

    req->expires_ms = m->session.times.expires_ms;
    if (dynamodb_unheld_at(call, 0))
        again(call->task, req->id, on_rotate);
    else if (dynamodb_unheld_at(call, 1))
        aws_task_finish(call->task, err_make(ERR_ALREADY_EXISTS, "the new identifier is taken"));
    else
        aws_task_finish(call->task, dynamodb_session_failure(call));
}

/* The old one, as it was read. */
static void text_leave(struct text *body, struct aws_task *task, const struct moving *m,
                       const struct dynamodb_session *old)
{
    text_add(body, "{\"Delete\":{");
    text_session_at(body, dynamodb_store_of(task), old->id);
    text_add(body, ",\"ConditionExpression\":\"l = :l AND s = :s AND e = :e\","
                   "\"ExpressionAttributeValues\":{\":l\":{\"N\":\"");
    text_number(body, old->place);
    text_add(body, "\"}");
    text_count(body, ":s", old->version);
    text_count(body, ":e", m->before_ms);
    text_add(body, "}}}");
}

static void text_come(struct text *body, struct aws_task *task, const struct dynamodb_session *new)
{
    struct session_held *held;
    size_t n;

    text_add(body, ",{\"Put\":{");
    text_table(body, dynamodb_store_of(task));
    text_add(body, ",\"Item\":{");
    text_session_key(body, dynamodb_store_of(task), new->id);
    text_session_head(body, new);
    held = dynamodb_session_values(new->json, &n, task->arena);
    for (size_t i = 0; i < n; i++)
        text_held(body, &held[i]);
    text_add(body, "},\"ConditionExpression\":\"attribute_not_exists(k) OR e <= :now\","
                   "\"ExpressionAttributeValues\":{\":now\":{\"N\":\"");
    text_number(body, dynamodb_now_ms());
    text_add(body, "\"}}}}");
}

static void on_rotate(struct aws_call *call)
{
    struct session_rotate *req = CONTAINER_OF(call->task->op, struct session_rotate, op);
    struct aws_task *task = call->task;
    struct dynamodb_store *store = dynamodb_store_of(task);
    struct moving *m = task->state;
    struct err err = dynamodb_session_fetched(call, &m->session);
    struct dynamodb_session new;
    struct text body;

    if (err.code != ERR_OK) {
        aws_task_finish(task, err);
        return;
    }
    m->before_ms = m->session.times.expires_ms;
    dynamodb_session_use(&m->session, &req->use);
    new = m->session;
    new.id = req->new_id;
    body = dynamodb_txn_begin(task);
    text_leave(&body, task, m, &m->session);
    text_come(&body, task, &new);
    text_put_entries(&body, store, &new);
    text_add(&body, "]}");
    dynamodb_send(dynamodb_txn_call(task, on_rotated), &body);
}

void dynamodb_session_rotate(struct backend *backend, struct session_rotate *req)
{
    if (slice_equal(req->id, req->new_id))
        op_finish(&req->op, err_make(ERR_ALREADY_EXISTS, "the new identifier is taken"));
    else
        begin(backend, &req->op, req->id, on_rotate);
}

const struct session dynamodb_session = {.max_bytes = DYNAMODB_SESSION_BYTES,
                                         .create = dynamodb_session_create,
                                         .get = dynamodb_session_get,
                                         .patch = dynamodb_session_patch,
                                         .rotate = dynamodb_session_rotate,
                                         .extend = dynamodb_session_extend,
                                         .remove = dynamodb_session_remove,
                                         .remove_user = dynamodb_session_remove_user,
                                         .page = dynamodb_session_page};
