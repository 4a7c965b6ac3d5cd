/* How many descriptors the process may have, and how many of them client connections may take. */
#ifndef PRISM_DESCRIPTORS_H
#define PRISM_DESCRIPTORS_H

#include "src/config/config.h"

#include <stdint.h>

struct descriptor_shares {
    uint32_t connections, connections_per_peer;
};

/* Raises the soft limit to the hard one (nothing in prismd uses select), then splits the limit: a
 * reserve for backends, files and the admin port, the rest for clients. A limits.max_connections
 * beyond the rest is lowered, with a warning in the log. thread: main, before others start. */
struct descriptor_shares descriptors_share(const struct config *config);

#endif
