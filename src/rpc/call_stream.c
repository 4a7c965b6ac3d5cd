/* The home half of streams: headers, sends, receives. One send and one receive at a time; what
 * gRPC does with them is in finish_stream.c. */
#include "src/rpc/rpc_priv.h"

#include "src/base/container.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>

/* ---- headers ---- */

void call_headers(struct call *call, const char *name, struct slice value)
{
    if (call->home.headers_sent || call->home.ended)
        call_bug(call, "headers twice, or after a message, or after the end");
    call->home.headers_sent = true;
    call->header.key = grpc_slice_from_static_string(name);
    call->header.value = grpc_slice_from_copied_buffer((const char *)value.data, value.len);
    if (!grpc_header_nonbin_value_is_legal(call->header.value))
        call_bug(call, "a header whose value is not ASCII");
    call_to_poller(call, &call->headers);
}

/* ---- sends ---- */

/* Owns the buffer. charge: the bytes in it that nobody else counts. */
static void send_buffer(struct call *call, grpc_byte_buffer *buffer, uint64_t charge,
                        struct op *sent, op_done_fn *done)
{
    op_start(sent, &call->home.group, done);
    answers_count(call, charge);

    struct err err = answers_fit(call);

    if (err.code != ERR_OK) {
        answers_uncount(call);
        grpc_byte_buffer_destroy(buffer);
        op_finish(sent, err);
        return;
    }
    call->home.headers_sent = true;
    call->sent = sent;
    call->send_buffer = buffer;
    call->send_charge = charge;
    call_to_poller(call, &call->send);
}

static void assert_may_send(const struct call *call)
{
    if (call->sent != NULL || call->home.ended)
        call_bug(call, "two sends at a time, or a send after the end");
}

void call_send(struct call *call, const ProtobufCMessage *message, struct op *sent,
               op_done_fn *done)
{
    assert_may_send(call);

    grpc_byte_buffer *buffer = codec_pack(call, message);

    send_buffer(call, buffer, buffer->data.raw.slice_buffer.length, sent, done);
}

void call_send_parts(struct call *call, const struct call_part *parts, size_t n, struct op *sent,
                     op_done_fn *done)
{
    uint64_t charge;

    assert_may_send(call);

    grpc_byte_buffer *buffer = codec_join(parts, n, &charge);

    send_buffer(call, buffer, charge, sent, done);
}

/* ---- receives ---- */

/* What a received message holds for as long as its arena does. */
struct inbound {
    struct rpc_server *server;
    struct share *share; /* is there as long as the server is */
    grpc_byte_buffer *buffer;
    uint64_t bytes;
};

static void drop_inbound(void *ptr)
{
    struct inbound *inbound = ptr;

    grpc_byte_buffer_destroy(inbound->buffer);
    memory_give_back(inbound->server, inbound->share, inbound->bytes);
}

/* The message points into the buffer, so that goes with the arena. An arena of the handler's own
 * counts with what the message has become in it, the call's with all else in it (memory_measure).
 */
static void keep_with(struct arena *arena, struct call *call, grpc_byte_buffer *buffer,
                      uint64_t decoded_bytes)
{
    struct inbound *inbound = arena_alloc(arena, sizeof *inbound);

    memory_take(call->server, call->share, decoded_bytes);
    *inbound = (struct inbound){.server = call->server,
                                .share = call->share,
                                .buffer = buffer,
                                .bytes = call->receive_bytes + decoded_bytes};
    arena_adopt(arena, inbound, drop_inbound);
}

static void receive_decode(struct call *call, struct call_receive *receive)
{
    bool own = receive->arena != NULL;
    struct arena *arena = own ? receive->arena : &call->home.arena;
    grpc_byte_buffer *buffer = call->receive_buffer;
    size_t before = arena->bytes;

    receive->message = NULL;
    call->receive_buffer = NULL;
    if (buffer == NULL) {
        if (receive->op.err.code == ERR_OK)
            receive->op.err = call->home.gone;
        return;
    }
    receive->op.err = codec_unpack(arena, call, buffer, &receive->message);
    keep_with(arena, call, buffer, own ? arena->bytes - before : 0);
    if (!own)
        memory_measure(call);
}

/* Nobody waits for it any more. */
static void drop_received(struct call *call)
{
    if (call->receive_buffer == NULL)
        return;
    grpc_byte_buffer_destroy(call->receive_buffer);
    call->receive_buffer = NULL;
    memory_give_back(call->server, call->share, call->receive_bytes);
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct call *call = receive->call;

    call->receiving = NULL;
    if (call->home.ended) {
        drop_received(call);
        return;
    }
    op_group_enter(&call->home.group);
    receive_decode(call, receive);
    receive->then(op);
    op_group_leave(&call->home.group);
}

void call_receive(struct call *call, struct call_receive *receive, op_done_fn *done)
{
    if (call->receiving != NULL || call->home.ended)
        call_bug(call, "two receives at a time, or a receive after the end");
    receive->call = call;
    receive->then = done;
    op_start(&receive->op, &call->home.stream, received);
    call->receiving = receive;
    call_to_poller(call, &call->receive);
}
