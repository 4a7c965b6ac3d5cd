/* The poller half of streams: what call_stream.c asks gRPC for. */
#include "src/rpc/rpc_priv.h"

#include "src/base/container.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>

/* ---- headers ---- */

static void on_headers(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.headers_tag);

    (void)ok; /* the client may be gone: the close tag says so */
    call->poller.tags--;
    grpc_slice_unref(call->header.value);
    finish_maybe_recycle(call);
}

static void headers_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, headers);
    grpc_op op = finish_initial_metadata(call, call->wants_gzip);

    call->poller.initial_sent = true;
    finish_start_batch(call, &op, 1, &call->poller.headers_tag);
}

/* ---- sends ---- */

static void on_sent(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.send_tag);
    struct op *sent = call->sent;

    call->poller.tags--;
    unread_end(call, ok);
    finish_charge(call, 0);
    grpc_byte_buffer_destroy(call->send_buffer);
    call->send_buffer = NULL;
    call->sent = NULL;
    op_finish(sent, ok ? ERR_NONE : err_make(ERR_CANCELLED, "the client is gone"));
}

static void send_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, send);
    grpc_op ops[2] = {finish_initial_metadata(call, call->wants_gzip),
                      {.op = GRPC_OP_SEND_MESSAGE}};
    size_t first = call->poller.initial_sent ? 1 : 0;

    call->poller.initial_sent = true;
    ops[1].data.send_message.send_message = call->send_buffer;
    counter_add(&call->row->metrics.response_bytes,
                grpc_byte_buffer_length(call->send_buffer)); /* gRPC empties it */
    finish_charge(call, call->send_charge);
    unread_begin(call);
    finish_start_batch(call, ops + first, 2 - first, &call->poller.send_tag);
}

/* ---- receives ---- */

/* From now on the message is the server's to keep: it counts until the home half clears the arena
 * that it lives in. */
static void on_received(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.receive_tag);
    struct err why = ERR_NONE;

    (void)ok; /* true, whatever happened */
    call->poller.tags--;
    if (call->receive_buffer != NULL) {
        call->receive_bytes = grpc_byte_buffer_length(call->receive_buffer);
        counter_add(&call->row->metrics.request_bytes, call->receive_bytes);
        why = message_check_received(call);
        if (why.code == ERR_OK) {
            memory_take(call->server, call->share, call->receive_bytes);
        } else {
            grpc_byte_buffer_destroy(call->receive_buffer);
            call->receive_buffer = NULL;
        }
    } else {
        why = finish_why_gone(call);
    }
    op_finish(&call->receiving->op, why);
}

void finish_post_receive(struct call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &call->receive_buffer;
    finish_start_batch(call, &op, 1, &call->poller.receive_tag);
}

/* A client that has gone had its notice before: gRPC ends the receive at once. */
static void receive_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, receive);

    if (finish_why_gone(call).code == ERR_OK)
        memory_receive(call);
    else
        finish_post_receive(call);
}

void finish_stop_waiting(struct call *call, struct err why)
{
    if (memory_leave(call))
        op_finish(&call->receiving->op, why);
}

void finish_stream_init(struct call *call)
{
    call->headers.run = headers_job;
    call->send.run = send_job;
    call->receive.run = receive_job;
    call->poller.headers_tag.run = on_headers;
    call->poller.send_tag.run = on_sent;
    call->poller.receive_tag.run = on_received;
}
