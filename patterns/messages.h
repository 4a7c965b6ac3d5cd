/* Message types that all patterns share by names that can be read, and the ways between
 * protobuf-c's types and ours. */
#ifndef PRISM_PATTERNS_MESSAGES_H
#define PRISM_PATTERNS_MESSAGES_H

#include "prism/patterns/schemas/messaging.pb-c.h"
#include "prism/patterns/schemas/slot_schema.pb-c.h"
#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

typedef Prism__Patterns__Schemas__Acknowledgement schema_acknowledgement;
typedef Prism__Patterns__Schemas__Atomicity schema_atomicity;
typedef Prism__Patterns__Schemas__Header schema_header;
typedef Prism__Patterns__Schemas__Implementation schema_implementation;
typedef Prism__Patterns__Schemas__OperationCapability schema_operation_capability;
typedef Prism__Patterns__Schemas__OperationLimits schema_operation_limits;
typedef Prism__Patterns__Schemas__Ordering schema_ordering;
typedef Prism__Patterns__Schemas__UnavailableReason schema_unavailable_reason;

static inline ProtobufCBinaryData pb_bytes(struct slice slice)
{
    return (ProtobufCBinaryData){.len = slice.len, .data = (uint8_t *)(uintptr_t)slice.data};
}

static inline struct slice pb_slice(ProtobufCBinaryData bytes)
{
    return slice_of(bytes.data, bytes.len);
}

/* protobuf-c's strings are not const, but packing only reads them. */
static inline char *pb_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

#endif
