/* The dynamodb backend: items of a table. docs/backends/dynamodb.md */
#ifndef PRISM_BACKENDS_DYNAMODB_DYNAMODB_H
#define PRISM_BACKENDS_DYNAMODB_DYNAMODB_H

#include "backends/backend.h"

extern const struct backend_type backend_dynamodb;

#endif
