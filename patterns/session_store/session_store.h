/* The Session Store pattern: sessions with an owner, a sliding expiry and named values. */
#ifndef PRISM_PATTERNS_SESSION_STORE_SESSION_STORE_H
#define PRISM_PATTERNS_SESSION_STORE_SESSION_STORE_H

#include "patterns/pattern.h"

extern const struct pattern_type pattern_session_store;

#endif
