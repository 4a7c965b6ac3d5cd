/* Instances of the postgres backend on a worker of their own, against the server that
 * tests/rig/with_servers.py has started. */
#ifndef PRISM_TESTS_CONTRACT_POSTGRES_FIXTURE_H
#define PRISM_TESTS_CONTRACT_POSTGRES_FIXTURE_H

#include "backends/postgres/postgres.h"
#include "tests/contract/redis_fixture.h" /* serves every backend type */

#include <libpq-fe.h>

/* HOST:PORT of the server; NULL: none was started. */
const char *postgres_fixture_address(void);

/* Opens a namespace with these settings beside address, username and database. */
void postgres_fixture_open(struct redis_fixture *fixture, const char *namespace_name,
                           redis_settings settings);

/* A store of that namespace with these settings; by default in the schema prism. */
struct backend_store *postgres_fixture_store(const char *namespace_name, redis_settings settings);

/* For suites: two namespaces in one schema, ready (struct redis_neighbours). */
int postgres_fixture_setup(void **state);
int postgres_fixture_setup_in(void **state, const char *schema);

/* A connection of the test's own, as superuser; PQfinish() ends it. */
PGconn *postgres_fixture_connect(void);

/* Runs SQL beside the backend; the first column of the first row, or "". Valid until the next
 * call. */
const char *postgres_fixture_sql(const char *sql);

#endif
