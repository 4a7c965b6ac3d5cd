/* Baseline: a bidirectional stream on gRPC C-core in C that hands every message back as it came,
 * one completion queue, one thread, no write coalescing. What any server between a publisher and a
 * consumer has to do at least. Serves any method, one stream at a time; with "many" behind the port
 * any number of streams, of which each has a message asked for and nothing more is done; with "few"
 * it hands back one message of BASELINE_FEW, and only receives the others. */
#include "perf/baseline/baseline.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_NEW = 1, TAG_READ, TAG_WRITTEN, TAG_OVER, TAG_STOPPED };

struct echo {
    grpc_server *server;
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message;
    int cancelled;
    bool many;
    unsigned every, received; /* a message of so many is handed back */
};

static void batch(struct echo *e, grpc_op op, uintptr_t tag)
{
    if (grpc_call_start_batch(e->call, &op, 1, (void *)tag, NULL) != GRPC_CALL_OK)
        abort();
}

static void await(struct echo *e)
{
    e->call = NULL;
    grpc_call_details_init(&e->details);
    grpc_metadata_array_init(&e->metadata);
    grpc_server_request_call(e->server, &e->call, &e->details, &e->metadata, e->queue, e->queue,
                             (void *)TAG_NEW);
}

static void read_next(struct echo *e)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &e->message;
    batch(e, op, TAG_READ);
}

static void begin(struct echo *e)
{
    grpc_op over = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    over.data.recv_close_on_server.cancelled = &e->cancelled;
    batch(e, over, TAG_OVER);
    batch(e, (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA}, 0);
    read_next(e);
}

static void hand_back(struct echo *e)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};

    if (e->message == NULL)
        return;
    if (++e->received % e->every != 0) {
        grpc_byte_buffer_destroy(e->message);
        e->message = NULL;
        read_next(e);
        return;
    }
    op.data.send_message.send_message = e->message;
    batch(e, op, TAG_WRITTEN);
}

/* Leaves it open, with memory of its own. */
static void hold(const struct echo *e)
{
    struct echo *held = malloc(sizeof *held);

    if (held == NULL)
        abort();
    *held = *e;
    begin(held);
}

static void handle(struct echo *e, grpc_event event)
{
    switch ((uintptr_t)event.tag) {
    case TAG_NEW:
        if (event.success && e->many) {
            hold(e);
            await(e);
        } else if (event.success) {
            begin(e);
        }
        break;
    case TAG_READ:
        if (!e->many)
            hand_back(e);
        break;
    case TAG_WRITTEN:
        grpc_byte_buffer_destroy(e->message);
        e->message = NULL;
        if (event.success)
            read_next(e);
        break;
    case TAG_OVER:
        if (!e->many)
            await(e); /* the old call is left to the end of the process */
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    struct echo e = {0};
    char address[32];
    sigset_t set;
    int port = baseline_port(argc, argv);

    e.many = argc > 2 && strcmp(argv[2], "many") == 0;
    e.every = argc > 2 && strcmp(argv[2], "few") == 0 ? BASELINE_FEW : 1;

    baseline_block_signals(&set);
    baseline_switch_off_lock_tracking();
    grpc_init();
    e.server = grpc_server_create(NULL, NULL);
    e.queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(e.server, e.queue, NULL);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    port = grpc_server_add_http2_port(e.server, address, plain);
    grpc_server_credentials_release(plain);
    grpc_server_start(e.server);
    await(&e);
    baseline_announce(port);
    for (;;) {
        const struct timespec none = {0};
        grpc_event event = grpc_completion_queue_next(
            e.queue,
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(200, GPR_TIMESPAN)),
            NULL);
        if (event.type == GRPC_OP_COMPLETE)
            handle(&e, event);
        else if (sigtimedwait(&set, NULL, &none) > 0)
            _Exit(0); /* calls may be open; nothing is to be kept */
    }
}
