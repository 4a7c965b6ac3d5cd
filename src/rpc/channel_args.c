/* Our options as the arguments that gRPC gives to each connection. */
#include "src/rpc/rpc_priv.h"

#include <stdint.h>

enum { MAX_ARGS = 24 };

struct args {
    grpc_arg list[MAX_ARGS];
    size_t n;
};

static void add_int(struct args *args, const char *key, int64_t value)
{
    grpc_arg *arg = &args->list[args->n++];

    arg->type = GRPC_ARG_INTEGER;
    arg->key = (char *)(uintptr_t)key;
    arg->value.integer = value > INT32_MAX ? INT32_MAX : (int)value;
}

static void add_ms(struct args *args, const char *key, uint32_t ms)
{
    if (ms > 0)
        add_int(args, key, ms);
}

/* Not GRPC_ARG_MINIMAL_STACK: it would drop the message-size limit and the deadline filter without
 * a word. */
static void add_lean_filters(struct args *args)
{
    add_int(args, GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
    add_int(args, GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    add_int(args, GRPC_ARG_ENABLE_CHANNELZ, 0);
    add_int(args, GRPC_ARG_ENABLE_CENSUS, 0);
}

/* gRPC ends the whole connection when a request's metadata is beyond its own limit. So that limit
 * is a multiple of ours, and admit.c refuses the single call. */
static void add_metadata_limit(struct args *args, uint32_t max_metadata_bytes)
{
    if (max_metadata_bytes > 0)
        add_int(args, GRPC_ARG_MAX_METADATA_SIZE,
                (int64_t)max_metadata_bytes * RPC_METADATA_HEADROOM);
}

static void add_options(struct args *args, const struct rpc_options *o)
{
    add_lean_filters(args);
    add_int(args, GRPC_ARG_ALLOW_REUSEPORT,
            0); /* a second server on our port is an error, not a partner */
    add_int(args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, o->max_message_bytes);
    add_int(args, GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1);
    add_metadata_limit(args, o->max_metadata_bytes);
    add_ms(args, GRPC_ARG_MAX_CONCURRENT_STREAMS, o->max_streams_per_connection);
    add_ms(args, GRPC_ARG_KEEPALIVE_TIME_MS, o->keepalive_ms);
    add_ms(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, o->keepalive_timeout_ms);
    add_ms(args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, o->min_ping_interval_ms);
    add_int(args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    add_ms(args, GRPC_ARG_MAX_CONNECTION_IDLE_MS, o->max_connection_idle_ms);
    add_ms(args, GRPC_ARG_MAX_CONNECTION_AGE_MS, o->max_connection_age_ms);
    add_ms(args, GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, o->max_connection_age_grace_ms);
}

/* Requests that calls hold count in gRPC's quota as well: they are slices of what it has read. When
 * the quota is full gRPC sends a GOAWAY to connections that have no call at that moment, which are
 * the innocent ones. So there is room for all that is bounded elsewhere. */
grpc_server *channel_args_server(const struct rpc_options *options)
{
    struct args args = {.n = 0};
    grpc_resource_quota *quota = NULL;

    add_options(&args, options);
    if (options->transport_bytes > 0) {
        grpc_arg *arg = &args.list[args.n++];

        quota = grpc_resource_quota_create("prism");
        grpc_resource_quota_resize(
            quota, (size_t)(options->transport_bytes + options->max_inflight_bytes));
        arg->type = GRPC_ARG_POINTER;
        arg->key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA;
        arg->value.pointer.p = quota;
        arg->value.pointer.vtable = grpc_resource_quota_arg_vtable();
    }
    grpc_channel_args channel_args = {.num_args = args.n, .args = args.list};
    grpc_server *server = grpc_server_create(&channel_args, NULL);

    if (quota != NULL)
        grpc_resource_quota_unref(quota);
    return server;
}
