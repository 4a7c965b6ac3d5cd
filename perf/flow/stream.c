/* See stream.h. Tags are the stream's address plus what has happened. */
#include "perf/flow/stream.h"

#include "perf/baseline/baseline.h"
#include "perf/flow/flow.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <string.h>

enum { STREAM_ENDED = 3, PATIENCE_SECONDS = 60, TAG_MASK = 3 };

static void *tag_of(struct stream *stream, int what)
{
    return (char *)stream + what;
}

static void start(struct stream *stream, const grpc_op *ops, size_t n, int what)
{
    if (grpc_call_start_batch(stream->call, ops, n, tag_of(stream, what), NULL) != GRPC_CALL_OK)
        flow_die("grpc_call_start_batch refused");
}

void stream_open(struct stream *stream, const char *address, const char *method,
                 grpc_completion_queue *queue)
{
    char key[] = GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL;
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = key, .value.integer = 1};
    grpc_channel_args args = {1, &arg};
    grpc_op ops[2];

    baseline_switch_off_lock_tracking();
    grpc_init();
    memset(stream, 0, sizeof *stream);
    stream->queue = queue != NULL ? queue : grpc_completion_queue_create_for_next(NULL);
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    stream->channel = grpc_channel_create(address, plain, &args);
    grpc_channel_credentials_release(plain);
    stream->call = grpc_channel_create_call(stream->channel, NULL, GRPC_PROPAGATE_DEFAULTS,
                                            stream->queue, grpc_slice_from_copied_string(method),
                                            NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_metadata_array_init(&stream->initial);
    grpc_metadata_array_init(&stream->trailing);
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[0].data.recv_status_on_client.trailing_metadata = &stream->trailing;
    ops[0].data.recv_status_on_client.status = &stream->status;
    ops[0].data.recv_status_on_client.status_details = &stream->details;
    start(stream, ops, 1, STREAM_ENDED);
    ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                       .flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY};
    ops[1] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
    start(stream, ops, 1, 0);
    start(stream, ops + 1, 1, 0);
}

void stream_send(struct stream *stream, grpc_slice message)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};

    stream->outgoing = grpc_raw_byte_buffer_create(&message, 1);
    op.data.send_message.send_message = stream->outgoing;
    stream->sending = true;
    start(stream, &op, 1, STREAM_SENT);
}

void stream_receive(struct stream *stream)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    if (stream->receiving)
        return;
    op.data.recv_message.recv_message = &stream->incoming;
    stream->receiving = true;
    start(stream, &op, 1, STREAM_RECEIVED);
}

static void take(struct stream *stream)
{
    grpc_byte_buffer_reader reader;
    grpc_slice part;

    stream->receiving = false;
    stream->n = 0;
    if (stream->incoming == NULL || !grpc_byte_buffer_reader_init(&reader, stream->incoming))
        return; /* its end will be told */
    while (grpc_byte_buffer_reader_next(&reader, &part)) {
        size_t n = GRPC_SLICE_LENGTH(part);

        if (stream->n + n > stream->room) {
            stream->room = 2 * (stream->n + n);
            stream->bytes = realloc(stream->bytes, stream->room);
        }
        memcpy(stream->bytes + stream->n, GRPC_SLICE_START_PTR(part), n);
        stream->n += n;
        grpc_slice_unref(part);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(stream->incoming);
    stream->incoming = NULL;
}

int stream_next(grpc_completion_queue *queue, struct stream **stream)
{
    for (;;) {
        grpc_event event = grpc_completion_queue_next(
            queue,
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                         gpr_time_from_seconds(PATIENCE_SECONDS, GPR_TIMESPAN)),
            NULL);
        int what = (int)((uintptr_t)event.tag & TAG_MASK);

        if (event.type != GRPC_OP_COMPLETE)
            flow_die("nothing for %d s", PATIENCE_SECONDS);
        *stream = (struct stream *)((char *)event.tag - what);
        if (what == STREAM_ENDED)
            flow_die("the stream ended: grpc-status %d: %.*s", (int)(*stream)->status,
                     (int)GRPC_SLICE_LENGTH((*stream)->details),
                     (const char *)GRPC_SLICE_START_PTR((*stream)->details));
        if (what == STREAM_SENT) {
            grpc_byte_buffer_destroy((*stream)->outgoing);
            (*stream)->sending = false;
        }
        if (what == STREAM_RECEIVED)
            take(*stream);
        if (what != 0 && (what == STREAM_SENT || (*stream)->n > 0))
            return what;
    }
}

/* The process ends: what is under way goes with it. */
void stream_close(struct stream *stream)
{
    grpc_call_cancel(stream->call, NULL);
}
