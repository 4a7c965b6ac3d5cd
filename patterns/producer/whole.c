#include "patterns/producer/whole.h"
#include "patterns/check.h"

/* ---- before the first effect ---- */

uint32_t whole_max_items(const struct producer *producer)
{
    uint32_t sink = producer->plan.sink->atomic_items, batch = producer->settings.max_batch_items;

    return sink < batch ? sink : batch;
}

/* The sink may take more than a request can bring. */
uint64_t whole_max_bytes(const struct producer *producer)
{
    uint64_t sink = producer->plan.sink->max_frame_bytes;
    uint64_t request = producer->binding.max_message_bytes;

    return sink < request ? sink : request;
}

struct err whole_check(const struct producer *producer, const struct frame *frame)
{
    uint64_t most = whole_max_bytes(producer), bytes = 0;

    for (size_t i = 0; i < frame->n; i++) {
        const struct outgoing *item = &frame->items[i];

        if (!slice_equal(item->topic, frame->items[0].topic))
            return check_at_item(err_about(ERR_INVALID_ARGUMENT, "topic",
                                           "an atomic batch goes to one topic, that of its first "
                                           "message"),
                                 frame->arena, "messages", i);
        bytes += producer_sink_bytes(producer, item);
    }
    if (bytes <= most)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "messages",
                     arena_printf(frame->arena,
                                  "the messages have %llu bytes together, keys and headers "
                                  "included; at most %llu are taken in an atomic batch "
                                  "(max_batch_bytes)",
                                  (unsigned long long)bytes, (unsigned long long)most));
}

/* ---- on the way to the sink ---- */

/* Is the same message no better another time? Then it is told which one it is. */
static bool is_fault(enum err_code code)
{
    return code == ERR_INVALID_ARGUMENT || code == ERR_NOT_FOUND || code == ERR_ALREADY_EXISTS ||
           code == ERR_PERMISSION_DENIED || code == ERR_FAILED_PRECONDITION ||
           code == ERR_UNIMPLEMENTED;
}

static void fail_all(struct frame *frame, size_t culprit, struct err err)
{
    if (is_fault(err.code))
        frame->culprit = (uint32_t)culprit;
    for (size_t i = 0; i < frame->n; i++) {
        frame->items[i].deduplicated = false;
        if (frame->states[i] == ITEM_WAITING)
            frame_settle(frame, i, err);
        else
            frame->items[i].err = err;
    }
}

/* What is settled without an error is a duplicate, or follows an earlier one of its identifier. */
void whole_judge(struct frame *frame)
{
    size_t known = frame->n, waiting = 0;

    if (!frame->whole || frame->culprit != PUBLISH_ALL) /* it is judged */
        return;
    for (size_t i = 0; i < frame->n; i++) {
        struct outgoing *item = &frame->items[i];

        waiting += frame->states[i] == ITEM_WAITING;
        if (item->err.code != ERR_OK) {
            fail_all(frame, i, item->err);
            return;
        }
        if (item->deduplicated && known == frame->n)
            known = i;
    }
    if (known < frame->n && waiting > 0)
        fail_all(frame, known,
                 err_about(ERR_ALREADY_EXISTS, "message_id",
                           "it was published before, and of other messages of this atomic batch "
                           "that is not known; nothing was published now"));
}

/* ---- what the client is told ---- */

/* All have one outcome, so the first one's is that of all. */
struct err whole_refusal(const struct frame *frame)
{
    const struct outgoing *first = &frame->items[0];

    if (!frame->whole || frame->n == 0 || first->err.effect != EFFECT_NONE)
        return ERR_NONE;
    if (frame->culprit != PUBLISH_ALL && is_fault(first->err.code))
        return check_at_item(first->err, frame->arena, "messages", frame->culprit);
    return outcome_is_status(first) ? first->err : ERR_NONE;
}
