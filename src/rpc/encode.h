/* protobuf-c's generated structs to bytes; the same bytes as protobuf_c_message_pack. Sizes of
 * nested messages are worked out once and remembered, where protobuf-c works them out again at each
 * level; and an element of a repeated field that is the same struct as its predecessor (the
 * outcomes of a batch are mostly one struct) is copied, not encoded again. */
#ifndef PRISM_RPC_ENCODE_H
#define PRISM_RPC_ENCODE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* The sizes of the nested messages, in order of writing. */
struct encode_plan {
    size_t bytes; /* of the whole message */
    uint32_t *nested;
    size_t count, room;
    uint32_t first[128]; /* used before any memory is asked for */
};

/* The message must not change until encode_write. thread: any. */
void encode_measure(struct encode_plan *plan, const ProtobufCMessage *message);

/* Writes plan->bytes bytes and frees what the plan holds. */
void encode_write(struct encode_plan *plan, const ProtobufCMessage *message, uint8_t *out);

#endif
