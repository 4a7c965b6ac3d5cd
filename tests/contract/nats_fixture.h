/* Two stores of a NATS backend on one server, each with an instance on a worker that has a thread
 * of its own. */
#ifndef PRISM_TESTS_CONTRACT_NATS_FIXTURE_H
#define PRISM_TESTS_CONTRACT_NATS_FIXTURE_H

#include "backends/nats/nats.h"
#include "tests/contract/message_contract.h"
#include "tests/contract/nats_server.h"

struct nats_fixture {
    struct message_fixture messages; /* first */
    struct pool *pool;
    struct backend_store *store, *second;
};

/* A store alone. pairs: name, text of settings that differ from their defaults; ends with NULL.
 * NULL: refused, *err says why. */
struct backend_store *nats_fixture_store(const struct backend_type *type, const char *const *pairs,
                                         struct err *err);

/* Does not wait for a connection. */
struct nats_fixture *nats_fixture_open(const struct backend_type *type, const char *const *pairs);
int nats_fixture_close(void **state); /* a cmocka teardown */

/* Waits for the first store's state; fails the test after KV_PATIENCE_MS. */
void nats_until(struct nats_fixture *fixture, enum backend_state state);

#endif
