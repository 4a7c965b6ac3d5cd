/* Calls about objects and the bucket, and what their answers mean. */
#include "backends/s3/s3_priv.h"

#include <string.h>

enum { ERROR_BYTES = 65536, BUSY_MS = 500 };

/* ---- requests ---- */

static struct aws_call *call_new(struct aws_task *task, const char *method, const char *path,
                                 void (*done)(struct aws_call *))
{
    struct s3_store *store = s3_store_of(task->client);
    struct aws_call *call = aws_call_new(task, method, path, done);

    call->host_prefix = store->bucket_prefix;
    call->unsigned_body = store->aws.tls;
    call->max_answer = ERROR_BYTES;
    return call;
}

struct aws_call *s3_object_call(struct aws_task *task, const char *method, struct slice key,
                                void (*done)(struct aws_call *))
{
    struct s3_store *store = s3_store_of(task->client);
    bool digested;
    struct slice name = slice_str(s3_name(&store->names, key, &digested, task->arena));
    size_t len = strlen(store->bucket_path) + 1;
    char *path = arena_alloc(task->arena, len + 3 * name.len + 1);
    struct aws_call *call;

    stpcpy(stpcpy(path, store->bucket_path), "/");
    sigv4_encode(name, true, path + len);
    call = call_new(task, method, path, done);
    if (digested && (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0))
        aws_call_header(call, "x-amz-meta-prism-key", s3_name_spell(key, task->arena));
    return call;
}

struct aws_call *s3_named_call(struct aws_task *task, const char *method, struct slice below,
                               void (*done)(struct aws_call *))
{
    struct s3_store *store = s3_store_of(task->client);
    struct slice name = slice_str(arena_printf(task->arena, "%s%.*s", store->names.root,
                                               (int)below.len, (const char *)below.data));
    char *spelled = arena_alloc(task->arena, 3 * name.len + 1);

    sigv4_encode(name, true, spelled);
    return call_new(task, method, arena_printf(task->arena, "%s/%s", store->bucket_path, spelled),
                    done);
}

struct aws_call *s3_bucket_call(struct aws_task *task, const char *query,
                                void (*done)(struct aws_call *))
{
    struct s3_store *store = s3_store_of(task->client);
    const char *path = store->bucket_path[0] != '\0' ? store->bucket_path : "/";
    struct aws_call *call = call_new(task, "GET", path, done);

    call->query = query;
    return call;
}

/* ---- answers ---- */

struct slice s3_version(const struct aws_call *call)
{
    struct slice tag = slice_str(call->http.tag);

    if (tag.len >= 2 && tag.data[0] == '"' && tag.data[tag.len - 1] == '"')
        tag = slice_of(tag.data + 1, tag.len - 2);
    return arena_copy(call->task->arena, tag);
}

struct slice s3_element(struct slice xml, const char *name)
{
    char open[64], close[64];
    const uint8_t *from, *to;

    *stpcpy(stpcpy(stpcpy(open, "<"), name), ">") = '\0';
    *stpcpy(stpcpy(stpcpy(close, "</"), name), ">") = '\0';
    if (xml.len == 0 || (from = memmem(xml.data, xml.len, open, strlen(open))) == NULL)
        return slice_of(NULL, 0);
    from += strlen(open);
    to = memmem(from, xml.len - (size_t)(from - xml.data), close, strlen(close));
    return to != NULL ? slice_of(from, (size_t)(to - from)) : slice_of(NULL, 0);
}

enum known_act { ACT_NONE, ACT_SUSPECT, ACT_THROTTLED };

struct known {
    const char *code;
    struct err err;
    enum known_act act;
};

#define BUSY "the server asks for fewer requests (SlowDown)"

static const struct known knowns[] = {
    {"NoSuchBucket",
     {ERR_FAILED_PRECONDITION, 0, "the bucket does not exist", NULL, 0},
     ACT_SUSPECT},
    {"SignatureDoesNotMatch",
     {ERR_FAILED_PRECONDITION, 0, "the server refused the secret key (SignatureDoesNotMatch)", NULL,
      0},
     ACT_SUSPECT},
    {"InvalidAccessKeyId",
     {ERR_FAILED_PRECONDITION, 0, "the server does not know the access key (InvalidAccessKeyId)",
      NULL, 0},
     ACT_SUSPECT},
    {"ExpiredToken",
     {ERR_FAILED_PRECONDITION, 0, "the session token has expired (ExpiredToken)", NULL, 0},
     ACT_SUSPECT},
    {"InvalidToken",
     {ERR_FAILED_PRECONDITION, 0, "the server refused the session token (InvalidToken)", NULL, 0},
     ACT_SUSPECT},
    {"RequestTimeTooSkewed",
     {ERR_FAILED_PRECONDITION, 0,
      "this machine's clock differs too much from the server's (RequestTimeTooSkewed)", NULL, 0},
     ACT_SUSPECT},
    {"PermanentRedirect",
     {ERR_FAILED_PRECONDITION, 0, "the bucket is in another region or at another endpoint", NULL,
      0},
     ACT_SUSPECT},
    {"AuthorizationHeaderMalformed",
     {ERR_FAILED_PRECONDITION, 0, "the bucket is in another region than `region` says", NULL, 0},
     ACT_SUSPECT},
    {"AccessDenied",
     {ERR_PERMISSION_DENIED, 0, "the server does not permit this to the configured key", NULL, 0},
     ACT_NONE},
    {"EntityTooLarge",
     {ERR_INVALID_ARGUMENT, 0, "the value is larger than the server takes", "value", 0},
     ACT_NONE},
    {"KeyTooLongError",
     {ERR_INVALID_ARGUMENT, 0, "the key is longer than the server takes", "key", 0},
     ACT_NONE},
    {"QuotaExceeded", {ERR_RESOURCE_EXHAUSTED, 0, "the bucket is full", "quota", 0}, ACT_NONE},
    {"XMinioStorageFull", {ERR_RESOURCE_EXHAUSTED, 0, "the server is full", "quota", 0}, ACT_NONE},
    {"SlowDown", {ERR_RESOURCE_EXHAUSTED, BUSY_MS, BUSY, "rate", 0}, ACT_THROTTLED},
    {"SlowDownRead", {ERR_RESOURCE_EXHAUSTED, BUSY_MS, BUSY, "rate", 0}, ACT_THROTTLED},
    {"SlowDownWrite", {ERR_RESOURCE_EXHAUSTED, BUSY_MS, BUSY, "rate", 0}, ACT_THROTTLED},
    {"TooManyRequests", {ERR_RESOURCE_EXHAUSTED, BUSY_MS, BUSY, "rate", 0}, ACT_THROTTLED},
    {"RequestTimeout",
     {ERR_UNAVAILABLE, BUSY_MS, "the server waited for the request in vain (RequestTimeout)", NULL,
      0},
     ACT_THROTTLED},
    {"OperationAborted",
     {ERR_ABORTED, BUSY_MS, "another operation on the object was under way", NULL, 0},
     ACT_THROTTLED},
    {"ConditionalRequestConflict",
     {ERR_ABORTED, BUSY_MS, "another operation on the object was under way", NULL, 0},
     ACT_THROTTLED},
};

static const struct known *known_of(const struct aws_call *call)
{
    struct slice code = s3_element(call->http.body_out, "Code");

    for (size_t i = 0; code.len > 0 && i < ARRAY_LEN(knowns); i++) {
        if (slice_equal(code, slice_str(knowns[i].code)))
            return &knowns[i];
    }
    return NULL;
}

/* Answers to HEAD have no body: the status has to do. */
static struct err err_of_status(const struct aws_call *call)
{
    unsigned status = call->http.status;
    struct slice code = s3_element(call->http.body_out, "Code");

    if (status == 403)
        return err_make(ERR_PERMISSION_DENIED,
                        "the server refuses the configured key, or does not permit this to it");
    if (status == 404 && code.len == 0) /* to HEAD, while a check has failed */
        return err_make(ERR_UNAVAILABLE, "the server has no such object, or no such bucket");
    if (status == 301 || status == 302 || status == 307 || status == 308)
        return err_make(ERR_FAILED_PRECONDITION,
                        "the bucket is in another region or at another endpoint");
    if (status == 501)
        return err_make(ERR_FAILED_PRECONDITION, "the server does not implement what was asked");
    return err_make(status >= 500 ? ERR_UNAVAILABLE : ERR_INTERNAL,
                    arena_printf(call->task->arena, "the server answered %u %.*s", status,
                                 (int)(code.len < 64 ? code.len : 64), (const char *)code.data));
}

struct err s3_error(struct aws_call *call)
{
    const struct known *known = known_of(call);

    if (call->err.code != ERR_OK)
        return call->err;
    if (known == NULL)
        return err_of_status(call);
    if (known->act == ACT_SUSPECT)
        aws_suspect(call->task->client);
    return known->err;
}

static enum aws_verdict judge(struct aws_call *call)
{
    unsigned status = call->http.status;
    const struct known *known;

    if (status < 400 || status == 404 || status == 412)
        return AWS_ANSWERED;
    known = known_of(call);
    if (known != NULL && known->act == ACT_THROTTLED) {
        call->err = known->err;
        return AWS_THROTTLED;
    }
    if ((status != 429 && status < 500) || status == 501)
        return AWS_ANSWERED;
    call->err =
        status == 429 ? err_about(ERR_RESOURCE_EXHAUSTED, "rate", BUSY) : err_of_status(call);
    call->err.retry_after_ms = BUSY_MS;
    return status == 503 || status == 429 ? AWS_THROTTLED : AWS_TROUBLED;
}

/* ---- health ---- */

/* Whoever may not list the bucket has shown at least that his key is known. */
static void on_check(struct aws_call *call)
{
    struct aws_task *task = call->task;
    struct aws_client *client = task->client;
    struct err err =
        call->err.code != ERR_OK || call->http.status != 200 ? s3_error(call) : ERR_NONE;
    const struct known *known = known_of(call);
    bool down = err.code != ERR_OK && err.code != ERR_PERMISSION_DENIED;

    if (!down && s3_store_of(client)->conditional && !CONTAINER_OF(client, struct s3, aws)->tried) {
        s3_try_conditions(task);
        return;
    }
    if (!down)
        aws_checked(client, BACKEND_READY, NULL);
    else
        aws_checked(client, BACKEND_DOWN,
                    known != NULL                   ? known->err.text
                    : call->http.err.code != ERR_OK ? call->http.err.text
                                                    : "the server answers with errors");
    aws_task_finish(task, down ? err : ERR_NONE);
}

static void check(struct aws_task *task)
{
    aws_call_start(s3_bucket_call(task, "list-type=2&max-keys=1", on_check));
}

const struct aws_service s3_service = {.name = "s3", .judge = judge, .check = check};
