/* One suite for everything that offers a session store: what backends/session.h promises. A backend
 * gets its tests by the fixture of kv_contract.h:
 *
 *   int main(void)
 *   {
 *       return session_contract("redis", open_fixture, close_fixture, peer);
 *   }
 *
 * S1 to S11 in names of tests are the kinds of fault that users of other session stores have met.
 * The calls below serve a backend's own tests as well. */
#ifndef PRISM_TESTS_CONTRACT_SESSION_CONTRACT_H
#define PRISM_TESTS_CONTRACT_SESSION_CONTRACT_H

#include "backends/session.h"
#include "tests/contract/kv_contract.h"

/* Another instance on the same data, as another process would have it, on the same worker. */
typedef struct backend *session_peer_fn(struct kv_fixture *fixture);

/* Returns the number of failed tests. */
int session_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                     session_peer_fn *peer);

/* The groups, one file each. */
int session_values_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                            session_peer_fn *peer);
int session_life_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                          session_peer_fn *peer);
int session_many_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                          session_peer_fn *peer);

kv_start_fn session_start_create, session_start_get, session_start_patch, session_start_rotate;
kv_start_fn session_start_extend, session_start_remove, session_start_remove_user;
kv_start_fn session_start_page;

/* So many, or as many as the fixture's server is made to hold. */
unsigned session_many(const struct kv_fixture *fixture, unsigned n);

/* Tests begin without sessions, and end so. */
int session_empty(void **state);
int session_tear_down(void **state);

enum { SESSION_TEST_BYTES = 1 << 20, SESSION_LONG_MS = 600000 };

/* 10 %, at most a minute. */
extern const struct session_use session_test_use;

/* ---- requests ---- */

struct session_create session_new(const char *id, const char *user, uint64_t ttl_ms);
struct session_patch session_set(const char *id, const struct session_value *set, size_t n);
struct session_value session_pair(const char *name, const char *value);

/* ---- one call each; outputs live until the next test ---- */

/* Any outcome, on the given instance. */
struct err session_do(struct kv_fixture *fixture, struct backend *backend, kv_start_fn *start,
                      struct op *op);

/* Steps of which each is known to be quick: all at once, or in the fixture's portions. */
void session_run(struct kv_fixture *fixture, const struct kv_step *steps, size_t n);

/* Fails the test unless it is created. */
void session_make(struct kv_fixture *fixture, const char *id, const char *user, uint64_t ttl_ms);

/* A read that is no use; NULL: absent. */
const struct session_get *session_look(struct kv_fixture *fixture, struct backend *backend,
                                       const char *id);

/* The value, NUL-terminated; NULL: the session or the value is absent. */
const char *session_value(struct kv_fixture *fixture, const char *id, const char *name);

/* Sets one value; any outcome. */
struct err session_put(struct kv_fixture *fixture, const char *id, const char *name,
                       const char *value);
bool session_end(struct kv_fixture *fixture, const char *id); /* existed */

/* All pages, of so many items; the identifiers joined by spaces, in their order. */
const char *session_ids(struct kv_fixture *fixture, struct backend *backend, const char *user,
                        const char *region, uint32_t max_items);

#endif
