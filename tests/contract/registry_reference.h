/* The meaning of filters once more, as plainly as it can be written, and from another hand than
 * src/filter/match.c: walks the tree that the client gave, compares values by their types. For
 * tests. */
#ifndef PRISM_TESTS_CONTRACT_REGISTRY_REFERENCE_H
#define PRISM_TESTS_CONTRACT_REGISTRY_REFERENCE_H

#include "src/filter/filter.h"

/* The tree as it is before filter_compile. */
bool reference_match(const struct filter_node *node, const struct filter_subject *subject);

#endif
