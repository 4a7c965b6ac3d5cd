/* grpc.health.v1: Check, Watch, List. Names: "" (the whole server), each pattern's service, each
 * slot ("<pattern>/<namespace>/<slot>"). */
#ifndef PRISM_SERVICES_HEALTH_H
#define PRISM_SERVICES_HEALTH_H

#include "src/rpc/call.h"

#include <stdbool.h>
#include <stdint.h>

struct health;

/* Bound under no namespace name; the instance of every worker is the one struct health. */
extern const struct service health_service;

/* For struct rpc_instance: Check and List are look-ups, also when the workers' lanes are full. */
extern const uint32_t health_inline_bytes[];

struct health *health_new(void);
void health_destroy(struct health *health); /* no call is in flight; NULL is accepted */

/* Adds a name or changes its status; those who watch it are told. thread: any. */
void health_set(struct health *health, const char *name, bool serving);

/* Every name is NOT_SERVING from now on, whatever health_set says: the server drains. thread: any.
 */
void health_shutdown(struct health *health);

#endif
