/* Dead rows and old transactions, for the probe and for /metrics. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_BURDEN_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_BURDEN_H

#include "backends/postgres/postgres_call.h"

/* thread: home. What it learns is in the store when the server has answered. */
void postgres_burden_ask(struct postgres *postgres);

/* As registry.estimate. */
uint64_t postgres_burden_identities(struct backend_store *base);

/* As backend_type.render. */
void postgres_burden_render(struct backend_store *const *stores, size_t n,
                            struct metrics_page *page);

#endif
