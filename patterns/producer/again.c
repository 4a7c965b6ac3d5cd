/* Whether a message is tried again, and after what pause. */
#include "patterns/producer/outbox.h"

#include "pool/worker.h"
#include "src/base/clock.h"

enum { PAUSE_MOST_MS = 500 };

struct err outbox_reason_to_stop(const struct outbox *outbox)
{
    const struct op_group *group = outbox->group;

    if (group->cancelled.code != ERR_OK)
        return group->cancelled;
    if (group->deadline_ns != 0 && group->deadline_ns <= group->home->now_ns)
        return err_make(ERR_DEADLINE_EXCEEDED, "the deadline passed before the message was sent");
    return ERR_NONE;
}

uint32_t outbox_next_pause_ms(const struct outbox *outbox, uint32_t least_ms)
{
    uint32_t ms = outbox->backoff_ms != 0 ? 2 * outbox->backoff_ms : OUTBOX_PAUSE_MS;

    if (ms < least_ms)
        ms = least_ms;
    return ms < PAUSE_MOST_MS ? ms : PAUSE_MOST_MS;
}

/* With as much time behind the pause as it takes: a deadline that passes during the next try says
 * less than the error does. */
static bool has_time(const struct outbox *outbox, struct err err)
{
    const struct op_group *group = outbox->group;
    uint64_t pause_ns = outbox_next_pause_ms(outbox, err.retry_after_ms) * NS_PER_MS;

    return group->deadline_ns == 0 || group->home->now_ns + 2 * pause_ns < group->deadline_ns;
}

bool outbox_may_try_again(struct frame *frame, struct err err)
{
    const struct outbox *outbox = frame->outbox;
    uint64_t now_ns = outbox->group->home->now_ns;
    const struct producer *producer = outbox->producer;
    bool helps = err.code == ERR_UNAVAILABLE || err.code == ERR_ABORTED ||
                 (err.code == ERR_RESOURCE_EXHAUSTED && outbox->patient);

    if (err.effect != EFFECT_NONE || !helps || outbox_reason_to_stop(outbox).code != ERR_OK ||
        !has_time(outbox, err))
        return false;
    if (frame->failing_since_ns == 0)
        frame->failing_since_ns = now_ns;
    return now_ns - frame->failing_since_ns < producer->settings.retry_for_ms * NS_PER_MS;
}
