/* Namespaces at run time: a store for each slot, an instance of it on each worker, and the pattern
 * bound to them.
 *
 * In this order: slots_open, slots_vet (after the pool runs, before the listener), slots_close
 * (after the drain, while workers still run), slots_destroy (after the workers have stopped).
 *
 * thread: main, unless said otherwise. */
#ifndef PRISM_SLOTS_H
#define PRISM_SLOTS_H

#include "src/base/err.h"
#include "src/base/metrics.h"
#include "src/config/config.h"

#include <stdbool.h>
#include <stddef.h>

struct pool;
struct rpc_server;
struct slots;

/* Opens stores and instances, binds patterns, registers them with the server. */
struct err slots_open(struct slots **slots, const struct config *config, struct pool *pool,
                      struct rpc_server *server);

/* After slots_open: what the patterns find that refuses to start. The text lives as long as the
 * slots. */
struct err slots_vet(struct slots *slots);

/* Stops patterns and stores, unbinds, closes instances on their workers; waits for all. Stores may
 * send what they hold until deadline_ns (CLOCK_MONOTONIC). Returns how many messages they gave up;
 * each store's number is logged. A repeat does nothing. NULL is accepted. */
uint64_t slots_close(struct slots *slots, uint64_t deadline_ns);

/* After slots_close. Closes the stores. NULL is accepted. */
void slots_destroy(struct slots *slots);

/* Does any slot talk to a server outside this process? Only then is there something to probe. */
bool slots_remote(const struct slots *slots);

/* Starts one real round trip for each remote slot whose last probe has returned. */
void slots_probe(struct slots *slots);

/* thread: any. Texts are static; why is NULL when serving. */
struct slot_status {
    const char *namespace_name, *pattern, *service, *slot, *backend;
    bool required, serving;
    const char *place; /* of its server; NULL: here, or not to be shown */
    const char *why;
    const char *restriction; /* of one that serves, but not all of what it should; NULL: none */
};

size_t slots_count(const struct slots *slots);
struct slot_status slots_status(const struct slots *slots, size_t i);

/* Where slot i is configured: config->slots[at]. */
struct slot_place {
    struct backend_store *store;
    const struct config_namespace *config;
    size_t at;
};

struct slot_place slots_place(const struct slots *slots, size_t i);

void slots_render(void *slots, struct metrics_page *page); /* metrics_render_fn; thread: any */

#endif
