/* The consumer pattern: messages of topics, dealt out to members of groups. Semantics:
 * docs/patterns/consumer.md. */
#ifndef PRISM_PATTERNS_CONSUMER_CONSUMER_H
#define PRISM_PATTERNS_CONSUMER_CONSUMER_H

#include "patterns/pattern.h"

extern const struct pattern_type pattern_consumer;

#endif
