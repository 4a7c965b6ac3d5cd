/* What protobuf-c does not look at when it decodes: whether text is text, and how deep messages
 * nest. */
#ifndef PRISM_RPC_WIRE_CHECK_H
#define PRISM_RPC_WIRE_CHECK_H

#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>

/* Messages inside messages; the same bound as other protobuf runtimes have. */
enum { WIRE_MAX_DEPTH = 100 };

enum wire_fault {
    WIRE_OK,
    WIRE_MALFORMED, /* also what protobuf-c reads over: nothing behind it has been checked */
    WIRE_NOT_TEXT,  /* a string is not UTF-8, or holds NUL, at which C would cut it off */
    WIRE_TOO_DEEP,
};

/* Checks an encoded message before it is decoded. *field: name of the field whose text or depth is
 * at fault, static. thread: any. No allocation. */
enum wire_fault wire_check(const ProtobufCMessageDescriptor *type, struct slice message,
                           const char **field);

#endif
