/* kv_scan: the partitions of the namespace one after the other, each in the order of its keys.
 *
 * A cursor is the number of a partition, a dot, and the sort key that was told last, in hexadecimal
 * digits; without digits: the partition's beginning. */
#include "backends/dynamodb/dynamodb_priv.h"

#include "backends/aws/base64.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_ITEMS = 1000, QUERIES = 16, REQUEST_BYTES = 1024, ANSWER_MAX = 16 << 20 };

/* Where a scan is. */
struct place {
    uint32_t partition;
    const char *after; /* sort key in base64; NULL: the partition's beginning */
};

struct scan {
    struct aws_task *task;
    struct slice prefix;
    struct place place;
    bool counts; /* a count, else a page */
    unsigned queries;
    uint64_t bytes;
    union {
        struct kv_scan_page *page;
        struct kv_count *count;
    };
};

static void query(struct scan *scan);

/* ---- cursors ---- */

static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A sort key that begins as the prefix does, from its digits. */
static bool read_sort(struct scan *scan, struct slice hex)
{
    struct arena *arena = scan->task->arena;
    uint8_t *sort = arena_alloc(arena, hex.len / 2 + 1);
    size_t n = hex.len / 2, head = scan->prefix.len;
    char *text = arena_alloc(arena, base64_bytes(n) + 1);

    if (hex.len % 2 != 0 || n > DYNAMODB_SORT_BYTES)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = digit_of(hex.data[2 * i]), low = digit_of(hex.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        sort[i] = (uint8_t)(high << 4 | low);
    }
    head = head < DYNAMODB_HEAD_BYTES ? head : DYNAMODB_HEAD_BYTES;
    if (n < head || memcmp(sort, scan->prefix.data, head) != 0)
        return false;
    *base64_encode(slice_of(sort, n), text) = '\0';
    scan->place.after = text;
    return true;
}

static bool read_cursor(struct scan *scan, struct slice cursor)
{
    uint64_t partition = 0;
    size_t i = 0;

    if (cursor.len == 0)
        return true;
    for (; i < cursor.len && i < 5 && digit_of(cursor.data[i]) >= 0 && cursor.data[i] <= '9'; i++)
        partition = partition * 10 + (uint64_t)digit_of(cursor.data[i]);
    if (i == 0 || i == cursor.len || cursor.data[i] != '.' ||
        partition >= dynamodb_store_of(scan->task)->partitions)
        return false;
    scan->place.partition = (uint32_t)partition;
    i++;
    return i == cursor.len || read_sort(scan, slice_of(cursor.data + i, cursor.len - i));
}

static struct slice write_cursor(const struct scan *scan)
{
    static const char digits[] = "0123456789abcdef";
    struct arena *arena = scan->task->arena;
    struct slice text = slice_str(scan->place.after);
    size_t n = base64_decoded_bytes(text);
    uint8_t *sort = arena_alloc(arena, n + 1);
    char *out = arena_alloc(arena, 16 + 2 * n);
    size_t len = (size_t)snprintf(out, 16, "%u.", scan->place.partition);

    if (text.len > 0 && !base64_decode(text, sort))
        n = 0;
    for (size_t i = 0; i < n; i++) {
        out[len++] = digits[sort[i] >> 4];
        out[len++] = digits[sort[i] & 15];
    }
    return slice_of(out, len);
}

/* ---- the end ---- */

static void end(struct scan *scan, bool more, struct err err)
{
    if (!scan->counts && err.code == ERR_OK) {
        scan->page->more = more;
        if (more)
            scan->page->next_cursor = write_cursor(scan);
    }
    aws_task_finish(scan->task, err);
}

/* On to the next partition. False: that was the last one. */
static bool advance(struct scan *scan)
{
    scan->place.after = NULL;
    return ++scan->place.partition < dynamodb_store_of(scan->task)->partitions;
}

/* ---- answers ---- */

static bool is_full(const struct scan *scan)
{
    return !scan->counts &&
           (scan->page->n >= scan->page->max_items || scan->bytes > scan->page->max_bytes);
}

static void take_item(struct scan *scan, const cJSON *json)
{
    struct kv_scan_page *page = scan->page;
    struct kv_scan_item *to = &page->items[page->n];
    struct dynamodb_item item;

    if (!dynamodb_item_read(json, &item, scan->task->arena) ||
        !slice_starts_with(item.key, scan->prefix))
        return;
    *to = (struct kv_scan_item){.key = item.key};
    if (page->with_values)
        to->value = dynamodb_value(&item, scan->task->arena);
    scan->bytes += to->key.len + to->value.len;
    page->n++;
}

/* Stops after the item that fills the page; what is behind it is asked for again. */
static bool take_items(struct scan *scan, const cJSON *answer)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(answer, "Items"))
    {
        const cJSON *key = cJSON_GetObjectItemCaseSensitive(one, "k");

        if (is_full(scan))
            return true;
        take_item(scan, one);
        scan->place.after = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(key, "B"));
    }
    return false;
}

static void take_count(struct scan *scan, const cJSON *answer)
{
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(answer, "Count");

    if (cJSON_IsNumber(count))
        scan->count->count += (uint64_t)cJSON_GetNumberValue(count);
}

static void on_page(struct aws_call *call)
{
    struct scan *scan = call->task->state;
    const cJSON *answer, *last;
    struct err err = dynamodb_outcome(call, &answer);
    bool left = false;

    if (err.code != ERR_OK) {
        end(scan, false, err);
        return;
    }
    if (scan->counts)
        take_count(scan, answer);
    else
        left = take_items(scan, answer);
    last = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(answer, "LastEvaluatedKey"), "k");
    if (!left && last != NULL)
        scan->place.after = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "B"));
    if (!left && last == NULL && !advance(scan))
        end(scan, false, ERR_NONE);
    else if (is_full(scan) || (!scan->counts && scan->queries >= QUERIES))
        end(scan, true, ERR_NONE);
    else
        query(scan);
}

/* ---- questions ---- */

static void text_values(struct text *body, struct scan *scan, struct slice head)
{
    struct dynamodb_store *store = dynamodb_store_of(scan->task);

    text_add(body, ",\"ExpressionAttributeValues\":{\":p\":{\"S\":");
    text_string(body, arena_printf(body->arena, "%s%u", store->root, scan->place.partition));
    text_add(body, "}");
    if (head.len > 0) {
        text_add(body, ",\":k\":{\"B\":");
        text_bytes(body, head);
        text_add(body, "}");
    }
    if (scan->counts) {
        text_add(body, ",\":now\":{\"N\":\"");
        text_number(body, dynamodb_now_ms());
        text_add(body, "\"}");
    }
    if (scan->counts && head.len < scan->prefix.len) {
        text_add(body, ",\":f\":{\"B\":");
        text_bytes(body, scan->prefix);
        text_add(body, "}");
    }
    text_add(body, "}");
}

static void text_start(struct text *body, struct scan *scan)
{
    struct dynamodb_store *store = dynamodb_store_of(scan->task);

    if (scan->place.after == NULL)
        return;
    text_add(body, ",\"ExclusiveStartKey\":{\"p\":{\"S\":");
    text_string(body, arena_printf(body->arena, "%s%u", store->root, scan->place.partition));
    text_add(body, "},\"k\":{\"B\":");
    text_string(body, scan->place.after);
    text_add(body, "}}");
}

static void text_what(struct text *body, struct scan *scan, bool long_prefix)
{
    if (scan->counts) {
        text_add(body, ",\"Select\":\"COUNT\",\"FilterExpression\":\"(attribute_not_exists(e) OR e "
                       "> :now)");
        text_add(body, long_prefix ? " AND begins_with(f, :f)\"" : "\"");
        return;
    }
    text_add(body, ",\"Limit\":");
    text_number(body, scan->page->max_items - scan->page->n);
    if (!scan->page->with_values)
        text_add(body, ",\"ProjectionExpression\":\"k,e,f\"");
}

static void query_in_turn(struct aws_task *task)
{
    struct scan *scan = task->state;
    struct dynamodb_store *store = dynamodb_store_of(scan->task);
    struct aws_call *call = dynamodb_call(scan->task, "Query", on_page);
    struct text body = text_new(scan->task->arena, REQUEST_BYTES + 3 * scan->prefix.len);
    struct slice head = scan->prefix;

    if (head.len > DYNAMODB_HEAD_BYTES)
        head.len = DYNAMODB_HEAD_BYTES;
    if (scan->place.after != NULL) /* from the turn before */
        scan->place.after = arena_strdup(task->arena, slice_str(scan->place.after));
    scan->queries++;
    text_add(&body, "{");
    text_table(&body, store);
    if (store->consistent)
        text_add(&body, ",\"ConsistentRead\":true");
    text_add(&body, head.len > 0 ? ",\"KeyConditionExpression\":\"p = :p AND begins_with(k, :k)\""
                                 : ",\"KeyConditionExpression\":\"p = :p\"");
    text_what(&body, scan, head.len < scan->prefix.len);
    text_values(&body, scan, head);
    text_start(&body, scan);
    text_add(&body, "}");
    call->max_answer = ANSWER_MAX;
    dynamodb_send(call, &body);
}

static void query(struct scan *scan)
{
    aws_turn_take(scan->task, query_in_turn);
}

static struct scan *scan_new(struct aws_task *task, struct slice prefix)
{
    struct scan *scan = arena_zalloc(task->arena, sizeof *scan);

    scan->task = task;
    scan->prefix = prefix;
    task->state = scan;
    return scan;
}

static void page(struct backend *backend, struct kv_scan_page *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct scan *scan;

    if (task == NULL)
        return;
    scan = scan_new(task, req->prefix);
    scan->page = req;
    req->n = 0;
    req->items = arena_array(task->arena, req->max_items, sizeof *req->items);
    if (read_cursor(scan, req->cursor))
        query(scan);
    else
        end(scan, false,
            err_about(ERR_INVALID_ARGUMENT, "cursor", "cursor is none of this scan's"));
}

static void count(struct backend *backend, struct kv_count *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct scan *scan;

    if (task == NULL)
        return;
    scan = scan_new(task, req->prefix);
    scan->counts = true;
    scan->count = req;
    req->count = 0;
    aws_turn_memory(task);
    query(scan);
}

const struct kv_scan dynamodb_kv_scan = {.emulated = true,
                                         .exactly_once = true,
                                         .max_items = PAGE_ITEMS,
                                         .calls = "1 to 16",
                                         .page = page,
                                         .count = count};
