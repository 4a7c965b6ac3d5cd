/* Atomic publishes: one topic, hence one key and one node of a cluster, whose messages are there
 * together or not at all.
 *
 *   usual     MULTI, an XADD for each, EXEC. Redis refuses all when it refuses one of them: it is
 *             full, or read-only, or does not permit it. What is wrong with the key is so for each
 *   bounds    the script of queues looks whether all fit, and adds them
 *
 * Either is one step for readers, one entry of the append-only file (redis cuts an unfinished one
 * off when it loads it) and one for replicas. An answer that is lost is unknown for all.
 *
 * A stream whose identifiers end, because somebody has given it one of the last, may take a part:
 * that is told as ERR_DATA_LOSS, and unknown. So is what redis stores one by one, because it does
 * not permit MULTI and does permit XADD: both are on their way before it says so. */
#include "backends/redis/redis_stream.h"
#include "src/base/container.h"

struct whole {
    bool bounded;
    uint32_t stored; /* items that EXEC, or the script, has told a place of */
    uint32_t alone;  /* items that were stored without a transaction */
};

/* ---- answers ---- */

static struct publish *publish_of(const struct redis_call *call)
{
    return CONTAINER_OF(call->op, struct publish, op);
}

/* The first refusal is what the caller is told: EXECABORT only follows it. */
static void refuse(struct redis_call *call, struct err err)
{
    if (call->err.code == ERR_OK)
        call->err = err;
}

static void item_node(struct redis_call *call, struct whole *whole, const struct redis_node *node)
{
    struct publish *publish = publish_of(call);

    if (node->type == REDIS_REPLY_ERROR) {
        refuse(call, redis_stream_error(op_arena(call->op), node->text));
    } else if (node->type == REDIS_REPLY_STRING && node->text.len <= MESSAGE_POSITION_BYTES &&
               node->index < publish->n) {
        publish->items[node->index].position = message_copy(op_arena(call->op), node->text);
        whole->stored++;
    } else {
        redis_unexpected(call);
    }
}

/* MULTI, what was queued, EXEC; or the script's answer alone. */
static void whole_node(struct redis_call *call, const struct redis_node *node)
{
    struct whole *whole = call->state;
    bool last = call->answered + 1 == call->answers;

    if (node->depth == 1)
        item_node(call, whole, node);
    else if (node->depth > 1)
        redis_unexpected(call);
    else if (node->type == REDIS_REPLY_ERROR)
        refuse(call, redis_stream_error(op_arena(call->op), node->text));
    else if (whole->bounded && node->type == REDIS_REPLY_INTEGER)
        refuse(call, redis_queue_full(node->number));
    else if (node->type == REDIS_REPLY_STRING && !whole->bounded && call->err.code != ERR_OK)
        whole->alone++; /* MULTI was refused */
    else if (node->type != (last ? REDIS_REPLY_ARRAY : REDIS_REPLY_STATUS))
        redis_unexpected(call);
}

static void whole_end(struct redis_call *call)
{
    const struct whole *whole = call->state;
    const struct publish *publish = publish_of(call);

    if (call->err.code == ERR_OK && whole->stored != publish->n)
        redis_unexpected(call);
    if (call->err.code != ERR_OK && whole->stored > 0)
        call->err = err_lost(err_make(
            ERR_DATA_LOSS, "redis has carried out a part of the transaction only: its stream has "
                           "no more identifiers"));
    if (whole->alone > 0)
        call->err = redis_alone();
    if (call->err.code == ERR_OK)
        redis_trim(call->redis, publish->items[0].topic, whole->stored);
    redis_finish(call->redis, call->op, call->err);
}

static const struct redis_kind whole_kind = {
    .writes = true, .item_errors = true, .node = whole_node, .end = whole_end};

/* ---- publish ---- */

/* Each by itself, and together: what no empty queue would take is refused here. */
static struct err check(const struct redis *redis, struct publish *publish, bool bounded)
{
    const struct redis_store *store = redis_store_of(redis);
    uint64_t most = bounded ? store->queue_bytes : 0, size = 0;

    for (size_t i = 0; i < publish->n; i++) {
        struct err err = redis_item_check(redis, &publish->items[i], most);

        redis_item_forget(&publish->items[i]);
        if (err.code != ERR_OK) {
            publish->culprit = (uint32_t)i;
            return err;
        }
        size += redis_entry_size(&publish->items[i]);
    }
    if (bounded && store->queue_messages > 0 && publish->n > store->queue_messages)
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "more than queue_max_messages lets a queue hold");
    if (most > 0 && size > most)
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "larger together than queue_max_bytes lets a queue be");
    return ERR_NONE;
}

/* Redis counts all of a block against client-query-buffer-limit, and hangs up beyond. */
static struct err check_room(const struct redis *redis, size_t bytes)
{
    uint64_t most = redis->facts.query_bytes;

    if (most == 0 || bytes < most)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "messages",
                     "larger together than redis takes (client-query-buffer-limit)");
}

static void say(struct redis_call *call, struct publish *publish, bool bounded)
{
    struct outgoing **order =
        arena_alloc(op_arena(&publish->op), publish->n * sizeof(struct outgoing *));

    for (size_t i = 0; i < publish->n; i++)
        order[i] = &publish->items[i];
    if (bounded) {
        redis_say_push(call, order, (uint32_t)publish->n, true);
        return;
    }
    redis_command(call, 1, "MULTI");
    for (size_t i = 0; i < publish->n; i++)
        redis_say_add(call, order[i]);
    redis_command(call, 1, "EXEC");
}

void redis_publish_whole(struct redis *redis, struct publish *publish, bool bounded)
{
    struct err err = check(redis, publish, bounded);
    size_t bytes = REDIS_PUSH_BYTES;
    struct redis_call *call;
    struct whole *whole;

    for (size_t i = 0; i < publish->n; i++)
        bytes += redis_entry_bytes(&publish->items[i]);
    redis = redis_to_key(redis, publish->items[0].topic);
    if (err.code == ERR_OK)
        err = check_room(redis, bytes);
    if (err.code != ERR_OK) {
        redis_finish(redis, &publish->op, err);
        return;
    }
    call = redis_begin(redis, &publish->op, &whole_kind, bytes);
    if (call == NULL)
        return;
    whole = arena_zalloc(op_arena(&publish->op), sizeof *whole);
    whole->bounded = bounded;
    call->state = whole;
    redis_reserve(call, bytes);
    say(call, publish, bounded);
}
