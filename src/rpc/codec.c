/* Bytes to messages and back: protobuf-c on the call's arena, so that nothing is freed message by message. */
#include "src/rpc/rpc_priv.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

static void *codec_alloc(void *arena, size_t bytes)
{
    return arena_alloc(arena, bytes);
}

static void codec_free(void *arena, void *ptr)
{
    (void)arena;
    (void)ptr; /* goes with the arena */
}

/* One slice is parsed in place (protobuf-c copies strings and bytes); several are joined first. */
static ProtobufCMessage *unpack_slices(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                       const grpc_slice_buffer *slices)
{
    ProtobufCAllocator allocator = {.alloc = codec_alloc, .free = codec_free, .allocator_data = arena};

    if (slices->count == 1)
        return protobuf_c_message_unpack(type, &allocator, GRPC_SLICE_LENGTH(slices->slices[0]),
                                         GRPC_SLICE_START_PTR(slices->slices[0]));

    uint8_t *joined = arena_alloc(arena, slices->length);
    size_t at = 0;

    for (size_t i = 0; i < slices->count; i++) {
        memcpy(joined + at, GRPC_SLICE_START_PTR(slices->slices[i]), GRPC_SLICE_LENGTH(slices->slices[i]));
        at += GRPC_SLICE_LENGTH(slices->slices[i]);
    }
    return protobuf_c_message_unpack(type, &allocator, at, joined);
}

ProtobufCMessage *codec_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                               grpc_byte_buffer *buffer)
{
    static const grpc_slice_buffer nothing = {.count = 0};

    return unpack_slices(arena, type, buffer != NULL ? &buffer->data.raw.slice_buffer : &nothing);
}

grpc_byte_buffer *codec_pack(const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    grpc_slice slice = grpc_slice_malloc(bytes);

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));

    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}
