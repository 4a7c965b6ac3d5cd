/* One suite for everything that offers a key-value interface: what backends/kv.h promises, and
 * nothing else. A backend gets its tests by a fixture: a worker, an instance on it, and a way to
 * let time pass.
 *
 *   static int open_fixture(void **state)     cmocka group setup: a struct kv_fixture, filled in,
 *                                             kv_fixture_init
 *   static int close_fixture(void **state)    kv_fixture_clear; close the instances, the store, the
 *                                             worker
 *
 *   int main(void)
 *   {
 *       return kv_contract("redis", open_fixture, close_fixture);
 *   }
 *
 * The fixture is made anew for each interface's group. Tests of interfaces that the instance does
 * not offer are skipped. Each test has keys of its own, so the namespace may hold others. The calls
 * at the foot serve a backend's own tests as well. */
#ifndef PRISM_TESTS_CONTRACT_KV_CONTRACT_H
#define PRISM_TESTS_CONTRACT_KV_CONTRACT_H

#include "backends/kv.h"
#include "pool/worker.h"
#include "src/base/arena.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* last: it expects some of the above */

enum { KV_PATIENCE_MS = 10000 }; /* the longest that any operation or condition may take */

struct kv_fixture {
    /* ---- filled in by the backend's test ---- */
    struct worker *worker; /* home of the instances */
    bool threaded; /* the worker has a thread of its own (a pool's); else the test's thread drives
                      it */
    struct backend *backend;   /* under test */
    struct backend *elsewhere; /* same server, another namespace; NULL: isolation is not tested */
    struct backend *stranger;  /* the same namespace, through a store of its own, as from another
                                  process; NULL: what others write is not tested */
    /* Lets ms of the backend's time pass; NULL: time is real. Not for synchronisation: see
     * KV_UNTIL. */
    void (*pass_ms)(struct kv_fixture *fixture, unsigned ms);
    void *own;        /* of the backend's test */
    unsigned portion; /* operations that kv_fill, kv_empty and session_run begin at once, for
                         servers that take longer than others, a multiple of 4; 0: all */
    unsigned divisor; /* of the numbers of sessions in tests of many, for the same; 0: 1 */

    /* ---- private ---- */
    struct arena arena; /* outputs of all operations, until the next test */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool idle;         /* the operations under way are done */
    const char *fault; /* a broken promise seen on the worker; static */
};

void kv_fixture_init(struct kv_fixture *fixture); /* once the first part is filled in */
void kv_fixture_clear(struct kv_fixture *fixture);

/* Runs all groups. Returns the number of failed tests. */
int kv_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

/* The groups, one file each. */
int kv_basic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int kv_ttl_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int kv_scan_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int kv_batch_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int kv_txn_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int kv_cas_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

/* ---- running operations: from the test's thread; they start on the worker ---- */

typedef void kv_start_fn(struct backend *backend, struct op *op);

struct kv_step {
    kv_start_fn *start;
    struct op *op; /* of the request struct that `start` expects, zeroed but for its inputs */
};

/* Starts all of them at once, in order, and returns when all are done; op->err tells how each went.
 * Fails the test if that takes longer than KV_PATIENCE_MS, or if done() comes inside the method or
 * twice. */
void kv_run(struct kv_fixture *fixture, struct backend *backend, const struct kv_step *steps,
            size_t n);

/* One operation on fixture->backend. */
struct err kv_do(struct kv_fixture *fixture, kv_start_fn *start, struct op *op);

kv_start_fn kv_start_put, kv_start_get, kv_start_del, kv_start_exists;
kv_start_fn kv_start_expire, kv_start_ttl_get, kv_start_persist;
kv_start_fn kv_start_put_many, kv_start_get_many, kv_start_del_many;
kv_start_fn kv_start_txn_put, kv_start_txn_del;
kv_start_fn kv_start_page, kv_start_count, kv_start_put_if;

/* Runs `job` on the worker and returns when it has run. */
void kv_on_worker(struct kv_fixture *fixture, void (*run)(void *arg), void *arg);

/* Instance calls for fixtures: on the worker; close returns once closed() has come. */
struct backend *kv_open(struct kv_fixture *fixture, struct backend_store *store);
void kv_close(struct kv_fixture *fixture, struct backend *backend);

/* ---- one call each, on fixture->backend; any error but the one returned fails the test ---- */

void kv_put_ok(struct kv_fixture *fixture, const char *key, const char *value, uint64_t ttl_ms);
bool kv_del_ok(struct kv_fixture *fixture, const char *key);    /* existed */
bool kv_exists_ok(struct kv_fixture *fixture, const char *key); /* found */
/* The value, NUL-terminated, valid until the next test; NULL: not found. */
const char *kv_get_ok(struct kv_fixture *fixture, const char *key);

/* prefix and five digits; valid until the next test. */
char *kv_key(struct kv_fixture *fixture, const char *prefix, unsigned number);

/* Writes, or removes, keys of the numbers [from, to), all at once. The value of a key is the key.
 */
void kv_fill(struct kv_fixture *fixture, const char *prefix, unsigned from, unsigned to);
void kv_empty(struct kv_fixture *fixture, const char *prefix, unsigned from, unsigned to);

/* Fails the test unless the outcome is this code, with a text and, if subject is not NULL, about
 * that. */
void kv_expect(struct err err, enum err_code code, const char *subject);

/* ---- time ---- */

void kv_pass(struct kv_fixture *fixture, unsigned ms);
uint64_t kv_clock_ms(void);

/* Waits until the condition holds, looking at it now and then; fails the test after KV_PATIENCE_MS.
 */
#define KV_UNTIL(fixture, condition)                                                               \
    do {                                                                                           \
        uint64_t give_up_ms_ = kv_clock_ms() + KV_PATIENCE_MS;                                     \
        while (!(condition)) {                                                                     \
            assert_true(kv_clock_ms() < give_up_ms_);                                              \
            kv_pass((fixture), 5);                                                                 \
        }                                                                                          \
    } while (0)

/* For groups: cmocka's per-test teardown, frees the outputs. */
int kv_forget(void **state);

/* One group, "<name> <interface>". Returns the number of failed tests. */
int kv_group(const char *name, const char *interface, const struct CMUnitTest *tests, size_t n,
             CMFixtureFunction setup, CMFixtureFunction teardown);

#define KV_TEST(function) cmocka_unit_test_teardown(function, kv_forget)

/* What the group of kv_batch is about: batches, or windows of single operations, whose promises to
 * the caller are the same. NULL: neither is offered. */
const struct kv_batch *kv_many(const struct backend *backend);

/* Skips the test unless the instance offers the interface. */
void kv_need(struct kv_fixture *fixture, enum backend_interface interface);

#endif
