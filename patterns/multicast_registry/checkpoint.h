/* A multicast that is remembered, while it lasts: its lease, and how far it has come. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_CHECKPOINT_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_CHECKPOINT_H

#include "patterns/multicast_registry/sending.h"

enum { LEASE_MS = 15000 /* of a claim, from when it is written */ };

/* The message_id is claimed: from now on the lease is held. */
void checkpoint_begin(struct sending *sending);

/* The walk is over. True: a write is under way, and remember_ended comes behind it. */
bool checkpoint_end(struct sending *sending);

/* A lane wants its next page. True: it waits until walk_go_on, because what has been sent so far is
 * written down first. */
bool checkpoint_holds(struct sending *sending);

#endif
