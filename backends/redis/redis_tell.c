/* What a reader tells its subscription: moves, gaps, batches. */
#include "backends/redis/redis_stream.h"

#include <stdlib.h>

void redis_reader_void(struct redis_reader *reader, enum move_reason reason)
{
    redis_hold_void(&reader->holds, reason == MOVED_BY_SEEK);
    if (reader->order != NULL) {
        memset(reader->order->waiting, 0, sizeof reader->order->waiting);
        reader->order->again = 0;
    }
    if (reader->fetched != NULL && !reader->busy) {
        redis_fetched_drop(reader->fetched);
        reader->fetched = NULL;
    } else if (reader->fetched != NULL) { /* it is being read */
        reader->fetched->n = 0;
        reader->skips = true;
    }
    reader->lost.n = reader->settled.n = reader->doubted.n = 0;
    reader->void_all = true;
    reader->void_tickets = reader->tickets > 0;
    reader->reason = reason;
    redis_reader_wake(reader);
}

void redis_reader_seeked(struct redis_reader *reader)
{
    redis_reader_void(reader, MOVED_BY_SEEK);
    reader->last = reader->seen = reader->claim_at = (struct redis_id){0};
    reader->want_fetch = true;
    reader->waiting = false;
}

static void add(struct redis_reader *reader, struct redis_lost *lost, const struct redis_held *held)
{
    if (lost->n == lost->room) {
        lost->room = lost->room == 0 ? 16 : 2 * lost->room;
        lost->tokens = realloc(lost->tokens, lost->room * sizeof *lost->tokens);
        if (lost->tokens == NULL)
            abort();
    }
    lost->tokens[lost->n++] = redis_token(&reader->holds, held);
    redis_reader_wake(reader);
}

void redis_reader_tell_lost(struct redis_reader *reader, const struct redis_held *held)
{
    add(reader, held->noted ? &reader->settled : &reader->lost, held);
}

void redis_reader_doubt(struct redis_reader *reader, const struct redis_held *held)
{
    reader->tend_ns = redis_reader_now(reader);
    add(reader, &reader->doubted, held);
}

void redis_reader_lose(struct redis_reader *reader, struct redis_held *held)
{
    if (held->state == HELD_OUT)
        redis_reader_tell_lost(reader, held);
    if (reader->order != NULL && (held->state == HELD_AGAIN || held->state == HELD_PARKED))
        redis_order_left(reader, held);
    redis_let_go(&reader->holds, held);
}

void redis_reader_gap(struct redis_reader *reader, uint64_t count, const char *text)
{
    counter_add_shared(&redis_store_of(&reader->streams->shared)->lost, count);
    reader->gap_count = reader->gap && reader->gap_count == 0 ? 0 : reader->gap_count + count;
    reader->gap = true;
    reader->gap_text = text;
}

static void tell_lost(struct redis_reader *reader, struct redis_lost *lost, enum move_reason reason)
{
    struct redis_lost told = *lost;
    const struct subscription_move move = {
        .kind = MOVE_LOST, .reason = reason, .tokens = told.tokens, .n_tokens = told.n};

    if (told.n == 0 || reader->closing)
        return;
    *lost = (struct redis_lost){0};
    subscription_moved(reader->subscription, &move);
    free(told.tokens);
}

static void tell_moves(struct redis_reader *reader)
{
    const struct subscription_move all = {.kind = MOVE_LOST, .reason = reader->reason};

    if (reader->void_all) {
        reader->void_all = false;
        subscription_moved(reader->subscription, &all);
    }
    tell_lost(reader, &reader->settled, MOVED_BY_SETTLING);
    tell_lost(reader, &reader->lost, MOVED_BY_LEASE);
}

static void tell_gap(struct redis_reader *reader)
{
    const struct subscription_gap gap = {.partition = -1,
                                         .missing_from = -1,
                                         .goes_on_at = -1,
                                         .count = reader->gap_count,
                                         .text = reader->gap_text};

    if (!reader->gap)
        return;
    reader->gap = false;
    reader->gap_count = 0;
    subscription_gap(reader->subscription, &gap);
}

static void hand_over(struct redis_reader *reader)
{
    struct redis_fetched *fetched = reader->fetched;

    if (fetched == NULL || reader->busy || reader->closing)
        return;

    struct incoming_batch *batch = redis_fetched_take(fetched, reader->subscription);

    for (uint32_t i = 0; batch != NULL && i < batch->n; i++) {
        bool of_before;
        struct redis_held *held = redis_held_by(&reader->holds, batch->items[i].token, &of_before);

        uint64_t lease_ns = reader->subscription->want.lease_ms * NS_PER_MS;

        held->state = HELD_OUT;
        redis_due_set(&reader->holds, held, lease_ns > 0 ? redis_reader_now(reader) + lease_ns : 0);
        if (i == 0)
            redis_reader_holds(reader, held);
    }
    if (fetched->next == fetched->n) {
        reader->fetched = NULL;
        redis_fetched_drop(fetched);
    }
    if (batch != NULL)
        subscription_deliver(reader->subscription, batch);
}

void redis_reader_tell(struct redis_reader *reader)
{
    if (!reader->entered_once && !reader->stands)
        return;
    if (!reader->told) {
        reader->told = true;
        subscription_opened(reader->subscription);
    }
    if (!reader->closing)
        tell_moves(reader);
    if (!reader->closing)
        tell_gap(reader);
    hand_over(reader);
}
