/* An instance of the redis backend on a worker with a thread of its own, and operations that
 * overlap: the test starts them, does something to the server, and looks at the outcomes when it
 * chooses. */
#ifndef PRISM_TESTS_CONTRACT_REDIS_FIXTURE_H
#define PRISM_TESTS_CONTRACT_REDIS_FIXTURE_H

#include "backends/redis/redis.h"
#include "tests/contract/kv_contract.h"
#include "tests/contract/redis_server.h"

/* name, text pairs of settings that differ from their defaults; ends with NULL. */
typedef const char *const redis_settings[];

struct redis_fixture {
    struct kv_fixture kv; /* first */
    struct pool *pool;
    struct backend_store *store;
};

/* A store alone. The result of store_open; values of settings are checked by type as the
 * configuration would. */
struct err redis_fixture_store(struct backend_store **store, const char *namespace_name,
                               redis_settings settings);

/* The same for another type of this folder. */
struct err redis_fixture_store_of(const struct backend_type *type, struct backend_store **store,
                                  const char *namespace_name, redis_settings settings);

/* Starts the worker and opens an instance. Does not wait for a connection. address: NULL = none
 * given here. */
void redis_fixture_open(struct redis_fixture *fixture, const char *namespace_name,
                        redis_settings settings);
void redis_fixture_open_as(struct redis_fixture *fixture, const struct backend_type *type,
                           const char *namespace_name, redis_settings settings);
void redis_fixture_close(struct redis_fixture *fixture);

/* Waits for the store's state; fails the test after KV_PATIENCE_MS. */
void redis_until(struct redis_fixture *fixture, enum backend_state state);

/* ---- fixtures of contract suites: cmocka's set-up and tear-down ---- */

/* Two instances of namespace "a" and one of another with nearly that name. */
struct redis_pair {
    struct redis_fixture redis; /* first */
    struct backend_store *other, *peer_store;
    struct backend *peer;
};

int redis_pair_open(void **state, redis_settings settings);
/* As a user who may use no commands but these ("+get +set ..") on keys of Prism's. */
int redis_pair_open_as(void **state, struct redis_server *server, const char *commands);
struct backend *redis_pair_peer(struct kv_fixture *kv);
int redis_pair_close(void **state);

/* One instance of namespace "a" and one of another. */
struct redis_neighbours {
    struct redis_fixture base; /* first */
    struct backend_store *other;
};

int redis_neighbours_open(void **state, const struct backend_type *type, const char *other,
                          redis_settings settings);
int redis_neighbours_close(void **state);

/* One instance of namespace "default"; a redis_fixture. */
int redis_default_open_as(void **state, const struct backend_type *type, redis_settings settings);
int redis_default_free(void **state);
/* The same on an emptied server. Whatever the test sets
 * as maxmemory is taken back. */
int redis_default_open(void **state, struct redis_server *server);
int redis_default_close(void **state, struct redis_server *server);

/* Operations under way. */
struct redis_flight {
    struct job job;
    struct op_group group;
    struct arena arena;
    struct redis_fixture *fixture;
    kv_start_fn *start;
    struct op **ops;
    size_t n;
    uint64_t deadline_ns;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t done; /* under lock */
    bool idle;   /* under lock */
};

/* Starts n operations on the worker, one after the other in one job. deadline_ms: 0 = none. */
void redis_launch(struct redis_flight *flight, struct redis_fixture *fixture, kv_start_fn *start,
                  struct op **ops, size_t n, unsigned deadline_ms);

/* Returns when all are done; aborts after KV_PATIENCE_MS. */
void redis_land(struct redis_flight *flight);

/* How many are done; any thread. */
size_t redis_landed(struct redis_flight *flight);

void redis_flight_clear(struct redis_flight *flight);

/* One put within the usual patience; its outcome. */
struct err redis_put(struct redis_fixture *fixture, const char *key, const char *value);

/* n puts at once, then n gets: every answer finds its call. */
void redis_many_at_once(struct redis_fixture *fixture, size_t n);

#endif
