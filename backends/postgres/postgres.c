/* The postgres backend: its descriptor. */
#include "backends/postgres/postgres.h"

#include "backends/postgres/postgres_burden.h"
#include "backends/postgres/postgres_kv.h"
#include "backends/postgres/postgres_queue.h"
#include "backends/postgres/postgres_registry.h"
#include "backends/postgres/postgres_session.h"

const struct backend_type backend_postgres = {
    .name = "postgres",
    .doc = "PostgreSQL 13 or later",
    .interfaces = {.kv_basic = &postgres_kv_basic,
                   .kv_scan = &postgres_kv_scan,
                   .kv_batch = &postgres_kv_batch,
                   .kv_txn = &postgres_kv_txn,
                   .kv_cas = &postgres_kv_cas,
                   .queue = &postgres_queue,
                   .registry = &postgres_registry,
                   .session = &postgres_session},
    .emulations = {.kv_ttl = &postgres_kv_ttl},
    .limits = {.key_bytes = POSTGRES_KEY_BYTES,
               .value_bytes = POSTGRES_VALUE_BYTES,
               .pipeline = 128},
    .settings = postgres_settings,
    .check = postgres_settings_check,
    .descriptors = postgres_descriptors,
    .store_open = postgres_store_open,
    .store_close = postgres_store_close,
    .reload = postgres_store_reload,
    .open = postgres_open,
    .close = postgres_close,
    .probe = postgres_probe,
    .render = postgres_burden_render,
};
