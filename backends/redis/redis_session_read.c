/* Get and page: what answers hold. */
#include "backends/redis/redis_topic.h"

#include <stdlib.h>

enum { OWNER_HEADER = 39, TIMES = 32, VERSION = 8, OWNER_VERSION = 1 };

/* ---- records ---- */

static bool whole_at(const uint8_t *at, uint64_t *out)
{
    double number;

    memcpy(&number, at, sizeof number);
    if (!(number >= 0 && number <= 9007199254740992.0))
        return false;
    *out = (uint64_t)number;
    return true;
}

static bool read_times(struct slice t, struct session_times *times, uint64_t *version)
{
    return t.len == TIMES && whole_at(t.data, &times->used_ms) &&
           whole_at(t.data + 8, &times->expires_ms) && whole_at(t.data + 16, version);
}

static size_t length_at(const uint8_t *at)
{
    return (size_t)at[0] | (size_t)at[1] << 8;
}

/* Copies in the arena. */
static bool read_owner(struct slice o, struct arena *arena, struct session_owner *owner,
                       uint64_t *created_ms)
{
    size_t user, region, client;
    const uint8_t *at = o.data + OWNER_HEADER;

    if (o.len < OWNER_HEADER || o.data[0] != OWNER_VERSION || !whole_at(o.data + 9, created_ms))
        return false;
    user = length_at(o.data + OWNER_HEADER - 6);
    region = length_at(o.data + OWNER_HEADER - 4);
    client = length_at(o.data + OWNER_HEADER - 2);
    if (user + region + client > o.len - OWNER_HEADER)
        return false;
    owner->user = arena_copy(arena, slice_of(at, user));
    owner->region = arena_copy(arena, slice_of(at + user, region));
    owner->client = arena_copy(arena, slice_of(at + user + region, client));
    at += user + region + client;
    owner->attributes = arena_copy(arena, slice_of(at, (size_t)(o.data + o.len - at)));
    return true;
}

/* ---- get ---- */

struct getting {
    struct redis_scripted work; /* first */
    bool found;
    size_t room;       /* of values */
    struct slice name; /* of the field whose content comes next */
    bool named;
};

static struct session_get *get_of(const struct redis_scripted *work)
{
    return CONTAINER_OF(work->op, struct session_get, op);
}

static void get_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_get *get = get_of(work);

    redis_word(call, get->id);
    redis_word(call, get->name);
    redis_session_say_use(call, &get->use);
}

/* Of the hash: o, t, or a value. */
static bool take_field(struct getting *g, struct session_get *get, struct slice text)
{
    struct arena *arena = op_arena(&get->op);
    struct session_value *value;

    if (slice_equal(g->name, slice_str("o")))
        return read_owner(text, arena, &get->owner, &get->times.created_ms);
    if (slice_equal(g->name, slice_str("t")))
        return true; /* it has come already, with the use that redis may not have let us write */
    if (g->name.len < 2 || g->name.data[0] != 'v' || text.len < VERSION || get->n == g->room)
        return false;
    value = &get->values[get->n++];
    value->name = slice_of(g->name.data + 1, g->name.len - 1);
    value->value = arena_copy(arena, slice_of(text.data + VERSION, text.len - VERSION));
    return whole_at(text.data, &value->version);
}

static void get_node(struct redis_scripted *work, struct redis_call *call,
                     const struct redis_node *node)
{
    struct getting *g = (struct getting *)work;
    struct session_get *get = get_of(work);
    bool good = true;

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY) {
        g->found = node->number == 2;
        g->named = false;
        get->n = 0;
        good = node->number == 2 || node->number == 0;
    } else if (node->depth == 1 && node->type == REDIS_REPLY_STRING) {
        good = read_times(node->text, &get->times, &get->version);
    } else if (node->depth == 1 && node->type == REDIS_REPLY_ARRAY) {
        g->room = (size_t)node->number / 2;
        get->values = arena_array(op_arena(&get->op), g->room, sizeof *get->values);
    } else if (node->depth == 2 && node->type == REDIS_REPLY_STRING && !g->named) {
        g->name = arena_copy(op_arena(&get->op), node->text);
        g->named = true;
    } else if (node->depth == 2 && node->type == REDIS_REPLY_STRING) {
        g->named = false;
        good = take_field(g, get, node->text);
    } else {
        good = false;
    }
    if (!good)
        redis_unexpected(call);
}

static void get_next(struct redis_scripted *work)
{
    const struct getting *g = (const struct getting *)work;

    redis_finish(work->redis, work->op,
                 g->found ? ERR_NONE
                          : err_make(ERR_NOT_FOUND, "the session does not exist, or has expired"));
}

void redis_session_get(struct backend *backend, struct session_get *get)
{
    struct getting *g = redis_session_new(backend, &get->op, sizeof *g, REDIS_SESSION_GET);

    g->work.say = get_say;
    g->work.node = get_node;
    g->work.next = get_next;
    g->work.words = 2 + REDIS_SESSION_USE_WORDS;
    g->work.bytes = 256;
    redis_scripted_run(&g->work);
}

/* ---- page ---- */

struct paging {
    struct redis_scripted work; /* first */
    size_t parts;               /* of the answer, seen */
    uint64_t *places;           /* NULL: not wanted */
};

static struct session_page *page_of(const struct redis_scripted *work)
{
    return CONTAINER_OF(work->op, struct session_page, op);
}

static void page_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_page *page = page_of(work);

    ((struct paging *)work)->parts = 0;
    redis_word(call, page->user);
    redis_word(call, page->region);
    redis_word(call, page->client);
    redis_word_number(call, page->after);
    redis_word_number(call, page->max_items);
    redis_word_number(call, page->max_bytes > 0 ? page->max_bytes : UINT32_MAX);
    redis_word_number(call, REDIS_SESSION_SCAN);
}

/* A place, as redis writes scores. */
static bool read_place(struct slice text, uint64_t *place)
{
    char number[32], *rest;
    double score;

    if (text.len == 0 || text.len >= sizeof number)
        return false;
    memcpy(number, text.data, text.len);
    number[text.len] = '\0';
    score = strtod(number, &rest);
    if (*rest != '\0' || !(score >= 0 && score <= 9007199254740992.0))
        return false;
    *place = (uint64_t)score;
    return true;
}

static bool take_part(struct paging *p, struct session_page *page, struct slice text)
{
    struct arena *arena = op_arena(&page->op);
    size_t part = p->parts++;
    struct session_entry *entry;

    if (part == 1)
        return read_place(text, &page->next);
    if (part < 2 || (part - 2) / 3 >= page->max_items)
        return false;
    entry = &page->entries[(part - 2) / 3];
    switch ((part - 2) % 3) {
    case 0:
        entry->id = arena_copy(arena, text);
        return true;
    case 1:
        return read_owner(text, arena, &entry->owner, &entry->times.created_ms) &&
               (p->places == NULL || whole_at(text.data + 1, &p->places[(part - 2) / 3]));
    default:
        page->n++;
        return read_times(text, &entry->times, &entry->version);
    }
}

static void page_node(struct redis_scripted *work, struct redis_call *call,
                      const struct redis_node *node)
{
    struct paging *p = (struct paging *)work;
    struct session_page *page = page_of(work);
    bool good = node->depth == 1;

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY) {
        page->n = 0;
        good = true;
    } else if (good && node->type == REDIS_REPLY_INTEGER && p->parts == 0) {
        page->more = node->number != 0;
        p->parts++;
    } else if (good) {
        good = node->type == REDIS_REPLY_STRING && take_part(p, page, node->text);
    }
    if (!good)
        redis_unexpected(call);
}

static void page_next(struct redis_scripted *work)
{
    redis_finish(work->redis, work->op, ERR_NONE);
}

void redis_session_page(struct backend *backend, struct session_page *page)
{
    redis_session_page_at(backend, page, NULL);
}

void redis_session_page_at(struct backend *backend, struct session_page *page, uint64_t *places)
{
    struct paging *p = redis_session_new(backend, &page->op, sizeof *p, REDIS_SESSION_PAGE);

    p->places = places;
    page->entries = arena_array(op_arena(&page->op), page->max_items, sizeof *page->entries);
    p->work.say = page_say;
    p->work.node = page_node;
    p->work.next = page_next;
    p->work.words = 7;
    p->work.bytes = 256 + page->user.len + page->region.len + page->client.len;
    redis_scripted_run(&p->work);
}
