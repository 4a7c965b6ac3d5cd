/* What is said first on a new connection, in one write: who we are, which database, and questions
 * about the server.
 *
 *   fatal    a refused login or database, a server that is not ready or wants no client: the
 *            connection is given up and tried again later, because somebody may mend it meanwhile;
 *            ops are told why
 *   not so   another refused word (CONFIG and INFO are often denied): the fact stays unknown */
#include "backends/redis/redis_priv.h"

#include <stdio.h>

enum step { STEP_AUTH, STEP_SELECT, STEP_NAME, STEP_CONFIG, STEP_INFO, STEP_PING };

enum { NAME_BYTES = 128 };

static void fail(struct redis_hello *hello, enum err_code code, uint32_t retry_ms, const char *text)
{
    if (hello->fatal.code == ERR_OK)
        hello->fatal = (struct err){.code = code, .retry_after_ms = retry_ms, .text = text};
}

static void on_error(struct redis_hello *hello, unsigned step, struct slice text)
{
    if (redis_error_is(text, "LOADING"))
        fail(hello, ERR_UNAVAILABLE, 500, "redis is loading its data");
    else if (redis_error_is(text, "MASTERDOWN"))
        fail(hello, ERR_UNAVAILABLE, 500, "this redis replica has lost its primary");
    else if (redis_error_is(text, "ERR max number of clients"))
        fail(hello, ERR_UNAVAILABLE, 1000, "redis has reached its maxclients and refuses us");
    else if (redis_error_is(text, "DENIED"))
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis runs in protected mode and refuses us");
    else if (step == STEP_AUTH)
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis refused the user name or password");
    else if (redis_error_is(text, "NOAUTH"))
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis asks for a password and none is set");
    else if (step == STEP_SELECT)
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis refused the number of the database");
}

static void on_config(struct redis_hello *hello, const struct redis_node *node)
{
    if (node->depth != 1 || node->type != REDIS_REPLY_STRING)
        return;
    if (node->index % 2 == 0) {
        hello->names_appendonly = slice_equal(node->text, slice_str("appendonly"));
        hello->names_appendfsync = slice_equal(node->text, slice_str("appendfsync"));
        return;
    }
    if (hello->names_appendonly) {
        hello->appendonly_known = true;
        hello->appendonly = slice_equal(node->text, slice_str("yes"));
    }
    if (hello->names_appendfsync)
        hello->fsync_always = slice_equal(node->text, slice_str("always"));
}

static void hello_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_hello *hello = &call->redis->hello;
    unsigned step = hello->steps[call->answered];

    if (node->type == REDIS_REPLY_ERROR)
        on_error(hello, step, node->text);
    else if (step == STEP_CONFIG)
        on_config(hello, node);
    else if (step == STEP_INFO && node->type == REDIS_REPLY_STRING)
        hello->replica = memmem(node->text.data, node->text.len, "role:slave", 10) != NULL;
}

static void hello_end(struct redis_call *call)
{
    struct redis *redis = call->redis;
    const struct redis_hello *hello = &redis->hello;
    enum backend_ack ack = BACKEND_ACK_UNKNOWN;

    if (hello->fatal.code != ERR_OK) {
        redis_drop(redis, hello->fatal);
        return;
    }
    if (hello->appendonly_known)
        ack = hello->appendonly && hello->fsync_always ? BACKEND_ACK_DISK : BACKEND_ACK_MEMORY;
    redis_report_ack(redis, ack);
    if (hello->replica)
        redis_ready(redis, BACKEND_DEGRADED, "this redis is a replica and may refuse writes");
    else
        redis_ready(redis, BACKEND_READY, NULL);
}

static const struct redis_kind hello_kind = {
    .item_errors = true, .node = hello_node, .end = hello_end};

static void say(struct redis_call *call, enum step step, unsigned argc, const char *name)
{
    call->redis->hello.steps[call->answers] = (uint8_t)step;
    redis_command(call, argc, name);
}

static void say_word(struct redis_call *call, const char *word)
{
    redis_word(call, slice_str(word));
}

/* CLIENT SETNAME takes what can be printed and has no space. */
static void say_name(struct redis_call *call)
{
    const struct redis *redis = call->redis;
    char name[NAME_BYTES];

    snprintf(name, sizeof name, "%s%s:%u", redis_store_of(redis)->prefix, redis->base.store->slot,
             redis->base.home->id);
    for (char *c = name; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~')
            *c = '_';
    }
    say(call, STEP_NAME, 3, "CLIENT");
    say_word(call, "SETNAME");
    say_word(call, name);
}

void redis_hello(struct redis *redis)
{
    const struct redis_store *store = redis_store_of(redis);
    struct redis_call *call = redis_begin_hello(redis, &hello_kind);

    redis->hello = (struct redis_hello){0};
    if (store->username != NULL || store->password != NULL) {
        say(call, STEP_AUTH, store->username != NULL ? 3 : 2, "AUTH");
        if (store->username != NULL)
            say_word(call, store->username);
        say_word(call, store->password != NULL ? store->password : "");
    }
    if (store->database != 0) {
        say(call, STEP_SELECT, 2, "SELECT");
        redis_word_number(call, store->database);
    }
    say_name(call);
    say(call, STEP_CONFIG, 3, "CONFIG");
    say_word(call, "GET");
    say_word(call, "append*");
    say(call, STEP_INFO, 2, "INFO");
    say_word(call, "replication");
    say(call, STEP_PING, 1, "PING");
}
