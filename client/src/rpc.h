/* One call: attempts, the decision whether to try again, and the ways to wait for it.
 *
 *   blocking      rpc_init -> rpc_run -> response or error -> rpc_clear
 *   asynchronous  rpc_init -> rpc_submit (async.h) -> done() on the channel's thread -> rpc_clear
 *   stream        rpc_init -> { rpc_wait, rpc_stream } while rpc_again -> rpc_clear
 *
 * An attempt is one gRPC call. What a failed attempt means depends on the method: reads may be
 * repeated; writes only if nothing can have happened (the reasoning is in <prism/prism.h>). */
#ifndef PRISM_CLIENT_RPC_H
#define PRISM_CLIENT_RPC_H

#include "prism/prism.h"

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>

struct prism_channel;
struct rpc;

struct rpc_method {
    const char *name; /* "Store" */
    const char *path; /* "/prism.patterns.keyvalue.KeyValuePattern/Store" */
    const ProtobufCMessageDescriptor *response;
    bool reads_only;
};

typedef void rpc_done_fn(struct rpc *);

struct rpc {
    struct prism_channel *channel;
    const struct rpc_method *method;
    void *registered; /* of grpc_channel_register_call for the method's path */
    grpc_slice request;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    uint32_t deadline_ms; /* as it was asked for */
    unsigned attempts;
    uint64_t retry_at_ns; /* when the next attempt may begin */

    /* The outcome: a response with PRISM_OK, none otherwise. */
    struct prism_error error;
    ProtobufCMessage *response;
    bool not_taken; /* the server says that it did nothing */

    /* The attempt in progress. */
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *received;
    grpc_status_code status;
    grpc_slice status_text;

    /* Asynchronous calls only. */
    rpc_done_fn *done;
    struct rpc *next;
};

/* deadline_ms: 0 = the channel's. */
void rpc_init(struct rpc *rpc, struct prism_channel *channel, const struct rpc_method *method,
              void *registered, uint32_t deadline_ms);

/* Packs the request; may be called again between attempts. */
void rpc_set_request(struct rpc *rpc, const ProtobufCMessage *request);

/* Blocks until the outcome is known. Returns rpc->error.code. */
enum prism_code rpc_run(struct rpc *rpc);

/* One attempt of a server-streaming method. on_message owns each message (free with
 * protobuf_c_message_free_unpacked) and returns false to cancel the stream, after which the
 * outcome is PRISM_INTERNAL with the given text. Afterwards rpc->error is set. Blocks. */
typedef bool rpc_message_fn(void *context, ProtobufCMessage *message);
void rpc_stream(struct rpc *rpc, rpc_message_fn *on_message, void *context);

/* Starts one attempt of a unary method whose tag is the rpc, on the given queue. */
void rpc_attempt_start(struct rpc *rpc, grpc_completion_queue *queue);

/* Ends the attempt after its tag came back; sets error and response. */
void rpc_attempt_finish(struct rpc *rpc);

/* After a finished attempt: whether another one shall be made, and when (retry_at_ns). */
bool rpc_again(struct rpc *rpc);

/* Before an attempt of a blocking call: waits until retry_at_ns, or if there is none, reads what
 * has come in since the channel was last used. */
void rpc_wait(struct rpc *rpc);

/* Frees request and response; the error stays. */
void rpc_clear(struct rpc *rpc);

#define RPC_NS_PER_MS 1000000ull
#define RPC_NS_PER_S  1000000000ull

/* CLOCK_MONOTONIC. */
uint64_t rpc_now_ns(void);
gpr_timespec rpc_timespec(uint64_t at_ns);

#endif
