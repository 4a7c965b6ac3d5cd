/* Checks of what clients send, made before the first effect of a call. Texts are static or in
 * `arena`. thread: any. */
#ifndef PRISM_PATTERNS_CHECK_H
#define PRISM_PATTERNS_CHECK_H

#include "backends/backend.h"
#include "backends/message.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of one value or payload that surely fit a message of max_message_bytes, beside the other
 * fields of the request that carries it in, or of the answer that carries it out. */
uint64_t check_fitting(uint32_t max_message_bytes);

/* The same of a message that comes out with more than it went in with: its topic, identifier and
 * place, or, as a dead letter, what it died of. */
uint64_t check_fitting_message(uint32_t max_message_bytes);

/* Bytes of the longest message that the sink takes and the server behind it, which may be another
 * one the next time. 0: bounded by the sink's frame alone. */
uint64_t check_most(const struct message_sink *sink, const struct backend *backend);

/* INVALID_ARGUMENT about `what` when there are more than max bytes; 0 = no bound. */
struct err check_length(struct slice bytes, uint64_t max, struct arena *arena, const char *what);

/* INVALID_ARGUMENT about `subject` when a batch has more than max items. */
struct err check_items(size_t n, uint32_t max, struct arena *arena, const char *subject);

/* The same fault, told as one of item i of a request: "requests[3].key"; where the list consists of
 * what is at fault itself (subject NULL): "keys[3]". */
struct err check_at_item(struct err err, struct arena *arena, const char *list, size_t i);

/* The protocol has this number. protobuf hands over whatever a client sends in an enumeration. */
bool check_is_known(const ProtobufCEnumDescriptor *type, int number);

#endif
