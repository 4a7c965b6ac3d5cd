/* Sessions as items: requests and answers. */
#include "backends/dynamodb/dynamodb_session.h"

#include "backends/aws/base64.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* ---- out ---- */

void text_member(struct text *text, const char *name, struct slice value)
{
    if (value.len == 0)
        return;
    text_add(text, ",\"");
    text_add(text, name);
    text_add(text, "\":{\"S\":");
    text_string(text, arena_strdup(text->arena, value));
    text_add(text, "}");
}

void text_count(struct text *text, const char *name, uint64_t number)
{
    text_add(text, ",\"");
    text_add(text, name);
    text_add(text, "\":{\"N\":\"");
    text_number(text, number);
    text_add(text, "\"}");
}

void text_session_key(struct text *text, const struct dynamodb_store *store, struct slice id)
{
    text_add(text, "\"p\":{\"S\":");
    text_string(text,
                arena_printf(text->arena, "%ss%u", store->root, dynamodb_partition(store, id)));
    text_add(text, "},\"k\":{\"B\":");
    text_bytes(text, id);
    text_add(text, "}");
}

const char *dynamodb_index_name(struct text *text, const struct dynamodb_store *store,
                                enum dynamodb_index index, struct slice whose)
{
    char *encoded = arena_alloc(text->arena, base64_bytes(whose.len) + 1);

    if (index == INDEX_ALL)
        return arena_printf(text->arena, "%sa", store->root);
    *base64_encode(whose, encoded) = '\0';
    return arena_printf(text->arena, "%s%c:%s", store->root, index, encoded);
}

/* Eight bytes, the greatest first: they sort as the places do. A count's single one is before all.
 */
void text_place(struct text *text, uint64_t place)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(place >> (56 - 8 * i));
    text_add(text, "{\"B\":");
    text_bytes(text, slice_of(bytes, sizeof bytes));
    text_add(text, "}");
}

static void entry_key(struct text *text, const struct dynamodb_store *store,
                      enum dynamodb_index index, struct slice whose, uint64_t place)
{
    text_add(text, "\"p\":{\"S\":");
    text_string(text, dynamodb_index_name(text, store, index, whose));
    text_add(text, "},\"k\":");
    if (place > 0)
        text_place(text, place);
    else
        text_add(text, "{\"B\":\"AA==\"}");
}

void text_session_at(struct text *text, const struct dynamodb_store *store, struct slice id)
{
    text_table(text, store);
    text_add(text, ",\"Key\":{");
    text_session_key(text, store, id);
    text_add(text, "}");
}

void text_entry_at(struct text *text, const struct dynamodb_store *store, enum dynamodb_index index,
                   struct slice whose, uint64_t place)
{
    text_table(text, store);
    text_add(text, ",\"Key\":{");
    entry_key(text, store, index, whose, place);
    text_add(text, "}");
}

static void put_entry(struct text *text, const struct dynamodb_store *store,
                      enum dynamodb_index index, const struct dynamodb_session *session)
{
    const struct session_owner *owner = &session->owner;

    text_add(text, ",{\"Put\":{");
    text_table(text, store);
    text_add(text, ",\"Item\":{");
    entry_key(text, store, index, index == INDEX_USER ? owner->user : owner->region,
              session->place);
    text_member(text, "i", session->id);
    text_member(text, "u", owner->user);
    text_member(text, "g", owner->region);
    text_add(text, "}}}");
}

void text_put_entries(struct text *text, const struct dynamodb_store *store,
                      const struct dynamodb_session *session)
{
    put_entry(text, store, INDEX_ALL, session);
    if (session->owner.user.len > 0)
        put_entry(text, store, INDEX_USER, session);
    if (session->owner.region.len > 0)
        put_entry(text, store, INDEX_REGION, session);
}

void text_session_head(struct text *text, const struct dynamodb_session *session)
{
    text_member(text, "u", session->owner.user);
    text_member(text, "g", session->owner.region);
    text_member(text, "c", session->owner.client);
    if (session->owner.attributes.len > 0) {
        text_add(text, ",\"a\":{\"B\":");
        text_bytes(text, session->owner.attributes);
        text_add(text, "}");
    }
    text_count(text, "l", session->place);
    text_count(text, "m", session->times.created_ms);
    text_count(text, "w", session->times.used_ms);
    text_count(text, "e", session->times.expires_ms);
    text_count(text, "t", session->times.expires_ms / 1000 + 1);
    text_count(text, "x", session->ttl_ms);
    text_count(text, "z", session->end_ms);
    text_count(text, "s", session->version);
    text_count(text, "b", session->bytes);
}

void text_held(struct text *text, const struct session_held *held)
{
    text_add(text, ",");
    text_string(text, arena_printf(text->arena, "n:%.*s", (int)held->name.len, held->name.data));
    text_add(text, ":{\"N\":\"");
    text_number(text, held->version);
    text_add(text, "\"}");
    if (held->base64.len == 0)
        return;
    text_add(text, ",");
    text_string(text, arena_printf(text->arena, "v:%.*s", (int)held->name.len, held->name.data));
    text_add(text, ":{\"B\":");
    text_string(text, arena_strdup(text->arena, held->base64));
    text_add(text, "}");
}

void text_value(struct text *text, const struct session_value *value, uint64_t version)
{
    char *encoded = arena_alloc(text->arena, base64_bytes(value->value.len) + 1);
    size_t len = (size_t)(base64_encode(value->value, encoded) - encoded);

    text_held(text, &(struct session_held){
                        .name = value->name, .base64 = slice_of(encoded, len), .version = version});
}

/* ---- in ---- */

static const char *string_of(const cJSON *item, const char *name, const char *type)
{
    const cJSON *attribute = cJSON_GetObjectItemCaseSensitive(item, name);

    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(attribute, type));
}

uint64_t dynamodb_number(const cJSON *item, const char *name)
{
    const char *digits = string_of(item, name, "N");

    return digits != NULL ? strtoull(digits, NULL, 10) : 0;
}

struct slice dynamodb_text(const cJSON *item, const char *name)
{
    return slice_str(string_of(item, name, "S"));
}

static struct slice bytes_of(const cJSON *item, const char *name, struct arena *arena)
{
    struct slice text = slice_str(string_of(item, name, "B"));
    uint8_t *out = arena_alloc(arena, base64_decoded_bytes(text) + 1);

    if (text.len == 0 || !base64_decode(text, out))
        return slice_of(out, 0);
    return slice_of(out, base64_decoded_bytes(text));
}

bool dynamodb_session_read(const cJSON *json, struct dynamodb_session *session, struct arena *arena)
{
    *session =
        (struct dynamodb_session){.id = bytes_of(json, "k", arena),
                                  .owner = {.user = arena_copy(arena, dynamodb_text(json, "u")),
                                            .region = arena_copy(arena, dynamodb_text(json, "g")),
                                            .client = arena_copy(arena, dynamodb_text(json, "c")),
                                            .attributes = bytes_of(json, "a", arena)},
                                  .times = {.created_ms = dynamodb_number(json, "m"),
                                            .used_ms = dynamodb_number(json, "w"),
                                            .expires_ms = dynamodb_number(json, "e")},
                                  .place = dynamodb_number(json, "l"),
                                  .ttl_ms = dynamodb_number(json, "x"),
                                  .end_ms = dynamodb_number(json, "z"),
                                  .version = dynamodb_number(json, "s"),
                                  .bytes = dynamodb_number(json, "b"),
                                  .json = json};
    return session->times.expires_ms > dynamodb_now_ms();
}

static int by_name(const void *a, const void *b)
{
    return slice_compare(((const struct session_held *)a)->name,
                         ((const struct session_held *)b)->name);
}

/* Versions and values stand in one object in any order: sorted, those of one name are neighbours.
 */
struct session_held *dynamodb_session_values(const cJSON *item, size_t *n, struct arena *arena)
{
    struct session_held *all = arena_array(arena, (size_t)cJSON_GetArraySize(item), sizeof *all);
    size_t parts = 0;
    const cJSON *one;

    *n = 0;
    cJSON_ArrayForEach(one, item)
    {
        const char *digits = cJSON_GetStringValue(cJSON_GetObjectItem(one, "N"));

        if (strncmp(one->string, "n:", 2) != 0 && strncmp(one->string, "v:", 2) != 0)
            continue;
        all[parts++] = (struct session_held){
            .name = slice_str(one->string + 2),
            .base64 = slice_str(cJSON_GetStringValue(cJSON_GetObjectItem(one, "B"))),
            .version = digits != NULL ? strtoull(digits, NULL, 10) : 0};
    }
    qsort(all, parts, sizeof *all, by_name);
    for (size_t i = 0; i < parts; i++) {
        if (*n == 0 || !slice_equal(all[*n - 1].name, all[i].name))
            all[(*n)++] = all[i];
        else if (all[i].version > 0)
            all[*n - 1].version = all[i].version;
        else
            all[*n - 1].base64 = all[i].base64;
    }
    return all;
}

const struct session_held *dynamodb_session_held(const struct session_held *held, size_t n,
                                                 struct slice name)
{
    const struct session_held key = {.name = name};

    return bsearch(&key, held, n, sizeof *held, by_name);
}

bool dynamodb_session_use(struct dynamodb_session *session, const struct session_use *use)
{
    uint64_t now_ms = dynamodb_now_ms();
    uint64_t until_ms = session_used_until(use, session->ttl_ms, session->end_ms,
                                           session->times.expires_ms, now_ms);

    if (until_ms == session->times.expires_ms)
        return false;
    session->times.expires_ms = until_ms;
    session->times.used_ms = now_ms;
    return true;
}

/* ---- calls ---- */

struct aws_call *dynamodb_session_call(struct aws_task *task, const char *target,
                                       void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_call(task, target, done);

    call->max_answer = DYNAMODB_SESSION_ANSWER;
    call->writes = call->once = strcmp(target, "UpdateItem") == 0 || strcmp(target, "PutItem") == 0;
    return call;
}

void dynamodb_session_fetch(struct aws_task *task, struct slice id, void (*done)(struct aws_call *))
{
    struct aws_call *call = dynamodb_session_call(task, "GetItem", done);
    struct text body = text_new(task->arena, 512);

    text_add(&body, "{");
    text_session_at(&body, dynamodb_store_of(task), id);
    text_add(&body, ",\"ConsistentRead\":true}");
    dynamodb_send(call, &body);
}

struct err dynamodb_session_fetched(struct aws_call *call, struct dynamodb_session *session)
{
    const cJSON *answer, *item;
    struct err err = dynamodb_outcome(call, &answer);

    if (err.code != ERR_OK)
        return err;
    item = cJSON_GetObjectItemCaseSensitive(answer, "Item");
    if (item == NULL || !dynamodb_session_read(item, session, call->task->arena))
        return err_make(ERR_NOT_FOUND, "the session does not exist, or has expired");
    return ERR_NONE;
}

bool dynamodb_unheld(struct aws_call *call)
{
    return dynamodb_is_exception(call, "ConditionalCheckFailedException") ||
           (call->err.code == ERR_OK && dynamodb_reason(call, "ConditionalCheckFailed"));
}

bool dynamodb_unheld_at(struct aws_call *call, int n)
{
    const cJSON *json = call->http.status == 400 ? dynamodb_answer(call) : NULL;
    const cJSON *reasons = cJSON_GetObjectItemCaseSensitive(json, "CancellationReasons");
    const char *code = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(reasons, n), "Code"));

    return code != NULL && strcmp(code, "ConditionalCheckFailed") == 0;
}

struct err dynamodb_session_too_large(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                     "the session would be larger than max_session_size");
}

struct err dynamodb_session_namespace_full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions",
                     "the namespace holds as many sessions as it may");
}

struct err dynamodb_session_user_full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user",
                     "the user has as many sessions as a user may have");
}

struct err dynamodb_session_contended(void)
{
    struct err err = err_make(ERR_ABORTED, "the session is being written to all the time");

    err.retry_after_ms = 100;
    return err;
}

static bool is_about_size(const cJSON *json)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(json, "message"));

    return text != NULL && strstr(text, "tem size") != NULL && strstr(text, "exceeded") != NULL;
}

/* Long names cost an item more than max_session_size counts: the server has the last word. */
struct err dynamodb_session_failure(struct aws_call *call)
{
    const cJSON *one, *answer = call->http.status == 400 ? dynamodb_answer(call) : NULL;
    struct err err;

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(answer, "CancellationReasons"))
    {
        if (is_about_size(one))
            return dynamodb_session_too_large();
    }
    if (is_about_size(answer))
        return dynamodb_session_too_large();
    err = dynamodb_outcome(call, &answer);
    return err;
}
