/* kv_basic: an object for each key. */
#include "backends/s3/s3_priv.h"

#include <string.h>

static void fail(struct aws_call *call)
{
    aws_task_finish(call->task, s3_error(call));
}

/* A HEAD of an absent object and one in an absent bucket have the same answer, so the bucket is
 * asked for now and then. */
static bool is_absent(struct aws_call *call)
{
    struct slice code = s3_element(call->http.body_out, "Code");

    if (call->err.code != ERR_OK || call->http.status != 404 ||
        call->task->client->reported == BACKEND_DOWN)
        return false;
    if (code.len == 0)
        aws_doubt(call->task->client);
    return code.len == 0 || slice_equal(code, slice_str("NoSuchKey"));
}

static bool is_status(const struct aws_call *call, unsigned status)
{
    return call->err.code == ERR_OK && call->http.status == status;
}

/* ---- put ---- */

static void on_put(struct aws_call *call)
{
    if (is_status(call, 200))
        aws_task_finish(call->task, ERR_NONE);
    else
        fail(call);
}

static void put(struct backend *backend, struct kv_put *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct aws_call *call;

    if (task == NULL)
        return;
    if (req->value.len > s3_store_of(task->client)->multipart_bytes) {
        s3_put_in_parts(task, req);
        return;
    }
    call = s3_object_call(task, "PUT", req->key, on_put);
    aws_call_header(call, "Content-Type", "application/octet-stream");
    call->body = req->value;
    call->writes = true;
    aws_call_start(call);
}

/* ---- get ---- */

static void on_get(struct aws_call *call)
{
    struct kv_get *req = CONTAINER_OF(call->task->op, struct kv_get, op);
    struct slice body = call->http.body_out;

    req->found = is_status(call, 200);
    if (!req->found && !is_absent(call)) {
        fail(call);
        return;
    }
    if (req->found && (call->http.too_long || !kv_room_take(req->room, body.len))) {
        req->value = slice_of(NULL, call->http.too_long ? (size_t)call->http.length : body.len);
        if (req->room != NULL)
            req->room->exceeded = true;
    } else if (req->found) {
        req->value = body.len > 0 ? body : arena_copy(call->task->arena, slice_str(""));
        if (req->want_version)
            req->version = s3_version(call);
    }
    aws_task_finish(call->task, ERR_NONE);
}

static void get(struct backend *backend, struct kv_get *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct aws_call *call;

    if (task == NULL)
        return;
    call = s3_object_call(task, "GET", req->key, on_get);
    call->max_answer = req->room != NULL ? req->room->bytes : S3_VALUE_BYTES;
    aws_call_start(call);
}

/* ---- exists ---- */

static void on_exists(struct aws_call *call)
{
    struct kv_exists *req = CONTAINER_OF(call->task->op, struct kv_exists, op);

    req->found = is_status(call, 200);
    if (req->found || is_absent(call))
        aws_task_finish(call->task, ERR_NONE);
    else
        fail(call);
}

static void exists(struct backend *backend, struct kv_exists *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        aws_call_start(s3_object_call(task, "HEAD", req->key, on_exists));
}

/* ---- del ---- */

static void on_deleted(struct aws_call *call)
{
    if (is_status(call, 204) || is_status(call, 200) || is_absent(call))
        aws_task_finish(call->task, ERR_NONE);
    else
        fail(call);
}

/* A deletion tells nothing of what was there. */
static void on_looked(struct aws_call *call)
{
    struct kv_del *req = CONTAINER_OF(call->task->op, struct kv_del, op);
    struct aws_call *deletion;

    req->existed = is_status(call, 200);
    if (!req->existed) {
        if (is_absent(call))
            aws_task_finish(call->task, ERR_NONE);
        else
            fail(call);
        return;
    }
    deletion = s3_object_call(call->task, "DELETE", req->key, on_deleted);
    deletion->writes = true;
    aws_call_start(deletion);
}

static void del(struct backend *backend, struct kv_del *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        aws_call_start(s3_object_call(task, "HEAD", req->key, on_looked));
}

const struct kv_basic s3_kv_basic = {
    .del_races = true, .put = put, .get = get, .del = del, .exists = exists};
