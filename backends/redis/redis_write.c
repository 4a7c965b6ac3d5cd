/* Output of a connection.
 *
 * To move the rest to the front after each partial write would be quadratic for values of
 * megabytes. So a buffer that the socket does not take whole is set aside and sent from an offset,
 * while a new one is filled. Commands of calls that are over meanwhile are left out: redis_sift.c.
 */
#include "backends/redis/redis_call.h"
#include "backends/redis/redis_tls.h"

enum { BUFFER_KEPT = 256 << 10, WRITES_AT_ONCE = 64 };

/* The socket has not taken `left` bytes of those that it was offered. */
static void note_given(struct redis *redis, size_t left)
{
    size_t kept = redis->link->tls == NULL ? 0 : left < REDIS_TLS_RECORD ? left : REDIS_TLS_RECORD;

    if (redis->given_bytes < redis->sent_bytes + kept)
        redis->given_bytes = redis->sent_bytes + kept;
    if (redis->sent_bytes == redis->queued_bytes)
        redis->waits = NULL;
    while (redis->waits != NULL && redis->waits->offset < redis->given_bytes)
        redis->waits = redis->waits->next;
}

/* Bytes taken; -1: the connection is broken. */
static ssize_t send_some(struct redis *redis, const char *from, size_t bytes)
{
    ssize_t n = redis_link_write(redis->link, from, bytes);

    if (n < 0)
        return -1;
    redis->sent_bytes += (uint64_t)n;
    counter_add(&redis->stats->bytes_sent, (uint64_t)n);
    note_given(redis, bytes - (size_t)n);
    return n;
}

/* What an earlier flush left behind. That the socket takes some of it shows that redis reads. What
 * is left out makes many small writes of it: then the rest waits for the next turn of the loop. */
static bool send_unsent(struct redis *redis)
{
    size_t run;

    for (unsigned i = 0; i < WRITES_AT_ONCE && redis->unsent != NULL; i++) {
        if ((run = redis_sift_next(redis)) == 0)
            break;

        ssize_t n = send_some(redis, redis->unsent + redis->unsent_at, run);

        if (n < 0)
            return false;
        if (n > 0)
            redis->moved_ns = redis->base.home->now_ns;
        redis->unsent_at += (size_t)n;
        if ((size_t)n < run)
            break;
    }
    return true;
}

static bool send_buffer(struct redis *redis)
{
    struct redis_link *link = redis->link;
    size_t left = sdslen(link->out);
    ssize_t n = send_some(redis, link->out, left);

    if (n < 0)
        return false;
    if ((size_t)n < left) {
        redis->unsent = link->out;
        redis->unsent_at = (size_t)n;
        link->out = redis_link_buffer();
    } else if (sdsalloc(link->out) > BUFFER_KEPT) {
        sdsfree(link->out);
        link->out = redis_link_buffer();
    } else {
        sdsclear(link->out);
    }
    return true;
}

/* What redis said before it hung up may still wait to be read: its reason, or answers. So a failed
 * write does not end the connection; the reading does, which meets the same end behind them. What
 * came behind the gap could be half of a command, so nothing is written any more. */
static void discard(struct redis *redis)
{
    redis->link->mute = true;
    redis->void_bytes = 0; /* what is void goes with the rest */
    redis_output_clear(redis);
    sdsclear(redis->link->out);
}

void redis_flush(struct redis *redis)
{
    bool sound = !redis->link->mute;

    if (sound && redis->unsent != NULL)
        sound = send_unsent(redis);
    if (sound && redis->unsent == NULL && redis->void_bytes > 0)
        redis_sift(redis);
    if (sound && redis->unsent == NULL && sdslen(redis->link->out) > 0)
        sound = send_buffer(redis);
    if (!sound)
        discard(redis);
}
