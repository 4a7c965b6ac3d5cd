#include "patterns/producer/prepare.h"

#include "patterns/producer/whole.h"

#include "src/base/container.h"

static void start_step(struct fanout *fanout, size_t i)
{
    struct preparing *preparing = CONTAINER_OF(fanout, struct preparing, fanout);

    preparing->step(&preparing->items[i]);
}

static void steps_over(struct fanout *fanout)
{
    struct preparing *preparing = CONTAINER_OF(fanout, struct preparing, fanout);

    preparing->after(preparing);
}

void prepare_step_done(struct prepared *prepared)
{
    fanout_item_done(&prepared->preparing->fanout);
}

/* Steps before and after the sink have permits of their own: a step before may wait for a message
 * of another call, whose step after must not wait in turn. */
static void run_steps(struct preparing *preparing, struct semaphore *permits,
                      void (*step)(struct prepared *), void (*after)(struct preparing *))
{
    preparing->step = step;
    preparing->after = after;
    preparing->fanout = (struct fanout){
        .n = preparing->n,
        .width = PREPARE_WIDTH,
        .group = preparing->group,
        .semaphore = permits,
        .start = start_step,
        .all_done = steps_over,
    };
    fanout_run(&preparing->fanout);
}

/* ---- before ---- */

static void ready(struct preparing *preparing)
{
    whole_judge(preparing->frame);
    outbox_release(preparing->frame);
}

static void write_objects(struct preparing *preparing)
{
    whole_judge(preparing->frame);
    run_steps(preparing, &preparing->producer->before, claim_check_write, ready);
}

/* ---- after ---- */

static void over(struct preparing *preparing)
{
    dedup_twins(preparing);
    outbox_release(preparing->frame);
}

static void tidy(struct preparing *preparing)
{
    run_steps(preparing, &preparing->producer->after, claim_check_tidy, over);
}

/* The call may be over by then, or its time: what follows is done all the same, in a group of the
 * instance. The fan-out keeps the call's memory. */
static void finish(struct frame *frame)
{
    struct preparing *preparing = frame->preparing;

    run_steps(preparing, &preparing->producer->after, dedup_remember, tidy);
}

/* ---- the whole ---- */

static bool needs_claim(const struct producer *producer, const struct outgoing *item)
{
    return producer->plan.dedups_by_state && !message_is_null(item->id);
}

static size_t count(const struct producer *producer, const struct frame *frame)
{
    size_t n = 0;

    for (size_t i = 0; i < frame->n; i++)
        n += frame->states[i] == ITEM_WAITING && (needs_claim(producer, &frame->items[i]) ||
                                                  producer_claims(producer, &frame->items[i]));
    return n;
}

/* The plan may have been made again since the frame came. */
static void collect(struct preparing *preparing)
{
    const struct producer *producer = preparing->producer;
    struct frame *frame = preparing->frame;

    preparing->items = arena_alloc(frame->arena, count(producer, frame) * sizeof *preparing->items);
    for (uint32_t i = 0; i < frame->n; i++) {
        bool claims = needs_claim(producer, &frame->items[i]);
        bool checked = producer_claims(producer, &frame->items[i]);

        if (frame->states[i] != ITEM_WAITING || (!claims && !checked))
            continue;
        preparing->items[preparing->n++] = (struct prepared){
            .preparing = preparing, .item = i, .claims = claims, .checked = checked};
    }
}

/* What the look at the topics has settled needs nothing more. */
static void claim(struct preparing *preparing)
{
    collect(preparing);
    dedup_begin(preparing);
    whole_judge(preparing->frame);
    run_steps(preparing, &preparing->producer->before, dedup_claim, write_objects);
}

void prepare_frame(struct producer *producer, struct op_group *group, struct frame *frame)
{
    size_t n = count(producer, frame);
    struct looks *looks = retention_looks(producer, frame);

    retention_note(producer, frame);
    if (n == 0 && looks == NULL)
        return;

    struct preparing *preparing = arena_zalloc(frame->arena, sizeof *preparing);

    preparing->frame = frame;
    preparing->producer = producer;
    preparing->group = group;
    preparing->looks = looks;
    frame->preparing = preparing;
    frame->finish = finish;
    outbox_hold(frame);
    if (looks != NULL)
        retention_look(preparing, claim);
    else
        claim(preparing);
}
