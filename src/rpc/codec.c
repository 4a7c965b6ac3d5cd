/* gRPC's buffers to messages and back. A decoded message points into its buffer: the call keeps
 * that until it ends. */
#include "src/rpc/decode.h"
#include "src/rpc/encode.h"
#include "src/rpc/gzip.h"
#include "src/rpc/rpc_priv.h"

#include "src/base/block.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

/* One slice is read in place; several are joined first, in the arena. */
static struct slice contiguous(struct arena *arena, const grpc_byte_buffer *buffer)
{
    const grpc_slice_buffer *slices = buffer != NULL ? &buffer->data.raw.slice_buffer : NULL;

    if (slices == NULL || slices->count == 0)
        return slice_of(NULL, 0);
    if (slices->count == 1)
        return slice_of(GRPC_SLICE_START_PTR(slices->slices[0]),
                        GRPC_SLICE_LENGTH(slices->slices[0]));

    uint8_t *joined = arena_alloc(arena, slices->length);
    size_t at = 0;

    for (size_t i = 0; i < slices->count; i++) {
        memcpy(joined + at, GRPC_SLICE_START_PTR(slices->slices[i]),
               GRPC_SLICE_LENGTH(slices->slices[i]));
        at += GRPC_SLICE_LENGTH(slices->slices[i]);
    }
    return slice_of(joined, at);
}

struct err codec_unpack(struct arena *arena, const struct call *call,
                        const grpc_byte_buffer *buffer, const ProtobufCMessage **message)
{
    struct err err = ERR_NONE;
    struct slice bytes;

    if (buffer == NULL || buffer->data.raw.compression == GRPC_COMPRESS_NONE)
        bytes = contiguous(arena, buffer);
    else if (buffer->data.raw.compression == GRPC_COMPRESS_GZIP)
        err = gzip_inflate(arena, buffer, call->server->options.max_message_bytes, &bytes);
    else
        err = err_make(ERR_UNIMPLEMENTED, "messages are taken in identity and gzip encoding");
    if (err.code != ERR_OK)
        return err;
    return decode_message(arena, call->row->method->request, bytes, call->instance->max_elements,
                          message);
}

static grpc_byte_buffer *encoded(const struct call *call, grpc_slice slice)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return call->wants_gzip ? gzip_if_worth(buffer) : buffer;
}

grpc_byte_buffer *codec_pack(const struct call *call, const ProtobufCMessage *message)
{
    struct encode_plan plan;

    encode_measure(&plan, message);

    grpc_slice slice = grpc_slice_malloc(plan.bytes);

    encode_write(&plan, message, GRPC_SLICE_START_PTR(slice));
    return encoded(call, slice);
}

grpc_byte_buffer *codec_written(const struct call *call, size_t bytes, call_write_fn *write,
                                const void *what)
{
    grpc_slice slice = grpc_slice_malloc(bytes);

    write(GRPC_SLICE_START_PTR(slice), what);
    return encoded(call, slice);
}

static void drop_block(void *block)
{
    block_unref(block);
}

/* A referenced part costs gRPC a header of about this size. */
enum { REFERENCE_BYTES = 64 };

static grpc_slice join_part(const struct call_part *part, uint64_t *charge)
{
    void *bytes = (void *)(uintptr_t)part->bytes.data;

    if (part->block == NULL) {
        *charge += part->bytes.len;
        return grpc_slice_from_copied_buffer(bytes, part->bytes.len);
    }
    *charge += REFERENCE_BYTES;
    return grpc_slice_new_with_user_data(bytes, part->bytes.len, drop_block,
                                         block_ref(part->block));
}

grpc_byte_buffer *codec_join(const struct call *call, const struct call_part *parts, size_t n,
                             uint64_t *charge)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(NULL, 0);

    *charge = 0;
    for (size_t i = 0; i < n; i++)
        grpc_slice_buffer_add(&buffer->data.raw.slice_buffer, join_part(&parts[i], charge));
    if (call->wants_gzip && *charge == buffer->data.raw.slice_buffer.length) { /* all copied */
        buffer = gzip_if_worth(buffer);
        *charge = buffer->data.raw.slice_buffer.length;
    }
    return buffer;
}
