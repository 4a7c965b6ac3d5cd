/* Pages of keys by SCAN. In a cluster a page is of one part of the slots (redis_part.c).
 *
 *   page      SCAN rounds until the page is nearly full, the keyspace ends, ROUNDS are done or
 *             PAGE_MS have passed: the caller gets a cursor soon, however few keys match
 *   values    of the page's keys, by the same get_many that serves batches, which asks for no more
 *             than the byte budget has room for; the page ends before the first key whose value
 *             does not fit, unless the page would be empty: then that one value is read
 *   finish    the cursor of what was not taken
 *
 * SCAN answers with whole hash buckets, maybe more keys than asked for, and a page may not grow;
 * what is left over must be found again. So the keys of an answer are sorted, and the cursor names
 * the SCAN call and the last key taken from it. Repeating that call and skipping up to the last key
 * is right only if the call covers the same buckets again. It need not: other buckets may be
 * covered when keys came or went, and a key of those must not be skipped. Redis' own next cursor
 * tells: if it is the same as before, so is the end of what was covered, and what lies before its
 * beginning was returned by earlier pages. If it differs, nothing is skipped, and the call is
 * repeated with COUNT 1, which covers least, so that writers cannot keep a scan from going on. Keys
 * may then come twice, which the contract allows ("at least once"). */
#include "backends/redis/redis_kv.h"

#include <stdlib.h>

enum { ROUNDS = 16, COUNT_MAX = 1000, ANSWER_MAX = 1 << 20, PAGE_MS = 50 };

/* One SCAN call whose keys are in the page. */
struct round {
    uint64_t at, next;
    uint32_t count;
};

/* A page under construction, in the arena of its op. */
struct scan {
    struct redis *redis; /* that is asked; in a cluster, a primary */
    struct backend *front;
    struct kv_scan_page *req;
    struct slice pattern, scope;
    struct redis_part part;
    struct redis_cursor from;
    struct redis_turn turn;
    uint64_t began_ns;
    uint64_t at; /* next SCAN call */
    uint32_t count;
    uint32_t room;        /* items that the page may hold */
    struct slice *answer; /* keys of one SCAN call */
    size_t answer_len, answer_cap;
    uint64_t answer_next;
    struct slice *keys; /* the page's */
    uint8_t *round_of;  /* which round each key is from */
    size_t n;
    struct round rounds[ROUNDS + 1];
    unsigned round_count, calls;
    bool left_over; /* the last round had more keys than room */
    size_t taken;   /* keys that are in the page for good, or gone */
    uint64_t bytes;
    bool full; /* the next value does not fit */

    struct op_group reads; /* of values */
    struct kv_get_many many;
    struct kv_room bytes_left;
};

static void scan_round(struct scan *scan);
static void round_node(struct redis_call *call, const struct redis_node *node);
static void round_end(struct redis_call *call);
static void take_round(struct scan *scan);
static void values(struct scan *scan);
static void finish(struct scan *scan);

static const struct redis_kind round_kind = {.node = round_node, .end = round_end};

static uint32_t count_for(size_t items)
{
    size_t count = items - items / 8; /* buckets overshoot a little */

    return (uint32_t)(count < 1 ? 1 : count > COUNT_MAX ? COUNT_MAX : count);
}

/* ---- the first step ---- */

static struct slice scope_of(const struct redis *redis, struct arena *arena, struct slice prefix)
{
    struct slice own = redis_prefix(redis);
    uint8_t *scope = arena_alloc(arena, own.len + prefix.len);

    memcpy(scope, own.data, own.len);
    if (prefix.len > 0)
        memcpy(scope + own.len, prefix.data, prefix.len);
    return slice_of(scope, own.len + prefix.len);
}

static struct scan *scan_new(struct redis *redis, struct kv_scan_page *req)
{
    struct arena *arena = op_arena(&req->op);
    struct scan *scan = arena_zalloc(arena, sizeof *scan);

    scan->redis = redis;
    scan->front = &redis->base;
    scan->req = req;
    scan->began_ns = redis->base.home->now_ns;
    scan->scope = scope_of(redis, arena, req->prefix);
    scan->pattern = redis_scan_pattern(redis, arena, req->prefix);
    scan->room = req->max_items < REDIS_SCAN_ITEMS ? req->max_items : REDIS_SCAN_ITEMS;
    scan->keys = arena_array(arena, scan->room, sizeof *scan->keys);
    scan->round_of = arena_alloc(arena, scan->room);
    scan->count = count_for(scan->room);
    req->items = arena_array(arena, scan->room, sizeof *req->items);
    req->n = 0;
    req->more = false;
    return scan;
}

/* Takes the cursor, and chooses the connection. */
static struct err begin(struct scan *scan)
{
    struct kv_scan_page *req = scan->req;
    struct arena *arena = op_arena(&req->op);
    struct err bad =
        err_about(ERR_INVALID_ARGUMENT, "cursor", "not a cursor of this prefix and namespace");

    if (scan->redis->cluster == NULL)
        return req->cursor.len == 0 ||
                       redis_cursor_decode(arena, scan->scope, req->cursor, &scan->from)
                   ? ERR_NONE
                   : bad;
    if (!redis_part_begin(scan->redis->cluster, arena, scan->scope, req->cursor, &scan->part,
                          &scan->from))
        return bad;
    if (scan->part.slots.redis == NULL)
        return redis_unavailable("no primary of the redis cluster has these slots");
    scan->redis = scan->part.slots.redis;
    return ERR_NONE;
}

static void page_at(struct redis_turn *turn)
{
    struct scan *scan = CONTAINER_OF(turn, struct scan, turn);
    struct err err = begin(scan);

    if (err.code != ERR_OK) {
        redis_finish(scan->redis, &scan->req->op, err);
        return;
    }
    if (scan->req->cursor.len > 0) {
        scan->at = scan->from.at;
        if (scan->from.within && scan->from.count >= 1 && scan->from.count <= COUNT_MAX)
            scan->count = scan->from.count;
    }
    scan_round(scan);
}

static void page(struct backend *backend, struct kv_scan_page *req)
{
    redis_part_look(redis_of(backend), &scan_new(redis_of(backend), req)->turn, &req->op, page_at);
}

/* ---- one SCAN call ---- */

static void round_in_turn(struct redis_turn *turn)
{
    struct scan *scan = CONTAINER_OF(turn, struct scan, turn);
    struct redis_call *call =
        redis_begin_turn(turn, &round_kind, scan->pattern.len + redis_words(8));

    if (call == NULL)
        return;
    call->state = scan;
    scan->calls++;
    scan->answer_len = 0;
    redis_scan_command(call, scan->at, scan->pattern, scan->count);
}

static void scan_round(struct scan *scan)
{
    scan->turn.buckets = scan->count;
    redis_turn_take(scan->redis, &scan->turn, &scan->req->op, round_in_turn);
}

static void answer_grow(struct scan *scan, struct redis_call *call, size_t keys)
{
    if (keys > ANSWER_MAX) {
        redis_unexpected(call);
        return;
    }
    if (keys <= scan->answer_cap)
        return;
    scan->answer_cap = keys;
    scan->answer = arena_array(op_arena(call->op), keys, sizeof *scan->answer);
}

/* MATCH has seen to the prefix; it is checked because what follows relies on it. */
static void answer_add(struct scan *scan, struct redis_call *call, struct slice key)
{
    size_t prefix = redis_store_of(scan->redis)->prefix_len;

    if (!slice_starts_with(key, scan->scope) || scan->answer_len == scan->answer_cap) {
        redis_unexpected(call);
        return;
    }
    if (redis_part_has(&scan->part, key))
        scan->answer[scan->answer_len++] =
            arena_copy(op_arena(call->op), slice_of(key.data + prefix, key.len - prefix));
}

static void round_node(struct redis_call *call, const struct redis_node *node)
{
    struct scan *scan = call->state;

    switch (redis_scan_part(call, node)) {
    case REDIS_SCAN_ANSWER:
        return;
    case REDIS_SCAN_CURSOR:
        redis_scan_next(call, node->text, &scan->answer_next);
        return;
    case REDIS_SCAN_KEYS:
        answer_grow(scan, call, (size_t)node->number);
        return;
    case REDIS_SCAN_KEY:
        answer_add(scan, call, node->text);
        return;
    }
}

static int by_key(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Sorted, without repeats, without what an earlier page took. */
static void tidy_answer(struct scan *scan, const struct slice *after)
{
    size_t kept = 0;

    if (scan->answer_len > 1)
        qsort(scan->answer, scan->answer_len, sizeof *scan->answer, by_key);
    for (size_t i = 0; i < scan->answer_len; i++) {
        if (kept > 0 && slice_equal(scan->answer[i], scan->answer[kept - 1]))
            continue;
        if (after != NULL && slice_compare(scan->answer[i], *after) <= 0)
            continue;
        scan->answer[kept++] = scan->answer[i];
    }
    scan->answer_len = kept;
}

static void round_end(struct redis_call *call)
{
    struct scan *scan = call->state;

    if (call->err.code != ERR_OK) {
        redis_finish(call->redis, call->op, call->err);
        return;
    }

    bool same = scan->from.within && scan->from.next == scan->answer_next;

    if (scan->from.within && !same && scan->count > 1) {
        scan->from.within = false;
        scan->count = 1;
        scan_round(scan);
        return;
    }
    tidy_answer(scan, same ? &scan->from.last : NULL);
    scan->from.within = false;
    take_round(scan);
}

/* How many to ask for next: fewer as the page fills, more where few keys match. */
static uint32_t next_count(const struct scan *scan)
{
    uint64_t count = scan->count, found = scan->answer_len;

    if (found == 0)
        count *= 4;
    else
        count = count_for(scan->room - scan->n) * count / found + 1;
    return (uint32_t)(count > COUNT_MAX ? COUNT_MAX : count);
}

static bool took_long(const struct scan *scan)
{
    return scan->redis->base.home->now_ns - scan->began_ns >= PAGE_MS * NS_PER_MS;
}

static void take_round(struct scan *scan)
{
    size_t room = scan->room - scan->n;
    size_t n = scan->answer_len < room ? scan->answer_len : room;

    for (size_t i = 0; i < n; i++) {
        scan->round_of[scan->n] = (uint8_t)scan->round_count;
        scan->keys[scan->n++] = scan->answer[i];
    }
    scan->left_over = n < scan->answer_len;
    scan->rounds[scan->round_count++] =
        (struct round){.at = scan->at, .next = scan->answer_next, .count = scan->count};
    scan->at = scan->answer_next;
    if (scan->left_over || scan->at == 0 || scan->n >= scan->room - scan->room / 4 ||
        scan->calls >= ROUNDS || took_long(scan)) {
        values(scan);
        return;
    }
    scan->count = next_count(scan);
    scan_round(scan);
}

/* ---- values ---- */

static bool budget_spent(const struct scan *scan)
{
    return scan->req->max_bytes > 0 && scan->bytes >= scan->req->max_bytes;
}

static void take_item(struct scan *scan, struct slice key, struct slice value)
{
    scan->req->items[scan->req->n++] = (struct kv_scan_item){.key = key, .value = value};
    scan->bytes += key.len + value.len;
}

static const struct kv_batch *batch_of(const struct scan *scan)
{
    return scan->redis->cluster != NULL ? &redis_cluster_batch : &redis_kv_batch;
}

/* Takes what was read, in the order of the keys. */
static struct err take_values(struct scan *scan)
{
    for (size_t i = 0; i < scan->many.n && !budget_spent(scan); i++) {
        const struct kv_get_item *item = &scan->many.items[i];
        enum err_code code = item->base.err.code;

        if (code != ERR_OK && code != ERR_FAILED_PRECONDITION)
            return item->base.err;
        if (code == ERR_OK && item->found && item->value.data == NULL && item->value.len > 0) {
            scan->full = true;
            return ERR_NONE;
        }
        if (code == ERR_OK && item->found)
            take_item(scan, item->base.key, item->value);
        scan->taken++; /* it may also be gone, or of another type */
    }
    return ERR_NONE;
}

static void on_read(struct op *op)
{
    struct scan *scan = CONTAINER_OF(op, struct scan, many.op);
    struct err err = op->err.code == ERR_OK ? take_values(scan) : op->err;

    scan->turn.elsewhere = NULL;
    if (err.code != ERR_OK)
        redis_finish(scan->redis, &scan->req->op, err);
    else
        values(scan);
}

static void cancel_reads(struct redis_turn *turn, struct err why)
{
    op_group_cancel(&CONTAINER_OF(turn, struct scan, turn)->reads, why);
}

/* bounded: by what is left of the budget. */
static void read_values(struct scan *scan, size_t n, bool bounded)
{
    struct op *op = &scan->req->op;
    struct kv_get_many *many = &scan->many;

    scan->redis = redis_of(scan->front); /* a primary may leave meanwhile */
    scan->full = false;
    *many = (struct kv_get_many){.n = n, .room = bounded ? &scan->bytes_left : NULL};
    many->items = arena_zalloc(op_arena(op), n * sizeof *many->items);
    for (size_t i = 0; i < n; i++)
        many->items[i].base.key = scan->keys[scan->taken + i];
    scan->bytes_left.bytes = scan->req->max_bytes - scan->bytes;
    if (scan->reads.home == NULL)
        op_group_init(&scan->reads, scan->front->home, op_arena(op), op_deadline_ns(op));
    scan->turn.elsewhere = cancel_reads;
    op_start(&many->op, &scan->reads, on_read);
    batch_of(scan)->get_many(scan->front, many);
}

static void values(struct scan *scan)
{
    size_t left, most = batch_of(scan)->max_items;

    if (!scan->req->with_values) {
        while (scan->taken < scan->n && !budget_spent(scan))
            take_item(scan, scan->keys[scan->taken++], slice_of(NULL, 0));
    }
    left = scan->n - scan->taken;
    if (left == 0 || budget_spent(scan) || (scan->full && scan->req->n > 0))
        finish(scan);
    else if (scan->full)
        read_values(scan, 1, false);
    else
        read_values(scan, left < most ? left : most, scan->req->max_bytes > 0);
}

/* ---- the end ---- */

/* Where the next page begins, after `taken` keys. */
static struct redis_cursor rest_of(const struct scan *scan)
{
    const struct round *last = &scan->rounds[scan->round_count - 1];

    if (scan->taken == scan->n && !scan->left_over)
        return (struct redis_cursor){.at = last->next};

    const struct round *r = &scan->rounds[scan->round_of[scan->taken - 1]];

    if (scan->taken < scan->n && scan->round_of[scan->taken] != scan->round_of[scan->taken - 1])
        return (struct redis_cursor){.at = scan->rounds[scan->round_of[scan->taken]].at};
    return (struct redis_cursor){.at = r->at,
                                 .within = true,
                                 .next = r->next,
                                 .count = r->count,
                                 .last = scan->keys[scan->taken - 1]};
}

static void finish(struct scan *scan)
{
    struct kv_scan_page *req = scan->req;
    struct redis_cursor rest = rest_of(scan);

    req->more = rest.within || rest.at != 0;
    if (scan->redis->cluster != NULL)
        req->more =
            redis_part_end(op_arena(&req->op), scan->scope, &scan->part, &rest, &req->next_cursor);
    else if (req->more)
        req->next_cursor = redis_cursor_encode(op_arena(&req->op), scan->scope, &rest);
    redis_finish(scan->redis, &req->op, ERR_NONE);
}

const struct kv_scan redis_kv_scan = {.max_items = REDIS_SCAN_ITEMS,
                                      .calls = "1..16 SCAN, and with values those of a batch",
                                      .page = page,
                                      .count = redis_count};
