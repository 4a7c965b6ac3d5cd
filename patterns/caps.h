/* What every GetCapabilities is made of. A pattern describes its operations by rows of its own
 * plan; these functions turn them into messages.
 *
 * thread: home worker of the pattern. Messages live in `arena`. */
#ifndef PRISM_PATTERNS_CAPS_H
#define PRISM_PATTERNS_CAPS_H

#include "backends/backend.h"
#include "patterns/messages.h"
#include "patterns/need.h"
#include "patterns/pattern.h"
#include "src/base/arena.h"

#include <stddef.h>
#include <stdint.h>

struct caps_operation {
    const char *name, *variant; /* variant NULL: the plain form */
    enum pattern_how how;
    const struct need *unmet; /* PATTERN_UNAVAILABLE; the rest is not read then */
    const char *calls;        /* to the backend, as a formula for clients */
    schema_atomicity atomicity;
    schema_ordering ordering;
    schema_acknowledgement acknowledgement; /* ..UNSPECIFIED for what does not write */
    enum backend_eviction eviction;         /* UNKNOWN for what does not write */
    schema_operation_limits *limits;        /* NULL: none */
};

schema_operation_capability *caps_operation(const struct caps_operation *row, struct arena *arena);

/* What an acknowledged write has reached: as probed last. */
schema_acknowledgement caps_acknowledgement(const struct backend_store *store);
schema_acknowledgement caps_ack(enum backend_ack ack);

/* Names of the interfaces that an instance offers; their number in *n. */
char **caps_interfaces(const struct backend *backend, struct arena *arena, size_t *n);

/* No bound is set yet. */
schema_operation_limits *caps_limits(struct arena *arena);

/* Sets an optional field of the limits: CAPS_LIMIT(limits, max_items, MAX_ITEMS, 10). protobuf-c
 * makes a one-member oneof of each optional field; its case is the field's number. */
#define CAPS_LIMIT(limits, field, NAME, value)                                                     \
    ((limits)->_##field##_case = PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS___##NAME##_##NAME,     \
     (limits)->field = (value))

/* A number that differs when the packed messages differ, but for one chance in 2^63; never 0. Taken
 * while the field that it will fill is 0. */
int64_t caps_generation(const ProtobufCMessage *caps);

/* A message of the same type that is encoded to the same bytes, by one copy: encoding capabilities
 * costs twice as much as all the rest of a call. The first field of `caps` in wire order has to be
 * a message, a string or bytes, and to be present. */
ProtobufCMessage *caps_freeze(const ProtobufCMessage *caps, struct arena *arena);

#endif
