/* The home half of streams: headers, sends, receives. A few sends and one receive at a time; what
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
    call->initial[1].key = grpc_slice_from_static_string(name);
    call->initial[1].value = grpc_slice_from_copied_buffer((const char *)value.data, value.len);
    if (!grpc_header_nonbin_value_is_legal(call->initial[1].value))
        call_bug(call, "a header whose value is not ASCII");
    call_to_poller(call, &call->headers);
}

/* ---- sends ---- */

/* Owns the buffer. charge: the bytes in it that nobody else counts. One that is refused ends like
 * all others behind those before it, and nothing goes behind it. */
static void send_buffer(struct call *call, grpc_byte_buffer *buffer, uint64_t charge,
                        struct op *sent, op_done_fn *done)
{
    struct outbound *outbound = &call->outbounds[call->home.next_outbound];

    op_start(sent, &call->home.group, done);
    answers_count(call, charge, &outbound->built_bytes);

    struct err err = call->home.refused;

    if (err.code == ERR_OK)
        err = answers_fit(call, outbound->built_bytes);
    if (err.code != ERR_OK) {
        answers_uncount(call, &outbound->built_bytes);
        grpc_byte_buffer_destroy(buffer);
        buffer = NULL;
    } else {
        call->home.headers_sent = true;
    }
    call->home.refused = sent->err = err;
    call->home.next_outbound = (call->home.next_outbound + 1) % CALL_SENDS;
    outbound->sent = sent;
    outbound->buffer = buffer;
    outbound->charge = charge;
    call_to_poller(call, &outbound->send);
}

static void assert_may_send(const struct call *call)
{
    if (call->outbounds[call->home.next_outbound].sent != NULL || call->home.ended)
        call_bug(call, "too many sends at a time, or a send after the end");
}

bool call_sends_ahead(const struct call *call)
{
    return memory_is_ample(call);
}

void call_send(struct call *call, const ProtobufCMessage *message, struct op *sent,
               op_done_fn *done)
{
    assert_may_send(call);

    grpc_byte_buffer *buffer = codec_pack(call, message);

    send_buffer(call, buffer, buffer->data.raw.slice_buffer.length, sent, done);
}

void call_send_written(struct call *call, size_t bytes, call_write_fn *write, const void *what,
                       struct op *sent, op_done_fn *done)
{
    assert_may_send(call);

    grpc_byte_buffer *buffer = codec_written(call, bytes, write, what);

    send_buffer(call, buffer, buffer->data.raw.slice_buffer.length, sent, done);
}

void call_send_parts(struct call *call, const struct call_part *parts, size_t n, struct op *sent,
                     op_done_fn *done)
{
    uint64_t charge;

    assert_may_send(call);

    grpc_byte_buffer *buffer = codec_join(call, parts, n, &charge);

    send_buffer(call, buffer, charge, sent, done);
}

/* ---- receives ---- */

/* What a received message holds for as long as its arena does. */
struct kept {
    struct rpc_server *server;
    struct share *share; /* is there as long as the server is */
    grpc_byte_buffer *buffer;
    uint64_t bytes;
    bool own; /* in an arena of the handler's own */
};

static void drop_kept(void *ptr)
{
    struct kept *kept = ptr;

    memory_count_kept(kept->server, kept->share, 0 - (uint32_t)kept->own);
    grpc_byte_buffer_destroy(kept->buffer);
    memory_give_back(kept->server, kept->share, kept->bytes);
}

/* The message points into the buffer, so that goes with the arena. An arena of the handler's own
 * counts with what the message has become in it, the call's with all else in it (memory_measure).
 */
static void keep_with(struct arena *arena, struct call *call, const struct inbound *inbound,
                      uint64_t decoded_bytes)
{
    struct kept *kept = arena_alloc(arena, sizeof *kept);
    bool own = arena != &call->home.arena;

    memory_count_kept(call->server, call->share, own);
    memory_take(call->server, call->share, decoded_bytes);
    *kept = (struct kept){.server = call->server,
                          .share = call->share,
                          .buffer = inbound->buffer,
                          .bytes = inbound->bytes + decoded_bytes,
                          .own = own};
    arena_adopt(arena, kept, drop_kept);
}

static void decode(struct call *call, struct call_receive *receive, const struct inbound *inbound)
{
    bool own = receive->arena != NULL;
    struct arena *arena = own ? receive->arena : &call->home.arena;
    size_t before = arena->bytes;

    receive->op.err = codec_unpack(arena, call, inbound->buffer, &receive->message);
    keep_with(arena, call, inbound, own ? arena->bytes - before : 0);
    if (!own)
        memory_measure(call);
}

/* Nobody waits for it any more. The call may end its life with this. */
static void drop(struct inbound *inbound)
{
    struct call *call = inbound->call;

    if (inbound->buffer != NULL) {
        grpc_byte_buffer_destroy(inbound->buffer);
        memory_give_back(call->server, call->share, inbound->bytes);
    }
    inbound->dropped = true;
    call_to_poller(call, &inbound->back);
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct call *call = receive->call;
    struct inbound *inbound = call->home.received;

    call->home.receiving = NULL;
    call->home.received = NULL;
    if (call->home.ended) {
        if (inbound != NULL)
            drop(inbound);
        return;
    }
    op_group_enter(&call->home.group);
    receive->message = NULL;
    if (inbound != NULL && inbound->buffer != NULL)
        decode(call, receive, inbound);
    else if (op->err.code == ERR_OK)
        op->err = call->home.gone;
    if (inbound != NULL)
        call_to_poller(call, &inbound->back);
    receive->then(op);
    op_group_leave(&call->home.group);
}

static void take(struct call *call, struct inbound *inbound)
{
    call->home.heard_all = inbound->buffer == NULL;
    call->home.heard_why = inbound->why;
    call->home.received = inbound;
    op_finish(&call->home.receiving->op, inbound->why);
}

void call_inbound_job(struct job *job)
{
    struct inbound *inbound = CONTAINER_OF(job, struct inbound, there);
    struct call_home *home = &inbound->call->home;

    if (home->receiving != NULL && home->received == NULL) {
        take(inbound->call, inbound);
    } else if (home->ended) {
        drop(inbound);
    } else {
        *(home->inbox == NULL ? &home->inbox : home->inbox_end) = inbound;
        home->inbox_end = &inbound->next;
    }
}

void call_drop_inbox(struct call *call)
{
    while (call->home.inbox != NULL) {
        struct inbound *inbound = call->home.inbox;

        call->home.inbox = inbound->next;
        drop(inbound);
    }
}

void call_receive(struct call *call, struct call_receive *receive, op_done_fn *done)
{
    struct call_home *home = &call->home;
    struct inbound *inbound = home->inbox;

    if (home->receiving != NULL || home->ended)
        call_bug(call, "two receives at a time, or a receive after the end");
    receive->call = call;
    receive->then = done;
    op_start(&receive->op, &home->stream, received);
    home->receiving = receive;
    if (inbound != NULL) {
        home->inbox = inbound->next;
        take(call, inbound);
    } else if (home->heard_all) {
        op_finish(&receive->op, home->heard_why);
    } else if (!home->reads) {
        home->reads = true;
        call_to_poller(call, &call->receive);
    }
}
