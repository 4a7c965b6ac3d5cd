/* happy path   put -> run: gather waiting items into a round, a permit, publish
 *              -> round_done: outcomes go back to their frames -> run -> settled
 * failure      round_done: may be tried again -> the item waits, after a pause -> run
 *              round_done: final -> settled with the error, its key stops
 * stopped      gather settles what must not be sent with ABORTED
 * cancelled    gather settles what was not sent with the group's error */
#include "patterns/producer/outbox.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

/* Consecutive items of one frame. */
struct run {
    struct frame *frame;
    size_t first, n;
};

struct round {
    struct publish publish;
    struct outbox *outbox;
    struct round *next;
    struct arena arena; /* what follows, and outputs of copied items */
    struct run *runs;
    size_t n_runs, cap_runs, n;
    uint64_t bytes;
    bool keyed; /* holds an item with a key */
    bool copied;
};

static void run(struct outbox *outbox, bool permit);
static void round_done(struct op *op);

/* ---- rounds ---- */

static bool is_keyed(const struct outbox *outbox, const struct outgoing *item)
{
    return outbox->mode == FAILURE_STOP_ALL || !message_is_null(item->key);
}

static struct round *take_round(struct outbox *outbox)
{
    struct round *round = outbox->free_rounds;

    if (round != NULL) {
        outbox->free_rounds = round->next;
        return round;
    }
    round = arena_zalloc(outbox->group->arena, sizeof *round);
    round->outbox = outbox;
    arena_init(&round->arena, &outbox->group->home->arenas);
    return round;
}

static void free_round(struct round *round)
{
    arena_clear(&round->arena);
    round->runs = NULL;
    round->n_runs = round->cap_runs = round->n = 0;
    round->bytes = 0;
    round->keyed = round->copied = false;
    round->next = round->outbox->free_rounds;
    round->outbox->free_rounds = round;
}

static void add(struct round *round, struct frame *frame, size_t i)
{
    struct run *last = round->n_runs > 0 ? &round->runs[round->n_runs - 1] : NULL;

    round->n++;
    if (last != NULL && last->frame == frame && last->first + last->n == i) {
        last->n++;
        return;
    }
    if (round->n_runs == round->cap_runs) {
        size_t cap = round->cap_runs != 0 ? 2 * round->cap_runs : 4;
        struct run *more = arena_alloc(&round->arena, cap * sizeof *more);

        if (round->n_runs > 0)
            memcpy(more, round->runs, round->n_runs * sizeof *more);
        round->runs = more;
        round->cap_runs = cap;
    }
    round->runs[round->n_runs++] = (struct run){.frame = frame, .first = i, .n = 1};
}

/* Has a round under way a message that this one must not overtake? */
static bool must_wait(const struct outbox *outbox, const struct outgoing *item)
{
    for (const struct round *round = outbox->keyed; round != NULL; round = round->next) {
        const struct outgoing *only = &round->publish.items[0];

        if (outbox->mode == FAILURE_STOP_ALL || round->n > 1)
            return true;
        if (slice_equal(only->key, item->key) && slice_equal(only->topic, item->topic))
            return true;
    }
    return false;
}

/* May the item go with this round? If not, the round is complete without it. */
static bool fits(const struct round *round, const struct outgoing *item, bool keyed)
{
    const struct outbox *outbox = round->outbox;
    const struct producer_plan *plan = &outbox->producer->plan;
    size_t bytes = message_out_bytes(item);

    if (keyed && must_wait(outbox, item))
        return false;
    if (round->n == 0)
        return true;
    if ((keyed || round->keyed) && !plan->sink->keyed)
        return false;
    return round->n < plan->max_items && round->bytes + bytes <= plan->sink->max_frame_bytes;
}

/* The item's turn: it goes with the round, or has its outcome. False: the round is complete. */
static bool take_turn(struct round *round, struct frame *frame, size_t i, struct err stop)
{
    struct outbox *outbox = round->outbox;
    struct outgoing *item = &frame->items[i];

    if (frame->states[i] == ITEM_SETTLED) {
        if (i == frame->seen && item->err.code != ERR_OK)
            outbox_stop_after(outbox, item); /* refused when it was read */
        return true;
    }
    if (frame->states[i] == ITEM_UNDER_WAY)
        return true;
    if (stop.code != ERR_OK) {
        frame_settle(frame, i, stop);
        return true;
    }
    if (outbox_is_stopped(outbox, item)) {
        frame_settle(
            frame, i,
            err_make(ERR_ABORTED, "an earlier message of this key, or of this stream, failed"));
        return true;
    }

    bool keyed = is_keyed(outbox, item);

    if (!frame->whole && !fits(round, item, keyed))
        return false;
    add(round, frame, i);
    round->bytes += message_out_bytes(item);
    round->keyed |= keyed;
    frame->states[i] = ITEM_UNDER_WAY;
    return true;
}

/* False: the round is complete. */
static bool gather_frame(struct round *round, struct frame *frame, struct err stop)
{
    bool all = !frame->held || frame->finishing;

    if (!all)
        return false;
    outbox_enter(round->outbox, frame);
    while (all && frame->waiting_from < frame->n) {
        all = take_turn(round, frame, frame->waiting_from, stop);
        frame->waiting_from += all;
        if (frame->seen < frame->waiting_from)
            frame->seen = frame->waiting_from;
    }
    return all;
}

static void gather(struct outbox *outbox, struct round *round)
{
    struct err stop = outbox_reason_to_stop(outbox);

    while (outbox->cursor != NULL && gather_frame(round, outbox->cursor, stop))
        outbox->cursor = outbox->cursor->next;
}

/* Items that stand side by side are lent to the sink as they are. */
static struct outgoing *items_of(struct round *round)
{
    struct run *only = &round->runs[0];
    struct outgoing *items;
    size_t n = 0;

    round->copied = round->n_runs > 1;
    if (!round->copied)
        return &only->frame->items[only->first];
    items = arena_alloc(&round->arena, round->n * sizeof *items);
    for (size_t i = 0; i < round->n_runs; i++) {
        const struct run *from = &round->runs[i];

        memcpy(&items[n], &from->frame->items[from->first], from->n * sizeof *items);
        n += from->n;
    }
    return items;
}

static void send(struct outbox *outbox, struct round *round)
{
    struct producer *producer = outbox->producer;

    if (round->keyed) {
        round->next = outbox->keyed;
        outbox->keyed = round;
    }
    outbox->under_way++;
    round->publish.items = items_of(round);
    round->publish.n = round->n;
    round->publish.atomic = round->runs[0].frame->whole;
    round->publish.culprit = round->runs[0].frame->culprit = PUBLISH_ALL;
    op_start(&round->publish.op, outbox->group, round_done);
    round->publish.op.arena = round->copied ? &round->arena : round->runs[0].frame->arena;
    producer->plan.sink->publish(producer->sink, &round->publish);
}

/* ---- outcomes ---- */

/* The sink refused an item because an earlier one of its key failed: it waits with that one, unless
 * that one's failure was final and stops the key. */
static void one_done(struct outbox *outbox, struct frame *frame, size_t i, uint32_t *pause_ms)
{
    const struct outgoing *item = &frame->items[i];
    struct err err = item->err;

    if (err.code == ERR_OK) {
        outbox->backoff_ms = 0;
        frame_settle(frame, i, err);
        return;
    }
    if (outbox_is_stopped(outbox, item) || !outbox_may_try_again(frame, err)) {
        frame_settle(frame, i, err);
        outbox_stop_after(outbox, item);
        return;
    }
    counter_add(&outbox->producer->stats.retries, 1);
    frame->states[i] = ITEM_WAITING;
    if (i < frame->waiting_from)
        frame->waiting_from = i;
    outbox->cursor = outbox->first; /* earlier than what has come since */
    if (*pause_ms < OUTBOX_PAUSE_MS)
        *pause_ms = OUTBOX_PAUSE_MS;
    if (err.retry_after_ms > *pause_ms)
        *pause_ms = err.retry_after_ms;
}

static const char *copy_text(struct arena *arena, const char *text)
{
    return text != NULL ? arena_strdup(arena, slice_str(text)) : NULL;
}

/* The outcome of a copied item moves to the memory of its frame. */
static void bring_home(struct frame *frame, struct outgoing *item)
{
    if (!message_is_null(item->position))
        item->position = arena_copy(frame->arena, item->position);
    item->err.text = copy_text(frame->arena, item->err.text);
    item->err.subject = copy_text(frame->arena, item->err.subject);
}

static uint32_t take_outcomes(struct round *round)
{
    struct err all = round->publish.op.err;
    uint32_t pause_ms = 0;
    size_t at = 0;

    for (size_t r = 0; r < round->n_runs; r++) {
        const struct run *from = &round->runs[r];

        for (size_t i = from->first; i < from->first + from->n; i++, at++) {
            struct outgoing *item = &from->frame->items[i];

            if (round->copied)
                *item = round->publish.items[at];
            if (all.code != ERR_OK)
                item->err = all;
            if (at == round->publish.culprit)
                from->frame->culprit = (uint32_t)i;
            if (round->copied)
                bring_home(from->frame, item);
            one_done(round->outbox, from->frame, i, &pause_ms);
        }
    }
    return pause_ms;
}

static void pause_over(struct timer *timer)
{
    struct outbox *outbox = CONTAINER_OF(timer, struct outbox, pause);

    run(outbox, false);
    op_group_leave(outbox->group);
}

static void pause(struct outbox *outbox, uint32_t ms)
{
    struct worker *home = outbox->group->home;

    if (timer_armed(&outbox->pause))
        return;
    outbox->backoff_ms = outbox_next_pause_ms(outbox, ms);
    op_group_enter(outbox->group);
    timer_arm(&home->timers, &outbox->pause, home->now_ns + outbox->backoff_ms * NS_PER_MS,
              pause_over);
}

static void unlink_keyed(struct outbox *outbox, const struct round *round)
{
    struct round **at = &outbox->keyed;

    while (*at != round)
        at = &(*at)->next;
    *at = round->next;
}

static void round_done(struct op *op)
{
    struct round *round = CONTAINER_OF(op, struct round, publish.op);
    struct outbox *outbox = round->outbox;
    uint32_t pause_ms;

    if (round->keyed)
        unlink_keyed(outbox, round);
    outbox->under_way--;
    semaphore_release(&outbox->producer->semaphore);
    pause_ms = take_outcomes(round);
    free_round(round);
    if (pause_ms > 0)
        pause(outbox, pause_ms);
    run(outbox, false);
}

/* ---- the whole ---- */

/* Frames finish side by side, and are told in their order. */
static void finish_frames(struct outbox *outbox)
{
    for (struct frame *frame = outbox->first; outbox->finishes && frame != NULL;
         frame = frame->next) {
        if (frame->finish == NULL || frame->finishing || !frame_is_over(frame))
            continue;
        frame->finishing = frame->held = true;
        frame->finish(frame);
    }
}

static void end_frames(struct outbox *outbox)
{
    while (outbox->first != NULL && frame_is_over(outbox->first) && !outbox->first->held) {
        struct frame *frame = outbox->first;

        outbox->first = frame->next;
        if (outbox->first == NULL)
            outbox->last = &outbox->first;
        if (outbox->cursor == frame)
            outbox->cursor = frame->next;
        frame_count(frame);
        frame->settled(frame);
    }
}

static void granted(struct semaphore_waiter *waiter)
{
    struct outbox *outbox = CONTAINER_OF(waiter, struct outbox, permit);

    run(outbox, true);
    op_group_leave(outbox->group);
}

/* One round with a permit in hand. False: there is nothing to send now, and the permit is back. */
static bool send_one(struct outbox *outbox)
{
    struct round *round = take_round(outbox);

    gather(outbox, round);
    if (round->n > 0) {
        send(outbox, round);
        return true;
    }
    free_round(round);
    semaphore_release(&outbox->producer->semaphore);
    return false;
}

static bool may_send(const struct outbox *outbox)
{
    return outbox->cursor != NULL && outbox->under_way < outbox->producer->plan.width &&
           !timer_armed(&outbox->pause) && outbox->permit.next == NULL;
}

/* `permit`: one is held already. */
static void run(struct outbox *outbox, bool permit)
{
    if (outbox->running) { /* inside settled(): the outer run goes on */
        if (permit)
            semaphore_release(&outbox->producer->semaphore);
        return;
    }
    outbox->running = true;
    while (may_send(outbox)) {
        if (!permit && !semaphore_try(&outbox->producer->semaphore)) {
            op_group_enter(outbox->group);
            outbox->permit.granted = granted;
            semaphore_wait(&outbox->producer->semaphore, &outbox->permit);
            break;
        }
        permit = false;
        if (!send_one(outbox))
            break;
    }
    if (permit)
        semaphore_release(&outbox->producer->semaphore);
    finish_frames(outbox);
    outbox->running = false;
    end_frames(outbox);
}

void outbox_hold(struct frame *frame)
{
    frame->held = true;
}

void outbox_release(struct frame *frame)
{
    frame->held = false;
    if (frame->outbox != NULL) /* not before outbox_put */
        run(frame->outbox, false);
}

void outbox_put(struct outbox *outbox, struct frame *frame)
{
    struct producer *producer = outbox->producer;

    frame->outbox = outbox;
    frame->accepted_ns = clock_now_ns();
    frame->epoch = epoch_accept(&producer->epochs, frame->n);
    counter_add(&producer->stats.frames, 1);
    counter_add(&producer->stats.unsettled, frame->n);
    counter_add(&producer->stats.unsettled_bytes, frame->bytes);
    outbox->finishes |= frame->finish != NULL;
    *outbox->last = frame;
    outbox->last = &frame->next;
    if (outbox->cursor == NULL)
        outbox->cursor = frame;
    run(outbox, false);
}

static void dispose(void *arg)
{
    struct outbox *outbox = arg;

    key_set_clear(&outbox->stopped);
    for (struct round *round = outbox->free_rounds; round != NULL; round = round->next)
        arena_clear(&round->arena);
}

struct outbox *outbox_new(struct producer *producer, struct call *call, enum failure_mode mode)
{
    struct outbox *outbox = arena_zalloc(call_arena(call), sizeof *outbox);

    outbox->producer = producer;
    outbox->group = call_group(call);
    outbox->mode = mode;
    outbox->last = &outbox->first;
    key_set_init(&outbox->stopped, &outbox->group->home->arenas);
    arena_adopt(call_arena(call), outbox, dispose);
    return outbox;
}
