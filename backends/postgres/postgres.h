/* The postgres backend: PostgreSQL 13 or later by libpq, see docs/backends/postgres.md. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_H

#include "backends/backend.h"

extern const struct backend_type backend_postgres;

#endif
