/* The trace that a call belongs to, in the form of W3C Trace Context.
 *
 * Who publishes a message in the course of a trace gives the trace to the call, in its metadata;
 * Prism hands it on with each message, so that whoever consumes the message can go on with it. */
#ifndef PRISM_PATTERNS_MESSAGING_TRACE_H
#define PRISM_PATTERNS_MESSAGING_TRACE_H

#include "src/base/slice.h"

struct call;

#define TRACE_HEADER "traceparent" /* of the metadata and of the message */

enum { TRACE_VALUE_BYTES = 128, TRACE_BYTES = 11 + TRACE_VALUE_BYTES }; /* at most; with the name */

/* Empty: the call has none, or what it has is not valid. Borrowed until the call has ended. */
struct slice trace_of(const struct call *call);

/* Is it version-trace-parent-flags, in lower case, neither number 0? Versions after 00 may go on
 * behind the flags. */
bool trace_is_valid(struct slice text);

#endif
