/* Values above multipart_bytes: an upload in parts, some at once, each sent again where that may
 * help. Nobody sees the object before all of it is there.
 *
 * What fails or is cancelled before the end leaves parts on the server, which nobody sees and
 * somebody pays for: the upload is aborted by a task of the instance's own, which also outlives a
 * drain. A server that cannot be reached keeps them: see docs/backends/s3.md. */
#include "backends/s3/s3_priv.h"

#include <string.h>

enum { PART_BYTES = 8 << 20, PARTS_AT_ONCE = 4, ABORT_MS = 5000, UPLOAD_ID_BYTES = 1024 };

struct upload {
    struct aws_task *task;
    struct slice key, value;
    const char *id;     /* encoded; NULL: it has not begun */
    const char **parts; /* tags of those that are there */
    size_t n, next, there;
    bool complete;
};

/* ---- abort ---- */

static void on_aborted(struct aws_call *call)
{
    aws_task_finish(call->task, ERR_NONE);
}

static void abort_upload(const struct upload *upload)
{
    struct aws_task *own;
    struct aws_call *call;

    if (upload->id == NULL || upload->complete)
        return;
    own = aws_task_own(upload->task->client, ABORT_MS);
    call = s3_object_call(own, "DELETE", arena_copy(own->arena, upload->key), on_aborted);
    call->query = arena_printf(own->arena, "uploadId=%s", upload->id);
    aws_call_start(call);
}

static void abandoned(struct aws_task *task)
{
    abort_upload(task->state);
}

static void fail(struct upload *upload, struct err err)
{
    abort_upload(upload);
    aws_task_finish(upload->task, err);
}

/* ---- the end ---- */

/* A server may find out after it has begun to answer. */
static void on_complete(struct aws_call *call)
{
    struct upload *upload = call->task->state;
    bool good = call->err.code == ERR_OK && call->http.status == 200 &&
                s3_element(call->http.body_out, "Code").len == 0;

    upload->complete = good;
    if (good)
        aws_task_finish(upload->task, ERR_NONE);
    else
        fail(upload, s3_error(call));
}

static void complete(struct upload *upload)
{
    enum { PART_XML = 128 };

    struct arena *arena = upload->task->arena;
    struct aws_call *call = s3_object_call(upload->task, "POST", upload->key, on_complete);
    char *xml = arena_alloc(arena, upload->n * (PART_XML + HTTP_TAG_BYTES) + PART_XML), *to = xml;

    to = stpcpy(to, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < upload->n; i++)
        to = stpcpy(to,
                    arena_printf(arena, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>",
                                 i + 1, upload->parts[i]));
    to = stpcpy(to, "</CompleteMultipartUpload>");
    call->query = arena_printf(arena, "uploadId=%s", upload->id);
    call->body = slice_of(xml, (size_t)(to - xml));
    call->writes = call->once = true; /* a repetition finds no upload */
    aws_call_start(call);
}

/* ---- parts ---- */

static void send_next(struct upload *upload);

static void on_part(struct aws_call *call)
{
    struct upload *upload = call->task->state;

    if (call->err.code != ERR_OK || call->http.status != 200 || call->http.tag[0] == '\0') {
        fail(upload, s3_error(call));
        return;
    }
    *(const char **)call->state = arena_strdup(upload->task->arena, slice_str(call->http.tag));
    if (++upload->there == upload->n)
        complete(upload);
    else if (upload->next < upload->n)
        send_next(upload);
}

static void send_next(struct upload *upload)
{
    size_t i = upload->next++, from = i * PART_BYTES, left = upload->value.len - from;
    struct aws_call *call = s3_object_call(upload->task, "PUT", upload->key, on_part);

    call->query =
        arena_printf(upload->task->arena, "partNumber=%zu&uploadId=%s", i + 1, upload->id);
    call->body = slice_of(upload->value.data + from, left < PART_BYTES ? left : PART_BYTES);
    call->state = &upload->parts[i];
    aws_call_start(call);
}

static void on_created(struct aws_call *call)
{
    struct upload *upload = call->task->state;
    struct slice id = s3_element(call->http.body_out, "UploadId");
    char *encoded;

    if (call->err.code != ERR_OK || call->http.status != 200 || id.len == 0 ||
        id.len > UPLOAD_ID_BYTES) {
        fail(upload, s3_error(call));
        return;
    }
    encoded = arena_alloc(upload->task->arena, 3 * id.len + 1);
    sigv4_encode(id, false, encoded);
    upload->id = encoded;
    for (size_t i = 0; i < PARTS_AT_ONCE && upload->next < upload->n; i++)
        send_next(upload);
}

void s3_put_in_parts(struct aws_task *task, const struct kv_put *req)
{
    struct upload *upload = arena_zalloc(task->arena, sizeof *upload);
    struct aws_call *call = s3_object_call(task, "POST", req->key, on_created);

    upload->task = task;
    upload->key = req->key;
    upload->value = req->value;
    upload->n = (req->value.len + PART_BYTES - 1) / PART_BYTES;
    upload->parts = arena_array(task->arena, upload->n, sizeof *upload->parts);
    task->state = upload;
    task->abandoned = abandoned;
    aws_call_header(call, "Content-Type", "application/octet-stream");
    call->query = "uploads=";
    aws_call_start(call);
}
