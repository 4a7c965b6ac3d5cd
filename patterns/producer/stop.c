/* What stops after a failure, and goes on when the client says so. */
#include "patterns/producer/outbox.h"

bool outbox_is_stopped(const struct outbox *outbox, const struct outgoing *item)
{
    return outbox->stopped_all ||
           (!message_is_null(item->key) && key_set_has(&outbox->stopped, item->topic, item->key));
}

void outbox_stop_after(struct outbox *outbox, const struct outgoing *item)
{
    if (outbox->mode == FAILURE_CONTINUE)
        return;
    if (outbox->mode == FAILURE_STOP_ALL)
        outbox->stopped_all = true;
    else if (!message_is_null(item->key) && !key_set_add(&outbox->stopped, item->topic, item->key))
        outbox->stopped_all = true; /* more keys than can be remembered: none may overtake */
}

void outbox_enter(struct outbox *outbox, struct frame *frame)
{
    if (frame->entered)
        return;
    frame->entered = true;
    if (frame->resume) {
        outbox->stopped_all = false;
        key_set_clear(&outbox->stopped);
    }
    for (size_t i = 0; i < frame->n_resume_keys; i++)
        key_set_remove(&outbox->stopped, pb_slice(frame->resume_keys[i]));
}
