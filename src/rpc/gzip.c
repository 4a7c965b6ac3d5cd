/* gRPC's own filters would cost each call something, compressed or not, and inflate up to the limit
 * whatever the message claims. Here only calls that ask for it pay. */
#include "src/rpc/gzip.h"

#include <grpc/slice.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    GZIP_WINDOW = 15 + 16, /* zlib: the largest window, in gzip's format */
    MIN_BYTES = 18,        /* header and trailer */
    LEVEL = 1,             /* the most bytes saved for a microsecond */
    MEMORY_LEVEL = 8
};

uint64_t gzip_claimed_bytes(const grpc_byte_buffer *message)
{
    const grpc_slice_buffer *slices = &message->data.raw.slice_buffer;
    uint64_t claimed = 0;
    unsigned left = 4;

    if (slices->length < MIN_BYTES)
        return 0;
    for (size_t s = slices->count; s-- > 0 && left > 0;) {
        const uint8_t *bytes = GRPC_SLICE_START_PTR(slices->slices[s]);

        for (size_t i = GRPC_SLICE_LENGTH(slices->slices[s]); i-- > 0 && left > 0; left--)
            claimed = claimed << 8 | bytes[i];
    }
    return claimed;
}

static bool inflate_slices(z_stream *z, const grpc_slice_buffer *slices)
{
    int state = Z_OK;

    for (size_t i = 0; i < slices->count && state == Z_OK; i++) {
        z->next_in = GRPC_SLICE_START_PTR(slices->slices[i]);
        z->avail_in = (uInt)GRPC_SLICE_LENGTH(slices->slices[i]);
        do
            state = inflate(z, Z_NO_FLUSH);
        while (state == Z_OK && z->avail_in > 0);
        if (state == Z_BUF_ERROR && z->avail_in == 0)
            state = Z_OK; /* it waits for the next slice */
        if (state == Z_STREAM_END && (z->avail_in > 0 || i + 1 < slices->count))
            return false; /* something follows */
    }
    return state == Z_STREAM_END && z->avail_out == 0;
}

struct err gzip_inflate(struct arena *arena, const grpc_byte_buffer *message, uint64_t max_bytes,
                        struct slice *inflated)
{
    uint64_t claimed = gzip_claimed_bytes(message);
    z_stream z = {.zalloc = Z_NULL};

    if (claimed > max_bytes)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_message_bytes",
                         arena_printf(arena,
                                      "the request has %llu bytes when it is inflated; %llu "
                                      "are taken",
                                      (unsigned long long)claimed, (unsigned long long)max_bytes));

    uint8_t *out = arena_alloc(arena, claimed + 1); /* zlib insists on a place to write to */

    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        abort(); /* out of memory */
    z.next_out = out;
    z.avail_out = (uInt)claimed;

    bool good = inflate_slices(&z, &message->data.raw.slice_buffer);

    inflateEnd(&z);
    *inflated = slice_of(out, claimed);
    return good ? ERR_NONE
                : err_make(ERR_INVALID_ARGUMENT, "the request is not what gzip makes: damaged");
}

static bool deflate_slices(z_stream *z, const grpc_slice_buffer *slices)
{
    for (size_t i = 0; i < slices->count; i++) {
        z->next_in = GRPC_SLICE_START_PTR(slices->slices[i]);
        z->avail_in = (uInt)GRPC_SLICE_LENGTH(slices->slices[i]);
        if (deflate(z, Z_NO_FLUSH) != Z_OK || z->avail_in > 0)
            return false; /* no room: it would not be smaller */
    }
    return deflate(z, Z_FINISH) == Z_STREAM_END;
}

grpc_byte_buffer *gzip_if_worth(grpc_byte_buffer *message)
{
    const grpc_slice_buffer *plain = &message->data.raw.slice_buffer;
    z_stream z = {.zalloc = Z_NULL};

    if (plain->length < GZIP_WORTH_BYTES)
        return message;

    grpc_slice out = grpc_slice_malloc(plain->length - plain->length / 8);

    if (deflateInit2(&z, LEVEL, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        abort(); /* out of memory */
    z.next_out = GRPC_SLICE_START_PTR(out);
    z.avail_out = (uInt)GRPC_SLICE_LENGTH(out);
    if (deflate_slices(&z, plain)) {
        grpc_slice used = grpc_slice_sub(out, 0, z.total_out);

        grpc_byte_buffer_destroy(message);
        message = grpc_raw_compressed_byte_buffer_create(&used, 1, GRPC_COMPRESS_GZIP);
        grpc_slice_unref(used);
    }
    deflateEnd(&z);
    grpc_slice_unref(out);
    return message;
}
