/* The MulticastRegistry pattern. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_MULTICAST_REGISTRY_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_MULTICAST_REGISTRY_H

#include "patterns/pattern.h"

extern const struct pattern_type pattern_multicast_registry;

#endif
