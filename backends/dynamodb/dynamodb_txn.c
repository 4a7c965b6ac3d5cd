/* kv_txn: up to 100 items, all or none.
 *
 * Writes carry a token by which the server knows a repetition, so one whose answer was lost is sent
 * again. A removal has to tell what was there: all items are read in one transaction, and removed
 * in another that holds only if nothing has changed in between; else both are made again. */
#include "backends/dynamodb/dynamodb_priv.h"

#include <cjson/cJSON.h>

enum { REQUEST_BYTES = 4096, ANSWER_MAX = 8 << 20, ROUNDS = 8 };

static struct err outcome_of(struct aws_call *call)
{
    const cJSON *answer;

    return dynamodb_outcome(call, &answer);
}

struct text dynamodb_txn_begin(struct aws_task *task)
{
    struct text body = text_new(task->arena, REQUEST_BYTES);

    text_add(&body, "{\"ClientRequestToken\":");
    text_string(&body, dynamodb_version(task->client, task->arena));
    text_add(&body, ",\"TransactItems\":[");
    return body;
}

struct aws_call *dynamodb_txn_call(struct aws_task *task, void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, "TransactWriteItems", done);

    call->writes = call->repeatable = true;
    return call;
}

/* ---- writes ---- */

static void on_put(struct aws_call *call)
{
    aws_task_finish(call->task, outcome_of(call));
}

static void put_many(struct backend *backend, struct kv_put_many *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct dynamodb_store *store;
    struct dynamodb_many *many;
    const char *comma = "";
    struct text body;

    if (task == NULL)
        return;
    store = dynamodb_store_of(task);
    many = dynamodb_many_new(task, req->items, sizeof *req->items, req->n, true);
    body = dynamodb_txn_begin(task);
    for (size_t i = 0; i < req->n; i++) {
        const struct kv_put_item *item = &req->items[i];

        if (many->twin[i] != i)
            continue;
        text_add(&body, comma);
        text_add(&body, "{\"Put\":{");
        text_table(&body, store);
        text_add(&body, ",\"Item\":");
        text_item(&body, store, item->base.key, item->value, dynamodb_expiry_ms(item->ttl_ms),
                  dynamodb_version(task->client, task->arena));
        text_add(&body, "}}");
        comma = ",";
    }
    text_add(&body, "]}");
    dynamodb_send(dynamodb_txn_call(task, on_put), &body);
}

/* ---- removals ---- */

struct removal {
    struct kv_del_many *req;
    struct dynamodb_many *many;
    struct slice *versions; /* by item; len 0: it is absent */
    unsigned rounds;
};

static void look(struct removal *removal);

static void on_removed(struct aws_call *call)
{
    struct removal *removal = call->task->state;

    if (!dynamodb_reason(call, "ConditionalCheckFailed") || call->err.code != ERR_OK)
        aws_task_finish(call->task, outcome_of(call));
    else if (++removal->rounds < ROUNDS)
        look(removal);
    else
        aws_task_finish(call->task,
                        err_make(ERR_ABORTED, "the keys are being written to all the time"));
}

/* Present: removed if it is the same write. Absent: it must still be. */
static void text_removal(struct text *body, struct removal *removal, size_t i)
{
    struct dynamodb_store *store = dynamodb_store_of(removal->many->task);
    struct slice version = removal->versions[i];

    text_add(body, version.len > 0 ? "{\"Delete\":{" : "{\"ConditionCheck\":{");
    text_table(body, store);
    text_add(body, ",\"Key\":{");
    text_key(body, store, removal->req->items[i].base.key);
    text_add(body, "},\"ConditionExpression\":\"");
    if (version.len > 0) {
        text_add(body, "r = :r\",\"ExpressionAttributeValues\":{\":r\":{\"S\":");
        text_string(body, arena_strdup(body->arena, version));
    } else {
        text_add(body, "attribute_not_exists(k) OR e <= :now\",\"ExpressionAttributeValues\":"
                       "{\":now\":{\"N\":\"");
        text_number(body, dynamodb_now_ms());
        text_add(body, "\"");
    }
    text_add(body, "}}}}");
}

static void erase(struct removal *removal)
{
    struct aws_task *task = removal->many->task;
    struct text body = dynamodb_txn_begin(task);
    const char *comma = "";

    for (size_t i = 0; i < removal->req->n; i++) {
        if (removal->many->twin[i] != i)
            continue;
        text_add(&body, comma);
        text_removal(&body, removal, i);
        comma = ",";
    }
    text_add(&body, "]}");
    dynamodb_send(dynamodb_txn_call(task, on_removed), &body);
}

/* The answers are in the order of the questions. */
static size_t take_looks(struct removal *removal, const cJSON *answer)
{
    const cJSON *one = cJSON_GetObjectItemCaseSensitive(answer, "Responses");
    struct arena *arena = removal->many->task->arena;
    size_t found = 0;

    one = one != NULL ? one->child : NULL;
    for (size_t i = 0; i < removal->req->n; i++) {
        struct dynamodb_item item;
        const cJSON *json;

        removal->req->items[i].existed = false;
        if (removal->many->twin[i] != i)
            continue;
        json = cJSON_GetObjectItemCaseSensitive(one, "Item");
        removal->versions[i] = slice_of(NULL, 0);
        if (json != NULL && dynamodb_item_read(json, &item, arena)) {
            removal->versions[i] = item.version;
            removal->req->items[i].existed = true;
            found++;
        }
        one = one != NULL ? one->next : NULL;
    }
    return found;
}

static void on_looked(struct aws_call *call)
{
    struct removal *removal = call->task->state;
    const cJSON *answer;
    struct err err = dynamodb_outcome(call, &answer);

    if (err.code == ERR_OK && take_looks(removal, answer) > 0)
        erase(removal);
    else
        aws_task_finish(call->task, err);
}

static void look(struct removal *removal)
{
    struct aws_task *task = removal->many->task;
    struct dynamodb_store *store = dynamodb_store_of(task);
    struct aws_call *call = dynamodb_call(task, "TransactGetItems", on_looked);
    struct text body = text_new(task->arena, REQUEST_BYTES);
    const char *comma = "";

    text_add(&body, "{\"TransactItems\":[");
    for (size_t i = 0; i < removal->req->n; i++) {
        if (removal->many->twin[i] != i)
            continue;
        text_add(&body, comma);
        text_add(&body, "{\"Get\":{");
        text_table(&body, store);
        text_add(&body, ",\"ProjectionExpression\":\"k,e,r\",\"Key\":{");
        text_key(&body, store, removal->req->items[i].base.key);
        text_add(&body, "}}}");
        comma = ",";
    }
    text_add(&body, "]}");
    call->max_answer = ANSWER_MAX;
    dynamodb_send(call, &body);
}

static void del_many(struct backend *backend, struct kv_del_many *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct removal *removal;

    if (task == NULL)
        return;
    removal = arena_zalloc(task->arena, sizeof *removal);
    removal->req = req;
    removal->many = dynamodb_many_new(task, req->items, sizeof *req->items, req->n, false);
    removal->versions = arena_array(task->arena, req->n, sizeof *removal->versions);
    task->state = removal;
    look(removal);
}

const struct kv_txn dynamodb_kv_txn = {
    .max_items = DYNAMODB_TXN_ITEMS, .put_many = put_many, .del_many = del_many};
