/* JSON, out and in. Requests are written by hand: they are few and flat. */
#include "backends/aws/base64.h"
#include "backends/dynamodb/dynamodb_priv.h"
#include "src/base/random.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A year that no clock of ours will see: longer lives are cut to it. */
#define FOREVER_MS (1ull << 52)

/* ---- out ---- */

struct text text_new(struct arena *arena, size_t room)
{
    return (struct text){.arena = arena, .data = arena_alloc(arena, room + 1), .room = room};
}

/* The end, with room for so many bytes more and a NUL. */
static char *reserve(struct text *text, size_t bytes)
{
    if (text->room - text->len < bytes) {
        size_t room = 2 * text->room + bytes;
        char *grown = arena_alloc(text->arena, room + 1);

        memcpy(grown, text->data, text->len);
        text->data = grown;
        text->room = room;
    }
    return text->data + text->len;
}

static void add(struct text *text, const char *bytes, size_t len)
{
    memcpy(reserve(text, len), bytes, len);
    text->len += len;
}

void text_add(struct text *text, const char *part)
{
    add(text, part, strlen(part));
}

void text_number(struct text *text, uint64_t n)
{
    char digits[24];

    add(text, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n));
}

void text_string(struct text *text, const char *string)
{
    char escaped[8];

    text_add(text, "\"");
    for (const char *at = string; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == '"' || *at == '\\')
            add(text, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", *at));
        else
            add(text, at, 1);
    }
    text_add(text, "\"");
}

void text_bytes(struct text *text, struct slice bytes)
{
    char *begin, *end;

    text_add(text, "\"");
    begin = reserve(text, base64_bytes(bytes.len));
    end = base64_encode(bytes, begin);
    text->len += (size_t)(end - begin);
    text_add(text, "\"");
}

void text_table(struct text *text, const struct dynamodb_store *store)
{
    text_add(text, "\"TableName\":");
    text_string(text, store->table);
}

/* FNV-1a: the same for all processes and versions. */
uint32_t dynamodb_partition(const struct dynamodb_store *store, struct slice key)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ key.data[i]) * 0x100000001b3;
    return (uint32_t)((hash ^ hash >> 32) % store->partitions);
}

struct slice dynamodb_sort_key(struct slice key, struct arena *arena)
{
    struct digest digest;
    uint8_t *sort;

    if (key.len < DYNAMODB_SORT_BYTES)
        return key;
    sort = arena_alloc(arena, DYNAMODB_SORT_BYTES);
    digest = digest_of(&key, 1);
    memcpy(sort, key.data, DYNAMODB_HEAD_BYTES);
    memcpy(sort + DYNAMODB_HEAD_BYTES, digest.bytes, DIGEST_BYTES);
    return slice_of(sort, DYNAMODB_SORT_BYTES);
}

void text_key(struct text *text, const struct dynamodb_store *store, struct slice key)
{
    text_add(text, "\"p\":{\"S\":");
    text_string(text,
                arena_printf(text->arena, "%s%u", store->root, dynamodb_partition(store, key)));
    text_add(text, "},\"k\":{\"B\":");
    text_bytes(text, dynamodb_sort_key(key, text->arena));
    text_add(text, "}");
}

void text_item(struct text *text, const struct dynamodb_store *store, struct slice key,
               struct slice value, uint64_t expires_ms, const char *version)
{
    text_add(text, "{");
    text_key(text, store, key);
    if (key.len > DYNAMODB_HEAD_BYTES) {
        text_add(text, ",\"f\":{\"B\":");
        text_bytes(text, key);
        text_add(text, "}");
    }
    if (value.len > 0) {
        text_add(text, ",\"v\":{\"B\":");
        text_bytes(text, value);
        text_add(text, "}");
    }
    if (expires_ms > 0) {
        text_add(text, ",\"e\":{\"N\":\"");
        text_number(text, expires_ms);
        text_add(text, "\"},\"t\":{\"N\":\"");
        text_number(text, expires_ms / 1000 + 1);
        text_add(text, "\"}");
    }
    text_add(text, ",\"r\":{\"S\":");
    text_string(text, version);
    text_add(text, "}}");
}

uint64_t dynamodb_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NS_PER_MS;
}

uint64_t dynamodb_expiry_ms(uint64_t ttl_ms)
{
    uint64_t now = dynamodb_now_ms();

    if (ttl_ms == 0)
        return 0;
    return ttl_ms < FOREVER_MS - now ? now + ttl_ms : FOREVER_MS;
}

/* Time, chance and the instance: two writes of one key never agree in all. */
const char *dynamodb_version(struct aws_client *client, struct arena *arena)
{
    return arena_printf(arena, "%016llx%016llx", (unsigned long long)clock_now_ns(),
                        (unsigned long long)(random_next(&client->random) ^ (uintptr_t)client));
}

/* ---- in ---- */

static struct slice member(const cJSON *item, const char *name, const char *type)
{
    const cJSON *attribute = cJSON_GetObjectItemCaseSensitive(item, name);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(attribute, type);

    return slice_str(cJSON_GetStringValue(value));
}

static bool decode(struct slice text, struct slice *bytes, struct arena *arena)
{
    uint8_t *out = arena_alloc(arena, base64_decoded_bytes(text));

    *bytes = slice_of(out, base64_decoded_bytes(text));
    return base64_decode(text, out);
}

bool dynamodb_item_read(const cJSON *json, struct dynamodb_item *item, struct arena *arena)
{
    struct slice whole = member(json, "f", "B"), expiry = member(json, "e", "N");

    *item = (struct dynamodb_item){0};
    if (expiry.len > 0)
        item->expires_ms = strtoull((const char *)expiry.data, NULL, 10);
    if (expiry.len > 0 && item->expires_ms <= dynamodb_now_ms())
        return false;
    if (whole.len == 0)
        whole = member(json, "k", "B");
    item->value = member(json, "v", "B");
    item->value_bytes = base64_decoded_bytes(item->value);
    item->version = arena_copy(arena, member(json, "r", "S"));
    return decode(whole, &item->key, arena);
}

struct slice dynamodb_value(const struct dynamodb_item *item, struct arena *arena)
{
    struct slice value;

    if (!decode(item->value, &value, arena))
        return slice_of(arena_alloc(arena, 1), 0);
    return value;
}

static void forget(void *json)
{
    cJSON_Delete(json);
}

const cJSON *dynamodb_answer(struct aws_call *call)
{
    struct slice body = call->http.body_out;
    cJSON *json = cJSON_ParseWithLength((const char *)body.data, body.len);

    if (json == NULL)
        return NULL;
    arena_adopt(call->task->arena, json, forget);
    return cJSON_IsObject(json) ? json : NULL;
}
