/* The present PublishStream of a publisher. Its tags are one send, one receive, and the status. The
 * thread drives them; whoever puts a message only starts a send if none is under way. So a frame
 * fills while the one before is on its way. */
#include "client/src/publisher_priv.h"

#include "client/src/error.h"
#include "client/src/status.h"
#include "client/src/stream.h"

#include <grpc/byte_buffer.h>
#include <stdlib.h>

enum { FRAME_BYTES = 256 * 1024 }; /* of several messages; a larger one goes alone */

typedef Prism__Patterns__Producer__PublishFrame wire_frame;
typedef Prism__Patterns__Producer__PublishAck wire_ack;

/* ---- frames ---- */

/* How many of those that wait go with the next frame. */
static size_t count_frame(const struct prism_publisher *p)
{
    uint64_t bytes = 0;
    size_t n = 0;

    for (const struct parcel *parcel = p->waiting.first; parcel != NULL; parcel = parcel->next) {
        if (n == p->options.frame_messages || p->sent.n + n >= p->window ||
            p->sent.bytes + bytes >= p->window_bytes)
            break;
        if (n > 0 && (bytes + parcel->bytes > FRAME_BYTES || parcel->resume))
            break;
        bytes += parcel->bytes;
        n++;
    }
    return n;
}

static Prism__Patterns__Producer__FailureMode wire_mode(enum prism_after_failure after)
{
    return after == PRISM_CONTINUE   ? PRISM__PATTERNS__PRODUCER__FAILURE_MODE__CONTINUE
           : after == PRISM_STOP_ALL ? PRISM__PATTERNS__PRODUCER__FAILURE_MODE__STOP_STREAM
                                     : PRISM__PATTERNS__PRODUCER__FAILURE_MODE__STOP_KEY;
}

static void send_frame(struct prism_publisher *p, size_t n)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    wire_frame frame = PRISM__PATTERNS__PRODUCER__PUBLISH_FRAME__INIT;

    frame.messages = p->list;
    frame.n_messages = n;
    frame.resume = p->waiting.first->resume;
    frame.with_results = p->options.positions;
    frame.failure_mode = wire_mode(p->options.after_failure);
    if (frame.resume) {
        p->resumed_from = p->sent_through + 1;
        p->failed = false;
    }
    p->sent_through += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        struct parcel *parcel = parcels_take(&p->waiting);

        p->list[i] = &parcel->message;
        parcels_add(&p->sent, parcel);
    }
    op.data.send_message.send_message = stream_pack(&frame.base);
    p->sending = true;
    stream_start(p->call, &op, 1, &p->sending);
    grpc_byte_buffer_destroy(op.data.send_message.send_message);
}

static void half_close(struct prism_publisher *p)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    p->half_closed = p->sending = true;
    stream_start(p->call, &op, 1, &p->sending);
}

void publish_stream_go_on(struct prism_publisher *p)
{
    size_t n;

    if (p->call == NULL || p->sending || p->half_closed || p->draining)
        return;
    n = count_frame(p);
    if (n > 0)
        send_frame(p, n);
    else if (p->closing && p->waiting.n == 0)
        half_close(p);
}

/* ---- a stream begins ---- */

static void ask_for_ack(struct prism_publisher *p, bool first)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_MESSAGE}, {.op = GRPC_OP_RECV_INITIAL_METADATA}};

    ops[0].data.recv_message.recv_message = &p->incoming;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &p->initial;
    p->tags++;
    stream_start(p->call, ops, first ? 2 : 1, &p->incoming);
}

void publish_stream_begin(struct prism_publisher *p)
{
    const struct prism_channel *channel = p->producer->channel;
    grpc_op request = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    grpc_metadata_array_init(&p->initial);
    grpc_metadata_array_init(&p->trailing);
    p->status_text = grpc_empty_slice();
    p->incoming = NULL;
    p->settled_through = p->sent_through = p->resumed_from = 0;
    p->failed = false;
    p->stats.streams++;
    p->call =
        grpc_channel_create_registered_call(channel->grpc, NULL, GRPC_PROPAGATE_DEFAULTS, p->queue,
                                            p->producer->registered[PRODUCER_PUBLISH_STREAM],
                                            gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    p->half_closed = p->draining = false;
    p->window = 0;
    p->sending = true;
    request.data.send_initial_metadata.count = channel->metadata_count;
    request.data.send_initial_metadata.metadata = (grpc_metadata *)channel->metadata;
    stream_start(p->call, &request, 1, &p->sending);
    ask_for_ack(p, true);
    status.data.recv_status_on_client.trailing_metadata = &p->trailing;
    status.data.recv_status_on_client.status = &p->status;
    status.data.recv_status_on_client.status_details = &p->status_text;
    p->tags++;
    stream_start(p->call, &status, 1, &p->status);
}

bool publish_stream_stands(const struct prism_publisher *p)
{
    return p->call != NULL;
}

/* ---- acknowledgements ---- */

static bool is_sound(const struct prism_publisher *p, const wire_ack *ack)
{
    int64_t n = ack->settled_through - p->settled_through;

    return n >= 0 && (uint64_t)n <= p->sent.n && ack->window > 0 && ack->window_bytes > 0 &&
           (ack->n_results == 0 || ack->n_results == (size_t)n);
}

static void settle_failed(struct prism_publisher *p,
                          const Prism__Patterns__Producer__PublishFailure *failure)
{
    struct parcel *parcel = p->sent.first;
    bool known = failure->outcome == PRISM__PATTERNS__PRODUCER__OUTCOME__NOT_STORED;

    publisher_settle(p, &p->sent, known ? PRISM_NOT_STORED : PRISM_OUTCOME_UNKNOWN,
                     producer_code(failure->code), failure->error);
    parcel->result.retry_after_ms = producer_advice_ms(failure->retry_after_ms);
    p->failed = p->failed || p->settled_through >= p->resumed_from;
}

/* Results and failures borrow the acknowledgement's texts. */
static void settle_acknowledged(struct prism_publisher *p, const wire_ack *ack)
{
    size_t failure = 0;

    for (size_t i = 0; p->settled_through < ack->settled_through; i++) {
        p->settled_through++;
        if (failure < ack->n_failures && ack->failures[failure]->sequence == p->settled_through) {
            settle_failed(p, ack->failures[failure++]);
        } else {
            struct parcel *parcel = p->sent.first;

            publisher_settle(p, &p->sent, PRISM_STORED, PRISM_OK, "");
            if (ack->n_results > 0)
                parcel->result = producer_result(ack->results[i]);
        }
    }
}

/* The caller holds the lock. */
static void take_ack(struct prism_publisher *p)
{
    p->ack =
        (wire_ack *)stream_decode(p->incoming, &prism__patterns__producer__publish_ack__descriptor);
    grpc_byte_buffer_destroy(p->incoming);
    p->incoming = NULL;
    if (p->ack == NULL || !is_sound(p, p->ack)) {
        grpc_call_cancel_with_status(p->call, GRPC_STATUS_INTERNAL,
                                     "PublishStream: the server's answer makes no sense", NULL);
    } else {
        p->failures = 0;
        p->window = (size_t)p->ack->window;
        p->window_bytes = (uint64_t)p->ack->window_bytes;
        p->draining = p->draining || p->ack->draining;
        settle_acknowledged(p, p->ack);
    }
    ask_for_ack(p, false);
}

/* ---- a stream ends ---- */

/* What was sent is in nobody's hands: it goes first on the next stream. */
static void take_back(struct prism_publisher *p)
{
    struct parcels waiting = p->waiting;

    p->waiting = p->sent;
    if (waiting.n > 0) {
        *p->waiting.last = waiting.first;
        p->waiting.last = waiting.last;
        p->waiting.n += waiting.n;
        p->waiting.bytes += waiting.bytes;
    }
    parcels_init(&p->sent);
}

/* What was sent may be stored. */
static void lose(struct prism_publisher *p)
{
    p->failed = p->failed || p->sent.n > 0;
    while (p->sent.n > 0)
        publisher_settle(p, &p->sent, PRISM_OUTCOME_UNKNOWN, PRISM_UNAVAILABLE,
                         "the stream was lost before the message was settled");
}

/* A message failed, or is unknown, and with the stream the server has forgotten of which key it
 * was. What was put behind it must not overtake it. */
static void stop(struct prism_publisher *p)
{
    struct parcels kept;
    struct parcel *parcel;

    parcels_init(&kept);
    p->stopped = p->options.after_failure != PRISM_CONTINUE;
    for (bool resumed = false; p->waiting.n > 0;) {
        resumed = resumed || p->waiting.first->resume;
        if (p->options.after_failure == PRISM_CONTINUE || resumed ||
            (p->options.after_failure == PRISM_STOP_KEY &&
             p->waiting.first->message._ordering_key_case == 0))
            parcels_add(&kept, parcels_take(&p->waiting));
        else
            publisher_settle(p, &p->waiting, PRISM_NOT_STORED, PRISM_ABORTED,
                             "an earlier message failed, or was lost with its stream");
        p->stopped = p->stopped && !resumed;
    }
    while ((parcel = parcels_take(&kept)) != NULL)
        parcels_add(&p->waiting, parcel);
}

static void end(struct prism_publisher *p)
{
    bool harmless = status_to_error(p->producer->channel, p->status, p->status_text, &p->trailing,
                                    &p->ended) == STATUS_REPEAT;

    if (p->status == GRPC_STATUS_OK && p->half_closed && p->sent.n == 0)
        p->ended = (struct prism_error){.code = PRISM_OK};
    else if (p->ended.code == PRISM_OK || p->ended.code == PRISM_CANCELLED)
        error_set(&p->ended, PRISM_UNAVAILABLE, "PublishStream: the server broke the stream off");
    grpc_slice_unref(p->status_text);
    grpc_metadata_array_destroy(&p->initial);
    grpc_metadata_array_destroy(&p->trailing);
    grpc_call_unref(p->call);
    p->call = NULL;
    if (p->sent.n > 0 && harmless && p->draining)
        take_back(p);
    else
        lose(p);
    if (p->failed)
        stop(p);
    p->refused = stream_ended_for_good(p->ended.code);
    p->retry_at_ns =
        p->draining && p->failures == 0
            ? 0
            : stream_retry_at_ns(p->producer->channel, p->failures, p->ended.retry_after_ms);
    p->failures++;
}

void publish_stream_event(struct prism_publisher *p)
{
    grpc_event event =
        grpc_completion_queue_next(p->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

    pthread_mutex_lock(&p->lock);
    if (event.tag == &p->sending) {
        p->sending = false;
    } else {
        p->tags--;
        if (event.tag == &p->incoming && p->incoming != NULL)
            take_ack(p);
    }
    if (p->tags == 0 && !p->sending)
        end(p);
    pthread_mutex_unlock(&p->lock);
}
