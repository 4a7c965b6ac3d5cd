/* Redis through hiredis, asynchronous, one connection for each worker. docs/backends/redis.md says
 * what operators and callers may rely on; redis_priv.h is the map of the files. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_H
#define PRISM_BACKENDS_REDIS_REDIS_H

#include "backends/backend.h"

extern const struct backend_type backend_redis;

#endif
