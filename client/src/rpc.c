/* Happy path of a unary call: rpc_run -> rpc_attempt_start (one batch: headers, request,
 * half-close; headers, answer, status) -> the tag comes back -> rpc_attempt_finish decodes the
 * answer. Failures: a status other than OK, or an answer that does not decode, becomes rpc->error;
 * rpc_again then decides whether and when another attempt follows. */
#include "client/src/rpc.h"

#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/status.h"
#include "client/src/stream.h"

#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__SANITIZE_THREAD__)
#define PRISM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PRISM_TSAN 1
#endif
#endif

/* A call may be started on one thread and finished on another. The hand-over goes through gRPC's
 * completion queue, which ThreadSanitizer cannot see (gRPC is not instrumented), so it is told. */
#ifdef PRISM_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define HAND_OVER(rpc) __tsan_release(rpc)
#define TAKE_OVER(rpc) __tsan_acquire(rpc)
#else
#define HAND_OVER(rpc) ((void)(rpc))
#define TAKE_OVER(rpc) ((void)(rpc))
#endif

#define IDLE_NS (5 * RPC_NS_PER_MS)

enum { LOOKS_AFTER_IDLE = 4 };

uint64_t rpc_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * RPC_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* gRPC's monotonic clock counts from another origin, so times travel as differences. */
gpr_timespec rpc_timespec(uint64_t at_ns)
{
    uint64_t now = rpc_now_ns();
    int64_t left_ns = at_ns > now ? (int64_t)(at_ns - now) : 0;

    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(left_ns, GPR_TIMESPAN));
}

/* Jitter only has to differ between clients and calls: an address, a count and the time, mixed. */
static uint64_t jitter(const struct rpc *rpc, uint64_t below)
{
    uint64_t z = (uint64_t)(uintptr_t)rpc + rpc->attempts * 0x9E3779B97F4A7C15u;

    z ^= rpc_now_ns();
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return below > 0 ? z % below : 0;
}

void rpc_init(struct rpc *rpc, struct prism_channel *channel, const struct rpc_method *method,
              void *registered, uint32_t deadline_ms)
{
    memset(rpc, 0, sizeof *rpc);
    rpc->channel = channel;
    rpc->method = method;
    rpc->registered = registered;
    rpc->request = grpc_empty_slice();
    rpc->deadline_ms = deadline_ms > 0 ? deadline_ms : channel->deadline_ms;
    rpc->deadline_ns = rpc_now_ns() + rpc->deadline_ms * RPC_NS_PER_MS;
}

void rpc_set_request(struct rpc *rpc, const ProtobufCMessage *request)
{
    grpc_slice_unref(rpc->request);
    rpc->request = grpc_slice_malloc(protobuf_c_message_get_packed_size(request));
    protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(rpc->request));
}

void rpc_clear(struct rpc *rpc)
{
    grpc_slice_unref(rpc->request);
    rpc->request = grpc_empty_slice();
    protobuf_c_message_free_unpacked(rpc->response, NULL);
    rpc->response = NULL;
}

/* ---- one attempt ---- */

static void attempt_open(struct rpc *rpc, grpc_completion_queue *queue)
{
    rpc->attempts++;
    rpc->received = NULL;
    rpc->status_text = grpc_empty_slice();
    grpc_metadata_array_init(&rpc->initial);
    grpc_metadata_array_init(&rpc->trailing);
    rpc->call = grpc_channel_create_registered_call(rpc->channel->grpc, NULL,
                                                    GRPC_PROPAGATE_DEFAULTS, queue, rpc->registered,
                                                    rpc_timespec(rpc->deadline_ns), NULL);
}

/* With the rpc as its tag this hands the rpc over: it may be finished elsewhere before this
 * returns. */
static void start_batch(struct rpc *rpc, const grpc_op *ops, size_t n, void *tag)
{
    grpc_call *call = rpc->call;

    HAND_OVER(rpc);
    /* It fails only when used wrongly, and then nothing would ever come back. */
    if (grpc_call_start_batch(call, ops, n, tag, NULL) != GRPC_CALL_OK)
        abort();
}

/* The first four operations of every attempt; gRPC takes the bytes out of *message. */
static void request_ops(struct rpc *rpc, grpc_op *ops, grpc_byte_buffer *message)
{
    ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    ops[0].data.send_initial_metadata.count = rpc->channel->metadata_count;
    ops[0].data.send_initial_metadata.metadata = rpc->channel->metadata;
    ops[1] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
    ops[1].data.send_message.send_message = message;
    ops[2] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    ops[3] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &rpc->initial;
}

static grpc_op message_op(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &rpc->received;
    return op;
}

static grpc_op status_op(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    op.data.recv_status_on_client.trailing_metadata = &rpc->trailing;
    op.data.recv_status_on_client.status = &rpc->status;
    op.data.recv_status_on_client.status_details = &rpc->status_text;
    return op;
}

void rpc_attempt_start(struct rpc *rpc, grpc_completion_queue *queue)
{
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&rpc->request, 1);
    grpc_op ops[6];

    attempt_open(rpc, queue);
    request_ops(rpc, ops, message);
    ops[4] = message_op(rpc);
    ops[5] = status_op(rpc);
    start_batch(rpc, ops, 6, rpc);
    grpc_byte_buffer_destroy(message);
}

/* Whether the request was handed to a connection. gRPC records the peer when it does that; before,
 * it answers with the channel's target, which target.c spelled as no peer is. */
static bool was_sent(const struct rpc *rpc)
{
    char *peer = grpc_call_get_peer(rpc->call);
    bool sent = peer == NULL || strcmp(peer, rpc->channel->target) != 0;

    gpr_free(peer);
    return sent;
}

/* The rule that <prism/prism.h> explains. */
static bool may_repeat(const struct rpc *rpc, enum prism_code code, bool refused)
{
    if (refused)
        return true;
    return code == PRISM_UNAVAILABLE && (rpc->method->reads_only || !was_sent(rpc));
}

/* gRPC broke the call off, and says nothing of what was done. Prism sends details with its
 * failures; where there are none, only an answer before the deadline was the server's. gRPC counts
 * its deadlines in milliseconds. */
static bool ended_unanswered(const struct rpc *rpc)
{
    return rpc->status == GRPC_STATUS_DEADLINE_EXCEEDED && rpc->trailing.count == 0 &&
           rpc_now_ns() + RPC_NS_PER_MS >= rpc->deadline_ns;
}

/* Status to error; then everything that belongs to the attempt is let go. */
static void attempt_close(struct rpc *rpc)
{
    struct prism_error *error = &rpc->error;
    enum status_effect effect;

    atomic_store_explicit(&rpc->channel->last_ns, rpc_now_ns(), memory_order_relaxed);
    effect = status_to_error(rpc->channel, rpc->status, rpc->status_text, &rpc->trailing, error);
    rpc->not_taken = effect != STATUS_UNSAID;
    /* We cancel nothing whose outcome we report, so it was the other side: a server that stops
     * resets the calls that reach it too late. */
    if (error->code == PRISM_CANCELLED)
        error_set(error, PRISM_UNAVAILABLE, "%s: the server broke the call off", rpc->method->name);
    error->retryable = may_repeat(rpc, error->code, effect == STATUS_REPEAT);
    if (ended_unanswered(rpc))
        error_set(error, PRISM_DEADLINE_EXCEEDED, "%s: no answer within %u ms", rpc->method->name,
                  rpc->deadline_ms);
    grpc_slice_unref(rpc->status_text);
    grpc_metadata_array_destroy(&rpc->initial);
    grpc_metadata_array_destroy(&rpc->trailing);
    grpc_call_unref(rpc->call);
    rpc->call = NULL;
}

void rpc_attempt_finish(struct rpc *rpc)
{
    TAKE_OVER(rpc);
    attempt_close(rpc);
    if (rpc->error.code == PRISM_OK) {
        rpc->response =
            rpc->received == NULL ? NULL : stream_decode(rpc->received, rpc->method->response);
        if (rpc->response == NULL)
            error_set(&rpc->error, PRISM_INTERNAL, "%s: the server's answer does not decode",
                      rpc->method->name);
    }
    if (rpc->received != NULL)
        grpc_byte_buffer_destroy(rpc->received);
    rpc->received = NULL;
}

/* ---- trying again ---- */

bool rpc_again(struct rpc *rpc)
{
    const struct prism_retry *retry = &rpc->channel->retry;
    unsigned doublings = rpc->attempts - 1 < 20 ? rpc->attempts - 1 : 20;
    uint64_t wait_ms = (uint64_t)retry->initial_ms << doublings;
    uint64_t wait_ns;

    if (!rpc->error.retryable || rpc->attempts >= retry->max_attempts)
        return false;
    if (wait_ms > retry->max_ms)
        wait_ms = retry->max_ms;
    /* Half of the wait is jitter, so that clients which failed together do not return together. */
    wait_ns = wait_ms * RPC_NS_PER_MS / 2;
    wait_ns += jitter(rpc, wait_ns + 1);
    if (rpc->error.retry_after_ms > 0) {
        uint64_t advised_ns = rpc->error.retry_after_ms * RPC_NS_PER_MS;

        if (wait_ns < advised_ns)
            wait_ns = advised_ns + jitter(rpc, advised_ns / 4 + 1);
    }
    rpc->retry_at_ns = rpc_now_ns() + wait_ns;
    return rpc->retry_at_ns < rpc->deadline_ns;
}

/* gRPC reads its sockets only while some thread waits in one of its queues, and on its own merely
 * every five seconds. A sleeping client would neither connect again nor notice that the server has
 * closed the connection, and so send a write into the void. So the waits are spent in a queue, and
 * after an idle time the news is read first; each look handles one socket event. */
static void look(struct rpc *rpc, uint64_t until_ns, int times)
{
    grpc_completion_queue *queue = channel_take_queue(rpc->channel);

    while (times-- > 0)
        grpc_completion_queue_pluck(queue, &rpc->retry_at_ns, rpc_timespec(until_ns), NULL);
    channel_give_queue(rpc->channel, queue);
}

void rpc_wait(struct rpc *rpc)
{
    uint64_t last = atomic_load_explicit(&rpc->channel->last_ns, memory_order_relaxed);

    if (rpc->retry_at_ns > 0)
        look(rpc, rpc->retry_at_ns, 1);
    else if (last + IDLE_NS < rpc_now_ns())
        look(rpc, 0, LOOKS_AFTER_IDLE);
}

enum prism_code rpc_run(struct rpc *rpc)
{
    grpc_completion_queue *queue = channel_take_queue(rpc->channel);

    do {
        rpc_wait(rpc);
        rpc_attempt_start(rpc, queue);
        grpc_completion_queue_pluck(queue, rpc, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        rpc_attempt_finish(rpc);
    } while (rpc_again(rpc));
    channel_give_queue(rpc->channel, queue);
    return rpc->error.code;
}

/* ---- streams ---- */

/* Waits for the message asked for; takes it, or returns NULL at the end of the stream. */
static grpc_byte_buffer *next_message(struct rpc *rpc, grpc_completion_queue *queue)
{
    grpc_byte_buffer *received;

    grpc_completion_queue_pluck(queue, &rpc->received, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    received = rpc->received;
    rpc->received = NULL;
    return received;
}

void rpc_stream(struct rpc *rpc, rpc_message_fn *on_message, void *context)
{
    grpc_completion_queue *queue = channel_take_queue(rpc->channel);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&rpc->request, 1);
    grpc_byte_buffer *received;
    grpc_op ops[5], status, more;
    bool good = true;

    attempt_open(rpc, queue);
    request_ops(rpc, ops, message);
    ops[4] = more = message_op(rpc);
    start_batch(rpc, ops, 5, &rpc->received);
    status = status_op(rpc);
    start_batch(rpc, &status, 1, rpc);
    while ((received = next_message(rpc, queue)) != NULL) {
        ProtobufCMessage *decoded = good ? stream_decode(received, rpc->method->response) : NULL;

        grpc_byte_buffer_destroy(received);
        if (good && (decoded == NULL || !on_message(context, decoded))) {
            good = false;
            grpc_call_cancel(rpc->call, NULL);
        }
        start_batch(rpc, &more, 1, &rpc->received);
    }
    grpc_completion_queue_pluck(queue, rpc, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_byte_buffer_destroy(message);
    attempt_close(rpc);
    channel_give_queue(rpc->channel, queue);
    if (!good)
        error_set(&rpc->error, PRISM_INTERNAL, "%s: the server's answer makes no sense",
                  rpc->method->name);
}
