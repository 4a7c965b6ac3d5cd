/* Pages and counts: the script goes along `order` and evaluates the filter, or the part of it that
 * it can, on up to REDIS_REGISTRY_SCAN identities for each call. The rest of a filter is evaluated
 * here on what comes, entry by entry as it comes, so that only matches are kept.
 *
 *   page    calls until the page is full, the end is reached, or CALLS or PAGE_MS are over
 *   count   calls until the end is reached; without a filter, another script, mostly once */
#include "backends/redis/redis_registry.h"

#include <stdlib.h>

enum {
    CALLS = 16,
    PAGE_MS = 50,
    SCAN_TURN = 1500, /* what a call counts as among SCANs (redis_turns.c): two at a time */
    HEAD_WORDS = 5,
    HEAD_PARTS = 5
};

struct walk {
    struct redis_scripted work; /* first */
    const struct filter *filter;
    struct redis_registry_filter part;
    struct slice after; /* in `place`, or of the page */
    uint64_t began_ns, bytes, count;
    unsigned calls;
    bool more;
    struct registry_page *page; /* NULL: a count */
    /* Of the answer that is being read. */
    size_t parts;
    uint64_t matched;
    struct registry_entry entry;
    uint8_t name[REGISTRY_IDENTITY_BYTES], place[REGISTRY_IDENTITY_BYTES];
};

/* ---- saying ---- */

static bool wants_documents(const struct walk *walk)
{
    return !walk->part.whole || (walk->page != NULL && walk->page->with_documents);
}

static uint64_t items_wanted(const struct walk *walk)
{
    if (!walk->part.whole)
        return REDIS_REGISTRY_SCAN; /* candidates */
    return walk->page == NULL ? 0 : walk->page->max_items - walk->page->n;
}

static uint64_t bytes_wanted(const struct walk *walk)
{
    uint64_t most = REDIS_REGISTRY_BYTES;

    if (!walk->part.whole)
        return REGISTRY_SLICE_BYTES;
    if (walk->page != NULL && walk->page->max_bytes > 0 &&
        walk->page->max_bytes - walk->bytes < most)
        most = walk->page->max_bytes - walk->bytes;
    return most;
}

/* Without a filter each identity is one of the page. */
static uint64_t scan_wanted(const struct walk *walk)
{
    uint64_t items = items_wanted(walk);

    return walk->filter == NULL && items > 0 && items < REDIS_REGISTRY_SCAN ? items
                                                                            : REDIS_REGISTRY_SCAN;
}

static void walk_say(struct redis_call *call, struct redis_scripted *work)
{
    struct walk *walk = (struct walk *)work;

    redis_word(call, walk->after);
    redis_word_number(call, items_wanted(walk));
    redis_word_number(call, bytes_wanted(walk));
    redis_word_number(call, scan_wanted(walk));
    redis_word(call, slice_str(wants_documents(walk) ? "whole" : ""));
    redis_registry_say_filter(call, &walk->part);
}

static void walk_call(struct walk *walk)
{
    walk->calls++;
    walk->parts = 0;
    walk->matched = 0;
    walk->work.words = HEAD_WORDS + walk->part.words;
    walk->work.bytes = walk->after.len + walk->part.bytes + 64;
    walk->work.turn.buckets = SCAN_TURN;
    redis_scripted_run(&walk->work);
}

/* ---- reading ---- */

static bool is_full(const struct walk *walk)
{
    const struct registry_page *page = walk->page;

    return page != NULL &&
           (page->n == page->max_items || (page->max_bytes > 0 && walk->bytes >= page->max_bytes));
}

static void keep(struct walk *walk, const struct registry_entry *entry)
{
    struct registry_page *page = walk->page;
    struct arena *arena = op_arena(walk->work.op);

    walk->count++;
    if (page == NULL)
        return;

    struct registry_entry *kept = &page->entries[page->n++];

    *kept = *entry;
    kept->identity = arena_copy(arena, entry->identity);
    kept->document = kept->tags = slice_of(NULL, 0);
    if (page->with_documents) {
        kept->document = arena_copy(arena, entry->document);
        kept->tags = arena_copy(arena, entry->tags);
    }
    walk->bytes += kept->identity.len + kept->document.len + kept->tags.len;
}

/* Of candidates, those behind the last one that is taken come again with the next page. */
static void take_record(struct walk *walk, struct slice record)
{
    struct registry_entry *entry = &walk->entry;

    if (!redis_registry_record(record, entry)) {
        counter_add(&walk->work.redis->stats->errors, 1); /* somebody else's, or damaged */
        return;
    }
    if (is_full(walk)) {
        walk->more = true;
        return;
    }

    struct filter_subject subject = {entry->identity, entry->document, entry->tags};

    if (!walk->part.whole && !filter_match(walk->filter, &subject))
        return;
    keep(walk, entry);
    if (is_full(walk)) /* the place to go on from, unless the answer goes no further */
        walk->after = walk->page->entries[walk->page->n - 1].identity;
}

/* Into a buffer, because most of what is looked at need not be remembered. */
static struct slice hold(struct redis_call *call, uint8_t buffer[REGISTRY_IDENTITY_BYTES],
                         struct slice identity)
{
    if (identity.len > REGISTRY_IDENTITY_BYTES) {
        redis_unexpected(call);
        return slice_of(NULL, 0);
    }
    if (identity.len > 0)
        memcpy(buffer, identity.data, identity.len);
    return slice_of(buffer, identity.len);
}

static void take_part(struct walk *walk, struct redis_call *call, const struct redis_node *node)
{
    switch ((walk->parts - HEAD_PARTS) % 3) {
    case 1:
        walk->entry = (struct registry_entry){.identity = hold(call, walk->name, node->text)};
        return;
    case 2:
        if (!redis_registry_life(node->text, &walk->entry.expires_at_ms))
            redis_unexpected(call);
        return;
    default:
        take_record(walk, node->text);
        return;
    }
}

static void walk_node(struct redis_scripted *work, struct redis_call *call,
                      const struct redis_node *node)
{
    struct walk *walk = (struct walk *)work;
    bool text = node->type == REDIS_REPLY_STRING, whole = node->type == REDIS_REPLY_INTEGER;

    if (call->err.code != ERR_OK || (node->depth == 0 && node->type == REDIS_REPLY_ARRAY))
        return;
    walk->parts++;
    if (node->depth != 1 || (walk->parts > HEAD_PARTS || walk->parts == 2 ? !text : !whole))
        redis_unexpected(call);
    else if (walk->parts == 1)
        walk->more = node->number != 0;
    else if (walk->parts == 2)
        walk->after = hold(call, walk->place, node->text);
    else if (walk->parts == 3 && walk->page != NULL)
        walk->page->examined += (uint64_t)node->number;
    else if (walk->parts == 4)
        walk->matched = (uint64_t)node->number;
    else if (walk->parts == HEAD_PARTS)
        counter_add(&walk->work.redis->stats->errors, (uint64_t)node->number);
    else if (walk->parts > HEAD_PARTS)
        take_part(walk, call, node);
}

/* ---- going on ---- */

static void finish(struct walk *walk)
{
    struct registry_page *page = walk->page;

    if (page != NULL) {
        page->more = walk->more;
        page->next = arena_copy(op_arena(walk->work.op), walk->after);
    } else {
        CONTAINER_OF(walk->work.op, struct registry_count, op)->count = walk->count;
    }
    redis_finish(walk->work.redis, walk->work.op, ERR_NONE);
}

static bool is_enough(const struct walk *walk)
{
    if (!walk->more || is_full(walk))
        return true;
    if (walk->page != NULL) {
        uint64_t now_ns = walk->work.redis->base.home->now_ns;

        return walk->calls == CALLS || now_ns - walk->began_ns >= PAGE_MS * NS_PER_MS;
    }

    uint64_t enough = CONTAINER_OF(walk->work.op, struct registry_count, op)->enough;

    return enough > 0 && walk->count >= enough;
}

static void walk_next(struct redis_scripted *work)
{
    struct walk *walk = (struct walk *)work;

    if (walk->page == NULL && walk->part.whole)
        walk->count += walk->matched;
    if (is_enough(walk))
        finish(walk);
    else
        walk_call(walk);
}

static struct walk *walk_new(struct backend *backend, struct op *op, const struct filter *filter)
{
    struct walk *walk = redis_registry_new(backend, op, sizeof *walk, REDIS_REGISTRY_PAGE);

    walk->filter = filter;
    redis_registry_split(filter, &walk->part);
    walk->began_ns = walk->work.redis->base.home->now_ns;
    walk->work.in_turns = true;
    walk->work.say = walk_say;
    walk->work.node = walk_node;
    walk->work.next = walk_next;
    return walk;
}

void redis_registry_page(struct backend *backend, struct registry_page *page)
{
    struct walk *walk = walk_new(backend, &page->op, page->filter);

    page->entries = arena_array(op_arena(&page->op), page->max_items, sizeof *page->entries);
    page->n = 0;
    page->examined = 0;
    walk->page = page;
    walk->after = page->after;
    walk_call(walk);
}

/* ---- counts ---- */

static void total_say(struct redis_call *call, struct redis_scripted *work)
{
    (void)call;
    (void)work;
}

static void total_node(struct redis_scripted *work, struct redis_call *call,
                       const struct redis_node *node)
{
    struct registry_count *count = CONTAINER_OF(work->op, struct registry_count, op);

    if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    count->count = node->number < 0 ? UINT64_MAX : (uint64_t)node->number;
}

static void total_next(struct redis_scripted *work)
{
    const struct registry_count *count = CONTAINER_OF(work->op, struct registry_count, op);

    if (count->count != UINT64_MAX)
        redis_finish(work->redis, work->op, ERR_NONE);
    else if (count->aside)
        redis_finish(work->redis, work->op,
                     err_make(ERR_UNAVAILABLE, "more have expired than are removed at once"));
    else
        redis_scripted_run(work); /* more have to be looked at */
}

void redis_registry_count(struct backend *backend, struct registry_count *count)
{
    struct redis_scripted *total;

    count->count = 0;
    if (count->filter != NULL) {
        walk_call(walk_new(backend, &count->op, count->filter));
        return;
    }
    total = redis_registry_new(backend, &count->op, sizeof *total, REDIS_REGISTRY_TOTAL);
    total->say = total_say;
    total->node = total_node;
    total->next = total_next;
    redis_scripted_run(total);
}
