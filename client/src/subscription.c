/* A subscription: one Consume stream (consume_stream.c) at a time, and the next one when it ends.
 *
 * Nothing runs behind the back of the thread that receives. prism_receive takes messages from the
 * frame in hand; when that is used up, it handles events until a frame has come. */
#include "client/src/channel.h"
#include "client/src/consume_stream.h"
#include "client/src/error.h"

#include "prism/patterns/schemas/messaging.pb-c.h"

#include <errno.h>
#include <stdlib.h>

typedef Prism__Patterns__Consumer__ConsumedMessage wire_message;

/* ---- receiving ---- */

static struct prism_bytes bytes_of(ProtobufCBinaryData data)
{
    return prism_bytes_of(data.data != NULL ? data.data : (const uint8_t *)"", data.len);
}

static void fill_headers(struct prism_subscription *s, const wire_message *from,
                         struct prism_delivery *to)
{
    if (from->n_headers > s->headers_room) {
        free(s->headers);
        s->headers = alloc_zeroed(from->n_headers, sizeof *s->headers);
        s->headers_room = from->n_headers;
    }
    for (size_t i = 0; i < from->n_headers; i++) {
        s->headers[i].name = from->headers[i]->name;
        s->headers[i].value = from->headers[i]->_value_case != 0 ? bytes_of(from->headers[i]->value)
                                                                 : prism_bytes_of(NULL, 0);
    }
    to->headers = s->headers;
    to->header_count = from->n_headers;
}

static void fill(struct prism_subscription *s, const wire_message *from, struct prism_delivery *to)
{
    *to = (struct prism_delivery){
        .receipt = {.sequence = (uint64_t)from->sequence, .connection = s->stats.connections},
        .topic = from->topic,
        .message_id = from->message_id,
        .position = from->position,
        .offset = from->_offset_case != 0 ? from->offset : -1,
        .partition = from->_partition_case != 0 ? from->partition : -1,
        .timestamp_ms = from->_timestamp_ms_case != 0 ? from->timestamp_ms : -1,
        .attempt = from->_attempt_case != 0 ? from->attempt : 0,
        .null_payload = from->_payload_case == 0,
        .claim_checked = from->claim != NULL};
    if (from->_payload_case != 0)
        to->payload = bytes_of(from->payload);
    if (from->_ordering_key_case != 0)
        to->ordering_key = bytes_of(from->ordering_key);
    fill_headers(s, from, to);
}

static bool take_message(struct prism_subscription *s, struct prism_delivery *delivery)
{
    if (s->frame != NULL && s->next < s->frame->n_messages) {
        fill(s, s->frame->messages[s->next++], delivery);
        return true;
    }
    stream_drop_frame(s);
    return false;
}

static bool is_stopped(struct prism_subscription *s)
{
    bool stopped;

    pthread_mutex_lock(&s->lock);
    stopped = s->stopped;
    pthread_mutex_unlock(&s->lock);
    return stopped;
}

/* There is no stream: until the time, or until it is stopped. */
static void sleep_until(struct prism_subscription *s, uint64_t until_ns)
{
    struct timespec at = {.tv_sec = (time_t)(until_ns / RPC_NS_PER_S),
                          .tv_nsec = (long)(until_ns % RPC_NS_PER_S)};

    pthread_mutex_lock(&s->lock);
    while (!s->stopped && pthread_cond_timedwait(&s->stopping, &s->lock, &at) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&s->lock);
}

/* Members leave a server that drains once they have settled what they have. */
static bool has_left(struct prism_subscription *s)
{
    bool left;

    pthread_mutex_lock(&s->lock);
    left = s->draining && s->unsettled == 0;
    pthread_mutex_unlock(&s->lock);
    return left;
}

/* Something may have come of it, or the time is over. */
static void wait_for_news(struct prism_subscription *s, uint64_t until_ns)
{
    if (!stream_stands(s)) {
        if (s->retry_at_ns > rpc_now_ns()) {
            sleep_until(s, s->retry_at_ns < until_ns ? s->retry_at_ns : until_ns);
            return;
        }
        stream_begin(s);
    }
    stream_go_on(s, has_left(s));
    stream_event(s, until_ns);
}

enum prism_code prism_receive(struct prism_subscription *s, uint32_t timeout_ms,
                              struct prism_delivery *delivery, struct prism_error *error)
{
    uint64_t until_ns =
        timeout_ms == UINT32_MAX ? UINT64_MAX : rpc_now_ns() + timeout_ms * RPC_NS_PER_MS;

    *delivery = (struct prism_delivery){.topic = "", .message_id = "", .position = ""};
    for (bool first = true;; first = false) {
        if (is_stopped(s))
            return error_set(error, PRISM_CANCELLED, "the subscription was stopped");
        if (take_message(s, delivery))
            return error_none(error);
        if (!stream_stands(s) && s->for_good)
            return error_copy(error, &s->ended);
        if (!first && rpc_now_ns() >= until_ns)
            return error_set(error, PRISM_DEADLINE_EXCEEDED, "nothing came within %u ms%s%s",
                             timeout_ms, s->failures > 0 ? "; " : "",
                             s->failures > 0 ? s->ended.message : "");
        wait_for_news(s, until_ns);
    }
}

bool prism_subscription_stands(const struct prism_subscription *s, struct prism_error *why)
{
    if (why != NULL && s->failures > 0)
        *why = s->ended;
    else
        error_none(why);
    return s->started;
}

/* ---- any thread ---- */

/* A send that says nothing new comes back, and so ends the receiving thread's wait. */
void prism_subscription_stop(struct prism_subscription *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    pthread_cond_broadcast(&s->stopping);
    if (stream_may_send(s))
        stream_send_settlements(s);
    pthread_mutex_unlock(&s->lock);
}

/* May it be said of this delivery? Under the lock. */
static enum prism_code check_receipt(const struct prism_subscription *s,
                                     struct prism_receipt receipt, bool done,
                                     struct prism_error *error)
{
    if (receipt.connection > s->stats.connections || receipt.sequence == 0)
        return error_about(error, "receipt", "no such delivery");
    if (s->options.settle_automatically && !done)
        return error_set(error, PRISM_FAILED_PRECONDITION,
                         "the delivery was settled when it was sent: it is done");
    if (receipt.connection < s->stats.connections || s->call == NULL || s->half_closed)
        return error_set(error, PRISM_ABORTED,
                         "the delivery's connection is gone: the message comes again");
    if (receipt.sequence > (uint64_t)s->received)
        return error_about(error, "receipt", "no such delivery");
    return error_none(error);
}

static enum prism_code settle(struct prism_subscription *s, struct prism_receipt receipt,
                              enum prism_disposition disposition, uint32_t lease_ms,
                              const struct prism_settle_options *options, struct prism_error *error)
{
    bool done = disposition == PRISM_DONE && lease_ms == 0;
    enum prism_code code;

    if (disposition < PRISM_DONE || disposition > PRISM_DROP)
        return error_about(error, "disposition", "no such disposition");
    pthread_mutex_lock(&s->lock);
    code = check_receipt(s, receipt, done, error);
    /* A server that settles by itself wants to hear nothing of it, and ends the stream. */
    if (code == PRISM_OK && !s->options.settle_automatically) {
        settlements_add(&s->settlements, (int64_t)receipt.sequence, disposition, lease_ms, options);
        if (lease_ms == 0) {
            s->stats.settled++;
            s->unsettled--;
        }
        stream_send_what_waits(s);
    }
    pthread_mutex_unlock(&s->lock);
    return code;
}

enum prism_code prism_settle(struct prism_subscription *subscription, struct prism_receipt receipt,
                             enum prism_disposition disposition,
                             const struct prism_settle_options *options, struct prism_error *error)
{
    return settle(subscription, receipt, disposition, 0, options, error);
}

enum prism_code prism_extend(struct prism_subscription *subscription, struct prism_receipt receipt,
                             uint32_t lease_ms, struct prism_error *error)
{
    if (lease_ms == 0)
        return error_about(error, "lease_ms", "lease_ms has to be 1 or more");
    return settle(subscription, receipt, PRISM_DONE, lease_ms, NULL, error);
}

struct prism_subscription_stats prism_subscription_stats(struct prism_subscription *s)
{
    struct prism_subscription_stats stats;

    pthread_mutex_lock(&s->lock);
    stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

/* ---- life ---- */

enum prism_code prism_subscribe(struct prism_consumer *consumer, const char *topic,
                                const struct prism_subscribe_options *options,
                                struct prism_subscription **subscription, struct prism_error *error)
{
    static const struct prism_subscribe_options defaults = {0};
    struct prism_subscription *made;
    pthread_condattr_t monotonic;

    *subscription = NULL;
    if (options == NULL)
        options = &defaults;
    if (topic == NULL || *topic == '\0')
        return error_about(error, "topic", "topic must not be empty");
    if (options->start < PRISM_START_COMMITTED || options->start > PRISM_START_LATEST ||
        options->order < PRISM_ORDER_NONE || options->order > PRISM_ORDER_PARTITION)
        return error_about(error, "options", "no such start, or no such order");
    made = alloc_zeroed(1, sizeof *made);
    made->consumer = consumer;
    made->options = *options;
    made->options.settle_automatically =
        options->settle_automatically || !consumer->capabilities.supports_settling;
    made->topic = alloc_text(topic);
    made->group = alloc_text(options->group);
    made->consumer_id = alloc_text(options->consumer_id);
    made->queue = grpc_completion_queue_create_for_next(NULL);
    settlements_init(&made->settlements);
    pthread_mutex_init(&made->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&made->stopping, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *subscription = made;
    return error_none(error);
}

static void cancel(struct prism_subscription *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->call != NULL)
        grpc_call_cancel(s->call, NULL);
    pthread_mutex_unlock(&s->lock);
}

/* Frames that come now are the server's to deliver again. */
static void finish_stream(struct prism_subscription *s, struct prism_error *error)
{
    uint64_t until_ns = rpc_now_ns() + s->consumer->channel->deadline_ms * RPC_NS_PER_MS;
    bool cancelled = false;

    while (stream_stands(s)) {
        stream_drop_frame(s);
        if (!cancelled)
            stream_go_on(s, true);
        if (stream_event(s, until_ns) || cancelled)
            continue;
        cancelled = true;
        cancel(s);
        until_ns = UINT64_MAX;
    }
    if (cancelled)
        error_set(&s->ended, PRISM_DEADLINE_EXCEEDED, "Consume: the server did not end the stream");
    error_copy(error, &s->ended);
}

enum prism_code prism_subscription_close(struct prism_subscription *s, struct prism_error *error)
{
    struct prism_error how = {.code = PRISM_OK};

    if (s == NULL)
        return error_none(error);
    if (stream_stands(s))
        finish_stream(s, &how);
    stream_drop_frame(s);
    grpc_completion_queue_shutdown(s->queue);
    while (grpc_completion_queue_next(s->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(s->queue);
    pthread_cond_destroy(&s->stopping);
    pthread_mutex_destroy(&s->lock);
    settlements_clear(&s->settlements);
    free(s->headers);
    free(s->topic);
    free(s->group);
    free(s->consumer_id);
    free(s);
    return error_copy(error, &how);
}
