/* One key at a time: kv_basic, kv_ttl, kv_cas. Each operation is one request. */
#include "backends/dynamodb/dynamodb_priv.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { REQUEST_BYTES = 512, ITEM_BYTES = 8192 /* of an answer, beside the value */ };

/* What an expired item is not, and an absent one neither. */
#define ALIVE "attribute_exists(k) AND (attribute_not_exists(e) OR e > :now)"

/* ,"ExpressionAttributeValues":{":now":{"N":".."} without its end */
static void text_now(struct text *text)
{
    text_add(text, ",\"ExpressionAttributeValues\":{\":now\":{\"N\":\"");
    text_number(text, dynamodb_now_ms());
    text_add(text, "\"}");
}

/* {"TableName":..,"Key":{..} */
static struct text with_key(struct aws_task *task, struct slice key)
{
    struct text body = text_new(task->arena, REQUEST_BYTES + 2 * key.len);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, ",\"Key\":{");
    text_key(&body, dynamodb_store_of(task), key);
    text_add(&body, "}");
    return body;
}

static struct text with_item(struct aws_task *task, struct slice key, struct slice value,
                             uint64_t ttl_ms, const char *version)
{
    struct text body = text_new(task->arena, REQUEST_BYTES + 4 * key.len + value.len / 3 * 4);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(task));
    text_add(&body, ",\"Item\":");
    text_item(&body, dynamodb_store_of(task), key, value, dynamodb_expiry_ms(ttl_ms), version);
    return body;
}

static struct err outcome_of(struct aws_call *call)
{
    const cJSON *answer;

    return dynamodb_outcome(call, &answer);
}

/* ERR_OK, and whether the condition held. */
static struct err conditional(struct aws_call *call, bool *held)
{
    struct err err = ERR_NONE;

    *held = !dynamodb_is_exception(call, "ConditionalCheckFailedException");
    if (*held)
        err = outcome_of(call);
    *held = *held && err.code == ERR_OK;
    return err;
}

/* ---- put ---- */

static void on_put(struct aws_call *call)
{
    aws_task_finish(call->task, outcome_of(call));
}

static void put(struct backend *backend, struct kv_put *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct aws_call *call;
    struct text body;

    if (task == NULL)
        return;
    call = dynamodb_call(task, "PutItem", on_put);
    body = with_item(task, req->key, req->value, req->ttl_ms,
                     dynamodb_version(task->client, task->arena));
    text_add(&body, "}");
    call->writes = true;
    dynamodb_send(call, &body);
}

/* ---- get ---- */

struct aws_call *dynamodb_get_call(struct aws_task *task, struct slice key,
                                   const struct kv_room *room, void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, "GetItem", done);
    struct text body = with_key(task, key);

    if (dynamodb_store_of(task)->consistent)
        text_add(&body, ",\"ConsistentRead\":true");
    text_add(&body, "}");
    call->body = slice_of(body.data, body.len);
    call->max_answer = DYNAMODB_VALUE_BYTES / 3 * 4 + ITEM_BYTES;
    if (room != NULL && room->bytes < DYNAMODB_VALUE_BYTES)
        call->max_answer = room->bytes / 3 * 4 + ITEM_BYTES;
    return call;
}

struct slice dynamodb_take(const cJSON *json, struct kv_room *room, bool *found,
                           struct arena *arena)
{
    struct dynamodb_item item;

    *found = json != NULL && dynamodb_item_read(json, &item, arena);
    if (!*found)
        return slice_of(NULL, 0);
    if (!kv_room_take(room, item.value_bytes))
        return slice_of(NULL, item.value_bytes);
    return dynamodb_value(&item, arena);
}

struct err dynamodb_got(struct aws_call *call, struct kv_room *room, struct kv_get *get)
{
    struct dynamodb_item item;
    const cJSON *answer, *json;
    struct err err;

    get->found = false;
    if (call->err.code == ERR_OK && call->http.status == 200 && call->http.too_long) {
        get->found = true;
        get->value = slice_of(NULL, (size_t)call->http.length / 4 * 3);
        if (room != NULL)
            room->exceeded = true;
        return ERR_NONE;
    }
    err = dynamodb_outcome(call, &answer);
    if (err.code != ERR_OK)
        return err;
    json = cJSON_GetObjectItemCaseSensitive(answer, "Item");
    get->value = dynamodb_take(json, room, &get->found, call->task->arena);
    if (get->want_version && get->value.data != NULL &&
        dynamodb_item_read(json, &item, call->task->arena))
        get->version = item.version;
    return ERR_NONE;
}

static void on_get(struct aws_call *call)
{
    struct kv_get *req = CONTAINER_OF(call->task->op, struct kv_get, op);

    aws_task_finish(call->task, dynamodb_got(call, req->room, req));
}

static void get(struct backend *backend, struct kv_get *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        aws_call_start(dynamodb_get_call(task, req->key, req->room, on_get));
}

/* ---- reads without the value ---- */

static void look(struct aws_task *task, struct slice key, void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, "GetItem", done);
    struct text body = with_key(task, key);

    if (dynamodb_store_of(task)->consistent)
        text_add(&body, ",\"ConsistentRead\":true");
    text_add(&body, ",\"ProjectionExpression\":\"k,e\"}");
    dynamodb_send(call, &body);
}

static struct err looked(struct aws_call *call, bool *found, struct dynamodb_item *item)
{
    const cJSON *answer, *json;
    struct err err = dynamodb_outcome(call, &answer);

    json = cJSON_GetObjectItemCaseSensitive(answer, "Item");
    *found = json != NULL && dynamodb_item_read(json, item, call->task->arena);
    return err;
}

static void on_exists(struct aws_call *call)
{
    struct kv_exists *req = CONTAINER_OF(call->task->op, struct kv_exists, op);
    struct dynamodb_item item;

    aws_task_finish(call->task, looked(call, &req->found, &item));
}

static void exists(struct backend *backend, struct kv_exists *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        look(task, req->key, on_exists);
}

static void on_ttl(struct aws_call *call)
{
    struct kv_ttl_get *req = CONTAINER_OF(call->task->op, struct kv_ttl_get, op);
    struct dynamodb_item item;
    struct err err = looked(call, &req->found, &item);
    uint64_t now = dynamodb_now_ms();

    req->has_ttl = req->found && item.expires_ms > 0;
    if (req->has_ttl)
        req->ttl_ms = item.expires_ms > now ? item.expires_ms - now : 1;
    aws_task_finish(call->task, err);
}

static void ttl_get(struct backend *backend, struct kv_ttl_get *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        look(task, req->key, on_ttl);
}

/* ---- del ---- */

struct aws_call *dynamodb_delete_call(struct aws_task *task, struct slice key,
                                      void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, "DeleteItem", done);
    struct text body = with_key(task, key);

    text_add(&body, ",\"ConditionExpression\":\"" ALIVE "\"");
    text_now(&body);
    text_add(&body, "}}");
    call->body = slice_of(body.data, body.len);
    call->writes = call->once = true; /* a repetition would find nothing */
    return call;
}

struct err dynamodb_deleted(struct aws_call *call, bool *existed)
{
    return conditional(call, existed);
}

static void on_del(struct aws_call *call)
{
    struct kv_del *req = CONTAINER_OF(call->task->op, struct kv_del, op);

    aws_task_finish(call->task, dynamodb_deleted(call, &req->existed));
}

static void del(struct backend *backend, struct kv_del *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        aws_call_start(dynamodb_delete_call(task, req->key, on_del));
}

const struct kv_basic dynamodb_kv_basic = {.put = put, .get = get, .del = del, .exists = exists};

/* ---- expiry ---- */

static void update(struct aws_task *task, struct slice key, const char *expression,
                   uint64_t expires_ms, void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, "UpdateItem", done);
    struct text body = with_key(task, key);

    text_add(&body, expression);
    text_now(&body);
    if (expires_ms > 0) {
        text_add(&body, ",\":e\":{\"N\":\"");
        text_number(&body, expires_ms);
        text_add(&body, "\"},\":t\":{\"N\":\"");
        text_number(&body, expires_ms / 1000 + 1);
        text_add(&body, "\"}");
    }
    text_add(&body, "}}");
    call->writes = call->once = true;
    dynamodb_send(call, &body);
}

static void on_expire(struct aws_call *call)
{
    struct kv_expire *req = CONTAINER_OF(call->task->op, struct kv_expire, op);

    aws_task_finish(call->task, conditional(call, &req->existed));
}

static void expire(struct backend *backend, struct kv_expire *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        update(task, req->key,
               ",\"UpdateExpression\":\"SET e=:e,t=:t\",\"ConditionExpression\":\"" ALIVE "\"",
               dynamodb_expiry_ms(req->ttl_ms), on_expire);
}

static void on_persist(struct aws_call *call)
{
    struct kv_persist *req = CONTAINER_OF(call->task->op, struct kv_persist, op);

    aws_task_finish(call->task, conditional(call, &req->removed));
}

static void persist(struct backend *backend, struct kv_persist *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);

    if (task != NULL)
        update(task, req->key,
               ",\"UpdateExpression\":\"REMOVE e,t\",\"ConditionExpression\":"
               "\"attribute_exists(e) AND e > :now\"",
               0, on_persist);
}

const struct kv_ttl dynamodb_kv_ttl = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};

/* ---- conditional writes ---- */

static void on_put_if(struct aws_call *call)
{
    struct kv_put_if *req = CONTAINER_OF(call->task->op, struct kv_put_if, op);
    struct err err = conditional(call, &req->stored);

    if (req->stored)
        req->current_version = slice_str(call->task->state);
    aws_task_finish(call->task, err);
}

/* What no version of ours looks like matches none: nothing is asked. */
static bool is_version(struct slice version)
{
    if (version.len != DYNAMODB_VERSION_BYTES)
        return false;
    for (size_t i = 0; i < version.len; i++) {
        if (version.data[i] == '\0' || strchr("0123456789abcdef", version.data[i]) == NULL)
            return false;
    }
    return true;
}

static void text_condition(struct text *body, const struct kv_put_if *req)
{
    text_add(body, ",\"ConditionExpression\":\"");
    if (req->condition == KV_IF_ABSENT) {
        text_add(body, "attribute_not_exists(k) OR e <= :now\"");
        text_now(body);
    } else {
        text_add(body, "r = :r AND (attribute_not_exists(e) OR e > :now)\"");
        text_now(body);
        text_add(body, ",\":r\":{\"S\":");
        text_string(body, arena_strdup(body->arena, req->version));
        text_add(body, "}");
    }
    text_add(body, "}}");
}

static void put_if(struct backend *backend, struct kv_put_if *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    const char *version;
    struct aws_call *call;
    struct text body;

    if (task == NULL)
        return;
    req->stored = false;
    if (req->condition == KV_IF_VERSION && !is_version(req->version)) {
        aws_task_finish(task, ERR_NONE);
        return;
    }
    version = dynamodb_version(task->client, task->arena);
    task->state = (void *)version;
    call = dynamodb_call(task, "PutItem", on_put_if);
    body = with_item(task, req->key, req->value, req->ttl_ms, version);
    text_condition(&body, req);
    call->writes = call->once = true;
    dynamodb_send(call, &body);
}

const struct kv_cas dynamodb_kv_cas = {.version_means = "the same write of the value",
                                       .put_if = put_if};
