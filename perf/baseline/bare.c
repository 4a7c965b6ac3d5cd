/* Baseline: the least that a gRPC C-core server can do. Unary echo of /prism.bench.Echo/Unary.
 *
 * One completion queue, one thread that answers inline, 16 requests posted and re-posted on arrival
 * (more would only lengthen the queue's linear scan), one grpc_call_start_batch per call, the
 * request's byte buffer sent back as it came: nothing is decoded, copied or looked up. Its filter
 * stack is GRPC_ARG_MINIMAL_STACK, which drops the message-size and deadline filters that a real
 * server must keep, so it is a strong baseline. Replies are not coalesced: every batch is one
 * write, as gRPC has it. */
#include "perf/baseline/baseline.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>

enum { POSTED = 16 };

struct call {
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message;
    int cancelled;
    bool answered;
    struct call *next;
};

struct echo {
    grpc_server *server;
    grpc_completion_queue *queue;
    void *method;

    /* Of the serving thread. */
    struct call *free;
    size_t posted; /* posted or being answered: their events are still to come */
    bool shut;
};

/* Tag of the shutdown; every other tag is a struct call. */
static int shutdown_tag;

static void post(struct echo *echo)
{
    struct call *c = echo->free;

    if (c != NULL)
        echo->free = c->next;
    else if ((c = calloc(1, sizeof *c)) == NULL)
        abort();
    c->answered = false;
    c->message = NULL;
    echo->posted++;
    if (grpc_server_request_registered_call(echo->server, echo->method, &c->call, &c->deadline,
                                            &c->metadata, &c->message, echo->queue, echo->queue,
                                            c) != GRPC_CALL_OK)
        abort();
}

static void answer(struct call *c)
{
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER},
    };

    ops[1].data.send_message.send_message = c->message;
    ops[2].data.send_status_from_server.status = GRPC_STATUS_OK;
    ops[3].data.recv_close_on_server.cancelled = &c->cancelled;
    c->answered = true;
    if (grpc_call_start_batch(c->call, ops, 4, c, NULL) != GRPC_CALL_OK)
        abort();
}

static void recycle(struct echo *echo, struct call *c)
{
    grpc_byte_buffer_destroy(c->message);
    grpc_metadata_array_destroy(&c->metadata);
    grpc_metadata_array_init(&c->metadata);
    grpc_call_unref(c->call);
    c->next = echo->free;
    echo->free = c;
}

static void discard(struct call *c)
{
    grpc_metadata_array_destroy(&c->metadata);
    free(c);
}

static void *serve(void *arg)
{
    struct echo *echo = arg;
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);

    for (;;) {
        grpc_event e = grpc_completion_queue_next(echo->queue, never, NULL);
        struct call *c = e.tag;

        if (e.type == GRPC_QUEUE_SHUTDOWN)
            break;
        if (e.tag == &shutdown_tag) {
            echo->shut = true;
        } else if (c->answered) {
            recycle(echo, c);
            echo->posted--;
        } else if (!e.success) { /* a posted request that the shutdown gives back */
            discard(c);
            echo->posted--;
        } else {
            post(echo);
            answer(c);
        }
        /* gRPC's shutdown does not wait for the events of calls that it broke off. */
        if (echo->shut && echo->posted == 0)
            grpc_completion_queue_shutdown(echo->queue);
    }
    while (echo->free != NULL) {
        struct call *c = echo->free;
        echo->free = c->next;
        discard(c);
    }
    return NULL;
}

static int listen_on(struct echo *echo, int port)
{
    char address[32];
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MINIMAL_STACK, .value.integer = 1};
    grpc_channel_args args = {1, &arg};

    echo->server = grpc_server_create(&args, NULL);
    echo->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(echo->server, echo->queue, NULL);
    echo->method = grpc_server_register_method(echo->server, "/prism.bench.Echo/Unary", NULL,
                                               GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    int bound = grpc_server_add_http2_port(echo->server, address, plain);
    grpc_server_credentials_release(plain);
    return bound;
}

int main(int argc, char **argv)
{
    struct echo echo = {0};
    pthread_t thread;
    sigset_t ending;
    int signal_number;
    int port = baseline_port(argc, argv);

    baseline_block_signals(&ending);
    baseline_switch_off_lock_tracking();
    grpc_init();
    if (port < 0 || (port = listen_on(&echo, port)) == 0) {
        fprintf(stderr, "usage: %s [PORT]: cannot listen\n", argv[0]);
        return 1;
    }
    grpc_server_start(echo.server);
    for (int i = 0; i < POSTED; i++)
        post(&echo);
    if (pthread_create(&thread, NULL, serve, &echo) != 0)
        return 1;
    baseline_announce(port);

    sigwait(&ending, &signal_number);
    grpc_server_shutdown_and_notify(echo.server, echo.queue, &shutdown_tag);
    grpc_server_cancel_all_calls(echo.server);
    pthread_join(thread, NULL);
    grpc_server_destroy(echo.server);
    grpc_completion_queue_destroy(echo.queue);
    grpc_shutdown_blocking();
    return 0;
}
