/* The least that a gRPC C-core server with one unary method can do: what the bare baselines share.
 *
 * One completion queue, one thread, 16 requests posted and re-posted on arrival (more would only
 * lengthen the queue's linear scan), one grpc_call_start_batch per call. Its filter stack is
 * GRPC_ARG_MINIMAL_STACK, which drops the message-size and deadline filters that a real server must
 * keep, so it is a strong baseline. Replies are not coalesced: every batch is one write, as gRPC
 * has it. thread: all but bare_run are called from loop() and below. */
#ifndef PRISM_PERF_BASELINE_BARE_SERVER_H
#define PRISM_PERF_BASELINE_BARE_SERVER_H

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>

struct bare_call {
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message; /* the request, then the reply */
    int cancelled;
    bool answered;
    struct bare_call *next; /* of whoever has the call */
};

struct bare {
    /* Set by the program. */
    const char *method;
    void (*loop)(struct bare *bare); /* until bare_step() says that it is over */
    void (*serve)(struct bare *bare, struct bare_call *call); /* leads to bare_answer() */

    grpc_server *server;
    grpc_completion_queue *queue;
    void *registered;
    struct bare_call *free;
    size_t posted; /* posted or being answered: their events are still to come */
    bool shut;
};

enum bare_event { BARE_SERVED, BARE_NONE, BARE_OVER };

/* Serves on the port (0: a free one) until a signal says so. The exit status. */
int bare_run(struct bare *bare, int port);

/* One event of the queue. */
enum bare_event bare_step(struct bare *bare, gpr_timespec deadline);

/* Sends call->message, which is freed with the call. */
void bare_answer(struct bare_call *call);

#endif
