#include "tests/contract/kv_contract.h"

int kv_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    return kv_basic_contract(name, setup, teardown) + kv_ttl_contract(name, setup, teardown) +
           kv_scan_contract(name, setup, teardown) + kv_batch_contract(name, setup, teardown) +
           kv_txn_contract(name, setup, teardown) + kv_cas_contract(name, setup, teardown);
}
