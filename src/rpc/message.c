/* What the message of a request must be before its call is taken in. gRPC's core hands over what it
 * could read; some of that is no request:
 *
 * no whole message     the client closed its side before or within the message: there is no buffer.
 *                      The core does not tell these apart, nor from a client that went away.
 * compressed, though   the core knows no such encoding, or the header was missing: the buffer looks
 *                      uncompressed, only the message's flags tell
 *
 * Reserved flags and messages above the limit do not come here: the core ends their calls. It takes
 * away content-type, and a second message of a unary call stays unread in the stream. */
#include "src/rpc/rpc_priv.h"

#include <grpc/byte_buffer.h>
#include <grpc/compression.h>

/* The core's only way to ask. Weak: without it, messages whose encoding is unknown are decoded as
 * they are. */
extern uint32_t _Z37grpc_call_test_only_get_message_flagsP9grpc_call(grpc_call *)
    __attribute__((weak));

static bool has_compressed_flag(const struct call *call)
{
    if (_Z37grpc_call_test_only_get_message_flagsP9grpc_call == NULL)
        return false;
    return _Z37grpc_call_test_only_get_message_flagsP9grpc_call(call->grpc) != 0;
}

struct err message_check(struct call *call)
{
    if (call->row->method->kind == METHOD_BIDI)
        return ERR_NONE;
    if (call->request_buffer == NULL)
        return err_make(ERR_INVALID_ARGUMENT,
                        "the request ended without a whole message: nothing was done");
    if (!has_compressed_flag(call))
        return ERR_NONE;
    call->tells_encodings = true;
    return err_make(ERR_UNIMPLEMENTED,
                    "the request is compressed in a way that is not supported: send with identity "
                    "encoding");
}
