/* The producer pattern: messages into whatever topic, stream or queue is bound to its slot.
 * Semantics: docs/patterns/producer.md. */
#ifndef PRISM_PATTERNS_PRODUCER_PRODUCER_H
#define PRISM_PATTERNS_PRODUCER_PRODUCER_H

#include "patterns/pattern.h"

extern const struct pattern_type pattern_producer;

#endif
