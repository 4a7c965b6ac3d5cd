/* Calls without gRPC: src/rpc/call.h implemented for tests, on a worker that the test drives by
 * hand, in virtual time.
 *
 * Requests go through their encoding and back, as do answers, so what a test sees is what a client
 * would. What the real call layer asserts is asserted here too: one end per call, no send after it,
 * nothing pending, an empty arena.
 *
 * A test program links this file instead of src/rpc/call.c. */
#ifndef PRISM_TESTS_FAKE_FAKE_CALL_H
#define PRISM_TESTS_FAKE_FAKE_CALL_H

#include "patterns/pattern.h"
#include "pool/worker.h"
#include "src/rpc/call.h"
#include "tests/fake/fake_backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_SETTINGS = 24, FAKE_MESSAGES = 20000, FAKE_MAX_MESSAGE_BYTES = 4 << 20 };

/* One worker, one world, one bound pattern. */
struct fake_rig {
    struct worker worker;
    struct fake_world world;
    const struct pattern_type *type;
    struct pattern *pattern; /* NULL until fake_rig_bind */

    /* May be changed before fake_rig_bind. */
    struct backend_value behavior[FAKE_SETTINGS]; /* the defaults */
    uint32_t emulate;                             /* slot 0 */
    unsigned slots;                               /* bits: the world stands in them; 1 */
    uint32_t max_message_bytes;                   /* FAKE_MAX_MESSAGE_BYTES */
    uint64_t hold_limit;                          /* call_hold refuses more; 0 = nothing */

    /* private */
    struct pattern_shared *shared; /* NULL: the pattern shares nothing */
    bool stopped;
    struct backend_store *real_store; /* fake_rig_bind_real */
    struct backend *real;
    struct call *calls;
    int wake_fd;
};

void fake_rig_init(struct fake_rig *rig, const struct pattern_type *type, unsigned mask);
void fake_rig_set(struct fake_rig *rig, const char *setting, uint64_t number);
void fake_rig_set_text(struct fake_rig *rig, const char *setting, const char *text);
void fake_rig_bind(struct fake_rig *rig);
/* Bound to a real backend that needs no event loop, with its default settings, instead of the
 * world. */
void fake_rig_bind_real(struct fake_rig *rig, const char *backend);
/* Every call has to be freed before. */
void fake_rig_clear(struct fake_rig *rig);

/* Runs what is runnable; does not release what the world holds. */
void fake_rig_drain(struct fake_rig *rig);

/* Until nothing can go on any more: releases what the world holds, one by one, and waits for its
 * thread. Calls whose reader is slow, and those that wait for a message, stay. */
void fake_rig_run(struct fake_rig *rig);

/* Moves the virtual time: deadlines and expiries. */
void fake_rig_advance(struct fake_rig *rig, uint64_t ms);

/* One message into the world's streams, or queues where it has no streams, as if another client had
 * published it. Its outcome. */
struct err fake_rig_publish(struct fake_rig *rig, struct outgoing *item);

/* ---- calls ---- */

struct fake_message {
    ProtobufCMessage *message;
    size_t bytes;
};

struct call {
    struct fake_rig *rig;
    const struct method *method;
    unsigned ends;
    struct err status;         /* of its end; texts are copies */
    ProtobufCMessage *reply;   /* unary and OK */
    struct fake_message *sent; /* by call_send, in order */
    size_t sent_count;
    bool slow_reader;        /* sends wait for fake_call_take */
    bool memory_short;       /* nothing is sent ahead */
    bool late_sends;         /* a send that waits outlasts the client, until fake_call_lose */
    const char *header_name; /* call_headers; NULL: none */
    char *header_value;
    uint64_t held_bytes; /* call_hold */

    /* private */
    struct call *next;
    struct arena arena;
    struct op_group group, stream;
    const ProtobufCMessage *request;
    uint8_t *request_memory;
    bool cleared, half_closed;
    struct op *sending[CALL_SENDS]; /* the oldest first */
    unsigned n_sending;
    void (*on_cancel)(struct call *, void *), (*on_drain)(struct call *, void *);
    void *on_cancel_arg, *on_drain_arg;
    struct call_receive *receiving;
    uint8_t *incoming;
    size_t incoming_bytes;
    bool has_incoming;
};

/* `path` is the method's path or just its last part ("Store") in the pattern's first service. The
 * handler runs before this returns. deadline_ms 0: none. */
struct call *fake_call(struct fake_rig *rig, const char *path, const ProtobufCMessage *request);
struct call *fake_call_with(struct fake_rig *rig, const char *path, const ProtobufCMessage *request,
                            uint64_t deadline_ms, bool slow_reader);

/* The request as bytes, which may not decode (then the call fails without a handler). */
struct call *fake_call_bytes(struct fake_rig *rig, const struct method *method,
                             const uint8_t *bytes, size_t len);

const struct method *fake_method(const struct pattern_type *type, const char *path);

/* The client goes away. */
void fake_call_cancel(struct call *call);

/* The server begins to drain. */
void fake_call_drain(struct call *call);

/* A slow reader takes one message. False: none waits. */
bool fake_call_take(struct call *call);

/* late_sends: the oldest send that waits fails, since the client is gone. */
void fake_call_lose(struct call *call);

/* METHOD_BIDI: the client sends a message; NULL: it half-closes. One at a time. */
void fake_call_push(struct call *call, const ProtobufCMessage *message);
void fake_call_push_bytes(struct call *call, const uint8_t *bytes, size_t len);

/* Aborts unless the call has ended exactly once with nothing left behind. */
void fake_call_free(struct call *call);

#endif
