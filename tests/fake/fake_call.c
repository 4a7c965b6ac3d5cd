/* The call layer of tests, with the real one's coding of messages. Life of a call: fake_call_bytes
 * (decode, handler) -> ops -> one end -> the last op is done -> the arena is cleared. Whatever
 * breaks the contract aborts, with a sentence. */
#include "tests/fake/fake_call_priv.h"

#include "src/base/container.h"
#include "src/rpc/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *copy(const void *from, size_t bytes)
{
    void *to = fake_room(bytes);

    return bytes > 0 ? memcpy(to, from, bytes) : to;
}

static char *copy_text(const char *text)
{
    return text != NULL ? copy(text, strlen(text) + 1) : NULL;
}

/* ---- src/rpc/call.h ---- */

struct arena *call_arena(struct call *call)
{
    return &call->arena;
}

void *call_pattern(const struct call *call)
{
    return call->rig->pattern;
}

const void *call_request(const struct call *call)
{
    return call->request;
}

const void *call_take_request(struct call *call, struct arena *memory)
{
    const void *request = call->request;

    *memory = call->arena;
    arena_init(&call->arena, memory->cache);
    arena_adopt(memory, call->request_memory, free);
    call->request_memory = NULL;
    call->request = NULL;
    return request;
}

/* The fake's clients send none. */
struct slice call_metadata(const struct call *call, const char *name)
{
    (void)call;
    (void)name;
    return slice_of("", 0);
}

struct op_group *call_group(struct call *call)
{
    return &call->group;
}

void call_start(struct call *call, struct op *op, op_done_fn *done)
{
    op_start(op, &call->group, done);
}

static void clear_if_over(struct call *call)
{
    if (call->ends == 0 || call->group.pending > 0 || call->stream.pending > 0 || call->cleared)
        return;
    call->cleared = true;
    arena_clear(&call->arena);
    free(call->request_memory);
    call->request_memory = NULL;
}

static void group_idle(struct op_group *group)
{
    struct call *call = CONTAINER_OF(group, struct call, group);

    if (call->ends == 0 && call->on_cancel == NULL && call->stream.pending == 0)
        fake_call_bug(call, "the handler waits for nothing and has not ended the call");
    clear_if_over(call);
}

static void stream_idle(struct op_group *group)
{
    clear_if_over(CONTAINER_OF(group, struct call, stream));
}

static void deliver(struct call *call);

static void end(struct call *call, struct err status)
{
    if (call->ends++ > 0)
        fake_call_bug(call, "ended twice");
    call->status = status;
    call->status.text = copy_text(status.text);
    call->status.subject = copy_text(status.subject);
    call->on_cancel = call->on_drain = NULL;
    call->half_closed = true;
    deliver(call);
    clear_if_over(call);
}

void call_reply(struct call *call, const ProtobufCMessage *message)
{
    if (call->method->kind != METHOD_UNARY)
        fake_call_bug(call, "call_reply on a stream");
    call->reply = fake_message_of(call, message).message;
    end(call, ERR_NONE);
}

void call_reply_read(struct call *call, const ProtobufCMessage *message)
{
    call_reply(call, message);
}

void call_close(struct call *call)
{
    if (call->method->kind == METHOD_UNARY)
        fake_call_bug(call, "call_close on a unary call");
    end(call, ERR_NONE);
}

void call_fail(struct call *call, struct err err)
{
    if (err.code == ERR_OK || err.text == NULL)
        fake_call_bug(call, "failed without an error, or without a sentence");
    end(call, err);
}

struct err call_hold(struct call *call, uint64_t bytes)
{
    if (call->rig->hold_limit > 0 && bytes > call->rig->hold_limit)
        return err_make(ERR_RESOURCE_EXHAUSTED, "no room for more");
    call->held_bytes = bytes;
    return ERR_NONE;
}

void call_headers(struct call *call, const char *name, struct slice value)
{
    if (call->header_name != NULL || call->sent_count > 0 || call->ends > 0)
        fake_call_bug(call, "headers twice, or after a message, or after the end");
    call->header_name = name;
    call->header_value = copy_text(arena_strdup(&call->arena, value));
}

/* ---- receives ---- */

/* What is decoded points into its bytes, so these have to live as long. */
static struct slice pushed(const struct call *call, struct arena *arena)
{
    return arena_copy(arena, slice_of(call->incoming, call->incoming_bytes));
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct call *call = receive->call;

    if (call->ends > 0)
        return;
    op_group_enter(&call->group);
    receive->message = NULL;
    if (call->has_incoming) {
        struct arena *arena = receive->arena != NULL ? receive->arena : &call->arena;

        op->err = decode_message(arena, call->method->request, pushed(call, arena),
                                 call->rig->pattern->max_elements, &receive->message);
        call->has_incoming = false;
    } else if (call->group.cancelled.code != ERR_OK) {
        op->err = call->group.cancelled;
    }
    receive->then(op);
    op_group_leave(&call->group);
}

static void deliver(struct call *call)
{
    struct call_receive *receive = call->receiving;

    if (receive == NULL || (!call->has_incoming && !call->half_closed))
        return;
    call->receiving = NULL;
    op_finish(&receive->op, ERR_NONE);
}

void call_receive(struct call *call, struct call_receive *receive, op_done_fn *done)
{
    if (call->receiving != NULL || call->ends > 0 || call->method->kind != METHOD_BIDI)
        fake_call_bug(call, "two receives at a time, or a receive after the end");
    receive->call = call;
    receive->then = done;
    op_start(&receive->op, &call->stream, received);
    call->receiving = receive;
    deliver(call);
}

void fake_call_push_bytes(struct call *call, const uint8_t *bytes, size_t len)
{
    if (call->has_incoming || call->half_closed)
        fake_call_bug(call, "pushed before the last message was taken, or after half-close");
    free(call->incoming);
    call->incoming = copy(bytes, len);
    call->incoming_bytes = len;
    call->has_incoming = true;
    deliver(call);
}

void fake_call_push(struct call *call, const ProtobufCMessage *message)
{
    if (message == NULL) {
        call->half_closed = true;
        deliver(call);
    } else {
        uint8_t *bytes = fake_room(protobuf_c_message_get_packed_size(message));

        fake_call_push_bytes(call, bytes, protobuf_c_message_pack(message, bytes));
        free(bytes);
    }
}

/* ---- cancellation ---- */

void call_on_cancel(struct call *call, void (*cancelled)(struct call *, void *), void *arg)
{
    call->on_cancel = cancelled;
    call->on_cancel_arg = arg;
}

void call_on_drain(struct call *call, void (*draining)(struct call *, void *), void *arg)
{
    call->on_drain = draining;
    call->on_drain_arg = arg;
}

void fake_call_drain(struct call *call)
{
    void (*draining)(struct call *, void *) = call->on_drain;

    if (call->ends > 0 || draining == NULL)
        return;
    op_group_enter(&call->group);
    call->on_drain = NULL;
    draining(call, call->on_drain_arg);
    op_group_leave(&call->group);
}

void fake_call_cancel(struct call *call)
{
    void (*cancelled)(struct call *, void *) = call->on_cancel;

    if (call->ends > 0)
        return;
    op_group_enter(&call->group);
    op_group_cancel(&call->group, err_make(ERR_CANCELLED, "the client cancelled the call"));
    call->half_closed = true;
    call->on_cancel = NULL;
    if (cancelled != NULL)
        cancelled(call, call->on_cancel_arg);
    deliver(call);
    op_group_leave(&call->group);
}

/* ---- life ---- */

static struct call *begin(struct fake_rig *rig, const struct method *method, uint64_t deadline_ms)
{
    struct call *call = calloc(1, sizeof *call);

    if (call == NULL)
        abort();
    call->rig = rig;
    call->method = method;
    call->next = rig->calls;
    rig->calls = call;
    arena_init(&call->arena, &rig->worker.arenas);
    op_group_init(&call->group, &rig->worker, &call->arena,
                  deadline_ms != 0 ? rig->worker.now_ns + deadline_ms * 1000000 : 0);
    op_group_init(&call->stream, &rig->worker, &call->arena, 0);
    call->group.idle = group_idle;
    call->stream.idle = stream_idle;
    return call;
}

/* Owns the bytes from here on: the decoded request points into them. */
static void decode_and_handle(struct call *call, uint8_t *bytes, size_t len)
{
    struct err err = ERR_NONE;

    op_group_enter(&call->group);
    call->request_memory = bytes;
    if (call->method->kind != METHOD_BIDI)
        err = decode_message(&call->arena, call->method->request, slice_of(bytes, len),
                             call->rig->pattern->max_elements, &call->request);
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        call->method->handle(call);
    op_group_leave(&call->group);
}

struct call *fake_call_bytes(struct fake_rig *rig, const struct method *method,
                             const uint8_t *bytes, size_t len)
{
    struct call *call = begin(rig, method, 0);

    decode_and_handle(call, copy(bytes, len), len);
    return call;
}

struct call *fake_call_with(struct fake_rig *rig, const char *path, const ProtobufCMessage *request,
                            uint64_t deadline_ms, bool slow_reader)
{
    struct call *call = begin(rig, fake_method(rig->type, path), deadline_ms);
    size_t len = request != NULL ? protobuf_c_message_get_packed_size(request) : 0;
    uint8_t *bytes = fake_room(len);

    if (request != NULL)
        protobuf_c_message_pack(request, bytes);
    call->slow_reader = slow_reader;
    decode_and_handle(call, bytes, len);
    return call;
}

struct call *fake_call(struct fake_rig *rig, const char *path, const ProtobufCMessage *request)
{
    return fake_call_with(rig, path, request, 0, false);
}

static void check_over(const struct call *call)
{
    if (call->ends != 1)
        fake_call_bug(call, "freed before its end");
    if (call->group.pending != 0 || call->stream.pending != 0 || call->group.parked != NULL)
        fake_call_bug(call, "something is still pending");
    if (!call->cleared || call->arena.blocks != NULL || call->arena.adopted != NULL)
        fake_call_bug(call, "the arena is not empty");
}

void fake_call_free(struct call *call)
{
    struct call **at = &call->rig->calls;

    check_over(call);
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    for (size_t i = 0; i < call->sent_count; i++)
        protobuf_c_message_free_unpacked(call->sent[i].message, NULL);
    if (call->reply != NULL)
        protobuf_c_message_free_unpacked(call->reply, NULL);
    free(call->sent);
    free(call->incoming);
    free(call->header_value);
    free((void *)(uintptr_t)call->status.text);
    free((void *)(uintptr_t)call->status.subject);
    free(call);
}
