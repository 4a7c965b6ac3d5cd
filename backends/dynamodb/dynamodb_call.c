/* Calls, and what their answers mean. */
#include "backends/dynamodb/dynamodb_priv.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { ANSWER_BYTES = 1 << 20, BUSY_MS = 500 };

struct aws_call *dynamodb_call(struct aws_task *task, const char *target,
                               void (*done)(struct aws_call *))
{
    struct aws_call *call = aws_call_new(task, "POST", "/", done);

    aws_call_header(call, "x-amz-target",
                    arena_printf(task->arena, "DynamoDB_20120810.%s", target));
    aws_call_header(call, "Content-Type", "application/x-amz-json-1.0");
    call->max_answer = ANSWER_BYTES;
    return call;
}

void dynamodb_send(struct aws_call *call, const struct text *body)
{
    call->body = slice_of(body->data, body->len);
    aws_call_start(call);
}

/* ---- answers ---- */

enum known_act { ACT_NONE, ACT_SUSPECT, ACT_THROTTLED };

struct known {
    const char *name;
    struct err err;
    enum known_act act;
};

#define BUSY(what, name)                                                                           \
    {                                                                                              \
        ERR_RESOURCE_EXHAUSTED, BUSY_MS, what " (" name ")", "rate", 0                             \
    }
#define OURS(what, name)                                                                           \
    {                                                                                              \
        ERR_FAILED_PRECONDITION, 0, what " (" name ")", NULL, 0                                    \
    }

static const struct known knowns[] = {
    {"ProvisionedThroughputExceededException",
     BUSY("the table's throughput is used up", "ProvisionedThroughputExceeded"), ACT_THROTTLED},
    {"ThrottlingException", BUSY("the server asks for fewer requests", "Throttling"),
     ACT_THROTTLED},
    {"RequestLimitExceeded", BUSY("the account's throughput is used up", "RequestLimitExceeded"),
     ACT_THROTTLED},
    {"LimitExceededException", BUSY("a limit of the account is reached", "LimitExceeded"),
     ACT_THROTTLED},
    {"TransactionInProgressException",
     {ERR_ABORTED, BUSY_MS, "the same transaction is under way", NULL, 0},
     ACT_THROTTLED},
    {"TransactionConflictException",
     {ERR_ABORTED, BUSY_MS, "a transaction on the same key is under way", NULL, 0},
     ACT_THROTTLED},
    {"ResourceNotFoundException", OURS("the table does not exist", "ResourceNotFound"),
     ACT_SUSPECT},
    {"UnrecognizedClientException",
     OURS("the server does not know the access key", "UnrecognizedClient"), ACT_SUSPECT},
    {"InvalidSignatureException",
     OURS("the server refused the secret key, or this machine's clock", "InvalidSignature"),
     ACT_SUSPECT},
    {"SignatureDoesNotMatch", OURS("the server refused the secret key", "SignatureDoesNotMatch"),
     ACT_SUSPECT},
    {"RequestTimeTooSkewed",
     OURS("this machine's clock differs too much from the server's", "RequestTimeTooSkewed"),
     ACT_SUSPECT},
    {"RequestExpired",
     OURS("this machine's clock differs too much from the server's", "RequestExpired"),
     ACT_SUSPECT},
    {"ExpiredTokenException", OURS("the session token has expired", "ExpiredToken"), ACT_SUSPECT},
    {"MissingAuthenticationTokenException",
     OURS("the server found no signature", "MissingAuthenticationToken"), ACT_SUSPECT},
    {"IncompleteSignatureException",
     OURS("the server does not understand the signature", "IncompleteSignature"), ACT_SUSPECT},
    {"AccessDeniedException",
     {ERR_PERMISSION_DENIED, 0, "the server does not permit this to the configured key", NULL, 0},
     ACT_NONE},
    {"ItemCollectionSizeLimitExceededException",
     {ERR_RESOURCE_EXHAUSTED, 0, "the partition is full", "table", 0},
     ACT_NONE},
    {"UnknownOperationException",
     {ERR_FAILED_PRECONDITION, 0, "the server does not implement what was asked", NULL, 0},
     ACT_NONE},
};

/* "com.amazonaws.dynamodb.v20120810#NameException", with or without what is before the '#'. */
const char *dynamodb_exception(struct aws_call *call)
{
    const cJSON *json = call->http.status >= 400 ? dynamodb_answer(call) : NULL;
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "__type"));
    const char *hash = type != NULL ? strrchr(type, '#') : NULL;

    return hash != NULL ? hash + 1 : type != NULL ? type : "";
}

bool dynamodb_is_exception(struct aws_call *call, const char *name)
{
    return call->err.code == ERR_OK && strcmp(dynamodb_exception(call), name) == 0;
}

bool dynamodb_reason(struct aws_call *call, const char *code)
{
    const cJSON *one, *json = call->http.status == 400 ? dynamodb_answer(call) : NULL;

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(json, "CancellationReasons"))
    {
        const char *is = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "Code"));

        if (is != NULL && strcmp(is, code) == 0)
            return true;
    }
    return false;
}

static const struct known *known_of(struct aws_call *call)
{
    const char *name = dynamodb_exception(call);

    for (size_t i = 0; i < ARRAY_LEN(knowns); i++) {
        if (strcmp(name, knowns[i].name) == 0)
            return &knowns[i];
    }
    return NULL;
}

static struct err unknown(struct aws_call *call)
{
    unsigned status = call->http.status;

    return err_make(status >= 500 ? ERR_UNAVAILABLE : ERR_INTERNAL,
                    arena_printf(call->task->arena, "the server answered %u %.64s", status,
                                 dynamodb_exception(call)));
}

struct err dynamodb_outcome(struct aws_call *call, const cJSON **answer)
{
    const struct known *known;

    *answer = NULL;
    if (call->err.code != ERR_OK)
        return call->err;
    if (call->http.status == 200) {
        if (!call->http.too_long)
            *answer = dynamodb_answer(call);
        return *answer != NULL ? ERR_NONE
                               : err_make(ERR_INTERNAL, "the server's answer is no JSON object");
    }
    known = known_of(call);
    if (known == NULL)
        return unknown(call);
    if (known->act == ACT_SUSPECT)
        aws_suspect(call->task->client);
    return known->err;
}

/* A transaction that met another one, or a busy table, may be tried again; one whose condition does
 * not hold may not. */
static enum aws_verdict judge_cancelled(struct aws_call *call)
{
    if (dynamodb_reason(call, "ConditionalCheckFailed") || dynamodb_reason(call, "ValidationError"))
        return AWS_ANSWERED;
    if (dynamodb_reason(call, "TransactionConflict"))
        call->err = (struct err){.code = ERR_ABORTED,
                                 .retry_after_ms = BUSY_MS,
                                 .text = "another transaction on the same keys is under way"};
    else if (dynamodb_reason(call, "ThrottlingError") ||
             dynamodb_reason(call, "ProvisionedThroughputExceeded"))
        call->err = knowns[0].err;
    else
        return AWS_ANSWERED;
    return AWS_THROTTLED;
}

static enum aws_verdict judge(struct aws_call *call)
{
    unsigned status = call->http.status;
    const struct known *known;

    if (status < 400)
        return AWS_ANSWERED;
    if (strcmp(dynamodb_exception(call), "TransactionCanceledException") == 0)
        return judge_cancelled(call);
    known = known_of(call);
    if (known != NULL && known->act == ACT_THROTTLED) {
        call->err = known->err;
        return AWS_THROTTLED;
    }
    if (known != NULL || (status < 500 && status != 429))
        return AWS_ANSWERED;
    call->err = unknown(call);
    call->err.retry_after_ms = BUSY_MS;
    return status == 503 || status == 429 ? AWS_THROTTLED : AWS_TROUBLED;
}

const struct aws_service dynamodb_service = {
    .name = "dynamodb", .judge = judge, .check = dynamodb_check};
