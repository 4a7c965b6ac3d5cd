/* A pool for the tests that need threads. */
#ifndef PRISM_TESTS_UNIT_POOL_CREW_H
#define PRISM_TESTS_UNIT_POOL_CREW_H

#include "pool/worker.h"
#include "tests/unit/pool/fixture.h"

#include <dlfcn.h>

static inline struct pool *start(unsigned workers, uint32_t intake_depth)
{
    struct pool_options options = {.workers = workers, .intake_depth = intake_depth};
    struct pool *pool = NULL;

    assert_int_equal(pool_start(&pool, &options).code, ERR_OK);
    return pool;
}

/* For becomes(): has the worker nothing to do? */
static inline bool sleeps(void *arg)
{
    struct worker *worker = arg;

    return atomic_load(&worker->sleeping);
}

/* What libuv itself would do, for a test that stands between the pool and libuv. */
static inline void *libuv(const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);

    assert_non_null(fn);
    return fn;
}

#endif
