/* The topic interface: redis' publish and subscribe. A message is its payload and nothing else, so
 * what else a message may have is refused. Channels belong to the server as a whole, whatever the
 * database and the namespace: their names are as clients say them. */
#include "backends/redis/redis_topic.h"

#include "backends/redis/redis_call.h"

#include <stdlib.h>

enum { ITEMS = 1000, FRAME_BYTES = 64 << 20 };

/* ---- publish ---- */

static struct err invalid(const char *subject, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, subject, text);
}

/* What redis itself says on channels is about everybody's keys. */
static struct err check_topic(struct slice topic)
{
    static const char *const own[] = {"__keyspace@", "__keyevent@", "__redis__:", "__sentinel__:"};

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (slice_starts_with(topic, slice_str(own[i])))
            return invalid("topic", "redis has this channel for itself");
    }
    return ERR_NONE;
}

static struct err check_item(const struct redis *redis, const struct outgoing *item)
{
    if (item->topic.len == 0 || item->topic.len > MESSAGE_TOPIC_BYTES)
        return invalid("topic", "a topic has 1 to 249 bytes");
    if (!message_is_null(item->key))
        return invalid("key", "redis carries no keys with published messages");
    if (!message_is_null(item->id))
        return invalid("message_id", "redis carries no ids with published messages");
    if (item->n_headers > 0)
        return invalid("headers", "redis carries no headers with published messages");
    if (message_is_null(item->payload))
        return invalid("payload", "redis publishes no message without a payload");
    if (item->payload.len > redis->base.limits.value_bytes)
        return invalid("payload", "the payload is longer than this redis takes");
    return check_topic(item->topic);
}

static void forget(struct outgoing *item)
{
    item->err = ERR_NONE;
    item->deduplicated = false;
    item->partition = item->receivers = -1;
    item->offset = -1;
    item->position = message_null();
}

/* The item of the next answer: those that were refused have none. */
static struct outgoing *next_item(struct publish *publish)
{
    while (publish->items[publish->left].err.code != ERR_OK)
        publish->left++;
    return &publish->items[publish->left++];
}

static void publish_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->depth > 0)
        return;

    struct outgoing *item = next_item(CONTAINER_OF(call->op, struct publish, op));

    if (node->type == REDIS_REPLY_ERROR)
        item->err = redis_error(op_arena(call->op), node->text);
    else if (node->type == REDIS_REPLY_INTEGER)
        item->receivers = (int32_t)node->number;
    else
        redis_unexpected(call);
}

static const struct redis_kind publish_kind = {
    .writes = true, .unstored = true, .item_errors = true, .node = publish_node};

/* Bytes to send; 0: no item is left to send. */
static size_t check_items(const struct redis *redis, struct publish *publish)
{
    size_t bytes = 0;

    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *item = &publish->items[i];

        forget(item);
        item->err = check_item(redis, item);
        if (item->err.code == ERR_OK)
            bytes += redis_words(3) + item->topic.len + item->payload.len;
    }
    return bytes;
}

static void publish(struct backend *backend, struct publish *publish)
{
    struct redis *redis = redis_of(backend);
    size_t bytes = check_items(redis, publish);

    publish->left = 0;
    if (bytes == 0) {
        redis_finish(redis, &publish->op, ERR_NONE);
        return;
    }

    struct redis_call *call = redis_begin(redis, &publish->op, &publish_kind, bytes);

    for (size_t i = 0; call != NULL && i < publish->n; i++) {
        if (publish->items[i].err.code != ERR_OK)
            continue;
        redis_command(call, 3, "PUBLISH");
        redis_word(call, publish->items[i].topic);
        redis_word(call, publish->items[i].payload);
    }
}

/* ---- subscriptions ---- */

static struct redis_listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

static void end(struct redis_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    struct err err = listener->err;

    listener->listening->listeners--;
    redis_backlog_clear(&listener->backlog);
    free(listener);
    if (subscription->state == SUB_CLOSING)
        err = ERR_NONE;
    else
        subscription_closing(subscription);
    subscription_closed(subscription, err);
}

static void tell_gap(struct subscription *subscription, uint64_t count, const char *text)
{
    const struct subscription_gap gap = {
        .partition = -1, .missing_from = -1, .goes_on_at = -1, .count = count, .text = text};

    subscription_gap(subscription, &gap);
}

static void tell_gaps(struct redis_listener *listener)
{
    struct redis_backlog *backlog = &listener->backlog;
    uint64_t dropped = backlog->dropped;
    bool broken = backlog->broken;

    backlog->dropped = 0;
    backlog->broken = false;
    counter_add_shared(&redis_store_of(&listener->listening->connection)->dropped, dropped);
    if (dropped > 0)
        tell_gap(listener->subscription, dropped, "the subscriber was too slow for its buffer");
    if (broken)
        tell_gap(listener->subscription, 0,
                 "the connection to redis was lost: what was published meanwhile is not known");
}

/* Events may call methods, so the listener is looked at again after each: one that has ended waits
 * for its next turn. */
static void hand_over(struct redis_listener *listener)
{
    struct subscription *subscription = listener->subscription;

    if (!subscription_may_take(subscription))
        return;
    tell_gaps(listener);
    if (listener->ended)
        return;

    struct incoming_batch *batch = redis_backlog_take(&listener->backlog, subscription);

    if (batch != NULL)
        subscription_deliver(subscription, batch);
    if (redis_backlog_waits(&listener->backlog) && subscription_may_take(subscription))
        redis_listener_wake(listener);
}

static void run(struct job *job)
{
    struct redis_listener *listener = CONTAINER_OF(job, struct redis_listener, job);

    listener->landed = false;
    listener->listening->under_way--;
    if (listener->ended) {
        end(listener);
        return;
    }
    if (!listener->told) {
        listener->told = true;
        subscription_opened(listener->subscription);
    }
    if (!listener->ended)
        hand_over(listener);
}

static void open_subscription(struct backend *backend, struct subscription *subscription)
{
    struct redis_listening *listening = &redis_instance_of(backend)->listening;
    struct redis_listener *listener = calloc(1, sizeof *listener);

    if (listener == NULL)
        abort();
    counter_add(&backend->stats.calls, 1);
    if (!listening->started)
        redis_listening_start(listening, backend);
    listening->listeners++;
    *listener = (struct redis_listener){
        .listening = listening, .subscription = subscription, .job.run = run};
    subscription_opening(subscription, listener);
    listener->err = check_topic(subscription->want.topic);
    listener->ended = listener->err.code != ERR_OK;
    if (listener->ended)
        redis_listener_wake(listener);
    else
        redis_listen(listening, listener, subscription->want.topic);
}

static void grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                  uint64_t bytes)
{
    struct redis_listener *listener = listener_of(subscription);

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    if (redis_backlog_waits(&listener->backlog))
        redis_listener_wake(listener);
}

static void withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend; /* a turn that comes all the same finds no credit */
    subscription_withdrawn(subscription);
}

static void close_subscription(struct backend *backend, struct subscription *subscription)
{
    struct redis_listener *listener = listener_of(subscription);

    (void)backend;
    subscription_closing(subscription);
    if (listener->ended)
        return; /* its end is under way */
    redis_unlisten(listener);
    listener->ended = true;
    redis_listener_wake(listener);
}

const struct topic redis_topic = {
    .sink = {.max_items = ITEMS,
             .many_topics = true,
             .max_frame_bytes = FRAME_BYTES,
             .bare = true,
             .tells_receivers = true,
             .ack_means = "redis has sent the message to those who listen now, at most once: "
                          "nothing is kept",
             .check_topic = check_topic,
             .publish = publish},
    .source = {.max_buffer = REDIS_BACKLOG_BYTES,
               .open = open_subscription,
               .grant = grant,
               .withdraw = withdraw,
               .close = close_subscription},
};
