/* The home half of a call: what handlers see. Streams: call_stream.c.
 *
 * happy path   begin (decode, handler) -> ops.. -> call_reply -> the last op is done -> `final` to
 *              the poller
 * refused      the request does not decode: INVALID_ARGUMENT without a handler
 * no room      answers in flight hold all the memory they may: RESOURCE_EXHAUSTED instead of the
 *              answer to a read, or as the outcome of a send
 * cancelled    notice: ops are asked to let go, on_cancel runs; the handler still ends the call
 * drain        soft notice: only on_drain runs
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

void call_bug(const struct call *call, const char *what)
{
    fprintf(stderr, "prism: %s: %s\n", call->row->method->path, what);
    abort();
}

struct arena *call_arena(struct call *call)
{
    return &call->home.arena;
}

void *call_pattern(const struct call *call)
{
    return call->instance->pattern;
}

const void *call_request(const struct call *call)
{
    return call->home.request;
}

static void drop_buffer(void *buffer)
{
    grpc_byte_buffer_destroy(buffer);
}

const void *call_take_request(struct call *call, struct arena *memory)
{
    const void *request = call->home.request;

    *memory = call->home.arena;
    arena_init(&call->home.arena, memory->cache);
    if (call->request_buffer != NULL)
        arena_adopt(memory, call->request_buffer, drop_buffer);
    call->request_buffer = NULL;
    call->home.request = NULL;
    grpc_metadata_array_destroy(&call->poller.metadata);
    grpc_metadata_array_init(&call->poller.metadata);
    return request;
}

/* The poller leaves the metadata alone from the first hand-over until the call has ended, so its
 * worker may read it. A short value lies in the grpc_slice itself, hence the pointer to it. */
struct slice call_metadata(const struct call *call, const char *name)
{
    const grpc_metadata_array *all = &call->poller.metadata;
    const grpc_metadata *found = NULL;

    for (size_t i = 0; i < all->count; i++) {
        if (grpc_slice_str_cmp(all->metadata[i].key, name) != 0)
            continue;
        if (found != NULL)
            return slice_of("", 0);
        found = &all->metadata[i];
    }
    return found == NULL
               ? slice_of("", 0)
               : slice_of(GRPC_SLICE_START_PTR(found->value), GRPC_SLICE_LENGTH(found->value));
}

struct op_group *call_group(struct call *call)
{
    return &call->home.group;
}

void call_start(struct call *call, struct op *op, op_done_fn *done)
{
    if (call->home.measured_bytes > 0)
        memory_grown(call);
    op_start(op, &call->home.group, done);
}

/* Work for the poller: at once when this is its thread. */
void call_to_poller(struct call *call, struct job *job)
{
    if (call->worker == &call->server->poller)
        job->run(job);
    else
        worker_land(&call->server->poller, job);
}

/* ---- the end ---- */

static void clear_arena(struct call *call)
{
    arena_clear(&call->home.arena);
    memory_release(call);
}

/* `final` may end the call's life on the poller: with the release in it, nothing here may be
 * touched afterwards. */
static void ask_final(struct call *call)
{
    bool last = call->home.stream.pending == 0;

    call->home.final_asked = true;
    if (last)
        clear_arena(call);
    call->released = last;
    call_to_poller(call, &call->final);
}

static void group_idle(struct op_group *group)
{
    struct call *call = CONTAINER_OF(group, struct call, home.group);

    if (call->home.ended && !call->home.final_asked)
        ask_final(call);
    else if (!call->home.ended && call->home.on_cancel.fn == NULL && call->home.stream.pending == 0)
        call_bug(call, "the handler waits for nothing and has not ended the call");
}

static void stream_idle(struct op_group *group)
{
    struct call *call = CONTAINER_OF(group, struct call, home.stream);

    if (!call->home.final_asked)
        return;
    clear_arena(call);
    call_to_poller(call, &call->release);
}

static void end(struct call *call, struct ending ending)
{
    if (call->home.ended)
        call_bug(call, "ended twice");
    call->home.ended = true;
    call->home.on_cancel.fn = call->home.on_drain.fn = NULL;
    call->ending = ending;
    call_drop_inbox(call);
    if (call->home.group.pending == 0)
        ask_final(call); /* from outside any op and handler: an event */
}

void call_reply(struct call *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = codec_pack(call, message);

    answers_count(call, buffer->data.raw.slice_buffer.length, &call->built_bytes);
    end(call, (struct ending){.code = ERR_OK, .message = buffer});
}

void call_reply_read(struct call *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = codec_pack(call, message);

    answers_count(call, buffer->data.raw.slice_buffer.length, &call->built_bytes);
    struct err err = answers_fit(call, call->built_bytes);

    if (err.code == ERR_OK) {
        end(call, (struct ending){.code = ERR_OK, .message = buffer});
        return;
    }
    answers_uncount(call, &call->built_bytes);
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

/* Nobody waits for it any more: it was cancelled, or its deadline passed, while it stood in the
 * queue. What a client was told has failed must not happen later; and an overloaded worker has
 * better things to do. */
static struct err expired(const struct call *call)
{
    if (atomic_load_explicit(&call->over, memory_order_relaxed))
        return err_make(ERR_CANCELLED, "the client left while the call waited: nothing was done");
    if (call->deadline_ns != 0 && call->deadline_ns <= call->worker->now_ns)
        return err_make(ERR_DEADLINE_EXCEEDED,
                        "the deadline passed while the call waited: nothing was done");
    return ERR_NONE;
}

/* A request that has to wait holds its arena meanwhile. So there must be room for it before the
 * handler begins anything. */
static struct err decode(struct call *call)
{
    struct err err = ERR_NONE;

    if (call->row->method->kind == METHOD_BIDI)
        return ERR_NONE;
    err = codec_unpack(&call->home.arena, call, call->request_buffer, &call->home.request);
    return err.code != ERR_OK ? err : memory_take_in(call);
}

static void decode_and_handle(struct call *call)
{
    struct err err = expired(call);

    if (err.code != ERR_OK)
        counter_add_shared(&call->server->expired, 1);
    else
        err = decode(call);
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        call->row->method->handle(call);
}

void call_begin_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, begin);
    struct call_home *home = &call->home;

    /* Streams stay for long, and there are many: their memory grows with what they need. */
    arena_init(&home->arena,
               call->row->method->kind == METHOD_UNARY ? &call->worker->arenas : NULL);
    op_group_init(&home->group, call->worker, &home->arena, call->deadline_ns);
    op_group_init(&home->stream, call->worker, &home->arena, 0);
    home->group.idle = group_idle;
    home->stream.idle = stream_idle;
    home->begun = true;
    op_group_enter(&home->group);
    decode_and_handle(call);
    if (home->group.parked != NULL) /* a backend has it: it waits, and is not over in a moment */
        memory_measure(call);
    op_group_leave(&home->group);
}

/* ---- cancellation and drain ---- */

/* At most once for each registration. */
static void tell(struct call *call, struct call_listener *listener)
{
    struct call_listener told = *listener;

    listener->fn = NULL;
    if (told.fn != NULL)
        told.fn(call, told.arg);
}

/* Whoever hears of a cancellation ends the call, and with it on_drain. */
static void tell_all(struct call *call)
{
    struct call_home *home = &call->home;

    if (home->gone.code != ERR_OK)
        tell(call, &home->on_cancel);
    if (home->draining)
        tell(call, &home->on_drain);
}

static void event_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, home.event);

    call->home.event_queued = false;
    tell_all(call);
    op_group_leave(&call->home.group);
}

/* The event has been: the handler hears of it later, not inside its own call. */
static void tell_later(struct call *call)
{
    struct call_home *home = &call->home;

    if (home->event_queued)
        return;
    home->event_queued = true;
    home->event.run = event_job;
    op_group_enter(&home->group);
    worker_land(call->worker, &home->event);
}

void call_on_cancel(struct call *call, void (*cancelled)(struct call *, void *), void *arg)
{
    call->home.on_cancel = (struct call_listener){cancelled, arg};
    if (call->home.gone.code != ERR_OK)
        tell_later(call);
}

void call_on_drain(struct call *call, void (*draining)(struct call *, void *), void *arg)
{
    call->home.on_drain = (struct call_listener){draining, arg};
    if (call->home.draining)
        tell_later(call);
}

void call_notice_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, notice.there);
    struct call_home *home = &call->home;

    if (call->notice.soft)
        home->draining = true;
    else
        home->gone = call->notice.why;
    if (home->begun && !home->final_asked) {
        op_group_enter(&home->group);
        if (home->gone.code != ERR_OK)
            op_group_cancel(&home->group, home->gone);
        tell_all(call);
        op_group_leave(&home->group);
    }
    call_to_poller(call, &call->notice.back);
}
