/* Connecting to the backends of a configuration, as prismd would, to see whether it could. */
#ifndef PRISM_CLIENT_PRISMCTL_PROBE_H
#define PRISM_CLIENT_PRISMCTL_PROBE_H

#include "src/config/config.h"

/* Opens each slot's backend and makes a real round trip, each within timeout_ms. Adds a fault for
 * each that fails, and for each interface that the connected server turns out to lack although the
 * slot requires it. thread: any, blocks. */
void probe_backends(const struct config *config, uint32_t timeout_ms, struct faults *faults);

#endif
