/* Scan: a stream of pages.
 *
 * happy path   scan -> next_page -> the backend -> page_done -> send_page -> sent -> next_page ..
 *              -> call_close
 * empty page   no message, unless it is the last or the client has waited for long: read on
 * too large    the page is read again, shorter; so each message carries the cursor behind its last
 *              key. One item that does not fit ends the call.
 * client gone  the page under way, or the send, comes back cancelled: the call ends there
 * bad cursor   the backend says INVALID_ARGUMENT about it, on the first page */
#include "patterns/keyvalue/scan.h"

#include "pool/worker.h"
#include "src/base/container.h"
#include "src/base/utf8.h"

enum { CURSOR_EVERY_MS = 100 };

static void next_page(struct scan *scan);
static void page_done(struct op *op);
static void send_page(struct scan *scan);
static void sent(struct op *op);

/* ---- the enumeration ---- */

static void memory_clear(void *arena)
{
    arena_clear(arena);
}

static void warn_if_emulated(struct keyvalue *kv)
{
    if (!kv->plan.scan->emulated)
        return;
    log_limited(&kv->scan_emulated, LOG_WARN, "keyvalue_scan_emulated",
                (const struct log_field[]){LOG_S("namespace", kv->base.namespace_name),
                                           LOG_S("backend", kv->backend->type->name)},
                2);
}

struct scan *scan_new(struct call *call, const char *prefix, const char *cursor)
{
    struct keyvalue *kv = keyvalue_of(call);
    struct arena *arena = call_arena(call);
    struct err err = kv->plan.scan == NULL ? keyvalue_unsupported(NEED_SCAN)
                                           : check_prefix(kv, arena, slice_str(prefix));

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return NULL;
    }

    struct scan *scan = arena_zalloc(arena, sizeof *scan);

    scan->call = call;
    scan->kv = kv;
    scan->backend_scan = kv->plan.scan;
    scan->full_items = keyvalue_page_items(kv);
    scan->page.prefix = slice_str(prefix);
    scan->page.next_cursor = slice_str(cursor); /* where the first page begins */
    for (unsigned i = 0; i < ARRAY_LEN(scan->memory); i++) {
        arena_init(&scan->memory[i], &kv->base.home->arenas);
        arena_adopt(arena, &scan->memory[i], memory_clear);
    }
    warn_if_emulated(kv);
    return scan;
}

void scan_run(struct scan *scan)
{
    scan->told_ns = scan->kv->base.home->now_ns;
    next_page(scan);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The call's arena lives as long as the stream. A page has to go sooner, so it has memory of its
 * own. */
static void read_page(struct scan *scan, struct slice cursor)
{
    struct kv_scan_page *page = &scan->page;

    page->cursor = cursor;
    page->max_items = (uint32_t)min_u64(scan->page_items, scan->keys_left);
    /* Half of a message leaves room for what protobuf adds to each key. */
    page->max_bytes = min_u64(scan->bytes_left, scan->kv->max_message_bytes / 2);
    scan->at = 0;
    call_start(scan->call, &page->op, page_done);
    page->op.arena = scan_page_memory(scan);
    scan->backend_scan->page(scan->kv->backend, page);
}

static void next_page(struct scan *scan)
{
    struct err cancelled = call_group(scan->call)->cancelled;

    if (cancelled.code != ERR_OK) {
        call_fail(scan->call, cancelled);
        return;
    }
    scan->turn ^= 1;
    scan->page_items = scan->full_items;
    arena_clear(scan_page_memory(scan));
    read_page(scan, scan->page.next_cursor);
}

/* Keys travel as protobuf strings. What was written past us and is no text (or holds a NUL, which
 * ends a string) cannot be told; it is left out, counted and logged rather than spoiling the page
 * for every client. */
static bool can_be_told(struct slice key)
{
    return utf8_valid(key) && (key.len == 0 || memchr(key.data, 0, key.len) == NULL);
}

static void leave_out_binary_keys(struct scan *scan)
{
    struct kv_scan_page *page = &scan->page;
    struct keyvalue *kv = scan->kv;
    size_t kept = 0;

    for (size_t i = 0; i < page->n; i++) {
        if (can_be_told(page->items[i].key))
            page->items[kept++] = page->items[i];
    }
    if (kept == page->n)
        return;
    counter_add(&kv->stats.scan_skipped, page->n - kept);
    log_limited(&kv->scan_not_text, LOG_WARN, "keyvalue_scan_key_not_text",
                (const struct log_field[]){LOG_S("namespace", kv->base.namespace_name),
                                           LOG_U("keys", page->n - kept)},
                2);
    page->n = kept;
}

/* Where few keys match, pages are empty for long. A client whose deadline passes meanwhile could
 * not go on from where its call ended, so it is told the cursor before. */
static bool cursor_is_due(const struct scan *scan)
{
    uint64_t now = scan->kv->base.home->now_ns, waited = now - scan->told_ns;
    uint64_t deadline = call_group(scan->call)->deadline_ns;

    if (waited >= CURSOR_EVERY_MS * NS_PER_MS)
        return true;
    return deadline != 0 && now + 2 * waited >= deadline;
}

/* A client that does not read holds the pages as well. */
static void hold_and_send(struct scan *scan)
{
    struct err err = call_hold(scan->call, scan->memory[0].bytes + scan->memory[1].bytes);

    if (err.code != ERR_OK)
        call_fail(scan->call, err);
    else
        scan->send_page(scan);
}

static void page_done(struct op *op)
{
    struct scan *scan = CONTAINER_OF(op, struct scan, page.op);

    if (op->err.code != ERR_OK) {
        call_fail(scan->call, op->err);
        return;
    }
    counter_add(&scan->kv->stats.scan_pages, 1);
    leave_out_binary_keys(scan);
    if (!scan->page.more)
        scan->page.next_cursor = (struct slice){0};
    if (scan->page.n == 0 && scan->page.more && !cursor_is_due(scan))
        next_page(scan);
    else
        hold_and_send(scan);
}

void scan_page_too_large(struct scan *scan)
{
    size_t n = scan->page.n;
    struct slice cursor = scan->page.cursor;

    if (n <= 1) {
        call_fail(scan->call, err_about(ERR_RESOURCE_EXHAUSTED, "max_message_bytes",
                                        arena_printf(call_arena(scan->call),
                                                     "an item does not fit a message of %u bytes; "
                                                     "scan without values, or retrieve it",
                                                     scan->kv->max_message_bytes)));
        return;
    }
    scan->page_items = (uint32_t)(n / 2); /* the item that was one too many is the last */
    arena_clear(scan_page_memory(scan));  /* the cursor is in the other one */
    read_page(scan, cursor);
}

static uint64_t page_bytes(const struct kv_scan_page *page)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < page->n; i++)
        bytes += page->items[i].key.len + page->items[i].value.len;
    return bytes;
}

void scan_page_sent(struct scan *scan)
{
    scan->told_ns = scan->kv->base.home->now_ns;
    scan->keys_left -= scan->page.n;
    scan->bytes_left -= min_u64(scan->bytes_left, page_bytes(&scan->page));
    if (!scan->page.more || scan->keys_left == 0 || scan->bytes_left == 0)
        call_close(scan->call);
    else
        next_page(scan);
}

/* ---- the call ---- */

static struct err read_limits(struct scan *scan, const pb_scan_request *request)
{
    bool limited = request->_limit_case != PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___LIMIT__NOT_SET;
    bool budgeted =
        request->_max_bytes_case != PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___MAX_BYTES__NOT_SET;

    if (limited && request->limit < 1)
        return err_about(ERR_INVALID_ARGUMENT, "limit", "limit has to be 1 or more");
    if (budgeted && request->max_bytes < 1)
        return err_about(ERR_INVALID_ARGUMENT, "max_bytes", "max_bytes has to be 1 or more");
    scan->keys_left = min_u64(limited ? (uint32_t)request->limit : KEYVALUE_SCAN_DEFAULT_LIMIT,
                              scan->kv->settings.scan_max_limit);
    scan->bytes_left = budgeted ? (uint64_t)request->max_bytes : UINT64_MAX;
    return ERR_NONE;
}

void keyvalue_scan(struct call *call)
{
    const pb_scan_request *request = call_request(call);
    bool prefixed =
        request->_prefix_case != PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___PREFIX__NOT_SET;
    bool resumed =
        request->_cursor_case != PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___CURSOR__NOT_SET;
    bool with_values = request->_include_values_case !=
                           PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___INCLUDE_VALUES__NOT_SET &&
                       request->include_values;
    struct scan *scan =
        scan_new(call, prefixed ? request->prefix : NULL, resumed ? request->cursor : NULL);

    if (scan == NULL)
        return;

    struct err err = read_limits(scan, request);

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    scan->page.with_values = with_values;
    scan->send_page = send_page;
    scan_run(scan);
}

static void send_page(struct scan *scan)
{
    pb_scan_response response = PRISM__PATTERNS__KEYVALUE__SCAN_RESPONSE__INIT;
    const struct kv_scan_page *page = &scan->page;
    struct arena *memory = scan_page_memory(scan);

    response.n_keys = page->n;
    response.keys = arena_alloc(memory, page->n * sizeof *response.keys);
    response.n_values = page->with_values ? page->n : 0;
    response.values = arena_alloc(memory, response.n_values * sizeof *response.values);
    for (size_t i = 0; i < page->n; i++) {
        response.keys[i] = arena_strdup(memory, page->items[i].key);
        if (page->with_values)
            response.values[i] = pb_bytes(page->items[i].value);
    }
    response.has_more = page->more;
    if (page->more) {
        response._next_cursor_case =
            PRISM__PATTERNS__KEYVALUE__SCAN_RESPONSE___NEXT_CURSOR_NEXT_CURSOR;
        response.next_cursor = arena_strdup(memory, page->next_cursor);
    }
    if (protobuf_c_message_get_packed_size(&response.base) > scan->kv->max_message_bytes)
        scan_page_too_large(scan);
    else
        call_send(scan->call, &response.base, &scan->sent, sent);
}

static void sent(struct op *op)
{
    struct scan *scan = CONTAINER_OF(op, struct scan, sent);

    if (op->err.code != ERR_OK)
        call_fail(scan->call, op->err);
    else
        scan_page_sent(scan);
}
