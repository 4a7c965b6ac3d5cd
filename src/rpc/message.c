/* What the message of a request must be before its call is taken in. gRPC's core hands over what it
 * could read; some of that is no request:
 *
 * no whole message     the client closed its side before or within the message: there is no buffer.
 *                      The core does not tell these apart, nor from a client that went away.
 * compressed, though   the core knows no such encoding, or the header was missing: the buffer looks
 *                      uncompressed, only the message's flags tell
 *
 * foreign              its stream does not declare gRPC's content type: the core takes that away,
 *                      and http2_meter.h has replaced the message
 *
 * Reserved flags come here as an unknown encoding (http2_meter.h). Messages above the limit do not:
 * the core ends their calls. A second message of a unary call stays unread in the stream. */
#include "src/rpc/gzip.h"
#include "src/rpc/http2_meter.h"
#include "src/rpc/rpc_priv.h"

#include <grpc/byte_buffer.h>
#include <grpc/compression.h>
#include <string.h>

/* The core's only ways to ask. Weak: without them, messages whose encoding is unknown are decoded
 * as they are, and answers are not compressed. */
extern uint32_t _Z37grpc_call_test_only_get_message_flagsP9grpc_call(grpc_call *)
    __attribute__((weak));
extern grpc_compression_algorithm _Z45grpc_call_test_only_get_compression_algorithmP9grpc_call(
    grpc_call *) __attribute__((weak));

static bool has_compressed_flag(const struct call *call)
{
    if (_Z37grpc_call_test_only_get_message_flagsP9grpc_call == NULL)
        return false;
    return _Z37grpc_call_test_only_get_message_flagsP9grpc_call(call->poller.grpc) != 0;
}

static bool says_gzip(const struct call *call)
{
    if (_Z45grpc_call_test_only_get_compression_algorithmP9grpc_call == NULL)
        return false;
    return _Z45grpc_call_test_only_get_compression_algorithmP9grpc_call(call->poller.grpc) ==
           GRPC_COMPRESS_GZIP;
}

static bool is_gzip(const grpc_byte_buffer *buffer)
{
    return buffer != NULL && buffer->data.raw.compression == GRPC_COMPRESS_GZIP;
}

uint64_t message_bytes(const struct call *call)
{
    const grpc_byte_buffer *buffer = call->request_buffer;

    if (buffer == NULL)
        return 0;
    return buffer->data.raw.slice_buffer.length +
           (is_gzip(buffer) ? gzip_claimed_bytes(buffer) : 0);
}

static struct err check_inflated(const struct call *call)
{
    uint64_t most = call->server->options.max_message_bytes;

    if (gzip_claimed_bytes(call->request_buffer) <= most)
        return ERR_NONE;
    return err_about(ERR_RESOURCE_EXHAUSTED, "limits.max_message_bytes",
                     "the request is compressed, and too large when it is inflated");
}

/* Does it begin with METER_FOREIGN, or with a part of that if it is shorter? An empty one has only
 * the flag, which no client sets for it. */
static bool is_foreign(const struct call *call, const grpc_byte_buffer *buffer)
{
    const grpc_slice_buffer *parts = &buffer->data.raw.slice_buffer;
    size_t at = 0;

    for (size_t i = 0; i < parts->count && at < sizeof METER_FOREIGN; i++) {
        size_t n = GRPC_SLICE_LENGTH(parts->slices[i]), rest = sizeof METER_FOREIGN - at;

        if (memcmp(GRPC_SLICE_START_PTR(parts->slices[i]), &METER_FOREIGN[at],
                   n < rest ? n : rest) != 0)
            return false;
        at += n;
    }
    return has_compressed_flag(call);
}

static struct err check_type(const struct call *call, const grpc_byte_buffer *buffer)
{
    if (!is_foreign(call, buffer))
        return ERR_NONE;
    return err_make(ERR_UNIMPLEMENTED,
                    "the content-type is not application/grpc: send gRPC over HTTP/2 (grpc-web "
                    "and JSON need a proxy that translates)");
}

static struct err check_encoding(struct call *call, const grpc_byte_buffer *buffer)
{
    if (!has_compressed_flag(call) || is_gzip(buffer))
        return ERR_NONE;
    call->poller.tells_encodings = true;
    return err_make(ERR_UNIMPLEMENTED,
                    "the request is compressed in a way that is not supported: send with gzip or "
                    "identity encoding");
}

struct err message_check_received(struct call *call, const grpc_byte_buffer *buffer)
{
    struct err err = check_type(call, buffer);

    return err.code == ERR_OK ? check_encoding(call, buffer) : err;
}

struct err message_check(struct call *call)
{
    struct err err;

    call->wants_gzip = says_gzip(call);
    if (call->row->method->kind == METHOD_BIDI)
        return ERR_NONE;
    if (call->request_buffer == NULL)
        return err_make(ERR_INVALID_ARGUMENT,
                        "the request ended without a whole message: nothing was done");
    err = check_type(call, call->request_buffer);
    if (err.code != ERR_OK)
        return err;
    if (is_gzip(call->request_buffer))
        return check_inflated(call);
    return check_encoding(call, call->request_buffer);
}
