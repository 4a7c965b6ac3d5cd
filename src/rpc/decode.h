/* Encoded request to protobuf-c's generated structs: one pass, memory from an arena, and the checks
 * that protobuf-c does not make (wire_check.h). What it yields is what protobuf_c_message_unpack
 * yields, but for two things: `bytes` fields point into the input, and unknown fields are not kept.
 *
 * Why not protobuf_c_message_unpack: it was a fifth of the instructions of a batch, and the
 * separate check another twelfth. */
#ifndef PRISM_RPC_DECODE_H
#define PRISM_RPC_DECODE_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>

/* *message lives as long as `arena` and `bytes` both do. errors: INVALID_ARGUMENT, naming the field
 * where it can; *message is NULL then. thread: any. */
struct err decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                          struct slice bytes, const ProtobufCMessage **message);

#endif
