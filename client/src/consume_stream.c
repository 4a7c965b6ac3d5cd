#include "client/src/consume_stream.h"

#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/status.h"
#include "client/src/stream.h"

#include "prism/patterns/schemas/messaging.pb-c.h"

#include <grpc/byte_buffer.h>
#include <grpc/support/time.h>
#include <stdlib.h>

typedef Prism__Patterns__Consumer__SubscribeRequest wire_subscribe;
typedef Prism__Patterns__Consumer__ConsumeRequest wire_request;
typedef Prism__Patterns__Consumer__ConsumeResponse wire_frame;

/* ---- sending; the caller holds the lock ---- */

static grpc_byte_buffer *take_bytes(uint8_t *bytes, size_t len)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    free(bytes);
    return buffer;
}

void stream_send_settlements(struct prism_subscription *s)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    size_t len;
    uint8_t *bytes = settlements_pack(&s->settlements, &len);

    op.data.send_message.send_message = take_bytes(bytes, len);
    s->sending = true;
    stream_start(s->call, &op, 1, &s->sending);
    grpc_byte_buffer_destroy(op.data.send_message.send_message);
}

bool stream_may_send(const struct prism_subscription *s)
{
    return s->call != NULL && !s->sending && !s->half_closed;
}

void stream_send_what_waits(struct prism_subscription *s)
{
    if (stream_may_send(s) && settlements_wait(&s->settlements))
        stream_send_settlements(s);
}

static void half_close(struct prism_subscription *s)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    s->half_closed = s->sending = true;
    stream_start(s->call, &op, 1, &s->sending);
}

/* ---- a stream begins ---- */

static Prism__Patterns__Consumer__StartPosition wire_start(const struct prism_subscription *s)
{
    bool again = s->stats.connections > 1 && s->options.group != NULL;

    if (!again && s->options.start == PRISM_START_EARLIEST)
        return PRISM__PATTERNS__CONSUMER__START_POSITION__EARLIEST;
    if (!again && s->options.start == PRISM_START_LATEST)
        return PRISM__PATTERNS__CONSUMER__START_POSITION__LATEST;
    return PRISM__PATTERNS__CONSUMER__START_POSITION__COMMITTED;
}

static void fill_bounds(wire_subscribe *to, const struct prism_subscribe_options *options)
{
    if (options->max_in_flight > 0) {
        to->_max_in_flight_case =
            PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST___MAX_IN_FLIGHT_MAX_IN_FLIGHT;
        to->max_in_flight =
            options->max_in_flight < INT32_MAX ? (int32_t)options->max_in_flight : INT32_MAX;
    }
    if (options->max_in_flight_bytes > 0) {
        to->_max_in_flight_bytes_case =
            PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST___MAX_IN_FLIGHT_BYTES_MAX_IN_FLIGHT_BYTES;
        to->max_in_flight_bytes = options->max_in_flight_bytes;
    }
    if (options->max_inline_bytes > 0) {
        to->_max_inline_bytes_case =
            PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST___MAX_INLINE_BYTES_MAX_INLINE_BYTES;
        to->max_inline_bytes = options->max_inline_bytes;
    }
    if (options->lease_ms > 0) {
        to->_lease_ms_case = PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST___LEASE_MS_LEASE_MS;
        to->lease_ms = options->lease_ms;
    }
}

static uint8_t *pack_subscribe(const struct prism_subscription *s, size_t *len)
{
    static const Prism__Patterns__Consumer__OrderMode orders[] = {
        [PRISM_ORDER_NONE] = PRISM__PATTERNS__CONSUMER__ORDER_MODE__ORDER_NONE,
        [PRISM_ORDER_PER_KEY] = PRISM__PATTERNS__CONSUMER__ORDER_MODE__ORDER_PER_KEY,
        [PRISM_ORDER_PARTITION] = PRISM__PATTERNS__CONSUMER__ORDER_MODE__ORDER_PARTITION,
    };
    wire_subscribe subscribe = PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST__INIT;
    wire_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    uint8_t *bytes;

    subscribe.topic = s->topic;
    if (s->group != NULL)
        subscribe.consumer_group = s->group;
    if (s->consumer_id != NULL)
        subscribe.consumer_id = s->consumer_id;
    subscribe.start_case = PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST__START_POSITION;
    subscribe.position = wire_start(s);
    subscribe.order = orders[s->options.order];
    subscribe.dead_letters = s->options.dead_letters;
    if (s->options.settle_automatically)
        subscribe.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    fill_bounds(&subscribe, &s->options);
    request.action_case = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__ACTION_SUBSCRIBE;
    request.subscribe = &subscribe;
    *len = protobuf_c_message_get_packed_size(&request.base);
    bytes = alloc_zeroed(*len + 1, 1);
    protobuf_c_message_pack(&request.base, bytes);
    return bytes;
}

static void ask_for_frame(struct prism_subscription *s, bool first)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_MESSAGE}, {.op = GRPC_OP_RECV_INITIAL_METADATA}};

    ops[0].data.recv_message.recv_message = &s->incoming;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
    s->tags++;
    stream_start(s->call, ops, first ? 2 : 1, &s->incoming);
}

void stream_begin(struct prism_subscription *s)
{
    const struct prism_channel *channel = s->consumer->channel;
    grpc_op request[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_MESSAGE}};
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    size_t len;

    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    s->status_text = grpc_empty_slice();
    s->incoming = NULL;
    s->dropped = 0;
    s->draining = s->started = false;
    pthread_mutex_lock(&s->lock);
    s->stats.connections++;
    s->received = s->unsettled = 0;
    settlements_init(&s->settlements);
    s->call = grpc_channel_create_registered_call(
        channel->grpc, NULL, GRPC_PROPAGATE_DEFAULTS, s->queue,
        s->consumer->registered[CONSUMER_CONSUME], gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    s->sending = true;
    s->half_closed = false;
    request[0].data.send_initial_metadata.count = channel->metadata_count;
    request[0].data.send_initial_metadata.metadata = (grpc_metadata *)channel->metadata;
    uint8_t *bytes = pack_subscribe(s, &len);
    request[1].data.send_message.send_message = take_bytes(bytes, len);
    stream_start(s->call, request, 2, &s->sending);
    grpc_byte_buffer_destroy(request[1].data.send_message.send_message);
    ask_for_frame(s, true);
    status.data.recv_status_on_client.trailing_metadata = &s->trailing;
    status.data.recv_status_on_client.status = &s->status;
    status.data.recv_status_on_client.status_details = &s->status_text;
    s->tags++;
    stream_start(s->call, &status, 1, &s->status);
    pthread_mutex_unlock(&s->lock);
}

/* ---- a stream ends ---- */

static void plan_retry(struct prism_subscription *s)
{
    bool planned = s->failures == 0 && s->draining; /* by the server: go elsewhere at once */

    s->retry_at_ns =
        planned ? 0
                : stream_retry_at_ns(s->consumer->channel, s->failures, s->ended.retry_after_ms);
    s->failures++;
}

void stream_drop_frame(struct prism_subscription *s)
{
    if (s->frame != NULL)
        protobuf_c_message_free_unpacked(&s->frame->base, NULL);
    s->frame = NULL;
    s->next = 0;
}

static void end(struct prism_subscription *s)
{
    status_to_error(s->consumer->channel, s->status, s->status_text, &s->trailing, &s->ended);
    if (s->ended.code == PRISM_CANCELLED)
        error_set(&s->ended, PRISM_UNAVAILABLE, "Consume: the server broke the stream off");
    s->started = false;
    s->for_good = stream_ended_for_good(s->ended.code);
    grpc_slice_unref(s->status_text);
    grpc_metadata_array_destroy(&s->initial);
    grpc_metadata_array_destroy(&s->trailing);
    plan_retry(s);
    pthread_mutex_lock(&s->lock);
    grpc_call_unref(s->call);
    s->call = NULL;
    settlements_clear(&s->settlements);
    pthread_mutex_unlock(&s->lock);
}

/* ---- events ---- */

/* The caller holds the lock. */
static void count(struct prism_subscription *s, const wire_frame *frame)
{
    s->stats.late += frame->n_failures;
    s->stats.gaps += frame->n_gaps;
    for (size_t i = 0; i < frame->n_revoked; i++)
        s->stats.revoked += frame->revoked[i]->n_sequences;
    if (frame->dropped_count > s->dropped)
        s->stats.dropped += (uint64_t)(frame->dropped_count - s->dropped);
    s->dropped = frame->dropped_count;
    for (size_t i = 0; i < frame->n_messages; i++) {
        if (frame->messages[i]->sequence > s->received)
            s->received = frame->messages[i]->sequence;
    }
    s->stats.received += frame->n_messages;
    if (!s->options.settle_automatically)
        s->unsettled += (int64_t)frame->n_messages;
}

static void on_frame(struct prism_subscription *s)
{
    s->tags--;
    if (s->incoming == NULL) /* the end: the status says why */
        return;
    s->frame = (wire_frame *)stream_decode(
        s->incoming, &prism__patterns__consumer__consume_response__descriptor);
    grpc_byte_buffer_destroy(s->incoming);
    s->incoming = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->frame == NULL) {
        grpc_call_cancel_with_status(s->call, GRPC_STATUS_INTERNAL,
                                     "Consume: the server's answer does not decode", NULL);
    } else {
        count(s, s->frame);
        s->draining = s->draining || s->frame->draining;
        if (s->frame->started != NULL) {
            s->started = true;
            s->failures = 0;
        }
    }
    ask_for_frame(s, false);
    pthread_mutex_unlock(&s->lock);
}

void stream_go_on(struct prism_subscription *s, bool leave)
{
    pthread_mutex_lock(&s->lock);
    stream_send_what_waits(s);
    if (leave && stream_may_send(s))
        half_close(s);
    pthread_mutex_unlock(&s->lock);
}

static void on_sent(struct prism_subscription *s)
{
    pthread_mutex_lock(&s->lock);
    s->sending = false;
    pthread_mutex_unlock(&s->lock);
}

bool stream_stands(struct prism_subscription *s)
{
    bool sending;

    pthread_mutex_lock(&s->lock);
    sending = s->sending;
    pthread_mutex_unlock(&s->lock);
    return sending || s->tags > 0;
}

bool stream_event(struct prism_subscription *s, uint64_t until_ns)
{
    gpr_timespec until =
        until_ns == UINT64_MAX ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : rpc_timespec(until_ns);
    grpc_event event = grpc_completion_queue_next(s->queue, until, NULL);

    if (event.type != GRPC_OP_COMPLETE)
        return false;
    if (event.tag == &s->incoming)
        on_frame(s);
    else if (event.tag == &s->sending)
        on_sent(s);
    else
        s->tags--;
    if (!stream_stands(s))
        end(s);
    return true;
}
