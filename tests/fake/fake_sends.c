/* What calls of tests send, as a client gets it, and when it is taken. */
#include "tests/fake/fake_call_priv.h"

#include "src/rpc/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fake_call_bug(const struct call *call, const char *what)
{
    fprintf(stderr, "fake call %s: %s\n", call->method->path, what);
    abort();
}

/* ---- messages ---- */

/* Frees packed. */
static struct fake_message decoded(const struct call *call, uint8_t *packed, size_t bytes)
{
    ProtobufCMessage *seen = protobuf_c_message_unpack(call->method->response, NULL, bytes, packed);

    free(packed);
    if (seen == NULL)
        fake_call_bug(call, "an answer that does not decode");
    return (struct fake_message){.message = seen, .bytes = bytes};
}

struct fake_message fake_message_of(const struct call *call, const ProtobufCMessage *message)
{
    struct encode_plan plan;

    if (message->descriptor != call->method->response)
        fake_call_bug(call, "a message of another type than the method's");
    encode_measure(&plan, message);
    if (plan.bytes > call->rig->max_message_bytes)
        fake_call_bug(call, "a message larger than max_message_bytes");

    size_t bytes = plan.bytes;
    uint8_t *packed = fake_room(bytes);

    encode_write(&plan, message, packed);
    return decoded(call, packed, bytes);
}

static struct fake_message receive_parts(const struct call *call, const struct call_part *parts,
                                         size_t n)
{
    size_t bytes = 0, at = 0;

    for (size_t i = 0; i < n; i++)
        bytes += parts[i].bytes.len;

    uint8_t *packed = fake_room(bytes);

    for (size_t i = 0; i < n; at += parts[i++].bytes.len) {
        if (parts[i].bytes.len > 0)
            memcpy(packed + at, parts[i].bytes.data, parts[i].bytes.len);
    }
    return decoded(call, packed, bytes);
}

/* ---- sends ---- */

struct sending {
    op_done_fn *done;
    struct call *call;
};

/* They are done in the order in which they were sent, whichever is asked first. */
static void send_cancelled(struct op *op, struct err why)
{
    const struct sending *sending = op->backend_data;
    const struct call *call = sending->call;

    (void)why;
    for (unsigned i = 0; i < call->n_sending && !call->late_sends; i++) {
        if (call->sending[i]->state == OP_STARTED)
            op_finish(call->sending[i], err_make(ERR_CANCELLED, "the client is gone"));
    }
}

static void sent_done(struct op *op)
{
    struct sending *sending = op->backend_data;

    struct call *call = sending->call;
    unsigned at = 0;

    while (call->sending[at] != op)
        at++;
    call->n_sending--;
    memmove(&call->sending[at], &call->sending[at + 1],
            (call->n_sending - at) * sizeof(struct op *));
    sending->done(op);
}

static void assert_may_send(const struct call *call)
{
    if (call->n_sending == CALL_SENDS || call->ends > 0 || call->method->kind == METHOD_UNARY)
        fake_call_bug(call, "too many sends at a time, or a send after the end");
}

static void send_message(struct call *call, struct fake_message message, struct op *sent,
                         op_done_fn *done)
{
    struct sending *sending = arena_alloc(&call->arena, sizeof *sending);

    if (call->sent_count == FAKE_MESSAGES)
        fake_call_bug(call, "more messages than any test expects");
    call->sent = realloc(call->sent, (call->sent_count + 1) * sizeof *call->sent);
    if (call->sent == NULL)
        abort();
    call->sent[call->sent_count++] = message;
    *sending = (struct sending){.done = done, .call = call};
    op_start(sent, &call->group, sent_done);
    sent->backend_data = sending;
    call->sending[call->n_sending++] = sent;
    if (call->group.cancelled.code != ERR_OK)
        send_cancelled(sent, call->group.cancelled);
    else if (call->slow_reader)
        op_park(sent, send_cancelled);
    else
        op_finish(sent, ERR_NONE);
}

void call_send(struct call *call, const ProtobufCMessage *message, struct op *sent,
               op_done_fn *done)
{
    assert_may_send(call);
    send_message(call, fake_message_of(call, message), sent, done);
}

void call_send_written(struct call *call, size_t bytes, call_write_fn *write, const void *what,
                       struct op *sent, op_done_fn *done)
{
    uint8_t *packed = fake_room(bytes);

    assert_may_send(call);
    if (bytes > call->rig->max_message_bytes)
        fake_call_bug(call, "a message larger than max_message_bytes");
    write(packed, what);
    send_message(call, decoded(call, packed, bytes), sent, done);
}

void call_send_parts(struct call *call, const struct call_part *parts, size_t n, struct op *sent,
                     op_done_fn *done)
{
    assert_may_send(call);
    send_message(call, receive_parts(call, parts, n), sent, done);
}

bool call_sends_ahead(const struct call *call)
{
    return !call->memory_short;
}

void fake_call_lose(struct call *call)
{
    unsigned i = 0;

    while (call->sending[i]->state != OP_STARTED)
        i++;
    op_finish(call->sending[i], err_make(ERR_CANCELLED, "the client is gone"));
}

bool fake_call_take(struct call *call)
{
    for (unsigned i = 0; i < call->n_sending; i++) {
        if (call->sending[i]->state == OP_STARTED) {
            op_finish(call->sending[i], ERR_NONE);
            return true;
        }
    }
    return false;
}
