/* A server with test methods and a blocking C-core client, for the tests of src/rpc. Both live in
 * this process. */
#ifndef PRISM_TESTS_UNIT_RPC_FIXTURE_H
#define PRISM_TESTS_UNIT_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/worker.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/rpc/server.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_TIMEOUT_S = 20 };

/* ---- client ---- */

struct client {
    grpc_channel *channel;
    grpc_completion_queue *cq;
};

struct client_call {
    struct client *client;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice text;
    bool has_initial;
};

static inline gpr_timespec in_seconds(int s)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(s, GPR_TIMESPAN));
}

static inline void client_open(struct client *client, const char *target, int tag)
{
    /* Without probes of the bandwidth a stream's window stays as it is: tests count on answers
     * that do not fit into it. */
    grpc_arg args[3] = {
        {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t) "test.channel", .value.integer = tag},
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         .value.integer = -1},
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_HTTP2_BDP_PROBE,
         .value.integer = 0}};
    grpc_channel_args list = {.num_args = 3, .args = args};
    grpc_channel_credentials *insecure = grpc_insecure_credentials_create();

    client->channel = grpc_channel_create(target, insecure, &list);
    client->cq = grpc_completion_queue_create_for_pluck(NULL);
    grpc_channel_credentials_release(insecure);
}

static inline void client_close(struct client *client)
{
    grpc_channel_destroy(client->channel);
    grpc_completion_queue_shutdown(client->cq);
    grpc_completion_queue_destroy(client->cq);
}

/* True when the batch succeeded. */
static inline bool client_batch(struct client_call *c, const grpc_op *ops, size_t n)
{
    int tag;

    assert_int_equal(grpc_call_start_batch(c->call, ops, n, &tag, NULL), GRPC_CALL_OK);

    grpc_event event =
        grpc_completion_queue_pluck(c->client->cq, &tag, in_seconds(CALL_TIMEOUT_S), NULL);

    assert_int_equal(event.type, GRPC_OP_COMPLETE);
    return event.success != 0;
}

static inline void client_begin(struct client_call *c, struct client *client, const char *path,
                                gpr_timespec deadline, const char *namespace_name)
{
    grpc_slice method = grpc_slice_from_copied_string(path);

    memset(c, 0, sizeof *c);
    c->client = client;
    c->call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->cq,
                                       method, NULL, deadline, NULL);
    grpc_slice_unref(method); /* the call has its own reference */

    grpc_metadata metadata = {.key = grpc_slice_from_static_string("x-prism-namespace")};
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};

    if (namespace_name != NULL) {
        metadata.value = grpc_slice_from_copied_string(namespace_name);
        op.data.send_initial_metadata.count = 1;
        op.data.send_initial_metadata.metadata = &metadata;
    }
    client_batch(c, &op, 1);
    if (namespace_name != NULL)
        grpc_slice_unref(metadata.value);
}

static inline bool client_send(struct client_call *c, const void *bytes, size_t len)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};

    op.data.send_message.send_message = buffer;

    bool ok = client_batch(c, &op, 1);

    grpc_slice_unref(slice);
    grpc_byte_buffer_destroy(buffer);
    return ok;
}

static inline void client_half_close(struct client_call *c)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    client_batch(c, &op, 1);
}

/* The next message, or false at the end of the stream. *out is owned by the caller (gpr_free). */
static inline bool client_receive(struct client_call *c, uint8_t **out, size_t *len)
{
    bool first = !c->has_initial;
    grpc_byte_buffer *buffer = NULL;
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE}};
    grpc_byte_buffer_reader reader;

    ops[0].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    ops[1].data.recv_message.recv_message = &buffer;
    c->has_initial = true;
    if (!client_batch(c, first ? ops : ops + 1, first ? 2 : 1) || buffer == NULL)
        return false;
    assert_true(grpc_byte_buffer_reader_init(&reader, buffer));

    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);

    *len = GRPC_SLICE_LENGTH(all);
    *out = gpr_malloc(*len + 1);
    memcpy(*out, GRPC_SLICE_START_PTR(all), *len);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(buffer);
    return true;
}

static inline grpc_status_code client_status(struct client_call *c)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_STATUS_ON_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA}};

    ops[0].data.recv_status_on_client.trailing_metadata = &c->trailing;
    ops[0].data.recv_status_on_client.status = &c->status;
    ops[0].data.recv_status_on_client.status_details = &c->text;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    client_batch(c, ops, c->has_initial ? 1 : 2);
    return c->status;
}

static inline void client_end(struct client_call *c)
{
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->text);
    grpc_call_unref(c->call);
}

/* Reads and drops what comes before the status: gRPC withholds a status behind a message. */
static inline grpc_status_code client_last_status(struct client_call *c)
{
    uint8_t *answer = NULL;
    size_t len;

    while (client_receive(c, &answer, &len))
        gpr_free(answer);
    return client_status(c);
}

/* A whole unary call with a StoreRequest of this key and value size; the status. */
static inline grpc_status_code client_unary(struct client *client, const char *path,
                                            const char *key, size_t value_bytes,
                                            gpr_timespec deadline)
{
    Prism__Patterns__Keyvalue__StoreRequest request =
        PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    uint8_t *value = calloc(1, value_bytes + 1), *packed;
    size_t len;
    struct client_call c;

    request.key = (char *)(uintptr_t)key;
    request.value = (ProtobufCBinaryData){.data = value, .len = value_bytes};
    len = prism__patterns__keyvalue__store_request__get_packed_size(&request);
    packed = malloc(len + 1);
    prism__patterns__keyvalue__store_request__pack(&request, packed);
    client_begin(&c, client, path, deadline, NULL);
    client_send(&c, packed, len);
    client_half_close(&c);

    grpc_status_code status = client_last_status(&c);

    if (status != GRPC_STATUS_OK)
        print_message("%s: %d %.*s\n", path, (int)status, (int)GRPC_SLICE_LENGTH(c.text),
                      (const char *)GRPC_SLICE_START_PTR(c.text));
    client_end(&c);
    free(packed);
    free(value);
    return status;
}

#endif
