/* Identifiers that tell the group of their session, for a suite that names sessions as it likes. */
#ifndef PRISM_TESTS_CONTRACT_SESSION_GROUPS_H
#define PRISM_TESTS_CONTRACT_SESSION_GROUPS_H

#include "backends/session.h"

/* From now on, each identifier that goes to this instance has the group of its session behind it,
 * and each that comes back has it taken off. For instances of one worker, which offer the same. */
void session_groups(struct backend *backend);

#endif
