/* The operations of an answer to GetCapabilities, as plain C. */
#ifndef PRISM_CLIENT_OPERATIONS_H
#define PRISM_CLIENT_OPERATIONS_H

#include "prism/operation.h"

#include "prism/patterns/schemas/slot_schema.pb-c.h"

/* Their texts are the answer's. */
const struct prism_operation *operations_from(
    Prism__Patterns__Schemas__OperationCapability *const *wire, size_t n);
void operations_free(const struct prism_operation *operations);

#endif
