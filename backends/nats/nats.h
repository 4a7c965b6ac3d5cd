/* Core NATS: topics, at most once; and JetStream: streams. docs/backends/nats.md and jetstream.md
 * tell users what that means. */
#ifndef PRISM_BACKENDS_NATS_NATS_H
#define PRISM_BACKENDS_NATS_NATS_H

#include "backends/backend.h"

extern const struct backend_type backend_nats, backend_jetstream;

#endif
