/* Core NATS: topics, at most once. docs/backends/nats.md tells users what that means. */
#ifndef PRISM_BACKENDS_NATS_NATS_H
#define PRISM_BACKENDS_NATS_NATS_H

#include "backends/backend.h"

extern const struct backend_type backend_nats;

#endif
