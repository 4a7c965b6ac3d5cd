/* Entries of an index, each with its session: a Query, then a BatchGetItem.
 *
 * Between the two a session may have got another identifier. So one that is not there is looked for
 * again: its entry and it are written in one transaction, and an entry that still has the same name
 * after the session was not found is one of a session that is gone. */
#include "backends/dynamodb/dynamodb_session.h"

#include "backends/aws/base64.h"

#include <cjson/cJSON.h>

enum { ROUNDS = 6 };

static struct err busy(void)
{
    struct err err = err_about(ERR_RESOURCE_EXHAUSTED, "rate",
                               "the table's throughput is used up: the server handed reads back");

    err.retry_after_ms = 500;
    return err;
}

static void query(struct session_look *look);

/* ---- sessions ---- */

static bool was_gone_before(const struct session_look *look, const struct session_found *found)
{
    for (size_t i = 0; i < look->before_n; i++) {
        const struct session_found *before = &look->before[i];

        if (before->session.place == found->session.place)
            return before->life == SESSION_GONE &&
                   slice_equal(before->session.id, found->session.id);
    }
    return false;
}

static void settle(struct session_look *look)
{
    bool sure = true;

    for (size_t i = 0; i < look->n; i++) {
        if (look->found[i].life == SESSION_GONE)
            sure = sure && was_gone_before(look, &look->found[i]);
    }
    if (!sure && ++look->rounds < ROUNDS) {
        look->before = look->found;
        look->before_n = look->n;
        query(look);
        return;
    }
    look->before_n = look->rounds = 0;
    look->done(look, ERR_NONE);
}

static void take_session(struct session_look *look, const cJSON *item)
{
    struct dynamodb_session session;
    bool lives = dynamodb_session_read(item, &session, look->task->arena);

    for (size_t i = 0; i < look->n; i++) {
        struct session_found *found = &look->found[i];

        if (!look->waits[i] || !slice_equal(found->session.id, session.id))
            continue;
        look->waits[i] = false;
        if (found->session.place != session.place)
            return; /* another one took its name after it was gone */
        found->life = lives ? SESSION_LIVES : SESSION_EXPIRED;
        found->session = session;
        return;
    }
}

static void text_keys(struct text *body, struct session_look *look)
{
    struct dynamodb_store *store = dynamodb_store_of(look->task);
    const char *comma = "";

    text_add(body, "{\"RequestItems\":{");
    text_string(body, store->table);
    text_add(body, ":{\"ConsistentRead\":true,\"ProjectionExpression\":\"k,l,u,g,c,a,m,w,e,s\","
                   "\"Keys\":[");
    for (size_t i = 0; i < look->n; i++) {
        if (!look->waits[i])
            continue;
        text_add(body, comma);
        text_add(body, "{");
        text_session_key(body, store, look->found[i].session.id);
        text_add(body, "}");
        comma = ",";
    }
    text_add(body, "]}}}");
}

static void ask(struct session_look *look, struct aws_call *call)
{
    struct text body = text_new(look->task->arena, 256 * look->n + 256);

    text_keys(&body, look);
    call->body = slice_of(body.data, body.len);
}

static void on_sessions(struct aws_call *call)
{
    struct session_look *look = call->state;
    const cJSON *answer, *one;
    struct err err = dynamodb_outcome(call, &answer);
    bool brought = false;

    if (err.code != ERR_OK) {
        look->done(look, err);
        return;
    }
    cJSON_ArrayForEach(
        one, cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(answer, "Responses"),
                                              dynamodb_store_of(look->task)->table))
    {
        take_session(look, one);
        brought = true;
    }
    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(answer, "UnprocessedKeys")) == 0) {
        settle(look);
        return;
    }
    ask(look, call);
    if (!aws_call_later(call, brought))
        look->done(look, busy());
}

static void fetch(struct session_look *look)
{
    struct aws_call *call = dynamodb_session_call(look->task, "BatchGetItem", on_sessions);

    call->state = look;
    ask(look, call);
    aws_call_start(call);
}

/* ---- entries ---- */

/* Eight bytes, the greatest first. */
uint64_t dynamodb_place(const cJSON *item)
{
    const cJSON *key = cJSON_GetObjectItemCaseSensitive(item, "k");
    struct slice text = slice_str(cJSON_GetStringValue(cJSON_GetObjectItem(key, "B")));
    uint8_t bytes[16];
    uint64_t place = 0;

    if (text.len != 12 || base64_decoded_bytes(text) != 8 || !base64_decode(text, bytes))
        return 0;
    for (unsigned i = 0; i < 8; i++)
        place = place << 8 | bytes[i];
    return place;
}

static void take_entry(struct session_look *look, const cJSON *item)
{
    struct arena *arena = look->task->arena;
    struct session_found *found = &look->found[look->n];

    *found = (struct session_found){
        .life = SESSION_GONE,
        .session = {.id = arena_copy(arena, dynamodb_text(item, "i")),
                    .owner = {.user = arena_copy(arena, dynamodb_text(item, "u")),
                              .region = arena_copy(arena, dynamodb_text(item, "g"))},
                    .place = dynamodb_place(item)}};
    if (found->session.place == 0 || found->session.id.len == 0)
        return;
    look->waits[look->n++] = true;
}

static void on_entries(struct aws_call *call)
{
    struct session_look *look = call->state;
    const cJSON *answer, *one;
    struct err err = dynamodb_outcome(call, &answer);

    if (err.code != ERR_OK) {
        look->done(look, err);
        return;
    }
    look->found = arena_array(look->task->arena, look->max, sizeof *look->found);
    look->waits = arena_array(look->task->arena, look->max, sizeof *look->waits);
    look->n = 0;
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(answer, "Items"))
    {
        if (look->n < look->max)
            take_entry(look, one);
    }
    look->more = cJSON_GetObjectItemCaseSensitive(answer, "LastEvaluatedKey") != NULL;
    if (look->n > 0)
        fetch(look);
    else
        look->done(look, ERR_NONE);
}

static void query(struct session_look *look)
{
    struct dynamodb_store *store = dynamodb_store_of(look->task);
    struct aws_call *call = dynamodb_session_call(look->task, "Query", on_entries);
    struct text body = text_new(look->task->arena, 512);

    call->state = look;
    text_add(&body, "{");
    text_table(&body, store);
    text_add(&body, ",\"ConsistentRead\":true,\"KeyConditionExpression\":\"p = :p AND k > :k\","
                    "\"ExpressionAttributeValues\":{\":p\":{\"S\":");
    text_string(&body, dynamodb_index_name(&body, store, look->index, look->whose));
    text_add(&body, "},\":k\":");
    text_place(&body, look->after);
    text_add(&body, "},\"Limit\":");
    text_number(&body, look->max);
    text_add(&body, "}");
    dynamodb_send(call, &body);
}

void dynamodb_session_look(struct session_look *look)
{
    query(look);
}
