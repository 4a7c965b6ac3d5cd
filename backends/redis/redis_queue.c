/* Queues: a stream with one group; what is settled is removed from the stream as well. Names are
 * the same as those of streams. */
#include "backends/redis/redis_stream.h"

static void open_queue(struct backend *backend, struct subscription *subscription)
{
    redis_reader_open(backend, subscription, true);
}

/* ---- count: XLEN, XPENDING ---- */

enum { ANSWER_LENGTH, ANSWER_PENDING };

struct counting {
    int64_t length, pending, nobodys;
    bool is_nobody;
};

static void count_node(struct redis_call *call, const struct redis_node *node)
{
    struct counting *counting = call->state;

    if (node->type == REDIS_REPLY_ERROR) {
        if (!redis_error_is(node->text, "NOGROUP"))
            call->err = redis_stream_error(op_arena(call->op), node->text);
    } else if (call->answered == ANSWER_LENGTH) {
        counting->length = node->number;
    } else if (node->depth == 1 && node->index == 0) {
        counting->pending = node->number;
    } else if (node->depth == 3 && node->index == 0) {
        counting->is_nobody = slice_equal(node->text, slice_str(REDIS_NOBODY));
    } else if (node->depth == 3 && counting->is_nobody) {
        counting->nobodys = redis_count_of(node);
    }
}

static void count_end(struct redis_call *call)
{
    struct queue_count *count = CONTAINER_OF(call->op, struct queue_count, op);
    const struct counting *counting = call->state;

    count->taken = counting->pending - counting->nobodys;
    count->ready = counting->length - count->taken;
    count->delayed = count->dead = -1;
    redis_finish(call->redis, call->op, call->err);
}

static const struct redis_kind count_kind = {
    .item_errors = true, .node = count_node, .end = count_end};

static void count(struct backend *backend, struct queue_count *count)
{
    struct redis_call *call = redis_begin(redis_to_key(redis_of(backend), count->queue), &count->op,
                                          &count_kind, 2 * count->queue.len + 512);

    if (call == NULL)
        return;
    call->state = arena_zalloc(op_arena(&count->op), sizeof(struct counting));
    redis_command(call, 2, "XLEN");
    redis_word(call, count->queue);
    redis_command(call, 3, "XPENDING");
    redis_word(call, count->queue);
    redis_word(call, slice_str(REDIS_QUEUE_GROUP));
}

const struct queue redis_queue = {
    .sink = REDIS_STREAM_SINK(redis_queue_publish),
    .source = {.never_drops = true,
               .max_buffer = REDIS_STREAM_HOLD_BYTES,
               .open = open_queue,
               .grant = redis_stream_grant,
               .withdraw = redis_stream_withdraw,
               .close = redis_stream_close},
    .settling = REDIS_STREAM_SETTLING(NULL),
    .count = count,
};
