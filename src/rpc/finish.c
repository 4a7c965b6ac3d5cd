/* The poller side of a call after its handler has begun: every grpc_call_start_batch but the
 * posting of requests.
 *
 * A unary call costs one batch: initial metadata, message, status and the wait for the close
 * together. Cancellation is watched for with a batch of its own only in streams and in calls that
 * take long (poller.c). */
#include "src/rpc/rpc_priv.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>

static void start_batch(struct call *call, const grpc_op *ops, size_t n, struct tag *tag)
{
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, n, tag, NULL);

    if (error == GRPC_CALL_OK) {
        call->tags++;
        return;
    }
    fprintf(stderr, "prism: grpc_call_start_batch: error %d\n", (int)error);
    abort();
}

/* ---- life ---- */

static void unlink_call(struct call *call)
{
    struct rpc_server *server = call->server;

    if (!call->linked)
        return;
    if (server->unwatched == call)
        server->unwatched = call->next;
    call->prev->next = call->next;
    call->next->prev = call->prev;
    call->linked = false;
}

/* What the call holds of limits.max_inflight_bytes: its request, and what is being sent, for as
 * long as its reader takes. */
static void charge(struct call *call, uint64_t sending_bytes)
{
    struct rpc_server *server = call->server;

    answers_uncount(call);
    if (!call->counted)
        return;
    counter_add(&server->in_flight_bytes, sending_bytes - call->sending_bytes);
    counter_add(&call->share->bytes, sending_bytes - call->sending_bytes);
    call->sending_bytes = sending_bytes;
}

static void give_place_back(struct call *call)
{
    struct rpc_server *server = call->server;

    counter_add(&server->calls, (uint64_t)-1);
    if (call->share != NULL)
        share_leave(call->share);
    if (!call->counted)
        return;
    counter_add(&call->share->bytes, -(call->request_bytes + call->sending_bytes));
    if (admit_is_general_stream(call)) {
        call->share->streams--;
        server->general_streams--;
    } else {
        call->share->calls--;
    }
    counter_add(&server->in_flight_bytes, -(call->request_bytes + call->sending_bytes));
    counter_add(&server->finished, 1);
    counter_add(&server->in_flight_count, (uint64_t)-1);
}

static void drop_ending(struct ending *ending)
{
    if (ending->message != NULL)
        grpc_byte_buffer_destroy(ending->message);
    grpc_slice_unref(ending->text);
    grpc_slice_unref(ending->details);
}

void finish_maybe_recycle(struct call *call)
{
    struct rpc_server *server = call->server;

    if (!call->finalised || !call->released || call->tags > 0)
        return;
    drop_ending(&call->ending);
    if (call->request_buffer != NULL)
        grpc_byte_buffer_destroy(call->request_buffer);
    if (call->row == NULL)
        grpc_call_details_destroy(&call->details);
    grpc_call_unref(call->grpc);
    give_place_back(call);
    call->next = server->free;
    server->free = call;
}

/* ---- cancellation ---- */

void finish_tell(struct call *call, struct err why, bool softly)
{
    if (call->finalised)
        return;
    if (call->telling) {
        if (!softly)
            call->tell_next = why;
        return;
    }
    call->telling = true;
    call->tags++;
    call->tell_why = why;
    call->tell_softly = softly;
    worker_land(call->home, &call->tell);
}

static void tell_back_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, tell_back);
    struct err next = call->tell_next;

    call->telling = false;
    call->tags--;
    call->tell_next = ERR_NONE;
    if (next.code != ERR_OK)
        finish_tell(call, next, false);
    finish_maybe_recycle(call);
}

/* ERR_OK: the client is there, as far as is known. gRPC writes `cancelled` before it posts the
 * close tag, and mostly before a receive that it interrupts comes back: there, a glance ahead of
 * the tag tells it from a half-close. */
static struct err why_gone(const struct call *call)
{
    bool late = call->deadline_ns != 0 && clock_now_ns() >= call->deadline_ns;

    if (__atomic_load_n(&call->cancelled, __ATOMIC_RELAXED) == 0)
        return ERR_NONE;
    return late ? err_make(ERR_DEADLINE_EXCEEDED, "the client's deadline passed")
                : err_make(ERR_CANCELLED, "the client cancelled the call");
}

static void on_close(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, close_tag);
    struct err why = why_gone(call);

    (void)ok;
    call->tags--;
    if (why.code != ERR_OK)
        finish_tell(call, why, false);
    finish_maybe_recycle(call);
}

void finish_post_close(struct call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->close_posted = true;
    start_batch(call, &op, 1, &call->close_tag);
}

/* gRPC reads the field, and takes a reference of its slices. */
static grpc_op initial_metadata(struct call *call, bool gzip)
{
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};

    if (gzip) {
        call->encoding.key = grpc_slice_from_static_string("grpc-encoding");
        call->encoding.value = grpc_slice_from_static_string("gzip");
        op.data.send_initial_metadata.metadata = &call->encoding;
        op.data.send_initial_metadata.count = 1;
    }
    return op;
}

/* ---- streams ---- */

static void on_sent(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, send_tag);
    struct op *sent = call->sent;

    call->tags--;
    unread_end(call);
    charge(call, 0);
    grpc_byte_buffer_destroy(call->send_buffer);
    call->send_buffer = NULL;
    call->sent = NULL;
    op_finish(sent, ok ? ERR_NONE : err_make(ERR_CANCELLED, "the client is gone"));
}

static void send_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, send);
    grpc_op ops[2] = {initial_metadata(call, call->wants_gzip), {.op = GRPC_OP_SEND_MESSAGE}};
    size_t first = call->initial_sent ? 1 : 0;

    call->initial_sent = true;
    ops[1].data.send_message.send_message = call->send_buffer;
    uint64_t bytes = grpc_byte_buffer_length(call->send_buffer); /* gRPC empties it */

    counter_add(&call->row->metrics.response_bytes, bytes);
    charge(call, bytes);
    unread_begin(call);
    start_batch(call, ops + first, 2 - first, &call->send_tag);
}

static void on_received(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, receive_tag);

    (void)ok; /* true, whatever happened */
    call->tags--;
    if (call->receive_buffer != NULL)
        counter_add(&call->row->metrics.request_bytes,
                    grpc_byte_buffer_length(call->receive_buffer));
    op_finish(&call->receiving->op, call->receive_buffer == NULL ? why_gone(call) : ERR_NONE);
}

static void receive_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, receive);
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &call->receive_buffer;
    start_batch(call, &op, 1, &call->receive_tag);
}

/* ---- the end ---- */

static void on_final(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, final_tag);

    (void)ok; /* the client may be gone: the call is over all the same */
    call->tags--;
    unread_end(call);
    finish_maybe_recycle(call);
}

static void count_end(struct call *call)
{
    struct row_metrics *metrics;

    if (call->row == NULL)
        return;
    metrics = &call->row->metrics;
    counter_add(&metrics->codes[call->ending.code], 1);
    histogram_record(&metrics->latency, clock_now_ns() - call->arrived_ns);
    if (call->ending.message != NULL) {
        uint64_t bytes = grpc_byte_buffer_length(call->ending.message);

        counter_add(&metrics->response_bytes, bytes);
        charge(call, bytes);
    }
}

/* What goes along with the status. The one answer that names the encodings has no details. */
static bool fill_trailer(struct call *call)
{
    bool detailed = GRPC_SLICE_LENGTH(call->ending.details) > 0;

    if (detailed) {
        call->trailer.key = grpc_slice_from_static_string("grpc-status-details-bin");
        call->trailer.value = call->ending.details;
    } else if (call->tells_encodings) {
        call->trailer.key = grpc_slice_from_static_string("grpc-accept-encoding");
        call->trailer.value = grpc_slice_from_static_string("identity,gzip");
    }
    return detailed || call->tells_encodings;
}

static size_t final_ops(struct call *call, grpc_op *ops)
{
    size_t n = 0;
    struct ending *ending = &call->ending;

    if (!call->initial_sent)
        ops[n++] =
            initial_metadata(call, ending->message != NULL &&
                                       ending->message->data.raw.compression != GRPC_COMPRESS_NONE);
    if (ending->message != NULL) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = ending->message;
    }
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n].data.send_status_from_server.status = status_code(ending->code);
    if (ending->code != ERR_OK)
        ops[n].data.send_status_from_server.status_details = &ending->text;
    if (fill_trailer(call)) {
        ops[n].data.send_status_from_server.trailing_metadata = &call->trailer;
        ops[n].data.send_status_from_server.trailing_metadata_count = 1;
    }
    n++;
    if (!call->close_posted) {
        call->close_posted = true;
        ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[n++].data.recv_close_on_server.cancelled = &call->cancelled;
    }
    return n;
}

static void final_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, final);
    grpc_op ops[4] = {0};

    call->finalised = true;
    count_end(call);
    unlink_call(call);
    unread_begin(call);
    start_batch(call, ops, final_ops(call, ops), &call->final_tag);
}

static void release_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, release);

    call->released = true;
    finish_maybe_recycle(call);
}

void finish_refuse(struct call *call, struct err err)
{
    call->ending = status_ending(err);
    call->released = true;
    final_job(&call->final);
}

void finish_init(struct call *call)
{
    call->tell_back.run = tell_back_job;
    call->send.run = send_job;
    call->receive.run = receive_job;
    call->final.run = final_job;
    call->release.run = release_job;
    call->close_tag.run = on_close;
    call->send_tag.run = on_sent;
    call->receive_tag.run = on_received;
    call->final_tag.run = on_final;
}
