/* Filters as the protocol has them: Filter.field, Filter.composite and Filter.json, nested at will
 * (a JSON filter may stand within a composite one). */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_FILTER_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_FILTER_H

#include "prism/patterns/multicast_registry/multicast_registry_pattern.pb-c.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/filter/filter.h"

/* Compiles. message NULL: *out is NULL, which matches every identity. The filter lives in the arena
 * and refers to the message. ERR_INVALID_ARGUMENT about "filter" or a part of it. */
struct err multicast_filter(struct arena *arena,
                            const Prism__Patterns__MulticastRegistry__Filter *message,
                            const struct filter_limits *limits, const struct filter **out);

#endif
