/* Consume and Subscribe on the worker of the call: receives, sends, and tells the member's home
 * (member.h) of all that happens.
 *
 * happy path   request -> join -> frame -> sent -> frame ..     (a few at a time)
 *              Consume: received -> said -> heard -> received ..
 * half-close   gone, orderly -> over -> bye -> ended: OK
 * client gone  gone -> over -> bye -> ended
 * drain        drain: no more messages, settlements go on */
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/container.h"

static void received(struct op *op);

/* ---- to the home ---- */

static void land(struct outlet *outlet, struct job *job)
{
    worker_land(outlet->feed->consumer->base.home, job);
}

static void tell_gone(struct outlet *outlet, struct err why, bool orderly)
{
    if (outlet->left || outlet->told_gone)
        return;
    outlet->told_gone = true;
    outlet->why = why;
    outlet->orderly = orderly;
    land(outlet, &outlet->gone);
}

/* Before the first message of Consume has come there is no home: then the receive ends the call. */
static void cancelled(struct call *call, void *arg)
{
    struct outlet *outlet = arg;

    if (outlet->feed != NULL)
        tell_gone(outlet, call_group(call)->cancelled, false);
}

static void draining(struct call *call, void *arg)
{
    struct outlet *outlet = arg;

    (void)call;
    outlet->draining = true;
    if (outlet->feed != NULL && !outlet->left)
        land(outlet, &outlet->drain);
}

/* ---- from the home ---- */

void outlet_written(struct frame *frame, struct err err)
{
    frame->err = err;
    land(frame->outlet, &frame->sent);
}

static void sent(struct op *op)
{
    outlet_written(CONTAINER_OF(op, struct frame, sending), op->err);
}

void outlet_send(struct job *job)
{
    struct frame *frame = CONTAINER_OF(job, struct frame, go);
    struct outlet *outlet = frame->outlet;

    if (!outlet->bidi && !outlet->headed)
        call_headers(outlet->call, "x-prism-subscription-id", slice_str(outlet->member->id));
    outlet->headed = true;
    arena_clear(&outlet->asked);
    if (outlet->write != NULL) {
        outlet->write(frame);
        return;
    }
    call_send_written(outlet->call, member_frame_bytes(frame), member_frame_write, frame,
                      &frame->sending, sent);
}

static void receive(struct outlet *outlet)
{
    outlet->receive.arena = &outlet->arena;
    call_receive(outlet->call, &outlet->receive, received);
}

/* What its client may have to be told: all that it has named may fail, and waits until the client
 * reads. */
static struct err hold_answers(struct outlet *outlet, size_t names)
{
    enum { ANSWER_BYTES = sizeof(pb_settlement_failure) + 3 * sizeof(void *) };

    return call_hold(outlet->call, (outlet->untold + names) * ANSWER_BYTES);
}

static void heard(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, heard);

    arena_clear(&outlet->arena);
    if (outlet->left)
        return;
    (void)hold_answers(outlet, 0); /* less than before */
    receive(outlet);
}

static void over(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, over);

    outlet->left = true;
    land(outlet, &outlet->bye);
}

/* The end of the call, on whichever way it came to it. */
static void end(struct outlet *outlet, struct err why)
{
    struct call *call = outlet->call;

    outlet->left = true;
    if (why.code == ERR_OK)
        call_close(call);
    else
        call_fail(call, why);
    op_group_leave(call_group(call));
}

static void ended(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, ended);

    end(outlet, outlet->end);
}

/* ---- the beginning ---- */

static void clear_arena(void *arena)
{
    arena_clear(arena);
}

struct outlet *outlet_new(struct call *call, bool bidi)
{
    struct outlet *outlet = arena_zalloc(call_arena(call), sizeof *outlet);

    outlet->call = call;
    outlet->worker = call_group(call)->home;
    outlet->bidi = bidi;
    arena_init(&outlet->arena, &outlet->worker->arenas);
    arena_adopt(call_arena(call), &outlet->arena, clear_arena);
    arena_adopt(call_arena(call), &outlet->asked, clear_arena);
    outlet->join.run = member_join;
    outlet->said.run = member_said;
    outlet->gone.run = member_gone;
    outlet->drain.run = member_drain;
    outlet->bye.run = member_bye;
    outlet->heard.run = heard;
    outlet->over.run = over;
    outlet->ended.run = ended;
    op_group_enter(call_group(call));
    call_on_cancel(call, cancelled, outlet);
    call_on_drain(call, draining, outlet);
    return outlet;
}

void outlet_join(struct outlet *outlet, const pb_subscribe_request *request)
{
    struct consumer *consumer = consumer_of(outlet->call);
    struct err err = outlet->draining
                         ? err_make(ERR_UNAVAILABLE, "the server is draining")
                         : consumer_read(consumer, &outlet->asked, request, &outlet->want);

    if (err.code == ERR_OK)
        err = shared_take_feed(consumer, &outlet->want.feed, &outlet->feed);
    if (err.code != ERR_OK) {
        end(outlet, err);
        return;
    }
    land(outlet, &outlet->join);
}

static void began(struct op *op)
{
    struct outlet *outlet = CONTAINER_OF(op, struct outlet, receive.op);
    const pb_consume_request *request = (const void *)outlet->receive.message;

    if (op->err.code != ERR_OK) {
        end(outlet, op->err);
        return;
    }
    if (request == NULL || request->action_case != CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE)) {
        end(outlet, err_about(ERR_INVALID_ARGUMENT, "subscribe",
                              "the first message has to be `subscribe`"));
        return;
    }
    outlet_join(outlet, request->subscribe);
    if (!outlet->left)
        receive(outlet);
}

static void received(struct op *op)
{
    struct outlet *outlet = CONTAINER_OF(op, struct outlet, receive.op);
    const pb_consume_request *request = (const void *)outlet->receive.message;
    struct err err = op->err;

    if (outlet->left)
        return;
    if (err.code == ERR_OK && request != NULL)
        err = hold_answers(outlet, member_names(request));
    if (err.code != ERR_OK)
        tell_gone(outlet, err, false);
    else if (request == NULL)
        tell_gone(outlet, ERR_NONE, true);
    else
        land(outlet, &outlet->said);
}

void consumer_consume(struct call *call)
{
    struct arena asked;

    (void)call_take_request(call, &asked); /* there is none: only the metadata goes */

    struct outlet *outlet = outlet_new(call, true);

    outlet->asked = asked;
    outlet->receive.arena = &outlet->asked;
    call_receive(call, &outlet->receive, began);
}

/* The stream may stay for long, and need not keep its request. */
void consumer_subscribe(struct call *call)
{
    struct arena asked;
    const pb_subscribe_request *request = call_take_request(call, &asked);
    struct outlet *outlet = outlet_new(call, false);

    outlet->asked = asked;
    outlet_join(outlet, request);
}
