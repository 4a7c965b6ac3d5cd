/* The home side of a call: what handlers see.
 *
 * happy path   begin (decode, handler) -> ops.. -> call_reply -> the last op is done -> `final` to
 *              the poller
 * refused      the request does not decode: INVALID_ARGUMENT without a handler
 * no room      answers in flight hold all the memory they may: RESOURCE_EXHAUSTED instead of the
 *              answer to a read, or as the outcome of a send
 * cancelled    `tell`: ops are asked to let go, on_cancel runs; the handler still ends the call
 * drain        `tell`, softly: only on_cancel runs
 *
 * The answer leaves when the handler has ended the call and none of its ops is pending; the arena
 * is cleared then, or, for a stream that still waits for a message, once that receive has come
 * back. */
#include "src/rpc/rpc_priv.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <grpc/byte_buffer.h>
#include <stdio.h>
#include <stdlib.h>

static void call_bug(const struct call *call, const char *what)
{
    fprintf(stderr, "prism: %s: %s\n", call->row->method->path, what);
    abort();
}

struct arena *call_arena(struct call *call)
{
    return &call->arena;
}

void *call_pattern(const struct call *call)
{
    return call->instance->pattern;
}

const void *call_request(const struct call *call)
{
    return call->request;
}

struct op_group *call_group(struct call *call)
{
    return &call->group;
}

void call_start(struct call *call, struct op *op, op_done_fn *done)
{
    op_start(op, &call->group, done);
}

/* Work for the poller: at once when this is its thread. */
static void to_poller(struct call *call, struct job *job)
{
    if (call->home == &call->server->poller)
        job->run(job);
    else
        worker_land(&call->server->poller, job);
}

/* ---- the end ---- */

/* `final` may end the call's life on the poller: with the release in it, nothing here may be
 * touched afterwards. */
static void ask_final(struct call *call)
{
    bool last = call->stream.pending == 0;

    call->final_asked = true;
    if (last)
        arena_clear(&call->arena);
    call->released = last;
    to_poller(call, &call->final);
}

static void group_idle(struct op_group *group)
{
    struct call *call = CONTAINER_OF(group, struct call, group);

    if (call->ended && !call->final_asked)
        ask_final(call);
    else if (!call->ended && call->on_cancel == NULL && call->stream.pending == 0)
        call_bug(call, "the handler waits for nothing and has not ended the call");
}

static void stream_idle(struct op_group *group)
{
    struct call *call = CONTAINER_OF(group, struct call, stream);

    if (!call->final_asked)
        return;
    arena_clear(&call->arena);
    to_poller(call, &call->release);
}

static void end(struct call *call, struct ending ending)
{
    if (call->ended)
        call_bug(call, "ended twice");
    call->ended = true;
    call->on_cancel = NULL;
    call->ending = ending;
    if (call->group.pending == 0)
        ask_final(call); /* from outside any op and handler: an event */
}

void call_reply(struct call *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = codec_pack(call, message);

    answers_count(call, buffer);
    end(call, (struct ending){.code = ERR_OK, .message = buffer});
}

void call_reply_read(struct call *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = codec_pack(call, message);

    answers_count(call, buffer);
    struct err err = answers_fit(call);

    if (err.code == ERR_OK) {
        end(call, (struct ending){.code = ERR_OK, .message = buffer});
        return;
    }
    answers_uncount(call);
    grpc_byte_buffer_destroy(buffer);
    call_fail(call, err);
}

void call_close(struct call *call)
{
    end(call, (struct ending){.code = ERR_OK});
}

void call_fail(struct call *call, struct err err)
{
    if (err.code == ERR_OK)
        call_bug(call, "failed without an error");
    end(call, status_ending(err));
}

/* ---- the beginning ---- */

static void apply_told(struct call *call)
{
    if (call->told.code != ERR_OK && !call->told_softly)
        op_group_cancel(&call->group, call->told);
}

static void decode_and_handle(struct call *call)
{
    const struct method *method = call->row->method;

    if (method->kind != METHOD_BIDI) {
        struct err err = codec_unpack(&call->arena, call, call->request_buffer, &call->request);

        if (err.code != ERR_OK) {
            call_fail(call, err);
            return;
        }
    }
    method->handle(call);
}

void call_begin_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, begin);

    arena_init(&call->arena, &call->home->arenas);
    op_group_init(&call->group, call->home, &call->arena, call->deadline_ns);
    op_group_init(&call->stream, call->home, &call->arena, 0);
    call->group.idle = group_idle;
    call->stream.idle = stream_idle;
    call->begun = true;
    op_group_enter(&call->group);
    apply_told(call);
    decode_and_handle(call);
    op_group_leave(&call->group);
}

/* ---- cancellation ---- */

static void run_on_cancel(struct call *call)
{
    void (*cancelled)(struct call *, void *) = call->on_cancel;

    if (cancelled == NULL)
        return;
    call->on_cancel = NULL;
    cancelled(call, call->on_cancel_arg);
}

static void event_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, event);

    call->event_queued = false;
    run_on_cancel(call);
    op_group_leave(&call->group);
}

/* Told already: the handler hears of it later, not inside its own call. */
void call_on_cancel(struct call *call, void (*cancelled)(struct call *, void *), void *arg)
{
    call->on_cancel = cancelled;
    call->on_cancel_arg = arg;
    if (call->told.code == ERR_OK || call->event_queued)
        return;
    call->event_queued = true;
    call->event.run = event_job;
    op_group_enter(&call->group);
    worker_land(call->home, &call->event);
}

void call_tell_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, tell);

    if (call->told.code == ERR_OK || !call->tell_softly) { /* a drain does not bring clients back */
        call->told = call->tell_why;
        call->told_softly = call->tell_softly;
    }
    if (call->begun && !call->final_asked) {
        op_group_enter(&call->group);
        apply_told(call);
        run_on_cancel(call);
        op_group_leave(&call->group);
    }
    to_poller(call, &call->tell_back);
}

/* ---- streams ---- */

void call_send(struct call *call, const ProtobufCMessage *message, struct op *sent,
               op_done_fn *done)
{
    if (call->sent != NULL || call->ended)
        call_bug(call, "two sends at a time, or a send after the end");
    grpc_byte_buffer *buffer = codec_pack(call, message);

    op_start(sent, &call->group, done);
    answers_count(call, buffer);
    struct err err = answers_fit(call);

    if (err.code != ERR_OK) {
        answers_uncount(call);
        grpc_byte_buffer_destroy(buffer);
        op_finish(sent, err);
        return;
    }
    call->sent = sent;
    call->send_buffer = buffer;
    to_poller(call, &call->send);
}

static void drop_buffer(void *buffer)
{
    grpc_byte_buffer_destroy(buffer);
}

static void receive_decode(struct call *call, struct call_receive *receive)
{
    struct arena *arena = receive->arena != NULL ? receive->arena : &call->arena;
    grpc_byte_buffer *buffer = call->receive_buffer;

    receive->message = NULL;
    call->receive_buffer = NULL;
    if (buffer == NULL) {
        if (receive->op.err.code == ERR_OK && !call->told_softly)
            receive->op.err = call->told;
        return;
    }
    receive->op.err = codec_unpack(arena, call, buffer, &receive->message);
    arena_adopt(arena, buffer, drop_buffer); /* the message points into it */
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct call *call = receive->call;

    call->receiving = NULL;
    if (call->ended) { /* nobody waits any more */
        if (call->receive_buffer != NULL)
            grpc_byte_buffer_destroy(call->receive_buffer);
        call->receive_buffer = NULL;
        return;
    }
    op_group_enter(&call->group);
    receive_decode(call, receive);
    receive->then(op);
    op_group_leave(&call->group);
}

void call_receive(struct call *call, struct call_receive *receive, op_done_fn *done)
{
    if (call->receiving != NULL || call->ended)
        call_bug(call, "two receives at a time, or a receive after the end");
    receive->call = call;
    receive->then = done;
    op_start(&receive->op, &call->stream, received);
    call->receiving = receive;
    to_poller(call, &call->receive);
}
