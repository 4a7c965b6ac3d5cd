/* The connection that listens: which channels redis sends, and who gets what comes.
 *
 * Redis answers SUBSCRIBE and UNSUBSCRIBE in their order, between messages. A channel is confirmed
 * when its last command is answered: what is published from then on comes. The connection is read
 * by hiredis' reader, which shows each part of an answer as it is found; nothing is kept of it but
 * the message made from it.
 *
 * Nothing is read while listeners have messages to hand over and credit for them. So what overflows
 * a backlog overflows it because there is no credit, and redis' own buffer takes the rest. */
#include "backends/redis/redis_topic.h"
#include "src/base/clock.h"

#include <search.h>
#include <stdlib.h>

enum { READS_AT_ONCE = 4 };

enum command { SUBSCRIBE, UNSUBSCRIBE, PING };

/* Of what comes: its first word. */
enum kind { KIND_OTHER, KIND_MESSAGE, KIND_CONFIRMS, KIND_PONG };

struct redis_channel {
    struct redis_channel *next, **at;
    struct redis_listening *listening;
    struct redis_listener *listeners;
    unsigned unanswered; /* commands about it */
    bool confirmed;
    struct slice name;
    char text[];
};

struct redis_asked {
    struct redis_asked *next;
    enum command command;
    struct redis_channel *channel;
    uint64_t said_ns;
};

static struct redis_listening *listening_of(struct redis *redis)
{
    return CONTAINER_OF(redis, struct redis_listening, connection);
}

static bool connected(const struct redis_listening *listening)
{
    return listening->connection.phase == REDIS_READY;
}

/* ---- channels ---- */

static int by_name(const void *a, const void *b)
{
    return slice_compare(((const struct redis_channel *)a)->name,
                         ((const struct redis_channel *)b)->name);
}

static struct redis_channel *channel_find(struct redis_listening *listening, struct slice name)
{
    const struct redis_channel wanted = {.name = name};
    struct redis_channel **found = tfind(&wanted, &listening->tree, by_name);

    return found != NULL ? *found : NULL;
}

static struct redis_channel *channel_new(struct redis_listening *listening, struct slice name)
{
    struct redis_channel *channel = calloc(1, sizeof *channel + name.len);

    if (channel == NULL)
        abort();
    memcpy(channel->text, name.data, name.len);
    channel->name = slice_of(channel->text, name.len);
    channel->listening = listening;
    if (tsearch(channel, &listening->tree, by_name) == NULL)
        abort();
    channel->next = listening->channels;
    channel->at = &listening->channels;
    if (channel->next != NULL)
        channel->next->at = &channel->next;
    listening->channels = channel;
    return channel;
}

static void channel_free(struct redis_channel *channel)
{
    tdelete(channel, &channel->listening->tree, by_name);
    *channel->at = channel->next;
    if (channel->next != NULL)
        channel->next->at = channel->at;
    free(channel);
}

/* ---- commands ---- */

static void say(struct redis_listening *listening, enum command command,
                struct redis_channel *channel)
{
    static const char *const names[] = {"SUBSCRIBE", "UNSUBSCRIBE", "PING"};
    struct redis *redis = &listening->connection;
    struct redis_asked *asked = malloc(sizeof *asked);

    if (asked == NULL)
        abort();
    redis_say(redis, names[command], channel != NULL ? &channel->name : NULL);
    *asked = (struct redis_asked){
        .command = command, .channel = channel, .said_ns = redis->base.home->now_ns};
    *listening->last = asked;
    listening->last = &asked->next;
    if (channel == NULL)
        return;
    channel->unanswered++;
    channel->confirmed = false;
}

static struct redis_asked *pop(struct redis_listening *listening)
{
    struct redis_asked *asked = listening->first;

    listening->first = asked->next;
    if (listening->first == NULL)
        listening->last = &listening->first;
    return asked;
}

/* ---- listeners ---- */

void redis_listener_wake(struct redis_listener *listener)
{
    if (listener->landed)
        return;
    listener->landed = true;
    listener->listening->under_way++;
    worker_land(listener->subscription->home, &listener->job);
}

static void open_listener(struct redis_listener *listener)
{
    if (listener->opened)
        return;
    listener->opened = true;
    redis_listener_wake(listener);
}

void redis_listen(struct redis_listening *listening, struct redis_listener *listener,
                  struct slice topic)
{
    struct redis_channel *channel = channel_find(listening, topic);

    if (channel == NULL)
        channel = channel_new(listening, topic);
    if (channel->listeners == NULL && connected(listening))
        say(listening, SUBSCRIBE, channel);
    listener->channel = channel;
    listener->next = channel->listeners;
    listener->at = &channel->listeners;
    if (listener->next != NULL)
        listener->next->at = &listener->next;
    channel->listeners = listener;
    if (channel->confirmed)
        open_listener(listener);
}

static void unlink_listener(struct redis_listener *listener)
{
    *listener->at = listener->next;
    if (listener->next != NULL)
        listener->next->at = listener->at;
    listener->channel = NULL;
}

void redis_unlisten(struct redis_listener *listener)
{
    struct redis_channel *channel = listener->channel;

    unlink_listener(listener);
    if (channel->listeners != NULL)
        return;
    if (connected(channel->listening))
        say(channel->listening, UNSUBSCRIBE, channel);
    else
        channel_free(channel);
}

/* ---- answers ---- */

static void refused(struct redis_channel *channel, struct slice error)
{
    struct err err = err_make(ERR_PERMISSION_DENIED,
                              "redis does not permit the configured user to subscribe to this");

    if (!redis_error_is(error, "NOPERM")) {
        channel->listening->refused = redis_unavailable("redis refused to subscribe to a channel");
        return;
    }
    while (channel->listeners != NULL) {
        struct redis_listener *listener = channel->listeners;

        unlink_listener(listener);
        listener->ended = true;
        listener->err = err;
        redis_listener_wake(listener);
    }
}

/* With the last answer about a channel. */
static void settle_channel(struct redis_channel *channel, bool subscribed)
{
    if (channel->unanswered > 0)
        return;
    channel->confirmed = subscribed && channel->listeners != NULL;
    for (struct redis_listener *l = channel->listeners; l != NULL; l = l->next)
        open_listener(l);
    if (channel->listeners != NULL)
        return;
    if (subscribed) /* by a command behind one that was refused */
        say(channel->listening, UNSUBSCRIBE, channel);
    else
        channel_free(channel);
}

/* error: what redis said instead; empty: it did as it was asked. */
static void answered(struct redis_listening *listening, struct slice error)
{
    if (listening->first == NULL) {
        listening->refused = redis_unavailable("redis gave an answer that nobody asked for");
        return;
    }

    struct redis_asked asked = *listening->first;

    free(pop(listening));
    if (asked.channel == NULL)
        return;
    asked.channel->unanswered--;
    if (error.len > 0 && asked.command == SUBSCRIBE)
        refused(asked.channel, error);
    if (error.len == 0 || asked.channel->listeners == NULL)
        settle_channel(asked.channel, error.len == 0 && asked.command == SUBSCRIBE);
}

static void deliver(struct redis_channel *channel, struct slice payload)
{
    struct redis_message *message = redis_message_new(channel->name, payload);

    for (struct redis_listener *l = channel->listeners; l != NULL; l = l->next) {
        if (!l->opened)
            continue;
        redis_backlog_push(&l->backlog, message);
        if (subscription_may_take(l->subscription))
            redis_listener_wake(l);
    }
    block_unref(&message->block);
}

static enum kind kind_of(struct slice word)
{
    static const struct {
        const char *word;
        enum kind kind;
    } kinds[] = {{"message", KIND_MESSAGE},
                 {"subscribe", KIND_CONFIRMS},
                 {"unsubscribe", KIND_CONFIRMS},
                 {"pong", KIND_PONG}};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (slice_equal(word, slice_str(kinds[i].word)))
            return kinds[i].kind;
    }
    return KIND_OTHER;
}

static void take_word(struct redis_listening *listening, int place, struct slice word)
{
    if (place == 0)
        listening->kind = (int)kind_of(word);
    else if (place == 1 && listening->kind == KIND_MESSAGE)
        listening->named = channel_find(listening, word);
    else if (place == 1 && listening->kind == KIND_PONG)
        answered(listening, slice_of(NULL, 0));
    else if (place == 2 && listening->kind == KIND_MESSAGE && listening->named != NULL)
        deliver(listening->named, word);
}

static void *take_text(const redisReadTask *task, char *text, size_t len)
{
    struct redis_listening *listening = task->privdata;

    if (task->parent != NULL)
        take_word(listening, task->idx, slice_of(text, len));
    else
        answered(listening, slice_of(text, task->type == REDIS_REPLY_ERROR ? len : 0));
    return listening;
}

static void *take_array(const redisReadTask *task, int elements)
{
    (void)elements;
    return task->privdata;
}

static void *take_integer(const redisReadTask *task, long long number)
{
    struct redis_listening *listening = task->privdata;

    (void)number;
    if (task->parent != NULL && task->idx == 2 && listening->kind == KIND_CONFIRMS)
        answered(listening, slice_of(NULL, 0));
    return listening;
}

static void *take_nil(const redisReadTask *task)
{
    return task->privdata;
}

static void drop_answer(void *answer)
{
    (void)answer; /* the listening itself: no answer is built */
}

/* ---- the connection ---- */

static bool parse(struct redis_listening *listening, const char *bytes, size_t len)
{
    redisReader *reader = listening->connection.link->reader;
    void *answer;

    if (redisReaderFeed(reader, bytes, len) != REDIS_OK)
        return false;
    do {
        answer = NULL;
        if (redisReaderGetReply(reader, &answer) != REDIS_OK)
            return false;
    } while (answer != NULL && listening->refused.code == ERR_OK);
    return listening->refused.code == ERR_OK;
}

static void give_up(struct redis_listening *listening)
{
    if (listening->refused.code == ERR_OK)
        listening->refused = redis_unavailable("the connection to redis was lost");
    redis_drop(&listening->connection, listening->refused);
}

static ssize_t receive(struct redis_listening *listening, char *bytes, size_t room)
{
    struct redis *redis = &listening->connection;
    ssize_t n = redis_link_read(redis->link, bytes, room);

    if (n <= 0)
        return n;
    redis->moved_ns = redis->base.home->now_ns;
    counter_add(&redis->stats->bytes_received, (uint64_t)n);
    return n;
}

static void on_read(struct redis *redis)
{
    struct redis_listening *listening = listening_of(redis);
    char bytes[REDIS_READ_BYTES];

    for (unsigned i = 0; i < READS_AT_ONCE && listening->under_way == 0; i++) {
        ssize_t n = receive(listening, bytes, sizeof bytes);

        if (n == 0)
            return;
        if (n < 0 || !parse(listening, bytes, (size_t)n)) {
            give_up(listening);
            return;
        }
        if ((size_t)n < sizeof bytes)
            return;
    }
}

/* Nobody else would notice that redis has fallen silent. */
static void on_watch(struct timer *timer)
{
    struct redis_listening *listening = CONTAINER_OF(timer, struct redis_listening, watch);
    struct redis *redis = &listening->connection;
    uint64_t now = redis->base.home->now_ns, timeout = redis_store_of(redis)->command_timeout_ns;

    if (listening->first != NULL && listening->first->said_ns + timeout <= now &&
        redis->moved_ns + timeout <= now) {
        redis_drop(redis, redis_unavailable("redis did not answer within command_timeout_ms"));
        return;
    }
    if (listening->first == NULL)
        say(listening, PING, NULL);
    timer_arm(&redis->base.home->timers, &listening->watch, now + timeout / 2, on_watch);
}

static void on_ready(struct redis *redis)
{
    struct redis_listening *listening = listening_of(redis);
    redisReader *reader = redis->link->reader;

    reader->fn = &listening->functions;
    reader->privdata = listening;
    listening->refused = ERR_NONE;
    for (struct redis_channel *channel = listening->channels; channel != NULL;
         channel = channel->next)
        say(listening, SUBSCRIBE, channel);
    timer_arm(&redis->base.home->timers, &listening->watch,
              redis->base.home->now_ns + redis_store_of(redis)->command_timeout_ns / 2, on_watch);
}

static void break_channel(struct redis_channel *channel)
{
    channel->unanswered = 0;
    if (channel->listeners == NULL) {
        channel_free(channel);
        return;
    }
    for (struct redis_listener *l = channel->listeners; l != NULL; l = l->next) {
        if (!l->opened)
            continue;
        redis_backlog_break(&l->backlog);
        redis_listener_wake(l);
    }
    channel->confirmed = false;
}

static void on_lost(struct redis *redis)
{
    struct redis_listening *listening = listening_of(redis);

    timer_disarm(&redis->base.home->timers, &listening->watch);
    while (listening->first != NULL)
        free(pop(listening));
    for (struct redis_channel *channel = listening->channels, *next; channel != NULL;
         channel = next) {
        next = channel->next;
        break_channel(channel);
    }
}

void redis_listening_start(struct redis_listening *listening, struct backend *backend)
{
    static const struct redis_pushes pushes = {.ready = on_ready, .read = on_read, .lost = on_lost};

    listening->started = true;
    listening->last = &listening->first;
    listening->functions = (redisReplyObjectFunctions){.createString = take_text,
                                                       .createArray = take_array,
                                                       .createInteger = take_integer,
                                                       .createNil = take_nil,
                                                       .freeObject = drop_answer};
    listening->connection.pushes = &pushes;
    if (redis_of(backend)->cluster != NULL) /* any node will do */
        redis_cluster_join(redis_of(backend)->cluster, &listening->connection);
    redis_start(&listening->connection, backend->store, backend->home, true);
}
