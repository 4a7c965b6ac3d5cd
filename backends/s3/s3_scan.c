/* kv_scan, emulated: pages of ListObjectsV2, whose names are made keys again.
 *
 * Names keep the order of a listing, so a cursor is the name that was told last. Keys that begin
 * with a prefix have names that begin with one of two: a slash or dots at its end are spelled
 * otherwise where the key ends there than where it goes on (s3_name.c). What is listed beside them
 * is left out. Names of digests come last: the keys are asked for, one request each, as the values
 * are. */
#include "backends/aws/base64.h"
#include "backends/s3/s3_priv.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_ITEMS = 1000,
    LISTINGS = 16, /* of a page: it may be empty then, and not the last */
    AT_ONCE = 16,  /* objects that are asked for */
    ANSWER_BYTES = 4 << 20,
    LARGEST_VALUE = 64 << 20, /* that is listed with its key; Retrieve tells longer ones */
    PHASES = 3,
};

/* A name that was listed. */
struct listed {
    struct slice name; /* below the root */
    struct slice key;  /* len 0: of a digest */
    struct slice value;
    uint64_t bytes;
    bool gone;
};

struct scan {
    struct aws_task *task;
    struct slice prefix;
    struct slice heads[PHASES]; /* of names, one phase after the other; equal to the one before:
                                   left out */
    unsigned phase;
    struct slice after; /* name; empty: from the phase's beginning */
    struct kv_scan_page *page;
    struct kv_count *count; /* or this */
    unsigned listings;
    uint64_t bytes;
    bool more;
    struct listed *items; /* of the page */
    size_t n, next, in_flight;
    struct err err; /* of an object */
};

static void list(struct scan *scan);

/* ---- names ---- */

static struct slice digest_head(void)
{
    return slice_str("!~");
}

/* How names begin whose keys go on behind the prefix. */
static struct slice going_on(const struct scan *scan, bool flat)
{
    struct arena *arena = scan->task->arena;
    char *longer = arena_printf(arena, "%.*sx", (int)scan->prefix.len, scan->prefix.data);
    struct slice name;

    memcpy(longer, scan->prefix.data, scan->prefix.len); /* which may hold NULs */
    name = s3_name_encode(slice_of(longer, scan->prefix.len + 1), flat, arena);
    return slice_of(name.data, name.len - 1);
}

static void set_heads(struct scan *scan)
{
    bool flat = s3_store_of(scan->task->client)->names.flat;

    scan->heads[0] = s3_name_encode(scan->prefix, flat, scan->task->arena);
    scan->heads[1] = scan->prefix.len > 0 ? going_on(scan, flat) : scan->heads[0];
    scan->heads[2] = scan->prefix.len > 0 ? digest_head() : scan->heads[0];
}

static bool next_phase(struct scan *scan)
{
    scan->after = slice_of(NULL, 0);
    while (++scan->phase < PHASES) {
        if (!slice_equal(scan->heads[scan->phase], scan->heads[scan->phase - 1]))
            return true;
    }
    return false;
}

/* ---- cursors: a phase, a dot, the name in hexadecimal digits ---- */

static int digit_of(uint8_t c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

static bool read_cursor(struct scan *scan, struct slice cursor)
{
    size_t n = cursor.len >= 2 ? cursor.len / 2 - 1 : 0;
    uint8_t *name;

    if (cursor.len == 0)
        return true;
    if (cursor.len < 4 || cursor.len % 2 != 0 || n > S3_NAME_BYTES || cursor.data[1] != '.' ||
        cursor.data[0] < '0' || cursor.data[0] >= '0' + PHASES)
        return false;
    name = arena_alloc(scan->task->arena, n);
    for (size_t i = 0; i < n; i++) {
        int high = digit_of(cursor.data[2 + 2 * i]), low = digit_of(cursor.data[3 + 2 * i]);

        if (high < 0 || low < 0)
            return false;
        name[i] = (uint8_t)(high << 4 | low);
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    }
    scan->phase = (unsigned)(cursor.data[0] - '0');
    scan->after = slice_of(name, n);
    return slice_starts_with(scan->after, scan->heads[scan->phase]);
}

static struct slice write_cursor(const struct scan *scan)
{
    static const char digits[] = "0123456789abcdef";
    struct slice name = scan->after.len > 0 ? scan->after : scan->heads[scan->phase];
    char *out = arena_alloc(scan->task->arena, 2 * name.len + 2), *to = out;

    *to++ = (char)('0' + scan->phase);
    *to++ = '.';
    for (size_t i = 0; i < name.len; i++) {
        *to++ = digits[name.data[i] >> 4];
        *to++ = digits[name.data[i] & 15];
    }
    return slice_of(out, (size_t)(to - out));
}

/* ---- the end ---- */

static void end(struct scan *scan, struct err err)
{
    struct kv_scan_page *page = scan->page;

    if (scan->count != NULL || err.code != ERR_OK) {
        aws_task_finish(scan->task, err);
        return;
    }
    page->n = 0;
    for (size_t i = 0; i < scan->n; i++) {
        const struct listed *item = &scan->items[i];

        if (!item->gone && slice_starts_with(item->key, scan->prefix))
            page->items[page->n++] = (struct kv_scan_item){.key = item->key, .value = item->value};
    }
    page->more = scan->more;
    if (page->more)
        page->next_cursor = write_cursor(scan);
    aws_task_finish(scan->task, ERR_NONE);
}

/* ---- objects: values, and keys of digests ---- */

/* As s3_name_spell writes it. */
static struct slice spelled_key(struct slice text, struct arena *arena)
{
    size_t len = (text.len + 3) / 4 * 4;
    char *plain = arena_alloc(arena, len + 1);
    uint8_t *key;

    memset(plain, '=', len);
    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.data[i];

        plain[i] = c;
        if (c == '-')
            plain[i] = '+';
        if (c == '_')
            plain[i] = '/';
    }
    key = arena_alloc(arena, base64_decoded_bytes(slice_of(plain, len)) + 1);
    if (!base64_decode(slice_of(plain, len), key))
        return slice_of(NULL, 0);
    return slice_of(key, base64_decoded_bytes(slice_of(plain, len)));
}

static bool needs_object(const struct scan *scan, const struct listed *item)
{
    return item->key.len == 0 || (scan->page != NULL && scan->page->with_values);
}

static void ask_on(struct scan *scan);

static void on_object(struct aws_call *call)
{
    struct scan *scan = call->task->state;
    struct listed *item = call->state;
    bool found = call->err.code == ERR_OK && call->http.status == 200 && !call->http.too_long;

    scan->in_flight--;
    item->gone = !found;
    if (!found && !(call->err.code == ERR_OK && call->http.status == 404))
        scan->err = call->http.too_long
                        ? err_about(ERR_RESOURCE_EXHAUSTED, "value", "a value is too large to list")
                        : s3_error(call);
    if (found && item->key.len == 0)
        item->key = spelled_key(call->http.wanted_value, scan->task->arena);
    if (found && item->key.len == 0)
        item->gone = true; /* none of ours */
    if (found && scan->page != NULL && scan->page->with_values)
        item->value = call->http.body_out;
    ask_on(scan);
}

static void ask(struct scan *scan, struct listed *item)
{
    bool whole = scan->page != NULL && scan->page->with_values;
    struct aws_call *call =
        s3_named_call(scan->task, whole ? "GET" : "HEAD", item->name, on_object);

    call->state = item;
    call->http.wanted = "x-amz-meta-prism-key:";
    call->max_answer = whole ? LARGEST_VALUE : ANSWER_BYTES; /* what others wrote may be longer */
    scan->in_flight++;
    aws_call_start(call);
}

static void listed_all(struct scan *scan);

static void ask_on(struct scan *scan)
{
    for (; scan->next < scan->n && scan->in_flight < AT_ONCE && scan->err.code == ERR_OK;
         scan->next++) {
        if (needs_object(scan, &scan->items[scan->next]))
            ask(scan, &scan->items[scan->next]);
    }
    if (scan->in_flight == 0)
        listed_all(scan);
}

/* A page is whole; a count goes on, and forgets what it has counted. */
static void listed_all(struct scan *scan)
{
    if (scan->err.code != ERR_OK || scan->count == NULL) {
        end(scan, scan->err);
        return;
    }
    for (size_t i = 0; i < scan->n; i++)
        scan->count->count +=
            !scan->items[i].gone && slice_starts_with(scan->items[i].key, scan->prefix);
    scan->n = scan->next = 0;
    if (scan->more)
        list(scan);
    else
        end(scan, ERR_NONE);
}

/* ---- listings ---- */

static bool is_full(const struct scan *scan)
{
    if (scan->count != NULL)
        return scan->n == PAGE_ITEMS;
    return scan->n == scan->page->max_items || scan->bytes > scan->page->max_bytes;
}

static void take(struct scan *scan, struct slice name, struct slice size)
{
    struct arena *arena = scan->task->arena;
    bool flat = s3_store_of(scan->task->client)->names.flat;
    struct listed *item = &scan->items[scan->n];

    scan->after = name;
    *item = (struct listed){.name = name};
    if (!slice_starts_with(name, digest_head()) &&
        (!s3_name_decode(name, flat, &item->key, arena) || item->key.len == 0 ||
         !slice_starts_with(item->key, scan->prefix)))
        return;
    item->bytes = strtoull(arena_strdup(arena, size), NULL, 10);
    scan->bytes += item->key.len;
    if (scan->page != NULL && scan->page->with_values)
        scan->bytes += item->bytes;
    scan->n++;
}

/* Stops behind the one that fills the page: what follows is listed again. True: there it was. */
static bool take_all(struct scan *scan, struct slice xml)
{
    size_t root = strlen(s3_store_of(scan->task->client)->names.root);

    for (;;) {
        struct slice one = s3_element(xml, "Contents"), name;

        if (one.len == 0)
            return false;
        if (is_full(scan))
            return true;
        name = s3_element(one, "Key");
        if (name.len > root)
            take(scan, slice_of(name.data + root, name.len - root), s3_element(one, "Size"));
        xml = slice_of(one.data + one.len, (size_t)(xml.data + xml.len - (one.data + one.len)));
    }
}

static void on_listed(struct aws_call *call)
{
    struct scan *scan = call->task->state;
    bool answered = call->err.code == ERR_OK && call->http.status == 200, truncated;
    bool stopped;

    if (!answered || call->http.too_long) {
        end(scan, answered ? err_make(ERR_INTERNAL, "a listing is too long") : s3_error(call));
        return;
    }
    truncated = slice_equal(s3_element(call->http.body_out, "IsTruncated"), slice_str("true"));
    stopped = take_all(scan, call->http.body_out);
    scan->more = stopped || truncated || next_phase(scan);
    if (!scan->more || is_full(scan) || scan->count != NULL || scan->listings == LISTINGS)
        ask_on(scan);
    else
        list(scan);
}

static char *encoded(struct scan *scan, struct slice name)
{
    const char *root = s3_store_of(scan->task->client)->names.root;
    struct slice whole = slice_str(
        arena_printf(scan->task->arena, "%s%.*s", root, (int)name.len, (const char *)name.data));
    char *out = arena_alloc(scan->task->arena, 3 * whole.len + 1);

    sigv4_encode(whole, false, out);
    return out;
}

static void list_in_turn(struct aws_task *task)
{
    struct scan *scan = task->state;
    struct arena *arena = task->arena;
    size_t room = scan->count != NULL ? PAGE_ITEMS - scan->n : scan->page->max_items - scan->n;
    const char *query = arena_printf(arena, "list-type=2&max-keys=%zu&prefix=%s",
                                     room < PAGE_ITEMS ? room : PAGE_ITEMS,
                                     encoded(scan, scan->heads[scan->phase]));
    struct aws_call *call;

    scan->after = arena_copy(arena, scan->after); /* from the turn before */
    if (scan->after.len > 0)
        query = arena_printf(arena, "%s&start-after=%s", query, encoded(scan, scan->after));
    scan->listings++;
    call = s3_bucket_call(scan->task, query, on_listed);
    call->max_answer = ANSWER_BYTES;
    aws_call_start(call);
}

static void list(struct scan *scan)
{
    aws_turn_take(scan->task, list_in_turn);
}

static struct scan *scan_new(struct aws_task *task, struct slice prefix, size_t items)
{
    struct scan *scan = arena_zalloc(task->arena, sizeof *scan);

    scan->task = task;
    scan->prefix = prefix;
    scan->items = arena_array(task->arena, items, sizeof *scan->items);
    task->state = scan;
    set_heads(scan);
    return scan;
}

static void page(struct backend *backend, struct kv_scan_page *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct scan *scan;

    if (task == NULL)
        return;
    scan = scan_new(task, req->prefix, req->max_items);
    scan->page = req;
    req->n = 0;
    req->items = arena_array(task->arena, req->max_items, sizeof *req->items);
    if (read_cursor(scan, req->cursor))
        list(scan);
    else
        end(scan, err_about(ERR_INVALID_ARGUMENT, "cursor", "cursor is none of this scan's"));
}

static void count(struct backend *backend, struct kv_count *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct scan *scan;

    if (task == NULL)
        return;
    scan = scan_new(task, req->prefix, PAGE_ITEMS);
    scan->count = req;
    req->count = 0;
    aws_turn_memory(task);
    list(scan);
}

const struct kv_scan s3_kv_scan = {.emulated = true,
                                   .exactly_once = true,
                                   .max_items = PAGE_ITEMS,
                                   .calls = "1 to 16, and n with values",
                                   .page = page,
                                   .count = count};
