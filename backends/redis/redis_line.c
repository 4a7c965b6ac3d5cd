/* The line of calls: each has a place in it from its first byte on until its last answer.
 *
 *   first ... waits ... last      answers are owed up to `waits`; from there on nothing of any call
 *                                 was given to the socket
 *
 * A call behind `waits` may be over before it is sent: it is void. It is counted no more and keeps
 * its place, so that its bytes are found; it goes when these are left out (redis_sift.c). */
#include "backends/redis/redis_call.h"
#include "src/base/container.h"

#include <stdlib.h>

struct redis_call *redis_line_new(struct redis *redis, const struct redis_kind *kind)
{
    struct redis_call *call = redis->spare;

    if (call != NULL)
        redis->spare = call->next;
    else if ((call = malloc(sizeof *call)) == NULL)
        abort();
    *call = (struct redis_call){.redis = redis,
                                .kind = kind,
                                .sent_ns = redis->base.home->now_ns,
                                .offset = redis->queued_bytes,
                                .wanted = true};
    return call;
}

void redis_line_recycle(struct redis_call *call)
{
    struct redis *redis = call->redis;

    call->next = redis->spare;
    redis->spare = call;
}

void redis_line_up(struct redis_call *call)
{
    struct redis *redis = call->redis;

    call->at = redis->last;
    *redis->last = call;
    redis->last = &call->next;
    if (redis->waits == NULL)
        redis->waits = call;
    redis->in_flight++;
    redis->held_bytes += call->bytes;
    counter_add(&redis->stats->in_flight, 1);
}

static void uncount(struct redis_call *call)
{
    struct redis *redis = call->redis;

    redis->in_flight--;
    redis->held_bytes -= call->bytes;
    counter_add(&redis->stats->in_flight, (uint64_t)-1);
}

void redis_line_leave(struct redis_call *call)
{
    struct redis *redis = call->redis;

    *call->at = call->next;
    if (call->next != NULL)
        call->next->at = call->at;
    else
        redis->last = call->at;
    if (call->next != NULL && call->kind->leads && !call->voided)
        call->next->led = true;
    call->at = NULL;
    if (redis->waits == call)
        redis->waits = call->next;
    if (!call->voided)
        uncount(call);
}

/* ---- void ---- */

/* What is before it in the line and leads it; NULL: nothing. */
static struct redis_call *leader(const struct redis_call *call)
{
    struct redis_call *before;

    if (call->at == &call->redis->first)
        return NULL;
    before = CONTAINER_OF(call->at, struct redis_call, next);
    return before->kind->leads ? before : NULL;
}

bool redis_line_sent(const struct redis_call *call)
{
    const struct redis_call *leads = leader(call);

    return call->led || (leads != NULL ? leads : call)->offset < call->redis->given_bytes;
}

static void turn_void(struct redis_call *call)
{
    struct redis *redis = call->redis;
    uint64_t end = call->next != NULL ? call->next->offset : redis->queued_bytes;

    uncount(call);
    call->voided = true;
    call->wanted = false;
    call->op = NULL;
    call->state = NULL;
    redis->void_bytes += end - call->offset;
}

void redis_line_void(struct redis_call *call)
{
    struct redis *redis = call->redis;
    struct redis_call *leads = leader(call);
    void (*left)(struct redis *, uint32_t) = call->left;

    if (leads != NULL)
        turn_void(leads);
    call->left = NULL;
    turn_void(call);
    if (left != NULL)
        left(redis, call->left_word);
}
