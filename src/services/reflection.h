/* Server reflection, v1 and v1alpha, over the descriptors that the build embeds: grpcurl needs no
 * file. */
#ifndef PRISM_SERVICES_REFLECTION_H
#define PRISM_SERVICES_REFLECTION_H

#include "src/rpc/call.h"

#include <stddef.h>

struct reflection;

/* Bound under no namespace name; the instance of every worker is the one struct reflection, which
 * never changes. */
extern const struct service reflection_v1_service;
extern const struct service reflection_v1alpha_service;

/* Lists these services (borrowed). */
struct reflection *reflection_new(const struct service *const *services, size_t n);
void reflection_destroy(struct reflection *reflection); /* NULL is accepted */

#endif
