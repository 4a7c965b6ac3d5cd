/* What the library's long streams (consume_stream.c, publish_stream.c) have in common. */
#ifndef PRISM_CLIENT_STREAM_H
#define PRISM_CLIENT_STREAM_H

#include "client/src/channel.h"

#include <protobuf-c/protobuf-c.h>

/* The message, packed; for grpc_byte_buffer_destroy. */
grpc_byte_buffer *stream_pack(const ProtobufCMessage *message);

/* NULL: it does not decode. The buffer stays the caller's. */
ProtobufCMessage *stream_decode(grpc_byte_buffer *buffer,
                                const ProtobufCMessageDescriptor *descriptor);

/* It fails only when used wrongly, and then nothing would ever come back: aborts. */
void stream_start(grpc_call *call, const grpc_op *ops, size_t n, void *tag);

/* May the next stream not be better than the one that ended with this code? */
bool stream_ended_for_good(enum prism_code code);

/* When the next one may begin, CLOCK_MONOTONIC, after so many that did not stand. */
uint64_t stream_retry_at_ns(const struct prism_channel *channel, unsigned failures,
                            uint32_t advised_ms);

#endif
