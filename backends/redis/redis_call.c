/* Calls in flight: commands out, answers in.
 *
 * Out: redis_words.c writes commands into the link's buffer. The buffer goes out when the batch of
 * jobs ends (redis_write.c): commands of all calls of a batch share one write, whatever they are.
 *
 * In: hiredis' reader finds the parts of an answer and calls take_x for each; the part goes to the
 * kind of the oldest unanswered call, which copies what it keeps into the arena of its op. No
 * answer object is ever built: hiredis is told that the instance itself is the object.
 *
 * Cancelled or out of time: the op is finished at once and taken off its call. A call of which
 * something was sent keeps its place in the line and its answers are dropped, so nothing refers to
 * memory that has gone. What was not sent of others is not sent any more (redis_line.c).
 * Connection lost: see redis_fail_calls. */
#include "backends/redis/redis_call.h"

#include <stdio.h>
#include <stdlib.h>

enum { WATCH_STEP_MS = 10 };

/* ---- in ---- */

/* Bytes on the wire. */
static uint64_t wire_bytes(const struct redis_node *node)
{
    switch (node->type) {
    case REDIS_REPLY_STRING:
        return 5 + redis_digits(node->text.len) + node->text.len;
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return 3 + node->text.len;
    case REDIS_REPLY_NIL:
        return 5;
    default:
        return node->number < 0 ? 4 + redis_digits(0 - (uint64_t)node->number)
                                : 3 + redis_digits((uint64_t)node->number);
    }
}

static unsigned depth_of(const redisReadTask *task)
{
    unsigned depth = 0;

    for (; task->parent != NULL; task = task->parent)
        depth++;
    return depth;
}

/* The size that redis refused must not be sent again, on whatever connection. */
static void note_refused_size(const struct redis_call *call)
{
    struct redis_store *store = redis_store_of(call->redis);
    uint64_t known = atomic_load_explicit(&store->refused_bytes, memory_order_relaxed);

    if (known == 0 || call->largest < known)
        atomic_store_explicit(&store->refused_bytes, call->largest, memory_order_relaxed);
}

/* The cluster keeps the key of this command elsewhere. A kind that cannot go there is given an
 * error that says so. */
static void note_redirect(struct redis_call *call, struct redis_node *node)
{
    struct redis *redis = call->redis;

    if (call->kind->again == NULL) {
        redis->calls->moved(redis->cluster, redis, redis->redirect);
        node->text = slice_str(REDIS_ERROR_MOVING);
        return;
    }
    redis->redirected = call;
    redis_error_news(slice_str(REDIS_ERROR_MOVING), &call->err);
}

/* What an error tells of the server; the connection looks at it behind each reading. */
static void note_error(struct redis_call *call, struct redis_node *node)
{
    struct redis *redis = call->redis;
    struct err e;
    enum redis_news news = redis_error_news(node->text, &e);

    call->refused = true;
    if (redis->cluster != NULL && redis_redirect_parse(node->text, &redis->redirect)) {
        note_redirect(call, node);
        return;
    }
    if (news == REDIS_NEWS_SIZE)
        note_refused_size(call);
    if (news == REDIS_NEWS_CLUSTER && redis->cluster != NULL) {
        redis->calls->stale(redis->cluster); /* its map is news, the connection is good */
        return;
    }
    if (news > redis->news) {
        redis->news = news;
        redis->news_err = e;
    }
}

static void deliver(struct redis_call *call, const struct redis_node *node)
{
    if (node->depth == 0 && node->type == REDIS_REPLY_ERROR && !call->kind->item_errors) {
        if (call->err.code == ERR_OK)
            call->err = redis_error(op_arena(call->op), node->text);
        return;
    }
    call->kind->node(call, node);
}

/* An answer that nobody asked for ends the connection: hiredis takes NULL for a failure. */
static void *take(const redisReadTask *task, struct redis_node node)
{
    struct redis *redis = task->privdata;
    struct redis_call *call = redis->first;

    counter_add(&redis->stats->bytes_received, wire_bytes(&node));
    if (call == NULL || call->voided)
        return NULL;
    node.depth = depth_of(task);
    node.index = node.depth == 0 ? call->answered : (size_t)task->idx;
    if (node.type == REDIS_REPLY_ERROR)
        note_error(call, &node);
    if (call->wanted && redis->redirected != call)
        deliver(call, &node);
    return redis;
}

static void *take_text(const redisReadTask *task, char *text, size_t len)
{
    return take(task, (struct redis_node){.type = task->type, .text = slice_of(text, len)});
}

static void *take_array(const redisReadTask *task, int elements)
{
    return take(task, (struct redis_node){.type = REDIS_REPLY_ARRAY, .number = elements});
}

static void *take_integer(const redisReadTask *task, long long number)
{
    return take(task, (struct redis_node){.type = REDIS_REPLY_INTEGER, .number = number});
}

static void *take_nil(const redisReadTask *task)
{
    return take(task, (struct redis_node){.type = REDIS_REPLY_NIL});
}

static void drop_answer(void *answer)
{
    (void)answer; /* the instance; see above */
}

void redis_take_answers(struct redis *redis)
{
    redis->answers = (redisReplyObjectFunctions){.createString = take_text,
                                                 .createArray = take_array,
                                                 .createInteger = take_integer,
                                                 .createNil = take_nil,
                                                 .freeObject = drop_answer};
    redis->link->reader->fn = &redis->answers;
    redis->link->reader->privdata = redis;
}

/* ---- the course of a call ---- */

/* Nothing of it was sent, and nothing will be. */
static struct err withdrawn(struct redis *redis, struct err why)
{
    counter_add(&redis->stats->withdrawn, 1);
    if (why.code == ERR_DEADLINE_EXCEEDED)
        why.text = "its time was over before this was sent to redis: nothing was done";
    return why;
}

void redis_abandon(struct op *op, struct err why)
{
    struct redis_call *call = op->backend_data;
    bool lined = call->at != NULL, sent = lined && redis_line_sent(call);

    if (!sent)
        why = withdrawn(call->redis, why);
    else if (call->kind->writes)
        why = err_lost(why);
    call->wanted = false;
    if (lined && call->kind->lost != NULL)
        call->kind->lost(call, why);
    else
        redis_finish(call->redis, op, why);
    call->op = NULL;
    if (lined && !sent)
        redis_line_void(call);
}

void redis_finish(struct redis *redis, struct op *op, struct err err)
{
    if (err.code != ERR_OK)
        counter_add(&redis->stats->errors, 1);
    op->backend_data = NULL;
    op->backend_word = 0;
    op_finish(op, err);
}

struct err redis_too_many(void)
{
    struct err e = err_about(ERR_RESOURCE_EXHAUSTED, "max_in_flight",
                             "too many operations wait for redis; this one was not sent");

    e.retry_after_ms = REDIS_RETRY_MS;
    return e;
}

/* ERR_NONE: there is room. A single operation is let in whatever its size: the largest value must
 * pass. */
static struct err room_for(const struct redis *redis, size_t bytes)
{
    const struct redis_store *store = redis_store_of(redis);
    struct err e;

    if (redis->phase != REDIS_READY)
        return redis->down;
    if (redis->in_flight >= store->max_in_flight)
        e = redis_too_many();
    else if (redis->in_flight > 0 && redis->held_bytes + bytes > store->max_buffer_bytes)
        e = err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                      "too many bytes wait for redis; this operation was not sent");
    else
        return ERR_NONE;
    e.retry_after_ms = REDIS_RETRY_MS;
    return e;
}

struct redis_call *redis_begin(struct redis *redis, struct op *op, const struct redis_kind *kind,
                               size_t bytes)
{
    bool step = op->cancel != NULL; /* of an op that is parked already */
    struct err refused = step && redis->phase == REDIS_READY ? ERR_NONE : room_for(redis, bytes);

    counter_add(&redis->stats->calls, 1);
    if (refused.code != ERR_OK) {
        redis_finish(redis, op, refused);
        return NULL;
    }

    struct redis_call *call = redis_line_new(redis, kind);

    call->op = op;
    call->bytes = bytes;
    op->backend_data = call;
    if (!step)
        op_park(op, redis_abandon);
    if (call->op == NULL) { /* cancelled before it began */
        redis_line_recycle(call);
        return NULL;
    }
    redis_line_up(call);
    return call;
}

struct redis_call *redis_begin_own(struct redis *redis, const struct redis_kind *kind, void *state)
{
    struct redis_call *call = redis_line_new(redis, kind);

    call->state = state;
    redis_line_up(call);
    return call;
}

static void let_go(struct redis_call *call)
{
    struct redis *redis = call->redis;
    void (*left)(struct redis *, uint32_t) = call->left;
    uint32_t word = call->left_word;

    redis_line_recycle(call);
    if (left != NULL)
        left(redis, word);
}

/* true: the op goes on elsewhere. */
static bool redirected(struct redis_call *call)
{
    struct redis *redis = call->redis;

    if (redis->redirected != call)
        return false;
    redis->redirected = NULL;
    return redis->calls->redirect(redis->cluster, call);
}

static void end_call(struct redis_call *call)
{
    if (redirected(call)) {
        let_go(call);
        return;
    }
    if (call->kind->writes && !call->kind->unstored && !call->refused)
        call->redis->wrote = true;
    if (call->wanted) {
        if (call->kind->end != NULL)
            call->kind->end(call);
        else
            redis_finish(call->redis, call->op, call->err);
    }
    let_go(call);
}

static void on_answer(struct redis *redis)
{
    struct redis_call *call = redis->first;

    if (++call->answered < call->answers)
        return;
    redis_line_leave(call);
    end_call(call);
}

static bool parse_all(struct redis *redis)
{
    struct redis_link *link = redis->link;
    void *answer = redis;

    while (answer != NULL && !link->doomed) {
        answer = NULL;
        if (redisReaderGetReply(link->reader, &answer) != REDIS_OK)
            return false;
        if (answer != NULL)
            on_answer(redis);
    }
    return true;
}

bool redis_parse(struct redis *redis, const char *bytes, size_t len)
{
    struct redis_link *link = redis->link;
    bool sound;

    link->parsing = true;
    sound = redisReaderFeed(link->reader, bytes, len) == REDIS_OK && parse_all(redis);
    if (!sound)
        snprintf(link->detail, sizeof link->detail, "%s", link->reader->errstr);
    link->parsing = false;
    return sound && !link->doomed;
}

void redis_unexpected(struct redis_call *call)
{
    if (call->err.code == ERR_OK)
        call->err = err_make(ERR_INTERNAL, "redis gave an answer that this command does not have");
}

static struct err lost_err(const struct redis_call *call)
{
    struct err e = {.code = ERR_UNAVAILABLE, .retry_after_ms = REDIS_RETRY_MS};
    bool given = call->offset < call->redis->given_bytes;

    if (!given)
        e.text = "the connection to redis was lost before this was sent: nothing was done";
    else if (call->kind->writes)
        e.text = "the connection to redis was lost: the write may or may not have happened";
    else
        e.text = "the connection to redis was lost";
    if (call->kind->writes && given)
        e.effect = EFFECT_UNKNOWN;
    return e;
}

void redis_fail_calls(struct redis *redis)
{
    while (redis->first != NULL) {
        struct redis_call *call = redis->first;

        redis_line_leave(call);
        if (call->wanted && call->kind->lost != NULL)
            call->kind->lost(call, lost_err(call));
        else if (call->op != NULL)
            redis_finish(redis, call->op, lost_err(call));
        let_go(call);
    }
    redis->queued_bytes = redis->given_bytes = redis->sent_bytes = redis->void_bytes = 0;
    redis->redirected = NULL;
}

void redis_free_calls(struct redis *redis)
{
    while (redis->spare != NULL) {
        struct redis_call *call = redis->spare;

        redis->spare = call->next;
        free(call);
    }
}

uint64_t redis_watch_due(const struct redis *redis)
{
    if (redis->first == NULL)
        return 0;
    return redis->first->sent_ns + redis_store_of(redis)->command_timeout_ns;
}

/* A silent server is one that owes an answer for longer than the timeout and has moved no byte for
 * as long: a large value on a slow line is no silence. */
bool redis_watch_calls(struct redis *redis, uint64_t *next_ns)
{
    uint64_t now = redis->base.home->now_ns, timeout = redis_store_of(redis)->command_timeout_ns;
    struct redis_call *call = redis->first;

    *next_ns = 0;
    if (call == NULL)
        return false;
    if (call->sent_ns + timeout <= now && redis->moved_ns + timeout <= now)
        return true;
    for (; call != NULL && call->sent_ns + timeout <= now; call = call->next) {
        if (call->op != NULL && op_deadline_ns(call->op) == 0)
            redis_abandon(call->op, err_make(ERR_DEADLINE_EXCEEDED,
                                             "redis did not answer within command_timeout_ms"));
    }
    *next_ns = now + WATCH_STEP_MS * NS_PER_MS;
    if (call != NULL && call->sent_ns + timeout > *next_ns)
        *next_ns = call->sent_ns + timeout;
    return false;
}
