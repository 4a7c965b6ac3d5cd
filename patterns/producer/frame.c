/* A frame of messages: what is read into it, and what is counted once it is over. */
#include "patterns/producer/outbox.h"

#include "src/base/clock.h"

void frame_init(struct frame *frame, struct arena *arena, size_t n)
{
    frame->arena = arena;
    frame->n = frame->unsettled = n;
    frame->culprit = PUBLISH_ALL;
    frame->items = arena_array(arena, n, sizeof *frame->items);
    frame->states = arena_array(arena, n, sizeof *frame->states);
}

void frame_settle(struct frame *frame, size_t i, struct err err)
{
    frame->items[i].err = err;
    frame->states[i] = ITEM_SETTLED;
    frame->unsettled--;
}

size_t frame_measure(const struct producer *producer, struct frame *frame)
{
    frame->bytes = 0;
    for (size_t i = 0; i < frame->n; i++)
        frame->bytes +=
            message_out_bytes(&frame->items[i]) + producer_gzip_bytes(producer, &frame->items[i]);
    return frame->bytes;
}

void frame_refuse(struct frame *frame, size_t i, struct err err)
{
    frame_settle(frame, i, err);
}

bool frame_is_over(const struct frame *frame)
{
    return frame->entered && frame->unsettled == 0 && frame->seen == frame->n;
}

void frame_count(struct frame *frame)
{
    struct producer *producer = frame->outbox->producer;
    struct producer_stats *stats = &producer->stats;
    uint64_t stored = 0, duplicates = 0, unknown = 0, bytes = 0;
    uint64_t now_ns = clock_now_ns();

    for (size_t i = 0; i < frame->n; i++) {
        const struct outgoing *item = &frame->items[i];

        if (item->err.code != ERR_OK) {
            unknown += item->err.effect != EFFECT_NONE;
            continue;
        }
        stored += !item->deduplicated;
        duplicates += item->deduplicated;
        bytes += item->deduplicated ? 0 : item->payload.len;
    }
    if (stored > 0)
        producer_stored_now(producer);
    counter_add(&stats->stored, stored);
    counter_add(&stats->deduplicated, duplicates);
    counter_add(&stats->unknown, unknown);
    counter_add(&stats->failed, frame->n - stored - duplicates - unknown);
    counter_add(&stats->bytes, bytes);
    counter_add(&stats->unsettled, 0 - (uint64_t)frame->n);
    counter_add(&stats->unsettled_bytes, 0 - (uint64_t)frame->bytes);
    latency_record(&producer->latency, now_ns, (now_ns - frame->accepted_ns) / 1000, stored);
    epoch_settle(&producer->epochs, frame->epoch, frame->n, frame->n - stored - duplicates);
}
