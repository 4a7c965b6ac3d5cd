/* One suite for everything that offers an identity registry: what backends/registry.h promises, and
 * that its filters give the answers that all others give. A backend gets its tests by the fixture
 * of kv_contract.h:
 *
 *   int main(void)
 *   {
 *       return registry_contract("redis", open_fixture, close_fixture, peer);
 *   }
 *
 * The calls below serve a backend's own tests as well. */
#ifndef PRISM_TESTS_CONTRACT_REGISTRY_CONTRACT_H
#define PRISM_TESTS_CONTRACT_REGISTRY_CONTRACT_H

#include "backends/registry.h"
#include "tests/contract/kv_contract.h"

/* Another instance on the same data, as another process would have it, on the same worker. */
typedef struct backend *registry_peer_fn(struct kv_fixture *fixture);

/* Returns the number of failed tests. */
int registry_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                      registry_peer_fn *peer);

/* The groups, one file each. peer: NULL, or set for the group. */
int registry_entries_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                              registry_peer_fn *peer);
int registry_life_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int registry_pages_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                            registry_peer_fn *peer);
int registry_filters_contract(const char *name, CMFixtureFunction setup,
                              CMFixtureFunction teardown);

kv_start_fn registry_start_put, registry_start_patch, registry_start_beat, registry_start_remove;
kv_start_fn registry_start_get, registry_start_page, registry_start_count;

/* Each test begins with an empty registry. */
int registry_empty(void **state);

/* ---- one call each, on the given instance; outputs live until the next test ---- */

/* From JSON; fails the test if it is none. */
struct slice registry_document(struct kv_fixture *fixture, const char *json);

/* An item; json NULL: no metadata. */
struct registry_put_item registry_item(struct kv_fixture *fixture, const char *identity,
                                       const char *json, uint64_t ttl_ms);

/* Any outcome. */
struct err registry_put_one(struct kv_fixture *fixture, struct backend *backend,
                            struct registry_put_item *item);

/* Registers, in place of whatever is there; fails the test otherwise. Returns the generation. */
uint64_t registry_put_ok(struct kv_fixture *fixture, const char *identity, const char *json,
                         uint64_t ttl_ms);

/* NULL: absent. */
const struct registry_entry *registry_find(struct kv_fixture *fixture, struct backend *backend,
                                           const char *identity);
struct err registry_beat_one(struct kv_fixture *fixture, const char *identity, uint64_t generation,
                             uint64_t ttl_ms);
struct err registry_remove_one(struct kv_fixture *fixture, struct backend *backend,
                               const char *identity, uint64_t generation, bool *existed);

/* Compiled, in the fixture's arena; NULL text: NULL. */
const struct filter *registry_filter(struct kv_fixture *fixture, const char *json);

/* All pages, one after the other, of so many items; the names joined by spaces. */
const char *registry_names(struct kv_fixture *fixture, struct backend *backend,
                           const struct filter *filter, uint32_t max_items);

uint64_t registry_count_of(struct kv_fixture *fixture, struct backend *backend,
                           const struct filter *filter);

#endif
