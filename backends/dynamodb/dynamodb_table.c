/* Health by a look at the table, which is made if that is asked for. */
#include "backends/dynamodb/dynamodb_session.h"

#include <cjson/cJSON.h>
#include <string.h>

static void describe(struct aws_task *task);

static void down(struct aws_call *call, const char *text)
{
    struct aws_task *task = call->task;

    aws_checked(task->client, BACKEND_DOWN, text);
    aws_task_finish(task, err_make(ERR_FAILED_PRECONDITION, text));
}

/* The texts of errors may be of this check only; health wants static ones. */
static void failed(struct aws_call *call, struct err err)
{
    const char *text = "the server answers with errors";

    if (call->http.err.code != ERR_OK || err.code == ERR_FAILED_PRECONDITION)
        text = err.text;
    aws_checked(call->task->client, BACKEND_DOWN, text);
    aws_task_finish(call->task, err);
}

/* ---- making it ---- */

/* Expiry is also checked at every read: without the server's own, nothing but space is lost. */
static void on_ttl(struct aws_call *call)
{
    describe(call->task);
}

static void set_ttl(struct aws_task *task)
{
    struct text body = text_new(task->arena, 256);
    struct aws_call *call = dynamodb_call(task, "UpdateTimeToLive", on_ttl);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, ",\"TimeToLiveSpecification\":{\"AttributeName\":\"t\",\"Enabled\":true}}");
    dynamodb_send(call, &body);
}

/* Another process may have been quicker. */
static void on_created(struct aws_call *call)
{
    const cJSON *answer;
    struct err err = dynamodb_outcome(call, &answer);

    if (err.code == ERR_OK || dynamodb_is_exception(call, "ResourceInUseException"))
        set_ttl(call->task);
    else
        failed(call, err);
}

static void create(struct aws_task *task)
{
    struct text body = text_new(task->arena, 512);
    struct aws_call *call = dynamodb_call(task, "CreateTable", on_created);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, ",\"BillingMode\":\"PAY_PER_REQUEST\",\"AttributeDefinitions\":["
                    "{\"AttributeName\":\"p\",\"AttributeType\":\"S\"},"
                    "{\"AttributeName\":\"k\",\"AttributeType\":\"B\"}],\"KeySchema\":["
                    "{\"AttributeName\":\"p\",\"KeyType\":\"HASH\"},"
                    "{\"AttributeName\":\"k\",\"KeyType\":\"RANGE\"}]}");
    call->writes = true;
    dynamodb_send(call, &body);
}

/* ---- looking at it ---- */

static bool has_key(const cJSON *table, const char *attribute, const char *kind, const char *type)
{
    const cJSON *one;
    bool key = false, typed = false;

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(table, "KeySchema"))
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(one, "AttributeName"));
        const char *is = cJSON_GetStringValue(cJSON_GetObjectItem(one, "KeyType"));

        key = key ||
              (name != NULL && is != NULL && strcmp(name, attribute) == 0 && strcmp(is, kind) == 0);
    }
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(table, "AttributeDefinitions"))
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(one, "AttributeName"));
        const char *is = cJSON_GetStringValue(cJSON_GetObjectItem(one, "AttributeType"));

        typed = typed || (name != NULL && is != NULL && strcmp(name, attribute) == 0 &&
                          strcmp(is, type) == 0);
    }
    return key && typed;
}

/* ---- transactions, which not every server has, and sessions need ---- */

static void on_transaction(struct aws_call *call)
{
    struct aws_task *task = call->task;
    struct backend *backend = &task->client->base;
    bool has = !dynamodb_is_exception(call, "UnknownOperationException");

    if (has != (backend->has.kv_txn != NULL)) {
        backend->has.kv_txn = has ? &dynamodb_kv_txn : NULL;
        backend->has.session = has ? &dynamodb_session : NULL;
        atomic_fetch_add(&backend->store->facts_version, 1);
    }
    aws_checked(task->client, BACKEND_READY, NULL);
    aws_task_finish(task, ERR_NONE);
}

static void look_for_transactions(struct aws_task *task)
{
    struct text body = text_new(task->arena, 512);
    struct aws_call *call = dynamodb_call(task, "TransactGetItems", on_transaction);

    text_add(&body, "{\"TransactItems\":[{\"Get\":{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, ",\"Key\":{");
    text_key(&body, dynamodb_store_of(task), slice_str("?"));
    text_add(&body, "},\"ProjectionExpression\":\"k\"}}]}");
    dynamodb_send(call, &body);
}

static void on_described(struct aws_call *call)
{
    struct aws_task *task = call->task;
    const cJSON *answer, *table;
    struct err err = dynamodb_outcome(call, &answer);
    const char *status;

    if (dynamodb_is_exception(call, "ResourceNotFoundException") &&
        dynamodb_store_of(task)->create_table) {
        create(task);
        return;
    }
    if (err.code == ERR_PERMISSION_DENIED) { /* the key is known: that is enough */
        aws_checked(task->client, BACKEND_READY, NULL);
        aws_task_finish(task, ERR_NONE);
        return;
    }
    if (err.code != ERR_OK) {
        failed(call, err);
        return;
    }
    table = cJSON_GetObjectItemCaseSensitive(answer, "Table");
    status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(table, "TableStatus"));
    if (!has_key(table, "p", "HASH", "S") || !has_key(table, "k", "RANGE", "B")) {
        down(call, "the table's key is not p (S) and k (B)");
        return;
    }
    if (status != NULL && strcmp(status, "CREATING") == 0) {
        down(call, "the table is being created");
        return;
    }
    look_for_transactions(task);
}

static void describe(struct aws_task *task)
{
    struct text body = text_new(task->arena, 256);
    struct aws_call *call = dynamodb_call(task, "DescribeTable", on_described);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, "}");
    dynamodb_send(call, &body);
}

void dynamodb_check(struct aws_task *task)
{
    describe(task);
}
