/* Appending: an XADD for each message of a frame, all in one write, each with an outcome. Where
 * queues have bounds, a script for each queue of the frame looks at them and adds, in one step.
 *
 * Order within a key. Redis may refuse one command and carry out the next one: it was full for a
 * moment. So messages of one topic of which several have keys go as one transaction, which redis
 * refuses as a whole. Topics do not share one: what the user may not do to one topic is no affair
 * of the others. Atomic publishes are redis_whole.c's. */
#include "backends/failed_keys.h"
#include "backends/redis/redis_stream.h"
#include "src/base/container.h"

#include <stdlib.h>

/* Messages of one topic, in their order. */
struct lot {
    uint32_t first, n; /* in append->order */
    bool atomic;
};

struct append {
    bool bounded;            /* each lot is one command */
    struct outgoing **order; /* those to send, by topic */
    struct lot *lots;
    uint32_t n, n_lots;
    /* Of the answer that is being read. */
    uint32_t lot, step;    /* that comes next */
    const struct lot *now; /* whose answer it is */
    uint32_t now_step;
};

/* ---- order by topic ---- */

static int by_topic(const void *a, const void *b)
{
    const struct outgoing *x = *(struct outgoing *const *)a, *y = *(struct outgoing *const *)b;
    int order = slice_compare(x->topic, y->topic);

    return order != 0 ? order : x < y ? -1 : x > y;
}

static void add_to_lots(struct append *append, uint32_t i, uint32_t *keyed)
{
    const struct outgoing *item = append->order[i];

    if (i == 0 || !slice_equal(append->order[i - 1]->topic, item->topic)) {
        append->lots[append->n_lots++] = (struct lot){.first = i};
        *keyed = 0;
    }

    struct lot *lot = &append->lots[append->n_lots - 1];

    lot->n++;
    *keyed += !message_is_null(item->key);
    lot->atomic = *keyed > 1;
}

/* NULL: nothing is to be sent. */
static struct append *prepare(const struct redis *redis, struct publish *publish, bool bounded,
                              size_t *bytes)
{
    struct arena *arena = op_arena(&publish->op);
    struct append *append = arena_zalloc(arena, sizeof *append);
    uint64_t most = bounded ? redis_store_of(redis)->queue_bytes : 0;
    struct failed_keys failed;
    bool one_topic = true;
    uint32_t keyed = 0;

    failed_init(&failed, publish);
    append->order = arena_alloc(arena, publish->n * sizeof(struct outgoing *));
    *bytes = 0;
    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *item = &publish->items[i];

        redis_item_forget(item);
        if (failed_stops(&failed, item))
            continue;
        item->err = redis_item_check(redis, item, most);
        if (item->err.code != ERR_OK) {
            failed_add(&failed, item);
            continue;
        }
        one_topic =
            one_topic && (append->n == 0 || slice_equal(append->order[0]->topic, item->topic));
        append->order[append->n++] = item;
        *bytes += redis_entry_bytes(item);
    }
    if (append->n == 0)
        return NULL;
    if (!one_topic)
        qsort(append->order, append->n, sizeof(struct outgoing *), by_topic);
    append->lots = arena_alloc(arena, (one_topic ? 1 : append->n) * sizeof *append->lots);
    for (uint32_t i = 0; i < append->n; i++)
        add_to_lots(append, i, &keyed);
    return append;
}

/* ---- answers ---- */

static struct outgoing *item_of(const struct append *append, uint32_t i)
{
    return append->order[append->now->first + i];
}

static void take_id(struct redis_call *call, struct outgoing *item, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        item->err = redis_stream_error(op_arena(call->op), node->text);
    else if (node->type == REDIS_REPLY_STRING && node->text.len <= MESSAGE_POSITION_BYTES)
        item->position = message_copy(op_arena(call->op), node->text);
    else
        redis_unexpected(call);
}

/* Redis has refused the transaction: for what it said of one of its commands, or of EXEC. Where it
 * is MULTI that the user may not use, messages are stored one by one. */
static void refuse_lot(struct redis_call *call, const struct append *append, struct slice reply)
{
    struct err why = redis_stream_error(op_arena(call->op), reply);

    for (uint32_t i = 0; i < append->now->n; i++) {
        if (item_of(append, i)->err.code != ERR_OK) {
            why = item_of(append, i)->err;
            break;
        }
    }
    for (uint32_t i = 0; i < append->now->n; i++) {
        if (message_is_null(item_of(append, i)->position))
            item_of(append, i)->err = why;
    }
}

static void atomic_node(struct redis_call *call, struct append *append,
                        const struct redis_node *node)
{
    uint32_t n = append->now->n;

    if (node->depth == 1 && append->now_step == n + 1 && node->index < n)
        take_id(call, item_of(append, (uint32_t)node->index), node);
    else if (node->depth > 0)
        return;
    else if (node->type == REDIS_REPLY_ERROR && append->now_step > n)
        refuse_lot(call, append, node->text);
    else if (node->type != REDIS_REPLY_STATUS && append->now_step > 0 && append->now_step <= n)
        take_id(call, item_of(append, append->now_step - 1), node);
}

static void bounded_node(struct redis_call *call, struct append *append,
                         const struct redis_node *node)
{
    if (node->depth == 0)
        append->now = &append->lots[append->lot++];
    if (node->depth == 0 && node->type == REDIS_REPLY_ERROR)
        refuse_lot(call, append, node->text);
    if (node->depth != 1 || node->index >= append->now->n)
        return;
    if (node->type == REDIS_REPLY_INTEGER)
        item_of(append, (uint32_t)node->index)->err = redis_queue_full(node->number);
    else
        take_id(call, item_of(append, (uint32_t)node->index), node);
}

static void append_node(struct redis_call *call, const struct redis_node *node)
{
    struct append *append = call->state;

    if (append->bounded) {
        bounded_node(call, append, node);
        return;
    }
    if (node->depth == 0) {
        append->now = &append->lots[append->lot];
        append->now_step = append->step++;
        if (append->step == append->now->n + (append->now->atomic ? 2 : 0)) {
            append->lot++;
            append->step = 0;
        }
    }
    if (append->now->atomic)
        atomic_node(call, append, node);
    else if (node->depth == 0)
        take_id(call, item_of(append, append->now_step), node);
}

static void append_end(struct redis_call *call)
{
    const struct append *append = call->state;

    for (uint32_t l = 0; l < append->n_lots; l++) {
        const struct lot *lot = &append->lots[l];

        redis_trim(call->redis, append->order[lot->first]->topic, lot->n);
    }
    redis_finish(call->redis, call->op, call->err);
}

/* What redis has answered stays true. */
static void append_lost(struct redis_call *call, struct err why)
{
    struct publish *publish = CONTAINER_OF(call->op, struct publish, op);

    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *item = &publish->items[i];

        if (item->err.code == ERR_OK && message_is_null(item->position))
            item->err = why;
    }
    redis_finish(call->redis, &publish->op, ERR_NONE);
}

static const struct redis_kind append_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = append_node,
                                              .end = append_end,
                                              .lost = append_lost};

/* ---- publish ---- */

static void say_lot(struct redis_call *call, const struct append *append, const struct lot *lot)
{
    if (lot->atomic)
        redis_command(call, 1, "MULTI");
    for (uint32_t i = 0; i < lot->n; i++)
        redis_say_add(call, append->order[lot->first + i]);
    if (lot->atomic)
        redis_command(call, 1, "EXEC");
}

static void append_all(struct backend *backend, struct publish *publish, bool bounded)
{
    struct redis *redis = redis_of(backend);
    size_t bytes;
    struct append *append = prepare(redis, publish, bounded, &bytes);

    if (append == NULL) {
        redis_finish(redis, &publish->op, ERR_NONE);
        return;
    }

    append->bounded = bounded;
    if (redis->cluster != NULL && append->n_lots > 1) {
        redis_scatter(backend, publish, append->order, append->n,
                      bounded ? redis_queue_publish : redis_stream_publish);
        return;
    }
    redis = redis_to_key(redis, append->order[0]->topic);
    if (bounded)
        bytes += append->n_lots * REDIS_PUSH_BYTES;

    struct redis_call *call = redis_begin(redis, &publish->op, &append_kind, bytes);

    if (call == NULL)
        return;
    call->state = append;
    redis_reserve(call, bytes);
    for (uint32_t l = 0; l < append->n_lots; l++) {
        if (bounded)
            redis_say_push(call, &append->order[append->lots[l].first], append->lots[l].n, false);
        else
            say_lot(call, append, &append->lots[l]);
    }
}

static void append(struct backend *backend, struct publish *publish, bool bounded)
{
    if (publish->atomic)
        redis_publish_whole(redis_of(backend), publish, bounded);
    else
        append_all(backend, publish, bounded);
}

void redis_stream_publish(struct backend *backend, struct publish *publish)
{
    append(backend, publish, false);
}

void redis_queue_publish(struct backend *backend, struct publish *publish)
{
    const struct redis_store *store = redis_store_of(redis_of(backend));

    append(backend, publish,
           store->queue_messages > 0 || store->queue_bytes > 0 || store->queue_age_ms > 0);
}
