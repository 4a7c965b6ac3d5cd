/* One connection for each instance, kept for ever.
 *
 *                    timer                resolved             connected             hello
 *   WAITING ────────────────▶ RESOLVING ───────────▶ CONNECTING ──────────▶ GREETING ───────▶ READY
 *      ▲                          │                      │                     │               │
 *      └──────────────────────────┴── failed, lost, refused, silent, dial timeout ─────────────┘
 *
 * CONNECTING includes TLS' handshake. Every way back ends in lost(): calls in flight fail, the
 * state turns to DOWN, the next attempt is timed with backoff and jitter. CLOSING leaves from any
 * phase and ends when libuv has let go of all handles.
 *
 * READY turns to LEAVING when redis says what it would not say where we mean to be: that it is a
 * replica, a node of a cluster, or does not know us. Nothing new is sent, and with the last answer
 * the connection is lost(), so that the next one looks for the server by its name.
 *
 * A link is made for one connection and goes by end_link. While an answer is handed over, that
 * waits until the answer has been taken. */
#include "backends/redis/redis_call.h"
#include "backends/redis/redis_tls.h"

#include <stdlib.h>

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 2000,
    READS_AT_ONCE = 64,
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
    if (redis->phase == REDIS_CONNECTING && redis->link->connected)
        redis->why = redis_unavailable("redis did not answer TLS' handshake within "
                                       "dial_timeout_ms: does it speak TLS on this port?");
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
    return ms / 2 + redis_chance(redis) % (ms / 2 + 1);
}

/* ---- the end of a connection or of an attempt ---- */

static void log_lost(struct redis *redis, const char *detail, uint64_t wait_ms)
{
    struct redis_store *store = redis_store_of(redis);
    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot),
                                       LOG_S("host", redis_shown_host(redis)),
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
    return redis_seek_next(redis) ? 0 : backoff_ms(redis);
}

/* detail: what the system said, for the log. */
static void lost(struct redis *redis, const char *detail)
{
    bool was_ready = redis->ready_ns != 0, told = redis->found.host[0] != '\0';
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
        redis->why = redis_unavailable(was_ready            ? "the connection to redis was lost"
                                       : redis->to.sentinel ? "cannot connect to a sentinel"
                                                            : "cannot connect to redis");
    if (!told) /* by a sentinel, which was left for that: no failure */
        redis->down = redis->why;
    wait_ms = next_delay_ms(redis);
    redis->phase = REDIS_WAITING;
    redis->attempts += !told;
    redis->ready_ns = 0;
    redis_fail_calls(redis);
    redis_fail_turns(redis);
    redis->left = false;
    if (redis->cluster != NULL)
        redis->calls->lost(redis->cluster, redis);
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
    struct redis_link *link = CONTAINER_OF((uv_poll_t *)handle, struct redis_link, handle);
    struct redis *redis = link->redis;

    free(link);
    redis->handles--;
    closed_if_idle(redis);
}

static void end_link(struct redis *redis)
{
    struct redis_link *link = redis->link;

    if (link->parsing) {
        link->doomed = true;
        return;
    }
    if (link->problem != NULL && redis->why.code == ERR_OK)
        redis->why = redis_unavailable(link->problem);
    redis->link = NULL;
    uv_close((uv_handle_t *)&link->handle, on_poll_closed); /* before the socket: it is watched */
    redis_link_close(link);
    lost(redis, link->detail); /* libuv lets go of it later */
}

void redis_drop(struct redis *redis, struct err why)
{
    if (redis->link == NULL)
        return;
    redis->why = redis->down = why;
    if (redis->phase == REDIS_READY)
        redis->phase = REDIS_LEAVING; /* no new ops, also when the end has to wait */
    end_link(redis);
}

/* ---- what redis has said of itself ---- */

static void greeted(struct redis *redis)
{
    struct redis_store *store = redis_store_of(redis);

    if (redis->hello.fatal.code != ERR_OK) {
        redis_drop(redis, redis->hello.fatal);
        return;
    }
    if (redis->to.sentinel) {
        redis->found = redis->hello.found;
        end_link(redis);
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
    counter_add(&redis->stats->connects, 1);

    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", redis_shown_host(redis)), LOG_U("worker", redis->base.home->id),
        LOG_S("restriction", redis_restriction(redis))};

    log_limited(&store->connects, LOG_INFO, "redis_connected", fields,
                ARRAY_LEN(fields) - (redis_restriction(redis) == NULL));
    if (redis->pushes != NULL)
        redis->pushes->ready(redis);
    if (redis->on_ready != NULL)
        redis->on_ready(redis);
}

/* Behind each reading, outside the callbacks of the reader. */
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
    uv_poll_start(&redis->link->handle, events, on_poll);
}

/* While a large value comes, going round the loop for each read would cost more than the reading.
 */
static void read_answers(struct redis *redis)
{
    char bytes[REDIS_READ_BYTES];

    redis->moved_ns = now_of(redis);
    for (unsigned i = 0; i < READS_AT_ONCE; i++) {
        ssize_t n = redis_link_read(redis->link, bytes, sizeof bytes);

        if (n < 0 || (n > 0 && !redis_parse(redis, bytes, (size_t)n))) {
            end_link(redis);
            return;
        }
        if (n < (ssize_t)sizeof bytes)
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
    if (redis->link != NULL)
        after_reading(redis);
}

static void go_on_connecting(struct redis *redis)
{
    switch (redis_link_connect(redis->link)) {
    case REDIS_LINK_READS:
        poll_for(redis, UV_READABLE);
        break;
    case REDIS_LINK_WRITES:
        poll_for(redis, UV_WRITABLE);
        break;
    case REDIS_LINK_FAILED:
        end_link(redis);
        break;
    case REDIS_LINK_UP:
        redis->phase = REDIS_GREETING;
        redis->moved_ns = now_of(redis);
        poll_for(redis, UV_READABLE);
        redis_say_hello(redis);
        break;
    }
}

/* libuv stops a handle when it reports an error, which for a poll handle is no more than "ask the
 * socket". */
static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct redis_link *link = CONTAINER_OF(handle, struct redis_link, handle);
    struct redis *redis = link->redis;

    if (redis->link != link)
        return;
    worker_look_at_clock(redis->base.home);
    if (redis->phase == REDIS_CONNECTING) {
        go_on_connecting(redis);
        return;
    }
    if (status < 0)
        poll_for(redis, UV_READABLE);
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT)) != 0)
        read_some(redis);
    if (redis->link == NULL || (events & UV_WRITABLE) == 0)
        return;
    redis_flush(redis);
    if (redis->unsent == NULL)
        poll_for(redis, UV_READABLE);
}

static void on_batch_end(struct batch_hook *hook)
{
    struct redis *redis = CONTAINER_OF(hook, struct redis, hook);

    if (redis->void_bytes > 0)
        redis_sift_some(redis);
    watch(redis);
    if (redis->phase == REDIS_LEAVING && redis->first == NULL)
        redis_drop(redis, redis->down); /* what it waited for has been withdrawn */
    if (redis->link == NULL || redis->phase < REDIS_GREETING || redis->unsent != NULL ||
        sdslen(redis->link->out) == 0)
        return;
    redis_flush(redis);
    if (redis->unsent != NULL)
        poll_for(redis, UV_READABLE | UV_WRITABLE);
}

/* ---- an attempt ---- */

static void adopt(struct redis *redis, struct redis_link *link)
{
    struct redis_store *store = redis_store_of(redis);
    struct ssl_ctx_st *tls = redis_store_tls(store);

    if (uv_poll_init(redis->base.home->loop, &link->handle, link->fd) != 0)
        abort(); /* a fresh, non-blocking socket */
    redis->handles++;
    redis->link = link;
    if (tls != NULL)
        link->tls = redis_tls_session(
            tls, link->fd, store->server_name != NULL ? store->server_name : redis->to.host);
    redis_tls_context_unref(tls); /* the session has its own */
    redis_take_answers(redis);
    poll_for(redis, UV_WRITABLE);
}

static void connect_next(struct redis *redis)
{
    const struct redis_target *to = &redis->to;
    struct redis_link *link = redis_link_new(redis);

    redis->phase = REDIS_CONNECTING;
    if (redis_link_open(link, to->port == 0 ? to->host : redis->addresses[redis->address_at],
                        to->port)) {
        adopt(redis, link);
        return;
    }
    redis_link_close(link);
    lost(redis, link->detail);
    free(link);
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
    redis_seek(redis);
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
    if (redis->stats == NULL)
        redis->stats = &redis->base.stats;
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
    if (redis->link != NULL)
        end_link(redis);
    redis_fail_turns(redis);
    closed_if_idle(redis);
}
