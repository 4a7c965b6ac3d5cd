#include "tests/contract/kv_contract.h"

#include <stdio.h>

int kv_group(const char *name, const char *interface, const struct CMUnitTest *tests, size_t n,
             CMFixtureFunction setup, CMFixtureFunction teardown)
{
    char title[128];

    snprintf(title, sizeof title, "%s %s", name, interface);
    return _cmocka_run_group_tests(title, tests, n, setup, teardown);
}

int kv_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    return kv_basic_contract(name, setup, teardown) + kv_ttl_contract(name, setup, teardown) +
           kv_scan_contract(name, setup, teardown) + kv_batch_contract(name, setup, teardown) +
           kv_txn_contract(name, setup, teardown) + kv_cas_contract(name, setup, teardown);
}
