/* The key-value pattern: one service over whatever store is bound to its slot, and the four
 * services that it replaces, on the same core. Semantics: docs/patterns/keyvalue.md. */
#ifndef PRISM_PATTERNS_KEYVALUE_KEYVALUE_H
#define PRISM_PATTERNS_KEYVALUE_KEYVALUE_H

#include "patterns/pattern.h"

extern const struct pattern_type pattern_keyvalue;

#endif
