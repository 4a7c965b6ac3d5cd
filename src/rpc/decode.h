/* Encoded request to protobuf-c's generated structs: one pass, memory from an arena, and the checks
 * that protobuf-c does not make. Protobuf-c hands strings out as char *, so a NUL inside would turn
 * one key silently into another; it does not verify UTF-8, which every other client does when it
 * gets the text back; it decodes nested messages by recursion without a bound (58 kB of nested
 * google.protobuf.Value overran an 8 MB stack); and it was a fifth of the instructions of a batch.
 *
 * What this yields is what protobuf_c_message_unpack yields, but for two things: `bytes` fields
 * point into the input, and unknown fields are not kept. proto3 only: no groups, nothing required.
 */
#ifndef PRISM_RPC_DECODE_H
#define PRISM_RPC_DECODE_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>

/* *message lives as long as `arena` and `bytes` both do. max_elements: of all repeated fields
 * together, wherever they nest; 0 = no bound. errors: INVALID_ARGUMENT, naming the field where it
 * can; *message is NULL then. thread: any. */
struct err decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                          struct slice bytes, uint32_t max_elements,
                          const ProtobufCMessage **message);

#endif
