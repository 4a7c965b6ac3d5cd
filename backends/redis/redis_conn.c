/* One connection for each instance, kept for ever.
 *
 *                    timer                resolved             connected             hello
 *   WAITING ────────────────▶ RESOLVING ───────────▶ CONNECTING ──────────▶ GREETING ───────▶ READY
 *      ▲                          │                      │                     │               │
 *      └──────────────────────────┴── failed, lost, refused, silent, dial timeout ─────────────┘
 *
 * Every way back ends in lost(): calls in flight fail, the state turns to DOWN, the next attempt is
 * timed with backoff and jitter. CLOSING leaves from any phase and ends when libuv has let go of
 * all handles.
 *
 * READY turns to LEAVING when redis says what it would not say where we mean to be: that it is a
 * replica, a node of a cluster, or does not know us. Nothing new is sent, and with the last answer
 * the connection is lost(), so that the next one looks for the server by its name.
 *
 * hiredis' context is made for one connection. It goes by redisAsyncFree, ours or hiredis' own on
 * an error; both come by on_cleanup. Within an answer's callback hiredis delays the free until it
 * returns. Its connect callback must not free, and nothing here does. */
#include "backends/redis/redis_call.h"

#include <fcntl.h>
#include <stdlib.h>

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 2000,
    READS_AT_ONCE = 64,
    READ_BYTES = 16384,
};

/* libuv frees a handle later than we let go of the connection, so it stands apart. */
struct redis_poll {
    uv_poll_t handle;
    struct redis *redis;
};

static void attempt(struct redis *redis);
static void connect_next(struct redis *redis);
static void on_poll(uv_poll_t *handle, int status, int events);
static void lost(struct redis *redis, const char *detail);

static uint64_t now_of(const struct redis *redis)
{
    return redis->base.home->now_ns;
}

/* ---- the timer ---- */

static void on_attempt(struct timer *timer)
{
    attempt(CONTAINER_OF(timer, struct redis, timer));
}

static void on_dial_timeout(struct timer *timer)
{
    struct redis *redis = CONTAINER_OF(timer, struct redis, timer);

    redis->why = redis_unavailable("redis did not answer within dial_timeout_ms");
    if (redis->hello.fatal.code != ERR_OK)
        redis->why = redis->hello.fatal;
    if (redis->phase == REDIS_RESOLVING)
        uv_cancel((uv_req_t *)&redis->resolver); /* if that is too late, its own bounds hold */
    else
        redis_drop(redis, redis->why);
}

static void on_watch(struct timer *timer)
{
    struct redis *redis = CONTAINER_OF(timer, struct redis, timer);
    uint64_t next_ns;

    if (redis_watch_calls(redis, &next_ns))
        redis_drop(redis, redis_unavailable("redis did not answer within command_timeout_ms"));
    else if (next_ns != 0)
        timer_arm(&redis->base.home->timers, &redis->timer, next_ns, on_watch);
}

/* Once a batch has sent something. */
static void watch(struct redis *redis)
{
    uint64_t due_ns = redis_watch_due(redis);
    bool serves = redis->phase == REDIS_READY || redis->phase == REDIS_LEAVING;

    if (serves && due_ns != 0 && !redis->blocking && !timer_armed(&redis->timer))
        timer_arm(&redis->base.home->timers, &redis->timer, due_ns, on_watch);
}

/* Half of the delay is fixed, half is chance, so that workers and servers do not come back in step.
 */
static uint64_t backoff_ms(struct redis *redis)
{
    uint64_t ms = BACKOFF_MIN_MS;

    for (unsigned i = 0; i < redis->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    redis->random ^= redis->random << 13;
    redis->random ^= redis->random >> 7;
    redis->random ^= redis->random << 17;
    return ms / 2 + redis->random % (ms / 2 + 1);
}

/* ---- the end of a connection or of an attempt ---- */

static void log_lost(struct redis *redis, const char *detail, uint64_t wait_ms)
{
    struct redis_store *store = redis_store_of(redis);
    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot),
                                       LOG_S("host", store->shown_host),
                                       LOG_U("worker", redis->base.home->id),
                                       LOG_S("why", redis->down.text),
                                       LOG_S("detail", detail),
                                       LOG_U("retry_ms", wait_ms)};

    log_limited(&store->losses, LOG_WARN, "redis_disconnected", fields, ARRAY_LEN(fields));
}

/* The delay before the next attempt. The other addresses of a name are tried without one, and so is
 * the name of a server that was left: it has answered well until now. */
static uint64_t next_delay_ms(struct redis *redis)
{
    if (redis->phase == REDIS_LEAVING && redis->left)
        return 0;
    if (redis->phase == REDIS_CONNECTING && redis->address_count > 1) {
        redis->address_at = (redis->address_at + 1) % redis->address_count;
        if (redis->address_at != 0)
            return 0;
    }
    return backoff_ms(redis);
}

/* detail: what the system said, for the log. */
static void lost(struct redis *redis, const char *detail)
{
    bool was_ready = redis->ready_ns != 0;
    uint64_t wait_ms;

    timer_disarm(&redis->base.home->timers, &redis->timer);
    redis_output_clear(redis);
    if (redis->pushes != NULL && was_ready)
        redis->pushes->lost(redis);
    if (redis->phase == REDIS_CLOSING) {
        redis_fail_calls(redis);
        redis_fail_turns(redis);
        return;
    }
    if (redis->phase == REDIS_GREETING && redis->hello.fatal.code != ERR_OK)
        redis->why = redis->hello.fatal; /* redis said so, and hung up */
    if (redis->why.code == ERR_OK)
        redis->why = redis_unavailable(was_ready ? "the connection to redis was lost"
                                                 : "cannot connect to redis");
    redis->down = redis->why;
    wait_ms = next_delay_ms(redis);
    redis->phase = REDIS_WAITING;
    redis->attempts++;
    redis->ready_ns = 0;
    redis_fail_calls(redis);
    redis_fail_turns(redis);
    redis->left = false;
    if (wait_ms > 0) {
        redis_report(redis, BACKEND_DOWN, redis->down.text);
        log_lost(redis, detail, wait_ms);
    }
    timer_arm(&redis->base.home->timers, &redis->timer, now_of(redis) + wait_ms * NS_PER_MS,
              on_attempt);
}

static void finish_close(struct job *job)
{
    struct redis *redis = CONTAINER_OF(job, struct redis, closed_job);
    void (*closed)(void *) = redis->closed;
    void *arg = redis->closed_arg;

    redis_free_calls(redis);
    free(redis->memory);
    closed(arg);
}

/* All ops that close() failed land before this job: both go through the worker's local list, in
 * order. */
static void closed_if_idle(struct redis *redis)
{
    if (redis->phase != REDIS_CLOSING || redis->handles > 0 || atomic_load(&redis->check_pending))
        return;
    redis->closed_job.run = finish_close;
    worker_land(redis->base.home, &redis->closed_job);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct redis_poll *poll = handle->data;
    struct redis *redis = poll->redis;

    free(poll);
    redis->handles--;
    closed_if_idle(redis);
}

/* hiredis: the context is being freed. */
static void on_cleanup(void *arg)
{
    struct redis *redis = arg;

    const char *detail = redis->context->c.errstr;

    uv_close((uv_handle_t *)&redis->poll->handle, on_poll_closed);
    redis->poll = NULL;
    redis->context = NULL;
    lost(redis, detail);
}

void redis_drop(struct redis *redis, struct err why)
{
    if (redis->context == NULL)
        return;
    redis->why = redis->down = why;
    if (redis->phase == REDIS_READY)
        redis->phase = REDIS_LEAVING; /* no new ops, also when the free is delayed */
    redisAsyncFree(redis->context);
}

/* ---- what redis has said of itself ---- */

static void greeted(struct redis *redis)
{
    struct redis_store *store = redis_store_of(redis);

    if (redis->hello.fatal.code != ERR_OK) {
        redis_drop(redis, redis->hello.fatal);
        return;
    }
    timer_disarm(&redis->base.home->timers, &redis->timer);
    redis->facts = redis->hello.facts;
    redis->news = REDIS_NEWS_NONE;
    redis->trouble = NULL;
    redis->phase = REDIS_READY;
    redis->ready_ns = now_of(redis);
    redis->attempts = 0;
    redis_take_facts(redis);
    redis_report_serving(redis);
    counter_add(&redis->base.stats.connects, 1);

    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->shown_host), LOG_U("worker", redis->base.home->id),
        LOG_S("restriction", redis_restriction(redis))};

    log_limited(&store->connects, LOG_INFO, "redis_connected", fields,
                ARRAY_LEN(fields) - (redis_restriction(redis) == NULL));
    if (redis->pushes != NULL)
        redis->pushes->ready(redis);
    if (redis->on_ready != NULL)
        redis->on_ready(redis);
}

/* Behind each reading, outside the callbacks of hiredis. */
static void after_reading(struct redis *redis)
{
    bool told = redis->hello.done;

    redis->hello.done = false;
    if (told && redis->phase == REDIS_GREETING)
        greeted(redis);
    else if (told && redis->phase == REDIS_READY)
        redis_act_on_facts(redis);
    if (redis->phase == REDIS_READY)
        redis_act_on_news(redis);
    if (redis->phase == REDIS_LEAVING && redis->first == NULL)
        redis_drop(redis, redis->down);
}

static void on_check(struct job *job)
{
    struct redis *redis = CONTAINER_OF(job, struct redis, check);

    atomic_store(&redis->check_pending, false);
    if (redis->phase == REDIS_READY)
        redis_ask_facts(redis);
    closed_if_idle(redis);
}

/* ---- the socket ---- */

static void poll_for(struct redis *redis, int events)
{
    uv_poll_start(&redis->poll->handle, events, on_poll);
}

/* hiredis reads 16 KiB at a time. While a large value comes, going round the loop for each would
 * cost more than the reading; a reader that grows shows one. */
static void read_answers(struct redis *redis)
{
    redis->moved_ns = now_of(redis);
    for (unsigned i = 0; i < READS_AT_ONCE; i++) {
        size_t held = redis->context->c.reader->len;

        redisAsyncHandleRead(redis->context);
        if (redis->context == NULL || redis->context->c.reader->len < held + READ_BYTES)
            return;
    }
}

static void read_some(struct redis *redis)
{
    if (redis->pushes != NULL && redis->phase == REDIS_READY) {
        redis->pushes->read(redis);
        return;
    }
    read_answers(redis);
    if (redis->context != NULL)
        after_reading(redis);
}

/* libuv stops a handle when it reports an error, which for a poll handle is no more than "ask the
 * socket". */
static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct redis *redis = ((struct redis_poll *)handle->data)->redis;

    if (redis->poll == NULL || handle != &redis->poll->handle)
        return;
    worker_look_at_clock(redis->base.home);
    if (redis->phase == REDIS_CONNECTING) {
        redisAsyncHandleWrite(redis->context); /* on_connected, or on_cleanup */
        if (redis->phase == REDIS_GREETING)
            redis_say_hello(redis);
        return;
    }
    if (status < 0)
        poll_for(redis, UV_READABLE);
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT)) != 0)
        read_some(redis);
    if (redis->context == NULL || (events & UV_WRITABLE) == 0)
        return;
    redis_flush(redis);
    if (redis->context != NULL && redis->unsent == NULL)
        poll_for(redis, UV_READABLE);
}

static void on_batch_end(struct batch_hook *hook)
{
    struct redis *redis = CONTAINER_OF(hook, struct redis, hook);

    watch(redis);
    if (redis->context == NULL || redis->phase < REDIS_GREETING || redis->unsent != NULL ||
        sdslen(redis->context->c.obuf) == 0)
        return;
    redis_flush(redis);
    if (redis->context != NULL && redis->unsent != NULL)
        poll_for(redis, UV_READABLE | UV_WRITABLE);
}

/* ---- an attempt ---- */

/* Says nothing yet: hiredis would write it itself when this returns, and not count it. */
static void on_connected(const redisAsyncContext *context, int status)
{
    struct redis *redis = context->data;

    if (status != REDIS_OK)
        return; /* hiredis frees the context next */
    redis->phase = REDIS_GREETING;
    redis->moved_ns = now_of(redis);
    if (!redis_store_of(redis)->address.unix_socket)
        redisEnableKeepAlive(&redis->context->c);
    poll_for(redis, UV_READABLE);
}

static void adopt(struct redis *redis, redisAsyncContext *context)
{
    struct redis_poll *poll = calloc(1, sizeof *poll);

    if (poll == NULL)
        abort();
    fcntl(context->c.fd, F_SETFD, FD_CLOEXEC);
    poll->redis = redis;
    if (uv_poll_init(redis->base.home->loop, &poll->handle, context->c.fd) != 0)
        abort(); /* a fresh, non-blocking socket */
    poll->handle.data = poll;
    redis->handles++;
    redis->poll = poll;
    redis->context = context;
    context->data = redis;
    context->ev.data = redis;
    context->ev.cleanup = on_cleanup;
    redis_take_answers(redis);
    redisAsyncSetConnectCallback(context, on_connected);
    poll_for(redis, UV_WRITABLE);
}

static void connect_next(struct redis *redis)
{
    const struct redis_address *address = &redis_store_of(redis)->address;
    redisAsyncContext *context;

    if (address->unix_socket)
        context = redisAsyncConnectUnix(address->host);
    else
        context = redisAsyncConnect(redis->addresses[redis->address_at], address->port);
    if (context == NULL)
        abort();
    redis->phase = REDIS_CONNECTING;
    if (context->err == 0) {
        adopt(redis, context);
        return;
    }
    lost(redis, context->errstr);
    redisAsyncFree(context);
}

static void resolved(struct redis *redis, const char *problem)
{
    if (redis->phase == REDIS_CLOSING) {
        closed_if_idle(redis);
        return;
    }
    if (redis->address_at >= redis->address_count)
        redis->address_at = 0;
    if (redis->address_count > 0 && redis->why.code == ERR_OK) {
        connect_next(redis);
        return;
    }
    if (redis->why.code == ERR_OK)
        redis->why = redis_unavailable("the host name of redis cannot be resolved");
    lost(redis, problem);
}

static void attempt(struct redis *redis)
{
    redis->why = ERR_NONE;
    redis->hello = (struct redis_hello){0};
    timer_arm(&redis->base.home->timers, &redis->timer,
              now_of(redis) + redis_store_of(redis)->dial_timeout_ns, on_dial_timeout);
    redis->phase = REDIS_RESOLVING;
    if (redis_resolve(redis, resolved))
        connect_next(redis);
}

/* ---- the instance ---- */

void redis_start(struct redis *redis, struct backend_store *base, struct worker *worker,
                 bool blocking)
{
    struct redis_store *store = CONTAINER_OF(base, struct redis_store, base);

    redis->base = (struct backend){.type = base->type,
                                   .store = base,
                                   .home = worker,
                                   .has = base->type->interfaces,
                                   .limits = base->type->limits};
    redis->base.limits.key_bytes -= store->prefix_len;
    redis->blocking = blocking;
    redis->last = &redis->first;
    redis->turns_last = &redis->turns;
    redis->random = (clock_now_ns() ^ (uint64_t)(uintptr_t)redis) | 1;
    redis->reported = BACKEND_CONNECTING;
    redis->check.run = on_check;
    redis->hook.run = on_batch_end;
    worker_add_hook(worker, &redis->hook);
    if (!blocking)
        redis_join(store, redis);
    redis_report(redis, BACKEND_CONNECTING, "not connected to redis yet");
    redis->down = redis_unavailable("not connected to redis yet");
    attempt(redis);
}

void redis_stop(struct redis *redis, void (*closed)(void *), void *arg)
{
    redis->closed = closed;
    redis->closed_arg = arg;
    redis->down = redis_unavailable("the redis backend is shutting down");
    if (redis->phase == REDIS_RESOLVING)
        uv_cancel((uv_req_t *)&redis->resolver);
    redis->phase = REDIS_CLOSING;
    timer_disarm(&redis->base.home->timers, &redis->timer);
    worker_remove_hook(redis->base.home, &redis->hook);
    if (!redis->blocking)
        redis_leave(redis_store_of(redis), redis);
    if (redis->context != NULL)
        redisAsyncFree(redis->context);
    redis_fail_turns(redis);
    closed_if_idle(redis);
}
