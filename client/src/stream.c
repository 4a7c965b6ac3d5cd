#include "client/src/stream.h"

#include "client/src/rpc.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <stdlib.h>

grpc_byte_buffer *stream_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    grpc_byte_buffer *buffer;

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

ProtobufCMessage *stream_decode(grpc_byte_buffer *buffer,
                                const ProtobufCMessageDescriptor *descriptor)
{
    grpc_byte_buffer_reader reader;
    ProtobufCMessage *message;
    grpc_slice bytes;

    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return NULL;
    bytes = grpc_byte_buffer_reader_readall(&reader);
    message = protobuf_c_message_unpack(descriptor, NULL, GRPC_SLICE_LENGTH(bytes),
                                        GRPC_SLICE_START_PTR(bytes));
    grpc_slice_unref(bytes);
    grpc_byte_buffer_reader_destroy(&reader);
    return message;
}

void stream_start(grpc_call *call, const grpc_op *ops, size_t n, void *tag)
{
    if (grpc_call_start_batch(call, ops, n, tag, NULL) != GRPC_CALL_OK)
        abort();
}

bool stream_ended_for_good(enum prism_code code)
{
    switch (code) {
    case PRISM_INVALID_ARGUMENT:
    case PRISM_NOT_FOUND:
    case PRISM_PERMISSION_DENIED:
    case PRISM_FAILED_PRECONDITION:
    case PRISM_ABORTED:
    case PRISM_OUT_OF_RANGE:
    case PRISM_UNIMPLEMENTED:
    case PRISM_UNAUTHENTICATED:
        return true;
    default:
        return false;
    }
}

uint64_t stream_retry_at_ns(const struct prism_channel *channel, unsigned failures,
                            uint32_t advised_ms)
{
    const struct prism_retry *retry = &channel->retry;
    uint64_t wait_ms = (uint64_t)retry->initial_ms << (failures < 20 ? failures : 20);

    if (wait_ms > retry->max_ms)
        wait_ms = retry->max_ms;
    if (wait_ms < advised_ms)
        wait_ms = advised_ms;
    /* Clients that lost one server together do not come to the next one together. */
    wait_ms -= rpc_now_ns() / 1000 % (wait_ms / 2 + 1);
    return rpc_now_ns() + wait_ms * RPC_NS_PER_MS;
}
