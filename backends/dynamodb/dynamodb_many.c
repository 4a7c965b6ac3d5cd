/* Which items of a request are sent: DynamoDB refuses a batch or a transaction that names a key
 * twice. */
#include "backends/aws/base64.h"
#include "backends/dynamodb/dynamodb_priv.h"

#include <cjson/cJSON.h>
#include <string.h>

static const struct kv_item *nth(const void *items, size_t item_bytes, size_t i)
{
    return (const void *)((const char *)items + i * item_bytes);
}

static const char *sort_text(struct slice key, struct arena *arena)
{
    struct slice sort = dynamodb_sort_key(key, arena);
    char *text = arena_alloc(arena, base64_bytes(sort.len) + 1);

    *base64_encode(sort, text) = '\0';
    return text;
}

/* Requests are small: at most DYNAMODB_TXN_ITEMS. */
struct dynamodb_many *dynamodb_many_new(struct aws_task *task, const void *items, size_t item_bytes,
                                        size_t n, bool last)
{
    struct dynamodb_many *many = arena_zalloc(task->arena, sizeof *many);

    many->task = task;
    many->n = n;
    many->twin = arena_array(task->arena, n, sizeof *many->twin);
    many->sort = arena_array(task->arena, n, sizeof *many->sort);
    for (size_t step = 0; step < n; step++) {
        size_t i = last ? n - 1 - step : step, j = last ? n - 1 : 0;

        while (j != i &&
               !slice_equal(nth(items, item_bytes, i)->key, nth(items, item_bytes, j)->key))
            j = last ? j - 1 : j + 1;
        many->twin[i] = many->twin[j];
        if (j != i)
            continue;
        many->twin[i] = (uint32_t)i;
        many->sort[i] = sort_text(nth(items, item_bytes, i)->key, task->arena);
        many->unique++;
    }
    return many;
}

size_t dynamodb_many_find(const struct dynamodb_many *many, const cJSON *item)
{
    const cJSON *attribute = cJSON_GetObjectItemCaseSensitive(item, "k");
    const char *sort = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(attribute, "B"));

    for (size_t i = 0; sort != NULL && i < many->n; i++) {
        if (many->sort[i] != NULL && strcmp(many->sort[i], sort) == 0)
            return i;
    }
    return many->n;
}
