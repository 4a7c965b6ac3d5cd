/* Output of a connection.
 *
 * hiredis would write its buffer itself, but after each partial write it moves the rest to the
 * front: quadratic for values of megabytes. So a buffer that the socket does not take whole is
 * taken away from hiredis and sent from an offset, while hiredis fills a new one. */
#include "backends/redis/redis_conn.h"

#include <errno.h>
#include <sys/socket.h>

enum { BUFFER_KEPT = 256 << 10 };

void redis_output_clear(struct redis *redis)
{
    if (redis->unsent != NULL)
        sdsfree(redis->unsent);
    redis->unsent = NULL;
    redis->unsent_at = 0;
}

/* Bytes taken; -1: the connection is broken. */
static ssize_t send_some(struct redis *redis, const char *from, size_t bytes)
{
    ssize_t n;

    do
        n = send(redis->context->c.fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    redis->sent_bytes += (uint64_t)n;
    counter_add(&redis->base.stats.bytes_sent, (uint64_t)n);
    return n;
}

/* What an earlier flush left behind. That the socket takes some of it shows that redis reads. */
static bool send_unsent(struct redis *redis)
{
    size_t left = sdslen(redis->unsent) - redis->unsent_at;
    ssize_t n = send_some(redis, redis->unsent + redis->unsent_at, left);

    if (n < 0)
        return false;
    if (n > 0)
        redis->moved_ns = redis->base.home->now_ns;
    redis->unsent_at += (size_t)n;
    if ((size_t)n == left)
        redis_output_clear(redis);
    return true;
}

static sds empty(void)
{
    sds s = sdsempty();

    if (s == NULL)
        abort();
    return s;
}

static bool send_buffer(struct redis *redis)
{
    redisContext *c = &redis->context->c;
    size_t left = sdslen(c->obuf);
    ssize_t n = send_some(redis, c->obuf, left);

    if (n < 0)
        return false;
    if ((size_t)n < left) {
        redis->unsent = c->obuf;
        redis->unsent_at = (size_t)n;
        c->obuf = empty();
    } else if (sdsalloc(c->obuf) > BUFFER_KEPT) {
        sdsfree(c->obuf);
        c->obuf = empty();
    } else {
        sdsclear(c->obuf);
    }
    return true;
}

/* What redis said before it hung up may still wait to be read: its reason, or answers. So a failed
 * write does not end the connection; the reading does, which meets the same end behind them. */
static void discard(struct redis *redis)
{
    redis_output_clear(redis);
    sdsclear(redis->context->c.obuf);
}

void redis_flush(struct redis *redis)
{
    bool sound = true;

    if (redis->unsent != NULL)
        sound = send_unsent(redis);
    if (sound && redis->unsent == NULL && sdslen(redis->context->c.obuf) > 0)
        sound = send_buffer(redis);
    if (!sound)
        discard(redis);
}
