/* The stock client: gRPC C-core as applications use it, one completion queue, one thread, unary
 * calls.
 *
 * Each connection is a channel with a subchannel pool of its own, else C-core would share one
 * socket. A call is one batch of six operations; its single event ends it. */
#include "perf/load/client.h"

#include "perf/baseline/baseline.h"
#include "perf/common/clock.h"
#include "perf/common/memory.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <string.h>

enum { OPS = 6, OPEN_SECONDS = 5 };

struct stock_call {
    struct stock_call *next_free;
    struct stock_connection *connection;
    const struct operation *operation;
    struct workload *workload;
    uint64_t started_ns;
    grpc_call *call;
    grpc_byte_buffer *request, *reply;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
};

struct stock_connection {
    unsigned index;
    grpc_channel *channel;
    void *method; /* registered for `registered` */
    const struct operation *registered;
    struct stock_call *calls, *free;
};

struct stock_client {
    struct client base;
    grpc_completion_queue *queue;
    struct stock_connection *connections;
};

static gpr_timespec in_ns(uint64_t ns)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos((int64_t)ns, GPR_TIMESPAN));
}

static grpc_byte_buffer *write_request(const struct stock_call *call)
{
    grpc_slice slice = grpc_slice_malloc(workload_request_bytes_max(call->workload));
    size_t bytes = call->operation->write(call->workload, GRPC_SLICE_START_PTR(slice));
    grpc_slice message = grpc_slice_sub_no_ref(slice, 0, bytes);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&message, 1);

    grpc_slice_unref(message);
    return buffer;
}

static void set_ops(struct stock_call *call, grpc_op *ops)
{
    memset(ops, 0, OPS * sizeof *ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = call->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->reply;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->details;
}

static bool stock_start(struct client *base, unsigned connection, uint64_t started_ns)
{
    struct stock_client *c = (struct stock_client *)base;
    struct stock_connection *k = &c->connections[connection];
    struct stock_call *call = k->free;
    grpc_op ops[OPS];

    if (call == NULL)
        return false;
    if (k->registered != base->operation) {
        k->method = grpc_channel_register_call(k->channel, base->operation->path, NULL, NULL);
        k->registered = base->operation;
    }
    call->operation = base->operation;
    call->workload = base->workload;
    call->started_ns = started_ns;
    call->reply = NULL;
    call->request = write_request(call);
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->call =
        grpc_channel_create_registered_call(k->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->queue,
                                            k->method, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    set_ops(call, ops);
    if (grpc_call_start_batch(call->call, ops, OPS, call, NULL) != GRPC_CALL_OK)
        return client_fail(base, "grpc_call_start_batch refused a call");
    k->free = call->next_free;
    return true;
}

static bool judge_reply(const struct stock_call *call, struct operation_outcome *outcome)
{
    grpc_byte_buffer_reader reader;

    if (call->reply == NULL || !grpc_byte_buffer_reader_init(&reader, call->reply))
        return false;
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    bool fine = call->operation->judge(call->workload, GRPC_SLICE_START_PTR(all),
                                       GRPC_SLICE_LENGTH(all), outcome);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return fine && (!call->operation->every_key_found || outcome->hits == outcome->items);
}

static void release(struct stock_call *call)
{
    grpc_byte_buffer_destroy(call->request);
    grpc_byte_buffer_destroy(call->reply);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    grpc_call_unref(call->call);
    call->next_free = call->connection->free;
    call->connection->free = call;
}

static void finish(struct client *base, struct stock_call *call)
{
    struct client_end end = {
        .started_ns = call->started_ns,
        .ended_ns = clock_now_ns(),
        .connection = call->connection->index,
    };

    if (call->status == GRPC_STATUS_OK)
        end.ok = judge_reply(call, &end.outcome);
    if (call->status != GRPC_STATUS_OK)
        client_fail(base, "%s: grpc-status %d: %.*s", call->operation->path, (int)call->status,
                    (int)(GRPC_SLICE_LENGTH(call->details) % 120),
                    (const char *)GRPC_SLICE_START_PTR(call->details));
    else if (!end.ok)
        client_fail(base, "%s: unexpected reply", call->operation->path);
    release(call);
    client_ended(base, &end);
}

static bool stock_step(struct client *base, uint64_t timeout_ns)
{
    struct stock_client *c = (struct stock_client *)base;
    grpc_event e = grpc_completion_queue_next(c->queue, in_ns(timeout_ns), NULL);

    if (e.type == GRPC_OP_COMPLETE)
        finish(base, e.tag);
    return true;
}

/* A batch goes out when it is started. */
static bool stock_flush(struct client *base)
{
    (void)base;
    return true;
}

static bool wait_ready(struct stock_client *c, const struct stock_connection *k)
{
    gpr_timespec deadline = in_ns(OPEN_SECONDS * UINT64_C(1000000000));

    for (;;) {
        grpc_connectivity_state state = grpc_channel_check_connectivity_state(k->channel, 1);
        if (state == GRPC_CHANNEL_READY)
            return true;
        grpc_channel_watch_connectivity_state(k->channel, state, deadline, c->queue, NULL);
        grpc_event e =
            grpc_completion_queue_next(c->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (!e.success)
            return client_fail(&c->base, "no connection to %s:%u within %d s", c->base.options.host,
                               c->base.options.port, OPEN_SECONDS);
    }
}

static bool open_connection(struct stock_client *c, unsigned index)
{
    struct stock_connection *k = &c->connections[index];
    const struct client_options *o = &c->base.options;
    char target[64];
    char key[] = GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL;
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = key, .value.integer = 1};
    grpc_channel_args args = {1, &arg};

    k->index = index;
    k->calls = memory_zalloc(o->calls_per_connection, sizeof *k->calls);
    for (unsigned i = o->calls_per_connection; i-- > 0;) {
        k->calls[i].connection = k;
        k->calls[i].next_free = k->free;
        k->free = &k->calls[i];
    }
    snprintf(target, sizeof target, "%s:%u", o->host, o->port);
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    k->channel = grpc_channel_create(target, plain, &args);
    grpc_channel_credentials_release(plain);
    return wait_ready(c, k);
}

static bool stock_open(struct client *base)
{
    struct stock_client *c = (struct stock_client *)base;

    baseline_switch_off_lock_tracking();
    grpc_init();
    c->queue = grpc_completion_queue_create_for_next(NULL);
    c->connections = memory_zalloc(base->options.connections, sizeof *c->connections);
    for (unsigned i = 0; i < base->options.connections; i++) {
        if (!open_connection(c, i))
            return false;
    }
    return true;
}

static void cancel_calls(const struct stock_connection *k, unsigned count)
{
    for (unsigned i = 0; i < count && k->calls != NULL; i++) {
        bool is_free = false;
        for (const struct stock_call *f = k->free; f != NULL && !is_free; f = f->next_free)
            is_free = f == &k->calls[i];
        if (!is_free)
            grpc_call_cancel(k->calls[i].call, NULL);
    }
}

static void close_connections(struct stock_client *c)
{
    unsigned count = c->base.options.connections;

    for (unsigned i = 0; i < count; i++)
        cancel_calls(&c->connections[i], c->base.options.calls_per_connection);
    while (c->base.in_flight > 0) {
        grpc_event e =
            grpc_completion_queue_next(c->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        c->base.in_flight--;
        release(e.tag);
    }
    for (unsigned i = 0; i < count; i++) {
        if (c->connections[i].channel != NULL)
            grpc_channel_destroy(c->connections[i].channel);
        free(c->connections[i].calls);
    }
    grpc_completion_queue_shutdown(c->queue);
    while (grpc_completion_queue_next(c->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(c->queue);
    free(c->connections);
}

static void stock_close(struct client *base)
{
    struct stock_client *c = (struct stock_client *)base;

    close_connections(c);
    grpc_shutdown_blocking();
}

const struct client_type client_stock = {
    .open = stock_open,
    .start = stock_start,
    .flush = stock_flush,
    .step = stock_step,
    .close = stock_close,
    .bytes = sizeof(struct stock_client),
};
