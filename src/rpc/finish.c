/* The poller half of a call after its handler has begun. Streams: finish_stream.c. All but the
 * posting of requests goes through finish_start_batch.
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

void finish_start_batch(struct call *call, const grpc_op *ops, size_t n, struct tag *tag)
{
    grpc_call_error error = grpc_call_start_batch(call->poller.grpc, ops, n, tag, NULL);

    if (error == GRPC_CALL_OK) {
        call->poller.tags++;
        return;
    }
    fprintf(stderr, "prism: grpc_call_start_batch: error %d\n", (int)error);
    abort();
}

/* ---- life ---- */

static void unlink_call(struct call *call)
{
    struct rpc_server *server = call->server;

    if (!call->poller.linked)
        return;
    if (server->unwatched == call)
        server->unwatched = call->poller.next;
    call->poller.prev->poller.next = call->poller.next;
    call->poller.next->poller.prev = call->poller.prev;
    call->poller.linked = false;
}

/* What the call holds of limits.max_inflight_bytes: its request, and what is being sent, for as
 * long as its reader takes. The poller counts before answers_uncount gives back: for a moment an
 * answer counts twice, but workers never see a sum without it. */
void finish_charge(struct call *call, uint64_t sending_bytes, uint64_t *built)
{
    struct rpc_server *server = call->server;

    if (call->poller.counted) {
        counter_add(&server->in_flight_bytes, sending_bytes - call->poller.sending_bytes);
        counter_add(&call->share->bytes, sending_bytes - call->poller.sending_bytes);
        call->poller.sending_bytes = sending_bytes;
        memory_freed(server);
    }
    answers_uncount(call, built);
}

static void give_place_back(struct call *call)
{
    struct rpc_server *server = call->server;

    counter_add(&server->calls, (uint64_t)-1);
    if (call->share != NULL)
        share_leave(call->share);
    if (call->poller.placed)
        server->streams[call->worker->id]--;
    if (!call->poller.counted)
        return;
    counter_add(&call->share->bytes, -(call->request_bytes + call->poller.sending_bytes));
    if (admit_is_general_stream(call)) {
        call->share->streams--;
        server->general_streams--;
    } else {
        call->share->calls--;
    }
    counter_add(&server->in_flight_bytes, -(call->request_bytes + call->poller.sending_bytes));
    memory_freed(server);
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

    if (!call->poller.finalised || !call->released || call->poller.tags > 0)
        return;
    drop_ending(&call->ending);
    if (call->request_buffer != NULL)
        grpc_byte_buffer_destroy(call->request_buffer);
    if (call->row == NULL)
        grpc_call_details_destroy(&call->details);
    grpc_call_unref(call->poller.grpc);
    give_place_back(call);
    call->poller.next = server->free;
    server->free = call;
}

/* ---- cancellation and drain ---- */

void finish_notice(struct call *call, struct err why, bool soft)
{
    if (call->poller.finalised)
        return;
    if (call->poller.noticing) {
        if (!soft)
            call->poller.next_notice = why;
        return;
    }
    call->poller.noticing = true;
    call->poller.tags++;
    call->notice.why = why;
    call->notice.soft = soft;
    if (!soft)
        atomic_store_explicit(&call->over, true, memory_order_relaxed);
    worker_land(call->worker, &call->notice.there);
}

static void notice_back_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, notice.back);
    struct err next = call->poller.next_notice;

    call->poller.noticing = false;
    call->poller.tags--;
    call->poller.next_notice = ERR_NONE;
    if (next.code != ERR_OK)
        finish_notice(call, next, false);
    finish_maybe_recycle(call);
}

/* ERR_OK: the client is there, as far as is known. gRPC writes `cancelled` before it posts the
 * close tag, and mostly before a receive that it interrupts comes back: there, a glance ahead of
 * the tag tells it from a half-close. */
struct err finish_why_gone(const struct call *call)
{
    bool late = call->deadline_ns != 0 && clock_now_ns() >= call->deadline_ns;

    if (__atomic_load_n(&call->poller.cancelled, __ATOMIC_RELAXED) == 0)
        return ERR_NONE;
    return late ? err_make(ERR_DEADLINE_EXCEEDED, "the client's deadline passed")
                : err_make(ERR_CANCELLED, "the client cancelled the call");
}

static void on_close(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.close_tag);
    struct err why = finish_why_gone(call);

    (void)ok;
    call->poller.tags--;
    if (why.code != ERR_OK) {
        finish_stop_waiting(call, why);
        finish_notice(call, why, false);
    }
    finish_maybe_recycle(call);
}

void finish_post_close(struct call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    op.data.recv_close_on_server.cancelled = &call->poller.cancelled;
    call->poller.close_posted = true;
    finish_start_batch(call, &op, 1, &call->poller.close_tag);
}

grpc_op finish_initial_metadata(struct call *call, bool gzip)
{
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    size_t from = gzip ? 0 : 1, to = GRPC_SLICE_LENGTH(call->initial[1].key) > 0 ? 2 : 1;

    if (gzip) {
        call->initial[0].key = grpc_slice_from_static_string("grpc-encoding");
        call->initial[0].value = grpc_slice_from_static_string("gzip");
    }
    op.data.send_initial_metadata.metadata = call->initial + from;
    op.data.send_initial_metadata.count = to - from;
    return op;
}

/* ---- the end ---- */

static void on_final(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.final_tag);

    (void)ok; /* the client may be gone: the call is over all the same */
    call->poller.tags--;
    unread_end(call, call->poller.sending_bytes > 0);
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
        finish_charge(call, bytes, &call->built_bytes);
    }
}

/* What goes along with the status. The one answer that names the encodings has no details. */
static bool fill_trailer(struct call *call)
{
    bool detailed = GRPC_SLICE_LENGTH(call->ending.details) > 0;

    if (detailed) {
        call->poller.trailer.key = grpc_slice_from_static_string("grpc-status-details-bin");
        call->poller.trailer.value = call->ending.details;
    } else if (call->poller.tells_encodings) {
        call->poller.trailer.key = grpc_slice_from_static_string("grpc-accept-encoding");
        call->poller.trailer.value = grpc_slice_from_static_string("identity,gzip");
    }
    return detailed || call->poller.tells_encodings;
}

static size_t final_ops(struct call *call, grpc_op *ops)
{
    size_t n = 0;
    struct ending *ending = &call->ending;

    if (!call->poller.initial_sent)
        ops[n++] = finish_initial_metadata(call, ending->message != NULL &&
                                                     ending->message->data.raw.compression !=
                                                         GRPC_COMPRESS_NONE);
    if (ending->message != NULL) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = ending->message;
    }
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n].data.send_status_from_server.status = status_code(ending->code);
    if (ending->code != ERR_OK)
        ops[n].data.send_status_from_server.status_details = &ending->text;
    if (fill_trailer(call)) {
        ops[n].data.send_status_from_server.trailing_metadata = &call->poller.trailer;
        ops[n].data.send_status_from_server.trailing_metadata_count = 1;
    }
    n++;
    if (!call->poller.close_posted) {
        call->poller.close_posted = true;
        ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[n++].data.recv_close_on_server.cancelled = &call->poller.cancelled;
    }
    return n;
}

static void final_job(struct job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, final);
    grpc_op ops[4] = {0};

    call->poller.finalised = true;
    finish_stop_waiting(call, err_make(ERR_CANCELLED, "the call has ended"));
    count_end(call);
    unlink_call(call);
    unread_begin(call);
    finish_start_batch(call, ops, final_ops(call, ops), &call->poller.final_tag);
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
    call->notice.back.run = notice_back_job;
    call->final.run = final_job;
    call->release.run = release_job;
    call->poller.close_tag.run = on_close;
    call->poller.final_tag.run = on_final;
}
