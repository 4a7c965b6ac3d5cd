/* What the contracts of kv_batch and kv_txn share: building requests of many items. */
#ifndef PRISM_TESTS_CONTRACT_KV_MANY_H
#define PRISM_TESTS_CONTRACT_KV_MANY_H

#include "tests/contract/kv_contract.h"

/* n items with keys prefix 00000.., values = keys; in the fixture's arena. */
struct kv_put_many kv_put_items(struct kv_fixture *fixture, const char *prefix, size_t n);
struct kv_get_many kv_get_items(struct kv_fixture *fixture, const char *prefix, size_t n);
struct kv_del_many kv_del_items(struct kv_fixture *fixture, const char *prefix, size_t n);

/* The stranger gives prefix 00000.. of kv_fill other values, of so many bytes each. */
void kv_swell(struct kv_fixture *fixture, const char *prefix, unsigned n, size_t bytes);

#endif
