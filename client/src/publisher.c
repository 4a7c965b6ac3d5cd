#include "client/src/publisher_priv.h"

#include "client/src/channel.h"
#include "client/src/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 10000, FRAME_MESSAGES = 500 };

static const uint64_t max_bytes = 64ull << 20;

/* ---- lists ---- */

void parcels_init(struct parcels *parcels)
{
    *parcels = (struct parcels){.last = &parcels->first};
}

void parcels_add(struct parcels *parcels, struct parcel *parcel)
{
    parcel->next = NULL;
    if (parcels->n == 0)
        parcels->last = &parcels->first; /* lists are moved by assignment */
    *parcels->last = parcel;
    parcels->last = &parcel->next;
    parcels->n++;
    parcels->bytes += parcel->bytes;
}

struct parcel *parcels_take(struct parcels *parcels)
{
    struct parcel *parcel = parcels->first;

    if (parcel == NULL)
        return NULL;
    parcels->first = parcel->next;
    parcels->n--;
    parcels->bytes -= parcel->bytes;
    return parcel;
}

void publisher_settle(struct prism_publisher *p, struct parcels *from, enum prism_outcome outcome,
                      enum prism_code code, const char *text)
{
    struct parcel *parcel = parcels_take(from);

    parcel->result = (struct prism_publish_result){.outcome = outcome,
                                                   .code = code,
                                                   .message = text,
                                                   .message_id = "",
                                                   .position = "",
                                                   .offset = -1,
                                                   .partition = -1};
    parcels_add(&p->settled, parcel);
}

/* ---- parcels ---- */

static char *copy(char **at, const void *data, size_t len)
{
    char *to = *at;

    if (len > 0)
        memcpy(to, data, len);
    to[len] = '\0';
    *at += len + 1;
    return to;
}

static size_t text_bytes(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static size_t bytes_of(const struct prism_message *message)
{
    size_t bytes = text_bytes(message->topic) + text_bytes(message->message_id) +
                   message->payload.len + message->ordering_key.len + 2;

    for (size_t i = 0; i < message->header_count; i++)
        bytes += text_bytes(message->headers[i].name) + message->headers[i].value.len + 1;
    return bytes;
}

/* One block: the parcel, its headers and their list, copies of the headers, the bytes. */
static struct parcel *parcel_new(const struct prism_message *from, void *tag)
{
    size_t n = from->header_count, bytes = bytes_of(from);
    size_t each = sizeof(wire_header) + sizeof(void *) + sizeof(struct prism_header);
    struct parcel *parcel = alloc_zeroed(1, sizeof *parcel + n * each + bytes);
    wire_header *headers = (wire_header *)(parcel + 1);
    wire_header **list = (wire_header **)(headers + n);
    struct prism_header *copies = (struct prism_header *)(list + n);
    char *at = (char *)(copies + n);
    struct prism_message message = *from;

    message.topic = copy(&at, from->topic, strlen(from->topic));
    if (from->message_id != NULL)
        message.message_id = copy(&at, from->message_id, strlen(from->message_id));
    message.payload.data = copy(&at, from->payload.data, from->payload.len);
    if (from->ordering_key.data != NULL)
        message.ordering_key.data = copy(&at, from->ordering_key.data, from->ordering_key.len);
    for (size_t i = 0; i < n; i++) {
        struct prism_bytes value = from->headers[i].value;

        copies[i].name = copy(&at, from->headers[i].name, strlen(from->headers[i].name));
        copies[i].value = prism_bytes_of(copy(&at, value.data, value.len), value.len);
    }
    message.headers = copies;
    producer_fill(&parcel->message, &message, headers, list);
    parcel->tag = tag;
    parcel->bytes = bytes;
    return parcel;
}

/* ---- the thread ---- */

static void count(struct prism_publisher_stats *stats, const struct prism_publish_result *result)
{
    stats->stored += result->outcome == PRISM_STORED;
    stats->not_stored += result->outcome == PRISM_NOT_STORED;
    stats->unknown += result->outcome == PRISM_OUTCOME_UNKNOWN;
    stats->deduplicated += result->deduplicated;
}

/* Without the lock: the application may put from here. */
static void tell(struct prism_publisher *p)
{
    struct prism_publisher_stats told = {0};
    uint64_t bytes = p->settled.bytes;
    size_t n = p->settled.n;
    struct parcel *parcel;

    while ((parcel = parcels_take(&p->settled)) != NULL) {
        count(&told, &parcel->result);
        if (p->options.settled != NULL)
            p->options.settled(p->options.context, parcel->tag, &parcel->result);
        free(parcel);
    }
    if (p->ack != NULL)
        protobuf_c_message_free_unpacked(&p->ack->base, NULL);
    p->ack = NULL;
    if (n == 0)
        return;
    pthread_mutex_lock(&p->lock);
    p->unsettled -= n;
    p->unsettled_bytes -= bytes;
    p->settled_number += n;
    p->stats.stored += told.stored;
    p->stats.not_stored += told.not_stored;
    p->stats.unknown += told.unknown;
    p->stats.deduplicated += told.deduplicated;
    pthread_cond_broadcast(&p->progress);
    pthread_mutex_unlock(&p->lock);
}

static void wait_until(struct prism_publisher *p, pthread_cond_t *what, uint64_t until_ns)
{
    struct timespec at = {.tv_sec = (time_t)(until_ns / RPC_NS_PER_S),
                          .tv_nsec = (long)(until_ns % RPC_NS_PER_S)};

    if (until_ns == UINT64_MAX)
        pthread_cond_wait(what, &p->lock);
    else
        pthread_cond_timedwait(what, &p->lock, &at);
}

/* No stream will come for what waits. */
static void give_up(struct prism_publisher *p)
{
    while (p->waiting.n > 0)
        publisher_settle(p, &p->waiting, PRISM_NOT_STORED,
                         p->refused ? p->ended.code : PRISM_CANCELLED,
                         p->refused ? p->ended.message : "closed before the message was sent");
}

/* There is no stream. True: one is wanted now. The caller holds the lock. */
static bool wants_stream(struct prism_publisher *p)
{
    if (p->refused || p->gave_up)
        give_up(p);
    if (p->settled.n > 0 || (p->closing && p->waiting.n == 0))
        return false;
    if (p->waiting.n > 0 && p->retry_at_ns <= rpc_now_ns())
        return true;
    wait_until(p, &p->work, p->waiting.n > 0 ? p->retry_at_ns : UINT64_MAX);
    return false;
}

static void *run(void *arg)
{
    struct prism_publisher *p = arg;
    bool over = false;

    while (!over) {
        bool stands;

        pthread_mutex_lock(&p->lock);
        if (!publish_stream_stands(p) && wants_stream(p))
            publish_stream_begin(p);
        stands = publish_stream_stands(p);
        if (stands)
            publish_stream_go_on(p);
        pthread_mutex_unlock(&p->lock);
        if (stands)
            publish_stream_event(p);
        tell(p);
        pthread_mutex_lock(&p->lock);
        over = p->closing && p->unsettled == 0 && !publish_stream_stands(p);
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_broadcast(&p->progress);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- what applications call ---- */

enum prism_code prism_publisher_open(struct prism_producer *producer,
                                     const struct prism_publisher_options *options,
                                     struct prism_publisher **publisher, struct prism_error *error)
{
    int64_t most = producer->capabilities.max_batch_messages;
    struct prism_publisher *p;
    pthread_condattr_t monotonic;

    *publisher = NULL;
    if (options != NULL &&
        (options->after_failure < PRISM_STOP_KEY || options->after_failure > PRISM_CONTINUE))
        return error_about(error, "after_failure", "no such way to go on");
    p = alloc_zeroed(1, sizeof *p);
    p->producer = producer;
    if (options != NULL)
        p->options = *options;
    if (p->options.max_messages == 0)
        p->options.max_messages = MAX_MESSAGES;
    if (p->options.max_bytes == 0)
        p->options.max_bytes = max_bytes;
    if (p->options.frame_messages == 0)
        p->options.frame_messages = FRAME_MESSAGES;
    if (most > 0 && p->options.frame_messages > (uint64_t)most)
        p->options.frame_messages = (uint32_t)most;
    p->list = alloc_zeroed(p->options.frame_messages, sizeof(void *));
    parcels_init(&p->waiting);
    parcels_init(&p->sent);
    parcels_init(&p->settled);
    p->queue = grpc_completion_queue_create_for_next(NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->work, &monotonic);
    pthread_cond_init(&p->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        abort();
    *publisher = p;
    return error_none(error);
}

static uint64_t until(uint32_t timeout_ms)
{
    return timeout_ms == UINT32_MAX ? UINT64_MAX : rpc_now_ns() + timeout_ms * RPC_NS_PER_MS;
}

static bool has_room(const struct prism_publisher *p, size_t bytes)
{
    return p->unsettled == 0 || (p->unsettled < p->options.max_messages &&
                                 p->unsettled_bytes + bytes <= p->options.max_bytes);
}

/* The caller holds the lock. */
static enum prism_code may_put(const struct prism_publisher *p, const struct prism_message *message,
                               struct prism_error *error)
{
    bool ordered = message->ordering_key.data != NULL;

    if (p->refused)
        return error_copy(error, &p->ended);
    if (p->closing)
        return error_set(error, PRISM_CANCELLED, "the publisher is being closed");
    if (p->stopped && !p->resuming && (ordered || p->options.after_failure == PRISM_STOP_ALL))
        return error_set(error, PRISM_ABORTED,
                         "an earlier message failed, or was lost with its stream: resume first");
    return PRISM_OK;
}

static void put(struct prism_publisher *p, struct parcel *parcel)
{
    parcel->resume = p->resuming;
    if (p->resuming)
        p->stopped = p->resuming = false;
    parcels_add(&p->waiting, parcel);
    p->unsettled++;
    p->unsettled_bytes += parcel->bytes;
    p->put_number++;
    p->stats.put++;
    if (publish_stream_stands(p))
        publish_stream_go_on(p);
    else
        pthread_cond_signal(&p->work);
}

enum prism_code prism_publisher_put(struct prism_publisher *p, const struct prism_message *message,
                                    void *tag, uint32_t timeout_ms, struct prism_error *error)
{
    int64_t most = p->producer->capabilities.max_message_bytes;
    enum prism_code code = producer_check(p->producer, message, error);
    uint64_t until_ns = until(timeout_ms);
    struct parcel *parcel;

    if (code == PRISM_OK && most > 0 && message->payload.len > (uint64_t)most)
        code = error_about(error, "payload", "%zu bytes, and a payload has at most %lld",
                           message->payload.len, (long long)most);
    if (code != PRISM_OK)
        return code;
    parcel = parcel_new(message, tag);
    pthread_mutex_lock(&p->lock);
    while ((code = may_put(p, message, error)) == PRISM_OK && !has_room(p, parcel->bytes)) {
        if (rpc_now_ns() >= until_ns) {
            code =
                error_set(error, PRISM_RESOURCE_EXHAUSTED,
                          "%zu messages are not settled: there is no room for more", p->unsettled);
            break;
        }
        wait_until(p, &p->progress, until_ns);
    }
    if (code == PRISM_OK)
        put(p, parcel);
    pthread_mutex_unlock(&p->lock);
    if (code != PRISM_OK) {
        free(parcel);
        return code;
    }
    return error_none(error);
}

void prism_publisher_resume(struct prism_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    p->resuming = true;
    pthread_mutex_unlock(&p->lock);
}

enum prism_code prism_publisher_flush(struct prism_publisher *p, uint32_t timeout_ms,
                                      struct prism_error *error)
{
    uint64_t until_ns = until(timeout_ms), number, missing;

    pthread_mutex_lock(&p->lock);
    number = p->put_number;
    while (p->settled_number < number && rpc_now_ns() < until_ns)
        wait_until(p, &p->progress, until_ns);
    missing = p->settled_number < number ? number - p->settled_number : 0;
    pthread_mutex_unlock(&p->lock);
    if (missing > 0)
        return error_set(error, PRISM_DEADLINE_EXCEEDED, "%llu messages are not settled",
                         (unsigned long long)missing);
    return error_none(error);
}

struct prism_publisher_stats prism_publisher_stats(struct prism_publisher *p)
{
    struct prism_publisher_stats stats;

    pthread_mutex_lock(&p->lock);
    stats = p->stats;
    stats.unsettled = p->unsettled;
    pthread_mutex_unlock(&p->lock);
    return stats;
}

static bool finish(struct prism_publisher *p, uint32_t timeout_ms)
{
    uint64_t until_ns = until(timeout_ms);
    bool in_time;

    pthread_mutex_lock(&p->lock);
    p->closing = true;
    publish_stream_go_on(p);
    pthread_cond_signal(&p->work);
    pthread_cond_broadcast(&p->progress);
    while (!p->done && rpc_now_ns() < until_ns)
        wait_until(p, &p->progress, until_ns);
    in_time = p->done;
    if (!in_time) {
        p->gave_up = true;
        if (p->call != NULL)
            grpc_call_cancel(p->call, NULL);
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    return in_time;
}

enum prism_code prism_publisher_close(struct prism_publisher *p, uint32_t timeout_ms,
                                      struct prism_error *error)
{
    bool in_time;

    if (p == NULL)
        return error_none(error);
    in_time = finish(p, timeout_ms);
    grpc_completion_queue_shutdown(p->queue);
    while (grpc_completion_queue_next(p->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(p->queue);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->progress);
    pthread_mutex_destroy(&p->lock);
    free(p->list);
    free(p);
    return in_time
               ? error_none(error)
               : error_set(error, PRISM_DEADLINE_EXCEEDED, "not everything was settled in time");
}
