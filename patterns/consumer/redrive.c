/* Redrive: dead letters go back to the topic that they came from.
 *
 *   describe -> open -> count -> batch (redrive_batch.c) -> batch .. -> close -> answer
 *
 * What is counted is what the group has not settled, which some sources know only of a group that
 * is there: so it is counted behind the opening.
 *
 * The call ends when all that were there at its beginning were tried, or as many as it asked for;
 * when the others are in other hands, so that nothing comes; or when the source keeps one position
 * and one of them failed: those behind it could not be settled.
 *
 * Budget: REDRIVE_BYTES and one message for each call, of which MAX_REDRIVES run on a worker. */
#include "patterns/consumer/redrive.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

enum {
    MAX_REDRIVES = 16,
    REDRIVE_BYTES = 256 << 10,
    FIRST_MS =
        15000,      /* for letters that nobody holds: groups of some sources take seconds to form */
    NEXT_MS = 2000, /* for those that others may give back */
};

static void next_batch(struct redrive *redrive);
static const struct subscription_events events;

/* ---- the end ---- */

static void reply(struct redrive *redrive)
{
    pb_redrive_response response;

    prism__patterns__consumer__redrive_response__init(&response);
    response.redriven_count = (int64_t)redrive->redriven;
    response.failed_count = (int64_t)redrive->failed;
    if (redrive->failed > 0) {
        response._error_case = CONSUMER_PB(REDRIVE_RESPONSE___ERROR_ERROR);
        response.error = pb_text(redrive->why.text);
        response.code = (int32_t)redrive->why.code;
    }
    call_reply(redrive->call, &response.base);
}

static void finish(struct redrive *redrive)
{
    struct call *call = redrive->call;

    timer_disarm(&redrive->consumer->base.home->timers, &redrive->silence);
    redrive->consumer->redrives--;
    if (redrive->end.code != ERR_OK)
        call_fail(call, redrive->end);
    else
        reply(redrive);
    op_group_leave(call_group(call));
}

static void drop_first(struct redrive *redrive)
{
    struct incoming_batch *batch = redrive->first;

    redrive->first = batch->holder;
    incoming_drop(batch, batch->n);
}

static void drop_all(struct redrive *redrive)
{
    while (redrive->first != NULL)
        drop_first(redrive);
}

/* Nothing more is tried; what is not settled stays a dead letter. */
static void stop(struct redrive *redrive)
{
    redrive->stopping = true;
    if (redrive->busy || redrive->closing)
        return;
    redrive->closing = true;
    drop_all(redrive);
    redrive->from.source->close(redrive->consumer->dead, &redrive->subscription);
}

static bool is_open(const struct redrive *redrive)
{
    enum subscription_state state = redrive->subscription.state;

    return state == SUB_OPENING || state == SUB_RUNNING;
}

static void end_with(struct redrive *redrive, struct err err)
{
    redrive->end = about_dead_topic(call_arena(redrive->call), redrive->letters, err);
}

static void closed(struct subscription *subscription, struct err err)
{
    struct redrive *redrive = CONTAINER_OF(subscription, struct redrive, subscription);

    /* A topic that is not there holds no dead letters. */
    if (!redrive->closing && err.code != ERR_NOT_FOUND && redrive->end.code == ERR_OK)
        end_with(redrive, err);
    redrive->stopping = redrive->closing = true;
    if (redrive->busy)
        return;
    drop_all(redrive);
    finish(redrive);
}

static void cancelled(struct call *call, void *arg)
{
    struct redrive *redrive = arg;

    redrive->end = call_group(call)->cancelled;
    redrive->stopping = true;
    if (is_open(redrive))
        stop(redrive);
}

static void draining(struct call *call, void *arg)
{
    struct redrive *redrive = arg;

    (void)call;
    redrive->stopping = true;
    if (is_open(redrive))
        stop(redrive);
}

static void heard_nothing(struct timer *timer)
{
    stop(CONTAINER_OF(timer, struct redrive, silence));
}

static void wait_for(struct redrive *redrive, uint64_t ms)
{
    struct worker *home = redrive->consumer->base.home;

    timer_disarm(&home->timers, &redrive->silence);
    timer_arm(&home->timers, &redrive->silence, home->now_ns + ms * NS_PER_MS, heard_nothing);
}

/* ---- batch after batch ---- */

static void grant(struct redrive *redrive)
{
    struct subscription *subscription = &redrive->subscription;
    uint64_t left = redrive->most - redrive->granted;
    uint64_t messages = left < BATCH_MESSAGES ? left : BATCH_MESSAGES;
    int64_t bytes = REDRIVE_BYTES - subscription->credit_bytes;

    if (subscription->credit_messages > 0)
        messages = 0;
    if (messages == 0 && (subscription->credit_messages == 0 || subscription->credit_bytes > 0))
        return;
    redrive->granted += messages;
    redrive->from.source->grant(redrive->consumer->dead, subscription, (uint32_t)messages,
                                bytes > 0 ? (uint64_t)bytes : 0);
}

static void next_batch(struct redrive *redrive)
{
    if (redrive->busy || redrive->closing)
        return;
    if (redrive->stopping || redrive->taken >= redrive->most) {
        stop(redrive);
        return;
    }
    if (redrive->first != NULL) {
        redrive_batch(redrive);
        return;
    }
    grant(redrive);
    wait_for(redrive, redrive->taken < redrive->sure ? FIRST_MS : NEXT_MS);
}

/* A step is over that the end had to wait for. */
static void go_on(struct redrive *redrive)
{
    redrive->busy = false;
    if (redrive->subscription.state != SUB_CLOSED) {
        next_batch(redrive);
        return;
    }
    drop_all(redrive);
    finish(redrive);
}

void redrive_batch_over(struct redrive *redrive)
{
    redrive->taken += redrive->first->n;
    drop_first(redrive);
    arena_clear(&redrive->memory);
    if (redrive->failed > 0 && !redrive->from.settling->single)
        redrive->stopping = true;
    go_on(redrive);
}

/* ---- how many there are ---- */

/* What the group has not settled; UINT64_MAX: the source does not know. */
static uint64_t unsettled_letters(const struct redrive *redrive)
{
    const struct stream_position *position = &redrive->position;
    int64_t sum = 0;

    if (redrive->from.stream == NULL)
        return redrive->count.ready >= 0 ? (uint64_t)redrive->count.ready : UINT64_MAX;
    if (!position->found && position->n == 0)
        return UINT64_MAX;
    for (size_t i = 0; i < position->n; i++) {
        const struct stream_partition *p = &position->partitions[i];
        int64_t lag = p->lag < 0 && p->committed < 0 && p->first >= 0 ? p->end - p->first : p->lag;

        if (lag < 0)
            return UINT64_MAX;
        sum += lag;
    }
    return (uint64_t)sum;
}

/* Some of them may be in other hands, or come only when the source finds that nobody has them. */
static void counted(struct redrive *redrive, struct err err)
{
    uint64_t letters = err.code == ERR_OK ? unsettled_letters(redrive) : 0;
    int64_t held = redrive->position.found ? redrive->position.unsettled : 0;

    if (err.code != ERR_OK && err.code != ERR_NOT_FOUND && redrive->end.code == ERR_OK)
        end_with(redrive, err);
    if (redrive->most > letters)
        redrive->most = letters;
    redrive->sure = letters == UINT64_MAX ? 1 : letters;
    if (held > 0)
        redrive->sure -= (uint64_t)held < redrive->sure ? (uint64_t)held : redrive->sure;
    go_on(redrive);
}

static void position_known(struct op *op)
{
    counted(CONTAINER_OF(op, struct redrive, position.op), op->err);
}

static void queue_counted(struct op *op)
{
    counted(CONTAINER_OF(op, struct redrive, count.op), op->err);
}

static void opened(struct subscription *subscription)
{
    struct redrive *redrive = CONTAINER_OF(subscription, struct redrive, subscription);
    struct backend *dead = redrive->consumer->dead;

    redrive->busy = true;
    if (redrive->from.stream != NULL) {
        redrive->position.topic = redrive->letters;
        redrive->position.group = redrive->group;
        call_start(redrive->call, &redrive->position.op, position_known);
        redrive->from.stream->position(dead, &redrive->position);
    } else {
        redrive->count.queue = redrive->letters;
        call_start(redrive->call, &redrive->count.op, queue_counted);
        redrive->from.queue->count(dead, &redrive->count);
    }
}

/* ---- events of the source ---- */

static void batch_came(struct subscription *subscription, struct incoming_batch *batch)
{
    struct redrive *redrive = CONTAINER_OF(subscription, struct redrive, subscription);

    batch->holder = NULL;
    if (redrive->first == NULL)
        redrive->first = batch;
    else
        redrive->last->holder = batch;
    redrive->last = batch;
    timer_disarm(&redrive->consumer->base.home->timers, &redrive->silence);
    next_batch(redrive);
}

/* What is no longer ours is refused when it is settled. */
static void moved(struct subscription *subscription, const struct subscription_move *move)
{
    (void)subscription;
    (void)move;
}

static void gap_came(struct subscription *subscription, const struct subscription_gap *gap)
{
    (void)subscription;
    (void)gap;
}

static const struct subscription_events events = {
    .opened = opened, .batch = batch_came, .moved = moved, .gap = gap_came, .closed = closed};

/* ---- the beginning ---- */

static void open_letters(struct redrive *redrive)
{
    redrive->subscription.want = (struct subscription_want){
        .topic = redrive->letters,
        .group = redrive->from.stream != NULL ? redrive->group : message_null(),
        .start = START_COMMITTED,
        .if_none = START_EARLIEST,
        .partition = -1,
        .on_gap = GAP_EARLIEST,
    };
    wait_for(redrive, FIRST_MS);
    redrive->from.source->open(redrive->consumer->dead, &redrive->subscription);
}

static void described(struct op *op)
{
    struct redrive *redrive = CONTAINER_OF(op, struct redrive, describe.op);

    if (op->err.code != ERR_OK && redrive->end.code == ERR_OK)
        end_with(redrive, op->err);
    if (redrive->end.code != ERR_OK || redrive->stopping || !redrive->describe.found)
        finish(redrive);
    else
        open_letters(redrive);
}

static struct err read(struct redrive *redrive, const pb_redrive_request *request)
{
    const struct consumer *consumer = redrive->consumer;
    struct arena *arena = call_arena(redrive->call);
    struct err err;

    if (!consumer_meets(&consumer->plan, NEED_REDRIVE))
        return need_unmet(consumer_need_of(NEED_REDRIVE));
    err = consumer_read_group(consumer, arena, request->topic, request->consumer_group,
                              &redrive->topic, &redrive->group);
    if (consumer->plan.from.queue != NULL)
        redrive->group = message_empty();
    if (err.code == ERR_OK)
        err = dead_topic_of(consumer, arena, redrive->topic, redrive->group, &redrive->letters);
    redrive->most = UINT64_MAX;
    if (err.code == ERR_OK && request->_max_messages_case != 0) {
        if (request->max_messages < 1)
            return err_about(ERR_INVALID_ARGUMENT, "max_messages",
                             "max_messages has to be 1 or more");
        redrive->most = (uint64_t)request->max_messages;
    }
    if (err.code == ERR_OK && consumer->redrives >= MAX_REDRIVES)
        return err_make(ERR_RESOURCE_EXHAUSTED,
                        "as many calls of Redrive are under way as a worker carries out at once");
    return err;
}

void consumer_redrive(struct call *call)
{
    struct redrive *redrive = arena_zalloc(call_arena(call), sizeof *redrive);
    struct consumer *consumer = consumer_of(call);
    struct err err;

    redrive->call = call;
    redrive->consumer = consumer;
    err = read(redrive, call_request(call));
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    redrive->from = consumer->plan.letters;
    subscription_init(&redrive->subscription, consumer->base.home, &events);
    op_group_init(&redrive->work, consumer->base.home, &redrive->memory, 0);
    consumer->redrives++;
    op_group_enter(call_group(call));
    call_on_cancel(call, cancelled, redrive);
    call_on_drain(call, draining, redrive);
    if (redrive->from.stream == NULL) {
        open_letters(redrive);
        return;
    }
    redrive->describe.topic = redrive->letters;
    call_start(call, &redrive->describe.op, described);
    redrive->from.stream->describe(consumer->dead, &redrive->describe);
}
