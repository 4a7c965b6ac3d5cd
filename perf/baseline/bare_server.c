/* See bare_server.h. */
#include "perf/baseline/bare_server.h"

#include "perf/baseline/baseline.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>

enum { POSTED = 16 };

/* Tag of the shutdown; every other tag is a struct bare_call. */
static int shutdown_tag;

static void post(struct bare *bare)
{
    struct bare_call *c = bare->free;

    if (c != NULL)
        bare->free = c->next;
    else if ((c = calloc(1, sizeof *c)) == NULL)
        abort();
    c->answered = false;
    c->message = NULL;
    bare->posted++;
    if (grpc_server_request_registered_call(bare->server, bare->registered, &c->call, &c->deadline,
                                            &c->metadata, &c->message, bare->queue, bare->queue,
                                            c) != GRPC_CALL_OK)
        abort();
}

void bare_answer(struct bare_call *c)
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

static void recycle(struct bare *bare, struct bare_call *c)
{
    grpc_byte_buffer_destroy(c->message);
    grpc_metadata_array_destroy(&c->metadata);
    grpc_metadata_array_init(&c->metadata);
    grpc_call_unref(c->call);
    c->next = bare->free;
    bare->free = c;
}

static void discard(struct bare_call *c)
{
    grpc_metadata_array_destroy(&c->metadata);
    free(c);
}

enum bare_event bare_step(struct bare *bare, gpr_timespec deadline)
{
    grpc_event e = grpc_completion_queue_next(bare->queue, deadline, NULL);
    struct bare_call *c = e.tag;

    if (e.type == GRPC_QUEUE_SHUTDOWN)
        return BARE_OVER;
    if (e.type == GRPC_QUEUE_TIMEOUT)
        return BARE_NONE;
    if (e.tag == &shutdown_tag) {
        bare->shut = true;
    } else if (c->answered) {
        recycle(bare, c);
        bare->posted--;
    } else if (!e.success) { /* a posted request that the shutdown gives back */
        discard(c);
        bare->posted--;
    } else {
        post(bare);
        bare->serve(bare, c);
    }
    /* gRPC's shutdown does not wait for the events of calls that it broke off. */
    if (bare->shut && bare->posted == 0)
        grpc_completion_queue_shutdown(bare->queue);
    return BARE_SERVED;
}

static void *thread_main(void *arg)
{
    struct bare *bare = arg;

    bare->loop(bare);
    while (bare->free != NULL) {
        struct bare_call *c = bare->free;

        bare->free = c->next;
        discard(c);
    }
    return NULL;
}

static int listen_on(struct bare *bare, int port)
{
    char address[32];
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MINIMAL_STACK, .value.integer = 1};
    grpc_channel_args args = {1, &arg};

    bare->server = grpc_server_create(&args, NULL);
    bare->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(bare->server, bare->queue, NULL);
    bare->registered = grpc_server_register_method(bare->server, bare->method, NULL,
                                                   GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    int bound = grpc_server_add_http2_port(bare->server, address, plain);
    grpc_server_credentials_release(plain);
    return bound;
}

int bare_run(struct bare *bare, int port)
{
    pthread_t thread;
    sigset_t ending;
    int signal_number;

    baseline_block_signals(&ending);
    baseline_switch_off_lock_tracking();
    grpc_init();
    if (port < 0 || (port = listen_on(bare, port)) == 0) {
        fprintf(stderr, "cannot listen\n");
        return 1;
    }
    grpc_server_start(bare->server);
    for (int i = 0; i < POSTED; i++)
        post(bare);
    if (pthread_create(&thread, NULL, thread_main, bare) != 0)
        return 1;
    baseline_announce(port);

    sigwait(&ending, &signal_number);
    grpc_server_shutdown_and_notify(bare->server, bare->queue, &shutdown_tag);
    grpc_server_cancel_all_calls(bare->server);
    pthread_join(thread, NULL);
    grpc_server_destroy(bare->server);
    grpc_completion_queue_destroy(bare->queue);
    grpc_shutdown_blocking();
    return 0;
}
