/* What waits to be sent, without what is void (redis_line.c).
 *
 * Where sending has come to, void bytes are stepped over. Those further behind stay until they are
 * a good part of all that waits: then all of them are taken out at once. So a redis that stands
 * still for long does not let them pile up, and no byte is moved more than a few times. */
#include "backends/redis/redis_call.h"

enum {
    RUN_BYTES = 64 << 10, /* looked through for the next void ones before each write */
    PART = 4              /* of what waits may be void */
};

void redis_output_clear(struct redis *redis)
{
    if (redis->unsent != NULL)
        sdsfree(redis->unsent);
    redis->unsent = NULL;
    redis->unsent_at = 0;
}

static uint64_t end_of(const struct redis_call *call)
{
    return call->next != NULL ? call->next->offset : call->redis->queued_bytes;
}

static uint64_t take_out(struct redis_call *call)
{
    struct redis *redis = call->redis;
    uint64_t bytes = end_of(call) - call->offset;

    redis->void_bytes -= bytes;
    redis_line_leave(call);
    redis_line_recycle(call);
    return bytes;
}

static bool is_void_here(const struct redis *redis)
{
    return redis->waits != NULL && redis->waits->voided &&
           redis->waits->offset == redis->sent_bytes;
}

size_t redis_sift_next(struct redis *redis)
{
    size_t len = sdslen(redis->unsent), run;

    while (redis->unsent_at < len && is_void_here(redis)) {
        uint64_t bytes = take_out(redis->waits);

        redis->unsent_at += bytes;
        redis->sent_bytes += bytes;
        redis->given_bytes += bytes;
    }
    run = len - redis->unsent_at;
    if (run == 0)
        redis_output_clear(redis);
    if (redis->void_bytes == 0)
        return run;
    if (run > RUN_BYTES)
        run = RUN_BYTES;
    for (const struct redis_call *call = redis->waits;
         call != NULL && call->offset - redis->sent_bytes < run; call = call->next) {
        if (call->voided)
            return (size_t)(call->offset - redis->sent_bytes);
    }
    return run;
}

/* Takes void bytes out of one buffer, whose first byte is at `origin` of the output; the calls in
 * it begin with `call`. Returns the first one behind it. shift: how many were taken out so far. */
static struct redis_call *sift_buffer(struct redis_call *call, sds buffer, uint64_t origin,
                                      uint64_t *shift)
{
    uint64_t end = origin + sdslen(buffer), out = 0;

    while (call != NULL && call->offset < end) {
        struct redis_call *next = call->next;
        char *from = buffer + (call->offset - origin);

        if (call->voided) {
            out += take_out(call);
        } else {
            if (out > 0)
                memmove(from - out, from, end_of(call) - call->offset);
            call->offset -= *shift + out;
        }
        call = next;
    }
    sdssetlen(buffer, sdslen(buffer) - out);
    buffer[sdslen(buffer)] = '\0';
    *shift += out;
    return call;
}

void redis_sift(struct redis *redis)
{
    struct redis_call *call = redis->waits;
    sds out = redis->link->out;
    uint64_t origin = redis->queued_bytes - sdslen(out), shift = 0;

    if (redis->unsent != NULL)
        call = sift_buffer(call, redis->unsent, redis->sent_bytes - redis->unsent_at, &shift);
    sift_buffer(call, out, origin, &shift);
    redis->queued_bytes -= shift;
    if (redis->unsent != NULL && redis->unsent_at == sdslen(redis->unsent))
        redis_output_clear(redis);
}

void redis_sift_some(struct redis *redis)
{
    if (redis->link->mute)
        return;
    if (redis->unsent != NULL)
        redis_sift_next(redis);
    if (redis->unsent == NULL ||
        redis->void_bytes > (redis->queued_bytes - redis->sent_bytes) / PART)
        redis_sift(redis);
}
