/* Bytes to messages and back: protobuf-c on the call's arena, so that nothing is freed message by message. */
#include "src/rpc/rpc_priv.h"
#include "src/rpc/wire_check.h"

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

/* One slice is read in place (protobuf-c copies strings and bytes); several are joined first. */
static struct slice contiguous(struct arena *arena, const grpc_byte_buffer *buffer)
{
    const grpc_slice_buffer *slices = buffer != NULL ? &buffer->data.raw.slice_buffer : NULL;

    if (slices == NULL || slices->count == 0)
        return slice_of(NULL, 0);
    if (slices->count == 1)
        return slice_of(GRPC_SLICE_START_PTR(slices->slices[0]), GRPC_SLICE_LENGTH(slices->slices[0]));

    uint8_t *joined = arena_alloc(arena, slices->length);
    size_t at = 0;

    for (size_t i = 0; i < slices->count; i++) {
        memcpy(joined + at, GRPC_SLICE_START_PTR(slices->slices[i]), GRPC_SLICE_LENGTH(slices->slices[i]));
        at += GRPC_SLICE_LENGTH(slices->slices[i]);
    }
    return slice_of(joined, at);
}

static struct err check_wire(struct arena *arena, const ProtobufCMessageDescriptor *type, struct slice bytes)
{
    const char *field = NULL;

    switch (wire_check(type, bytes, &field)) {
    case WIRE_OK:
        break;
    case WIRE_NOT_TEXT:
        return err_about(ERR_INVALID_ARGUMENT, field,
                         arena_printf(arena, "%s must be UTF-8 text without NUL bytes", field));
    case WIRE_TOO_DEEP:
        return err_about(ERR_INVALID_ARGUMENT, field,
                         arena_printf(arena, "%s nests more than %d messages deep", field, WIRE_MAX_DEPTH));
    }
    return ERR_NONE;
}

struct err codec_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                        const grpc_byte_buffer *buffer, const ProtobufCMessage **message)
{
    ProtobufCAllocator allocator = {.alloc = codec_alloc, .free = codec_free, .allocator_data = arena};
    struct slice bytes = contiguous(arena, buffer);
    struct err err = check_wire(arena, type, bytes);

    *message = NULL;
    if (err.code != ERR_OK)
        return err;
    *message = protobuf_c_message_unpack(type, &allocator, bytes.len, bytes.data);
    if (*message == NULL)
        return err_about(ERR_INVALID_ARGUMENT, "request", "the request is not a valid message of its type");
    return ERR_NONE;
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
