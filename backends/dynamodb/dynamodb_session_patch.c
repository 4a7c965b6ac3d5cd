/* Patch. The session is read; then
 *
 *   few values   are set and removed by an UpdateItem, which holds if these are as they were read:
 *                writers of other values do not disturb it
 *   many         by a PutItem of the whole session, which holds if nothing of it has changed
 *
 * and if it does not hold, both are done again. An update expression is 4 KiB at most, and takes
 * some 40 bytes for a value. */
#include "backends/dynamodb/dynamodb_session.h"

#include "backends/aws/base64.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 40 };

struct patching {
    struct session_patch *req;
    struct aws_task *task;
    struct dynamodb_session session; /* as it shall be */
    uint64_t before_ms;              /* its expiry, version and bytes, as they were read */
    uint64_t before_version, before_bytes;
    struct session_held *held;
    size_t held_n;
    bool moves;
    unsigned rounds;
};

static void on_fetched(struct aws_call *call);

static void on_written(struct aws_call *call)
{
    struct patching *p = call->task->state;
    const cJSON *answer;
    struct err err;

    if (dynamodb_unheld(call)) {
        if (++p->rounds < DYNAMODB_SESSION_ROUNDS)
            dynamodb_session_fetch(p->task, p->req->id, on_fetched);
        else
            aws_task_finish(p->task, dynamodb_session_contended());
        return;
    }
    err = dynamodb_outcome(call, &answer);
    if (err.code != ERR_OK) {
        aws_task_finish(p->task, dynamodb_session_failure(call));
        return;
    }
    answer = cJSON_GetObjectItemCaseSensitive(answer, "Attributes");
    p->req->version = answer != NULL ? dynamodb_number(answer, "s") : p->session.version;
    p->req->expires_ms = p->session.times.expires_ms;
    aws_task_finish(p->task, ERR_NONE);
}

/* ---- few values ---- */

static const struct session_held *held_of(const struct patching *p, struct slice name)
{
    return dynamodb_session_held(p->held, p->held_n, name);
}

/* The n-th name of the patch, those that are set first. */
static struct slice name_of(const struct session_patch *req, size_t i)
{
    return i < req->set_n ? req->set[i].name : req->remove[i - req->set_n];
}

static void text_update(struct text *body, const struct patching *p)
{
    const struct session_patch *req = p->req;
    const char *comma = " REMOVE ";

    text_add(body, ",\"UpdateExpression\":\"SET s = s + :one, b = b + :d");
    if (p->moves)
        text_add(body, ", e = :e, t = :t, w = :w");
    for (size_t i = 0; i < req->set_n; i++) {
        text_add(body, arena_printf(body->arena, ", #n%zu = s + :one", i));
        if (req->set[i].value.len > 0)
            text_add(body, arena_printf(body->arena, ", #v%zu = :v%zu", i, i));
    }
    for (size_t i = 0; i < req->set_n + req->remove_n; i++) {
        if (i < req->set_n && req->set[i].value.len > 0)
            continue;
        text_add(body, comma);
        text_add(body, arena_printf(body->arena, i < req->set_n ? "#v%zu" : "#v%zu, #n%zu", i, i));
        comma = ", ";
    }
    text_add(body, "\"");
}

static void text_condition(struct text *body, const struct patching *p)
{
    const struct session_patch *req = p->req;

    text_add(body, ",\"ConditionExpression\":\"l = :l AND e > :now");
    if (p->moves)
        text_add(body, " AND e <= :e");
    if (req->condition == SESSION_AT_VERSION)
        text_add(body, " AND s = :s");
    if (p->session.bytes > p->before_bytes)
        text_add(body, " AND b <= :most");
    for (size_t i = 0; i < req->set_n + req->remove_n; i++) {
        bool there = held_of(p, name_of(req, i)) != NULL;

        text_add(body,
                 arena_printf(body->arena,
                              there ? " AND #n%zu = :o%zu" : " AND attribute_not_exists(#n%zu)", i,
                              i));
    }
    text_add(body, "\"");
}

static void text_names(struct text *body, const struct session_patch *req)
{
    const char *comma = "";

    text_add(body, ",\"ExpressionAttributeNames\":{");
    for (size_t i = 0; i < req->set_n + req->remove_n; i++) {
        struct slice name = name_of(req, i);

        text_add(body, arena_printf(body->arena, "%s\"#n%zu\":", comma, i));
        text_string(body, arena_printf(body->arena, "n:%.*s", (int)name.len, name.data));
        text_add(body, arena_printf(body->arena, ",\"#v%zu\":", i));
        text_string(body, arena_printf(body->arena, "v:%.*s", (int)name.len, name.data));
        comma = ",";
    }
    text_add(body, "}");
}

static void text_values(struct text *body, const struct patching *p)
{
    const struct session_patch *req = p->req;
    const struct session_held *held;
    int64_t more = (int64_t)(p->session.bytes - p->before_bytes);

    text_add(body,
             arena_printf(body->arena, ",\"ExpressionAttributeValues\":{\":d\":{\"N\":\"%lld\"}",
                          (long long)more));
    text_count(body, ":one", 1);
    text_count(body, ":l", p->session.place);
    text_count(body, ":now", dynamodb_now_ms());
    if (p->moves) {
        text_count(body, ":e", p->session.times.expires_ms);
        text_count(body, ":t", p->session.times.expires_ms / 1000 + 1);
        text_count(body, ":w", p->session.times.used_ms);
    }
    if (req->condition == SESSION_AT_VERSION)
        text_count(body, ":s", req->if_version);
    if (more > 0)
        text_count(body, ":most", req->max_bytes - (uint64_t)more);
    for (size_t i = 0; i < req->set_n + req->remove_n; i++) {
        held = held_of(p, name_of(req, i));
        if (held != NULL)
            text_count(body, arena_printf(body->arena, ":o%zu", i), held->version);
        if (i >= req->set_n || req->set[i].value.len == 0)
            continue;
        text_add(body, arena_printf(body->arena, ",\":v%zu\":{\"B\":", i));
        text_bytes(body, req->set[i].value);
        text_add(body, "}");
    }
    text_add(body, "}");
}

static void write_few(struct patching *p)
{
    struct aws_call *call = dynamodb_session_call(p->task, "UpdateItem", on_written);
    struct text body = text_new(p->task->arena, 4096);

    text_add(&body, "{");
    text_session_at(&body, dynamodb_store_of(p->task), p->session.id);
    text_update(&body, p);
    text_condition(&body, p);
    text_names(&body, p->req);
    text_values(&body, p);
    text_add(&body, ",\"ReturnValues\":\"UPDATED_NEW\"}");
    dynamodb_send(call, &body);
}

/* ---- many ---- */

static int compare_names(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* What stays of the values: those that the patch does not name. */
static void text_stayers(struct text *body, const struct patching *p)
{
    size_t n = p->req->set_n + p->req->remove_n;
    struct slice *names = arena_array(p->task->arena, n, sizeof *names);

    for (size_t i = 0; i < n; i++)
        names[i] = name_of(p->req, i);
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 0; i < p->held_n; i++) {
        if (bsearch(&p->held[i].name, names, n, sizeof *names, compare_names) == NULL)
            text_held(body, &p->held[i]);
    }
}

static void write_many(struct patching *p)
{
    struct aws_call *call = dynamodb_session_call(p->task, "PutItem", on_written);
    struct text body = text_new(p->task->arena, 2 * p->session.bytes + 4096);

    text_add(&body, "{");
    text_table(&body, dynamodb_store_of(p->task));
    text_add(&body, ",\"Item\":{");
    text_session_key(&body, dynamodb_store_of(p->task), p->session.id);
    text_session_head(&body, &p->session);
    for (size_t i = 0; i < p->req->set_n; i++)
        text_value(&body, &p->req->set[i], p->session.version);
    text_stayers(&body, p);
    text_add(&body, "},\"ConditionExpression\":\"l = :l AND s = :s AND e = :b AND e > :now\","
                    "\"ExpressionAttributeValues\":{\":l\":{\"N\":\"");
    text_number(&body, p->session.place);
    text_add(&body, "\"}");
    text_count(&body, ":s", p->before_version);
    text_count(&body, ":b", p->before_ms);
    text_count(&body, ":now", dynamodb_now_ms());
    text_add(&body, "}}");
    dynamodb_send(call, &body);
}

/* ---- what it comes to ---- */

static uint64_t held_bytes(const struct session_held *held)
{
    return held->name.len + base64_decoded_bytes(held->base64) + SESSION_VALUE_COST;
}

/* ERR_ABORTED, with the version that stands there. */
static struct err check_version(const struct patching *p)
{
    struct session_patch *req = p->req;
    const struct session_held *held;

    if (req->condition == SESSION_ALWAYS)
        return ERR_NONE;
    req->version = p->session.version;
    if (req->condition == SESSION_VALUE_AT) {
        held = held_of(p, name_of(req, 0));
        req->version = held != NULL ? held->version : 0;
    }
    if (req->version == req->if_version)
        return ERR_NONE;
    return err_about(ERR_ABORTED, "if_version", "the version is another one");
}

/* What the session comes to; whether something of it changes. */
static bool apply(struct patching *p)
{
    struct session_patch *req = p->req;
    const struct session_held *held;

    req->existed = false;
    for (size_t i = 0; i < req->set_n + req->remove_n; i++) {
        held = held_of(p, name_of(req, i));
        if (i < req->set_n)
            p->session.bytes += session_value_bytes(req->set[i].name, req->set[i].value);
        else
            req->existed = req->existed || held != NULL;
        if (held != NULL)
            p->session.bytes -= held_bytes(held);
    }
    return req->set_n > 0 || req->existed;
}

static void on_fetched(struct aws_call *call)
{
    struct patching *p = call->task->state;
    struct session_patch *req = p->req;
    struct err err = dynamodb_session_fetched(call, &p->session);
    bool changes;

    if (err.code != ERR_OK) {
        aws_task_finish(p->task, err);
        return;
    }
    p->held = dynamodb_session_values(p->session.json, &p->held_n, p->task->arena);
    p->before_ms = p->session.times.expires_ms;
    p->before_version = p->session.version;
    p->before_bytes = p->session.bytes;
    err = check_version(p);
    if (err.code == ERR_OK) {
        changes = apply(p);
        p->session.version += changes;
        if (p->session.bytes > req->max_bytes && p->session.bytes > p->before_bytes)
            err = dynamodb_session_too_large();
    }
    if (err.code != ERR_OK) {
        aws_task_finish(p->task, err);
        return;
    }
    p->moves = dynamodb_session_use(&p->session, &req->use);
    req->version = p->session.version;
    req->expires_ms = p->session.times.expires_ms;
    if (!changes && !p->moves)
        aws_task_finish(p->task, ERR_NONE);
    else if (changes && req->set_n + req->remove_n <= FEW)
        write_few(p);
    else
        write_many(p);
}

void dynamodb_session_patch(struct backend *backend, struct session_patch *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct patching *p;

    if (task == NULL)
        return;
    p = arena_zalloc(task->arena, sizeof *p);
    p->req = req;
    p->task = task;
    task->state = p;
    dynamodb_session_fetch(task, req->id, on_fetched);
}
