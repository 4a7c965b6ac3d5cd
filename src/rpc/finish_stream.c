/* The poller half of streams: what call_stream.c asks gRPC for. */
#include "src/rpc/rpc_priv.h"

#include "src/base/container.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>

/* ---- headers ---- */

static void on_headers(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.headers_tag);

    (void)ok; /* the client may be gone: the close tag says so */
    call->poller.tags--;
    grpc_slice_unref(call->initial[1].value);
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

static void begin_send(struct outbound *outbound)
{
    struct call *call = outbound->call;
    grpc_op ops[2] = {finish_initial_metadata(call, call->wants_gzip),
                      {.op = GRPC_OP_SEND_MESSAGE}};
    size_t first = call->poller.initial_sent ? 1 : 0;

    call->poller.initial_sent = true;
    ops[1].data.send_message.send_message = outbound->buffer;
    counter_add(&call->row->metrics.response_bytes,
                grpc_byte_buffer_length(outbound->buffer)); /* gRPC empties it */
    finish_charge(call, outbound->charge, &outbound->built_bytes);
    unread_begin(call);
    finish_start_batch(call, ops + first, 2 - first, &call->poller.send_tag);
}

/* True: others wait behind it. If none does, this may have been the last of the call. */
static bool end_send(struct outbound *outbound, struct err err)
{
    struct call *call = outbound->call;
    struct op *sent = outbound->sent;
    bool more = --call->poller.outbounds > 0;

    call->poller.oldest_outbound = (call->poller.oldest_outbound + 1) % CALL_SENDS;
    outbound->sent = NULL; /* the place is free once the home half hears of it */
    op_finish(sent, err);
    return more;
}

/* When the client is gone, or takes nothing in time, gRPC fails what waits like what it had: there
 * is no road of its own for that. */
static void next_send(struct call *call)
{
    struct outbound *outbound;

    do {
        outbound = &call->outbounds[call->poller.oldest_outbound];
        if (outbound->sent->err.code == ERR_OK) {
            begin_send(outbound);
            return;
        }
    } while (end_send(outbound, outbound->sent->err));
}

static void on_sent(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.send_tag);
    struct outbound *outbound = &call->outbounds[call->poller.oldest_outbound];

    call->poller.tags--;
    unread_end(call, ok);
    finish_charge(call, 0, &outbound->built_bytes);
    grpc_byte_buffer_destroy(outbound->buffer);
    outbound->buffer = NULL;
    if (end_send(outbound, ok ? ERR_NONE : err_make(ERR_CANCELLED, "the client is gone")))
        next_send(call);
}

static void send_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct outbound, send)->call;

    if (call->poller.outbounds++ == 0)
        next_send(call);
}

/* ---- receives ---- */

/* A stream is read before its handler asks, until so much waits for it: a message that is there
 * already costs neither thread a sleep and a wake-up. */
enum { AHEAD_BYTES = 256 << 10 };

/* What a message costs beside its own bytes, here and in gRPC, so that empty ones count, too. */
enum { MESSAGE_COST_BYTES = 512 };

/* Of gRPC's core, for its C++ library, in none of its public headers. True: the client's side ended
 * with trailers, which are ours (inflow_overdue.c). */
int grpc_call_failed_before_recv_message(const grpc_call *call);

/* What nothing is in hand for waits for memory in its turn; to read ahead is left when memory is
 * short. */
static void read_on(struct call *call)
{
    struct call_poller *poller = &call->poller;

    if (poller->receiving || poller->hungry.next != NULL || poller->heard_all || poller->finalised)
        return;
    if (poller->inbound > 0 && (poller->inbound_bytes >= AHEAD_BYTES || !memory_is_ample(call)))
        return;
    if (poller->inbound > 0 || finish_why_gone(call).code != ERR_OK)
        finish_post_receive(call); /* a client that has gone had its notice: this ends at once */
    else
        memory_receive(call);
}

static void back_job(struct job *job)
{
    struct inbound *inbound = CONTAINER_OF(job, struct inbound, back);
    struct call *call = inbound->call;

    call->poller.tags--;
    call->poller.inbound--;
    call->poller.inbound_bytes -= inbound->bytes;
    call->poller.heard_all |= inbound->dropped;
    free(inbound);
    read_on(call);
    finish_maybe_recycle(call);
}

static void give(struct call *call, grpc_byte_buffer *buffer, uint64_t bytes, struct err why)
{
    struct inbound *inbound = malloc(sizeof *inbound);

    if (inbound == NULL)
        abort();
    *inbound = (struct inbound){.there.run = call_inbound_job,
                                .back.run = back_job,
                                .call = call,
                                .buffer = buffer,
                                .bytes = bytes,
                                .why = why};
    call->poller.heard_all |= buffer == NULL;
    call->poller.tags++;
    call->poller.inbound++;
    call->poller.inbound_bytes += bytes;
    worker_land(call->worker, &inbound->there);
}

/* From now on the message is the server's to keep: it counts until the home half clears the arena
 * that it lives in. */
static void on_received(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.receive_tag);
    grpc_byte_buffer *buffer = call->poller.incoming;
    uint64_t bytes = 0;
    struct err why = ERR_NONE;

    (void)ok; /* true, whatever happened */
    call->poller.tags--;
    call->poller.receiving = false;
    call->poller.incoming = NULL;
    if (buffer == NULL) {
        why = finish_why_gone(call);
        if (why.code == ERR_OK && grpc_call_failed_before_recv_message(call->poller.grpc) != 0)
            why = err_make(ERR_DEADLINE_EXCEEDED,
                           "a message was not complete within limits.request_timeout_ms");
    } else {
        bytes = grpc_byte_buffer_length(buffer);
        counter_add(&call->row->metrics.request_bytes, bytes);
        bytes += MESSAGE_COST_BYTES;
        why = message_check_received(call, buffer);
    }
    if (buffer != NULL && why.code != ERR_OK) {
        grpc_byte_buffer_destroy(buffer);
        buffer = NULL;
        bytes = 0;
    }
    memory_take(call->server, call->share, bytes);
    give(call, buffer, bytes, why);
    read_on(call);
}

void finish_post_receive(struct call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    call->poller.receiving = true;
    op.data.recv_message.recv_message = &call->poller.incoming;
    finish_start_batch(call, &op, 1, &call->poller.receive_tag);
}

static void receive_job(struct job *job)
{
    read_on(CONTAINER_OF(job, struct call, receive));
}

void finish_stop_waiting(struct call *call, struct err why)
{
    if (memory_leave(call))
        give(call, NULL, 0, why);
}

void finish_stream_init(struct call *call)
{
    call->headers.run = headers_job;
    for (size_t i = 0; i < CALL_SENDS; i++) {
        call->outbounds[i].send.run = send_job;
        call->outbounds[i].call = call;
    }
    call->receive.run = receive_job;
    call->poller.headers_tag.run = on_headers;
    call->poller.send_tag.run = on_sent;
    call->poller.receive_tag.run = on_received;
}
