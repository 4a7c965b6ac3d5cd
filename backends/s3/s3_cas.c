/* kv_cas, where the server honours conditions on writes: an object's tag is its version.
 *
 * Some servers take the headers and write all the same, so each instance tries before it offers
 * them, on an object of its own beside the keys': "!probe" is no key's name. */
#include "backends/s3/s3_priv.h"

#include <string.h>

/* ---- writes ---- */

/* Else it is none of ours, and no tag can be like it. */
static bool is_tag(struct slice version)
{
    for (size_t i = 0; i < version.len; i++) {
        uint8_t c = version.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '-'))
            return false;
    }
    return version.len > 0 && version.len <= 64;
}

static void on_put_if(struct aws_call *call)
{
    struct kv_put_if *req = CONTAINER_OF(call->task->op, struct kv_put_if, op);
    unsigned status = call->err.code == ERR_OK ? call->http.status : 0;
    bool gone = status == 404 && req->condition == KV_IF_VERSION &&
                slice_equal(s3_element(call->http.body_out, "Code"), slice_str("NoSuchKey"));

    req->stored = status == 200;
    if (req->stored)
        req->current_version = s3_version(call);
    aws_task_finish(call->task, req->stored || status == 412 || gone ? ERR_NONE : s3_error(call));
}

static void put_if(struct backend *backend, struct kv_put_if *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct aws_call *call;

    if (task == NULL)
        return;
    req->stored = false;
    if (req->condition == KV_IF_VERSION && !is_tag(req->version)) {
        aws_task_finish(task, ERR_NONE);
        return;
    }
    call = s3_object_call(task, "PUT", req->key, on_put_if);
    aws_call_header(call, "Content-Type", "application/octet-stream");
    if (req->condition == KV_IF_ABSENT)
        aws_call_header(call, "If-None-Match", "*");
    else
        aws_call_header(call, "If-Match",
                        arena_printf(task->arena, "\"%.*s\"", (int)req->version.len,
                                     (const char *)req->version.data));
    call->body = req->value;
    call->writes = call->once = true;
    aws_call_start(call);
}

const struct kv_cas s3_kv_cas = {.version_means = "the same content (the object's ETag)",
                                 .put_if = put_if};

/* ---- the trial ---- */

static void on_if_match(struct aws_call *call);

/* Without an answer it is tried again with the next check. */
static void end(struct aws_call *call, bool honoured)
{
    struct aws_task *task = call->task;
    struct backend *backend = &task->client->base;

    CONTAINER_OF(task->client, struct s3, aws)->tried = call->err.code == ERR_OK;
    if (honoured) {
        backend->has.kv_cas = &s3_kv_cas;
        atomic_fetch_add(&backend->store->facts_version, 1);
    }
    aws_checked(task->client, BACKEND_READY, NULL);
    aws_task_finish(task, ERR_NONE);
}

static void put_probe(struct aws_task *task, const char *condition, const char *value,
                      void (*done)(struct aws_call *))
{
    struct aws_call *call = s3_named_call(task, "PUT", slice_str("!probe"), done);

    aws_call_header(call, "Content-Type", "application/octet-stream");
    aws_call_header(call, condition, value);
    call->writes = call->once = true;
    aws_call_start(call);
}

static void on_again(struct aws_call *call)
{
    if (call->err.code == ERR_OK && call->http.status == 412)
        put_probe(call->task, "If-Match", "\"00000000000000000000000000000000\"", on_if_match);
    else
        end(call, false);
}

static void on_first(struct aws_call *call)
{
    if (call->err.code == ERR_OK && call->http.status == 200)
        put_probe(call->task, "If-None-Match", "*", on_again);
    else
        on_again(call);
}

static void on_if_match(struct aws_call *call)
{
    end(call, call->err.code == ERR_OK && call->http.status == 412);
}

void s3_try_conditions(struct aws_task *task)
{
    put_probe(task, "If-None-Match", "*", on_first);
}
