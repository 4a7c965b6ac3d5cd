/* Any bytes as a scan's cursor. The embedded store either refuses it, naming it, or answers a page
 * of keys that start with the prefix. Redis' cursor codec decodes nothing that it would not write,
 * and all that it writes.
 *
 * input: length of the prefix, the prefix, then the cursor. */
#include "tests/fuzz/fuzz.h"

#include "backends/redis/redis_text.h"
#include "patterns/keyvalue/keyvalue.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_ITEMS = 3 };

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* ---- redis ---- */

static void check_same(const struct redis_cursor *a, const struct redis_cursor *b)
{
    REQUIRE(a->at == b->at && a->within == b->within);
    if (!a->within)
        return;
    REQUIRE(a->next == b->next && a->count == b->count && slice_equal(a->last, b->last));
}

static void check_redis_decodes(struct slice scope, struct slice text)
{
    struct redis_cursor cursor = {0};
    struct arena arena;

    arena_init(&arena, NULL);
    if (redis_cursor_decode(&arena, scope, text, &cursor))
        REQUIRE(slice_equal(redis_cursor_encode(&arena, scope, &cursor), text));
    arena_clear(&arena);
}

/* The same bytes as what a cursor holds: it has to survive being written and read. */
static void check_redis_encodes(struct slice scope, struct slice bytes)
{
    struct redis_cursor cursor = {0}, back = {0};
    struct arena arena;

    arena_init(&arena, NULL);
    if (bytes.len > 0)
        cursor.within = bytes.data[0] & 1;
    for (size_t i = 0; i < bytes.len && i < 8; i++)
        cursor.at = cursor.at << 8 | bytes.data[i];
    cursor.next = cursor.at * 31;
    cursor.count = (uint32_t)cursor.at;
    cursor.last = bytes;

    struct slice text = redis_cursor_encode(&arena, scope, &cursor);

    REQUIRE(redis_cursor_decode(&arena, scope, text, &back));
    check_same(&cursor, &back);
    arena_clear(&arena);
}

/* ---- the embedded store ---- */

struct scan {
    struct kv_scan_page page;
    struct op_group group;
    bool done;
};

static void page_done(struct op *op)
{
    CONTAINER_OF(op, struct scan, page.op)->done = true;
}

static void read_page(struct fake_rig *rig, struct scan *scan, struct arena *arena)
{
    op_group_init(&scan->group, &rig->worker, arena, 0);
    scan->page.max_items = PAGE_ITEMS;
    scan->page.max_bytes = UINT64_MAX;
    scan->done = false;
    op_start(&scan->page.op, &scan->group, page_done);
    rig->real->has.kv_scan->page(rig->real, &scan->page);
    fake_rig_drain(rig);
    REQUIRE(scan->done);
}

static void check_page(const struct scan *scan, struct slice prefix)
{
    const struct kv_scan_page *page = &scan->page;

    if (page->op.err.code != ERR_OK) {
        REQUIRE(page->op.err.code == ERR_INVALID_ARGUMENT);
        REQUIRE(strcmp(page->op.err.subject, "cursor") == 0);
        return;
    }
    REQUIRE(page->n <= PAGE_ITEMS);
    for (size_t i = 0; i < page->n; i++)
        REQUIRE(slice_starts_with(page->items[i].key, prefix));
    if (!page->more)
        return;
    for (size_t i = 0; i < page->next_cursor.len; i++)
        REQUIRE(page->next_cursor.data[i] > 0x20 && page->next_cursor.data[i] < 0x7f);
}

struct store_op {
    struct kv_put put;
    struct op_group group;
};

static void stored(struct op *op)
{
    REQUIRE(op->err.code == ERR_OK);
}

static void fill(struct fake_rig *rig, struct arena *arena)
{
    static const char *const keys[] = {"a", "ab", "abc", "b", "b:1", "b:2", "b:3", "b:4", "zz"};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct store_op op = {.put = {.key = slice_str(keys[i]), .value = slice_str("v")}};

        op_group_init(&op.group, &rig->worker, arena, 0);
        op_start(&op.put.op, &op.group, stored);
        rig->real->has.kv_basic->put(rig->real, &op.put);
        fake_rig_drain(rig);
    }
}

/* Cursors of the store itself go on; a bit of the input turned over in them does not lead astray.
 */
static void check_memstore(struct slice prefix, struct slice cursor)
{
    struct fake_rig rig;
    struct arena arena;
    struct scan scan = {.page = {.prefix = prefix, .cursor = cursor}};

    fake_rig_init(&rig, &pattern_keyvalue, FAKE_ALL);
    fake_rig_bind_real(&rig, "memstore");
    arena_init(&arena, NULL);
    fill(&rig, &arena);
    read_page(&rig, &scan, &arena);
    check_page(&scan, prefix);
    scan.page.cursor = (struct slice){0};
    read_page(&rig, &scan, &arena);
    check_page(&scan, prefix);
    if (scan.page.more && cursor.len > 0) {
        uint8_t *own = (uint8_t *)(uintptr_t)scan.page.next_cursor.data;

        own[cursor.data[0] % scan.page.next_cursor.len] ^= (uint8_t)(cursor.len & 0x0f);
        scan.page.cursor = scan.page.next_cursor;
        read_page(&rig, &scan, &arena);
        check_page(&scan, prefix);
    }
    arena_clear(&arena);
    fake_rig_clear(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t prefix_len = size > 0 ? data[0] % 8 : 0;

    if (size < 1 + prefix_len)
        return 0;

    struct slice prefix = slice_of(data + 1, prefix_len);
    struct slice cursor = slice_of(data + 1 + prefix_len, size - 1 - prefix_len);

    check_redis_decodes(prefix, cursor);
    check_redis_encodes(prefix, cursor);
    check_memstore(prefix, cursor);
    return 0;
}
