/* A call as patterns see it: no gRPC type. Handlers run on the call's home worker and nowhere else;
 * a handler starts ops, and its last continuation ends the call in exactly one call_reply,
 * call_fail or (streams) call_close.
 *
 * Memory: the request and all that is allocated from call_arena live until the call has ended and
 * its last op is done. Messages handed to call_reply and call_send are packed before these return.
 */
#ifndef PRISM_RPC_CALL_H
#define PRISM_RPC_CALL_H

#include "pool/op.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct block;
struct call;
struct method;

typedef void call_handler_fn(struct call *);

enum method_kind { METHOD_UNARY, METHOD_SERVER_STREAM, METHOD_BIDI };

/* Where the calls of a method run. The bound plan decides, by instance (struct rpc_instance), not
 * the name. */
struct method {
    const char *path; /* "/prism.patterns.keyvalue.KeyValuePattern/Store" */
    enum method_kind kind;
    bool busy; /* expected to be called often: more requests are kept posted */
    const ProtobufCMessageDescriptor *request, *response;
    call_handler_fn *handle;
    const char *replaced_by; /* deprecated methods: "prism.patterns.keyvalue.KeyValuePattern.Store";
                                else NULL */
};

/* A gRPC service: its method table is its only registration. */
struct service {
    const char *name;    /* "prism.patterns.keyvalue.KeyValuePattern" */
    const char *pattern; /* "keyvalue"; NULL for health, reflection */
    const struct method *methods;
    size_t method_count;
};

/* The bound pattern of one namespace on one worker. */
struct rpc_instance {
    void *pattern; /* what call_pattern returns */
    /* For each method of the service: requests up to this many bytes finish in O(1) without I/O, so
     * they may run on the poller. 0: always on a worker. NULL: all 0. */
    const uint32_t *inline_bytes;
    /* A request with more elements in its repeated fields, all together, is refused before they get
     * memory. 0 = no bound. */
    uint32_t max_elements;
};

struct arena *call_arena(struct call *call);
void *call_pattern(const struct call *call);

/* The decoded request; for METHOD_BIDI NULL (use call_receive). Its strings are UTF-8 without NUL,
 * so strlen tells their length; what is not has been refused. Its bytes fields point into the
 * request as received: borrowed, like all of it, until the call has ended (above). */
const void *call_request(const struct call *call);

/* The request, and `memory` with all of it, for a stream that outlives it: the handler's from now
 * on, to be cleared. METHOD_BIDI: NULL, and nothing in the memory. Once, and before anything else
 * of the call lives in call_arena. What the client sent in its metadata is gone as well. */
const void *call_take_request(struct call *call, struct arena *memory);

/* What the client sent in its metadata under this name, lower case; empty when it sent none, or
 * several. Borrowed until the call has ended. */
struct slice call_metadata(const struct call *call, const char *name);

struct op_group *call_group(struct call *call);

/* op_start in this call's group: home worker, deadline, cancellation. */
void call_start(struct call *call, struct op *op, op_done_fn *done);

/* What the handler holds for this call outside call_arena, in bytes: pages of a stream. It counts
 * against limits.max_inflight_bytes, as the arena does while the call waits, until it is said anew
 * or the call has ended. ERR_RESOURCE_EXHAUSTED: there is no room for more; what was said before
 * still counts, and the handler gives up what it wanted to hold. */
struct err call_hold(struct call *call, uint64_t bytes);

/* Ends a unary call with its answer. */
void call_reply(struct call *call, const ProtobufCMessage *message);

/* The same for a call that has changed nothing, whose answer may be large: when the answers on
 * their way fill limits.max_inflight_bytes, the call fails with RESOURCE_EXHAUSTED instead. */
void call_reply_read(struct call *call, const ProtobufCMessage *message);

/* Ends any call with a status; err.code must not be ERR_OK. Details (BadRequest, ErrorInfo,
 * RetryInfo) are made from subject and retry_after_ms. */
void call_fail(struct call *call, struct err err);

/* ---- streams ---- */

/* Sends one message; `sent` (started here, in this call's group) is done when gRPC took it: flow
 * control. When the client is gone, sent finishes with ERR_CANCELLED; when the answers on their way
 * fill limits.max_inflight_bytes, with ERR_RESOURCE_EXHAUSTED, and nothing was sent. The handler
 * then ends the call.
 *
 * One send at a time, as a rule. Up to CALL_SENDS, where call_sends_ahead allows it: then gRPC has
 * the next message as soon as it took the one before. They go, and are done, in the order in which
 * they were sent. Those behind the first have CALL_AHEAD_BYTES together, at most: the handler sees
 * to it. All of them count against limits.max_inflight_bytes from now on. */
enum { CALL_SENDS = 4, CALL_AHEAD_BYTES = 256 << 10 };

void call_send(struct call *call, const ProtobufCMessage *message, struct op *sent,
               op_done_fn *done);

/* Writes an encoded message of the length that was said. */
typedef void call_write_fn(uint8_t *out, const void *what);

/* As call_send, for a message that its owner encodes without a struct: `write` is called before
 * this returns, once, and writes exactly `bytes`. */
void call_send_written(struct call *call, size_t bytes, call_write_fn *write, const void *what,
                       struct op *sent, op_done_fn *done);

/* Memory is ample: a message may be sent behind others. thread: any. */
bool call_sends_ahead(const struct call *call);

/* Sends the initial metadata now, with this header, instead of with the first message: at most
 * once, and before any send. name is static and lower case; value is printable ASCII, copied. */
void call_headers(struct call *call, const char *name, struct slice value);

/* A piece of an encoded message. */
struct call_part {
    struct slice bytes;
    struct block *block; /* holds the bytes: referenced until gRPC has written them, not copied, and
                            not counted, since its owner counts it. NULL: they are copied now */
};

/* As call_send, for a message that is encoded already: one payload for many streams is one block
 * between parts that differ. The parts together are one message of the method's type. Where one of
 * them has a block, the message is not compressed. */
void call_send_parts(struct call *call, const struct call_part *parts, size_t n, struct op *sent,
                     op_done_fn *done);

/* METHOD_BIDI: receives one message. Done with ERR_OK and *message set, or *message NULL: the
 * client half-closed. ERR_DEADLINE_EXCEEDED: the next message was not complete within
 * limits.request_timeout_ms, so no more is read; the client is there and may be told of what was.
 * When it is gone: ERR_CANCELLED or ERR_DEADLINE_EXCEEDED; or, when gRPC did not say so in time, as
 * if it had half-closed, and call_on_cancel tells of it. One receive at a time. From the first one
 * on, up to 256 KiB and a message are read ahead of the handler while memory is ample; then flow
 * control holds the client back. The message lives in `arena` (NULL: the call's), and counts
 * against limits.max_inflight_bytes until that is cleared: a stream that takes many gives each, or
 * a few, an arena of their own. While that limit is reached, the receive waits. A message that does
 * not decode finishes with ERR_INVALID_ARGUMENT. */
struct call_receive {
    struct op op;
    struct arena *arena;
    const ProtobufCMessage *message; /* out */
    struct call *call;               /* private */
    op_done_fn *then;                /* private */
};

void call_receive(struct call *call, struct call_receive *receive, op_done_fn *done);

/* Ends a stream with status OK. */
void call_close(struct call *call);

/* ---- events ---- */

/* Whoever waits for an event, not for an op, is told here when the client went away or the deadline
 * passed (call_group(call)->cancelled says which). Once for each registration, on the home worker,
 * never inside call_on_cancel. The handler then ends the call with call_fail. */
void call_on_cancel(struct call *call, void (*cancelled)(struct call *, void *arg), void *arg);

/* The same for the beginning of the drain: nothing new should be begun; the call may go on until
 * the drain's time is up. Cancellation is told apart from this, before it and after it. Not called
 * any more once the call has ended. */
void call_on_drain(struct call *call, void (*draining)(struct call *, void *arg), void *arg);

#endif
