/* Many keys, whose values are bounded before they are asked for: redis builds and sends the whole
 * answer, whatever the caller has room for, and every call of the worker waits behind it. Others
 * write too, so nothing that this process has seen tells how large a value is.
 *
 *   heads     a GETRANGE for each key, which gets the whole of a small value
 *   lengths   a STRLEN for each key whose value is longer
 *   values    one MGET of those that fit, and of the keys whose value is empty, or which are absent
 *
 * A user who may not do the one does the next for all keys; without STRLEN, MGET comes in portions:
 * a few keys first, then as many as fit by the mean size so far. A single key, and a request
 * without a bound, is one MGET.
 *
 * MGET answers nil for a key of another type as for an absent one. EXISTS over the nil keys tells
 * whether there is such a key; if so, STRLEN names it. */
#include "backends/redis/redis_kv.h"

enum { PORTION_FIRST = 16 };

#define LENGTH_UNKNOWN UINT64_MAX
#define LENGTH_DONE    (UINT64_MAX - 1) /* the item has its outcome */

/* A request under way, in the arena of its op. */
struct get_many {
    struct redis *redis;
    struct kv_get_many *req;
    uint64_t *lengths; /* by item; NULL: not asked for */
    uint64_t head;     /* bytes of a value that is got by GETRANGE */
    bool measured;     /* no value is longer than its length says */
    uint32_t *asked;   /* items of the command under way, in its order */
    size_t asked_count;
    size_t next; /* the first item that no MGET has asked for */
    uint64_t fetched_bytes, fetched;
    size_t absent;     /* items that MGET answered with nil */
    bool check_absent; /* their types are not known yet */
    long long existing;
};

static void heads_end(struct redis_call *call);
static void lengths_end(struct redis_call *call);
static void values_end(struct redis_call *call);
static void types_end(struct redis_call *call);
static void ask_values(struct get_many *many);

static void end(struct get_many *many, struct err err)
{
    redis_finish(many->redis, &many->req->op, err);
}

/* ---- one command for many items, or one for each ---- */

static size_t words_bytes(const struct get_many *many)
{
    size_t bytes = redis_words((unsigned)many->asked_count + 1);

    for (size_t i = 0; i < many->asked_count; i++)
        bytes += many->req->items[many->asked[i]].base.key.len;
    return bytes;
}

static void ask(struct get_many *many, const struct redis_kind *kind, const char *name)
{
    struct redis_call *call = redis_begin(many->redis, &many->req->op, kind, words_bytes(many));

    if (call == NULL)
        return;
    call->state = many;
    redis_command(call, (unsigned)many->asked_count + 1, name);
    for (size_t i = 0; i < many->asked_count; i++)
        redis_word_key(call, many->req->items[many->asked[i]].base.key);
}

/* head: the words of GETRANGE follow each key. */
static void ask_each(struct get_many *many, const struct redis_kind *kind, const char *name,
                     bool head)
{
    size_t bytes = words_bytes(many) + many->asked_count * redis_words(head ? 4 : 2);
    struct redis_call *call = redis_begin(many->redis, &many->req->op, kind, bytes);

    if (call == NULL)
        return;
    call->state = many;
    for (size_t i = 0; i < many->asked_count; i++) {
        redis_command(call, head ? 4 : 2, name);
        redis_word_key(call, many->req->items[many->asked[i]].base.key);
        if (head) {
            redis_word_number(call, 0);
            redis_word_number(call, many->head); /* a byte more: it is longer */
        }
    }
}

static struct kv_get_item *asked_item(struct get_many *many, size_t i)
{
    return &many->req->items[many->asked[i]];
}

/* Has it no outcome yet? */
static bool is_wanted(const struct get_many *many, size_t i)
{
    return many->req->items[i].base.err.code == ERR_OK &&
           (many->lengths == NULL || many->lengths[i] != LENGTH_DONE);
}

/* ---- heads ---- */

static void take_head(struct get_many *many, uint32_t i, struct slice value)
{
    struct kv_get_item *item = &many->req->items[i];

    if (value.len == 0) {
        many->lengths[i] = 0; /* or absent */
        return;
    }
    if (value.len > many->head) {
        many->measured = false;
        return;
    }
    many->lengths[i] = LENGTH_DONE;
    item->found = true;
    item->value = kv_room_copy(many->req->room, op_arena(&many->req->op), value);
}

static void heads_node(struct redis_call *call, const struct redis_node *node)
{
    struct get_many *many = call->state;

    if (node->type == REDIS_REPLY_STRING && node->depth == 0) {
        take_head(many, many->asked[node->index], node->text);
    } else if (node->type != REDIS_REPLY_ERROR) {
        redis_unexpected(call);
    } else if (redis_error_is(node->text, "NOPERM")) {
        many->redis->getrange_denied = true;
        many->measured = false;
    } else {
        asked_item(many, node->index)->base.err = redis_error(op_arena(call->op), node->text);
    }
}

static const struct redis_kind heads_kind = {
    .item_errors = true, .node = heads_node, .end = heads_end};

static void ask_heads(struct get_many *many)
{
    many->head = redis_value_head(many->req);
    many->measured = true;
    many->asked_count = many->req->n;
    for (size_t i = 0; i < many->req->n; i++)
        many->asked[i] = (uint32_t)i;
    ask_each(many, &heads_kind, "GETRANGE", true);
}

/* ---- lengths ---- */

static void lengths_node(struct redis_call *call, const struct redis_node *node)
{
    struct get_many *many = call->state;

    if (node->depth > 0 || (node->type != REDIS_REPLY_INTEGER && node->type != REDIS_REPLY_ERROR)) {
        redis_unexpected(call);
        return;
    }
    if (node->type == REDIS_REPLY_INTEGER) {
        if (many->lengths != NULL)
            many->lengths[many->asked[node->index]] = (uint64_t)node->number;
    } else if (redis_error_is(node->text, "NOPERM")) {
        many->redis->strlen_denied = true;
    } else {
        asked_item(many, node->index)->base.err = redis_error(op_arena(call->op), node->text);
    }
}

static const struct redis_kind lengths_kind = {
    .item_errors = true, .node = lengths_node, .end = lengths_end};

static void ask_lengths(struct get_many *many)
{
    many->asked_count = 0;
    for (size_t i = 0; i < many->req->n; i++) {
        if (is_wanted(many, i) && many->lengths[i] == LENGTH_UNKNOWN)
            many->asked[many->asked_count++] = (uint32_t)i;
    }
    many->measured = true;
    ask_each(many, &lengths_kind, "STRLEN", false);
}

static void lengths_end(struct redis_call *call)
{
    struct get_many *many = call->state;

    if (call->err.code != ERR_OK)
        end(many, call->err);
    else
        ask_values(many);
}

static void heads_end(struct redis_call *call)
{
    struct get_many *many = call->state;

    if (call->err.code != ERR_OK)
        end(many, call->err);
    else if (many->measured || many->redis->strlen_denied)
        ask_values(many);
    else
        ask_lengths(many);
}

/* ---- values ---- */

/* A value that does not fit is known by its length alone. */
static void leave_out(struct get_many *many, size_t i)
{
    many->req->items[i].found = true;
    many->req->items[i].value = slice_of(NULL, many->lengths[i]);
    many->req->room->exceeded = true;
}

static void choose_by_length(struct get_many *many)
{
    uint64_t left = many->req->room->bytes;

    for (; many->next < many->req->n; many->next++) {
        size_t i = many->next;

        if (!is_wanted(many, i))
            continue;
        if (many->lengths[i] > left) {
            leave_out(many, i);
            continue;
        }
        left -= many->lengths[i];
        many->asked[many->asked_count++] = (uint32_t)i;
    }
}

static size_t portion(const struct get_many *many)
{
    if (many->req->room == NULL || !many->redis->strlen_denied)
        return many->req->n;
    if (many->fetched == 0)
        return PORTION_FIRST;
    return many->req->room->bytes / (many->fetched_bytes / many->fetched + 1) + 1;
}

static bool lengths_are_known(const struct get_many *many)
{
    return many->lengths != NULL && !many->redis->strlen_denied;
}

static void choose(struct get_many *many)
{
    size_t n = portion(many);

    many->asked_count = 0;
    if (lengths_are_known(many)) {
        choose_by_length(many);
        return;
    }
    for (; many->next < many->req->n && many->asked_count < n; many->next++) {
        if (is_wanted(many, many->next))
            many->asked[many->asked_count++] = (uint32_t)many->next;
    }
}

/* Without lengths, nothing is known of the keys behind the first value that did not fit. */
static void leave_out_rest(struct get_many *many)
{
    for (; many->next < many->req->n; many->next++) {
        if (!is_wanted(many, many->next))
            continue;
        many->req->items[many->next].found = true;
        many->req->items[many->next].value = slice_of(NULL, 1);
    }
}

static void values_node(struct redis_call *call, const struct redis_node *node)
{
    struct get_many *many = call->state;

    if (node->depth == 0) {
        if (node->type != REDIS_REPLY_ARRAY || (size_t)node->number != many->asked_count)
            redis_unexpected(call);
        return;
    }
    if (node->index >= many->asked_count)
        return;

    struct kv_get_item *item = asked_item(many, node->index);

    item->found = node->type == REDIS_REPLY_STRING;
    if (!item->found) {
        many->absent++;
        return;
    }
    many->fetched++;
    many->fetched_bytes += node->text.len;
    item->value = kv_room_copy(many->req->room, op_arena(call->op), node->text);
}

static const struct redis_kind values_kind = {.node = values_node, .end = values_end};

/* ---- keys without a value: absent, or of another type ---- */

static void existing_node(struct redis_call *call, const struct redis_node *node)
{
    struct get_many *many = call->state;

    if (node->type != REDIS_REPLY_INTEGER)
        redis_unexpected(call);
    many->existing = node->number;
}

static const struct redis_kind types_kind = {
    .item_errors = true, .node = lengths_node, .end = types_end};

static void types_end(struct redis_call *call)
{
    end(call->state, call->err);
}

static void existing_end(struct redis_call *call)
{
    struct get_many *many = call->state;

    if (call->err.code != ERR_OK || many->existing == 0 || many->redis->strlen_denied)
        end(many, call->err);
    else
        ask_each(many, &types_kind, "STRLEN", false);
}

static const struct redis_kind existing_kind = {.node = existing_node, .end = existing_end};

static void check_absent(struct get_many *many)
{
    many->asked_count = 0;
    for (size_t i = 0; i < many->req->n; i++) {
        if (!many->req->items[i].found)
            many->asked[many->asked_count++] = (uint32_t)i;
    }
    many->lengths = NULL;
    ask(many, &existing_kind, "EXISTS");
}

/* ---- the course of a request ---- */

static void ask_values(struct get_many *many)
{
    choose(many);
    if (many->asked_count > 0)
        ask(many, &values_kind, "MGET");
    else
        end(many, ERR_NONE);
}

static void values_end(struct redis_call *call)
{
    struct get_many *many = call->state;

    if (call->err.code != ERR_OK) {
        end(many, call->err);
        return;
    }
    if (many->req->room != NULL && many->req->room->exceeded)
        leave_out_rest(many);
    if (many->next < many->req->n)
        ask_values(many);
    else if (many->absent > 0 && !lengths_are_known(many))
        check_absent(many);
    else
        end(many, ERR_NONE);
}

uint64_t redis_value_head(const struct kv_get_many *req)
{
    return req->room->bytes / 4 / req->n;
}

void redis_get_many(struct backend *backend, struct kv_get_many *req)
{
    struct redis *redis = redis_of(backend);
    struct arena *arena = op_arena(&req->op);
    struct get_many *many = arena_zalloc(arena, sizeof *many);

    many->redis = redis;
    many->req = req;
    many->asked = arena_array(arena, req->n, sizeof *many->asked);
    if (req->n > 1 && req->room != NULL)
        many->lengths = arena_array(arena, req->n, sizeof *many->lengths);
    for (size_t i = 0; i < req->n; i++) {
        req->items[i].base.err = ERR_NONE;
        req->items[i].found = false;
        if (many->lengths != NULL)
            many->lengths[i] = LENGTH_UNKNOWN;
    }
    if (many->lengths != NULL && !redis->getrange_denied)
        ask_heads(many);
    else if (lengths_are_known(many))
        ask_lengths(many);
    else
        ask_values(many);
}
