/* Messages compressed with gzip. A request says at its end how large it is inflated; more than that
 * is never allocated, nor less accepted. thread: any. */
#ifndef PRISM_RPC_GZIP_H
#define PRISM_RPC_GZIP_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <grpc/byte_buffer.h>
#include <stdint.h>

/* Smaller answers are sent as they are. */
enum { GZIP_WORTH_BYTES = 1024 };

/* Bytes of the inflated message, as it says itself. */
uint64_t gzip_claimed_bytes(const grpc_byte_buffer *message);

/* Inflates into the arena: at most max_bytes, and exactly what is claimed. errors:
 * RESOURCE_EXHAUSTED (claims more than max_bytes), INVALID_ARGUMENT (damaged). */
struct err gzip_inflate(struct arena *arena, const grpc_byte_buffer *message, uint64_t max_bytes,
                        struct slice *inflated);

/* The message compressed, in its place, if that is worth it; else the message itself. */
grpc_byte_buffer *gzip_if_worth(grpc_byte_buffer *message);

#endif
