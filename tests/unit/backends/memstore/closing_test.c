/* Stores come and go on the workers of a real pool, while keys wait to expire and the sweeper is
 * being woken: every instance is closed once, whatever the order, and nothing is left behind. */
#include "tests/unit/backends/memstore/memstore_rig.h"

#include <semaphore.h>

enum { WORKERS = 3, ROUNDS = 150 };

struct seat {
    struct job job;
    struct memstore *store;
    struct worker *worker;
    struct backend *backend;
    sem_t *done;
    unsigned closed;
};

static void open_here(struct job *job)
{
    struct seat *seat = CONTAINER_OF(job, struct seat, job);

    seat->backend = backend_memstore.open(&seat->store->base, seat->worker);
    sem_post(seat->done);
}

/* The first deadline of the store comes from any of the workers, or, in closing, from nobody. */
static void write_here(struct job *job)
{
    struct seat *seat = CONTAINER_OF(job, struct seat, job);
    struct memstore_write write = {.key = slice_of(&seat, sizeof seat), .ttl_ms = 1};

    if (memstore_write(seat->store, &write).code != ERR_OK)
        abort();
    sem_post(seat->done);
}

static void on_closed(void *arg)
{
    struct seat *seat = arg;

    seat->closed++;
    sem_post(seat->done);
}

static void close_here(struct job *job)
{
    struct seat *seat = CONTAINER_OF(job, struct seat, job);

    backend_memstore.close(seat->backend, on_closed, seat);
}

static void everywhere(struct seat *seats, void (*run)(struct job *))
{
    for (unsigned i = 0; i < WORKERS; i++) {
        seats[i].job.run = run;
        worker_land(seats[i].worker, &seats[i].job);
    }
}

static void wait_for_all(sem_t *done)
{
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(sem_wait(done), 0);
}

static void one_life(struct pool *pool, unsigned round)
{
    const struct memstore_config config = {0};
    const struct backend_options options = {.namespace_name = "test", .slot = "primary"};
    struct memstore *store = memstore_new(&options, &config);
    struct seat seats[WORKERS];
    sem_t done;

    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < WORKERS; i++)
        seats[i] = (struct seat){.store = store, .worker = pool_worker(pool, i), .done = &done};
    everywhere(seats, open_here);
    wait_for_all(&done);
    if (round % 3 != 0) {
        everywhere(seats, write_here);
        wait_for_all(&done);
    }
    if (round % 3 == 1) {
        struct memstore_write write = {.key = slice_str("from outside"), .ttl_ms = 1};

        assert_int_equal(memstore_write(store, &write).code, ERR_OK);
    }
    everywhere(seats, close_here);
    wait_for_all(&done);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(seats[i].closed, 1);
    assert_false(store->sweep.active);
    memstore_destroy(store);
    sem_destroy(&done);
}

static void test_many_lives(void **state)
{
    const struct pool_options options = {.workers = WORKERS, .intake_depth = 64};
    struct pool *pool = NULL;

    (void)state;
    assert_int_equal(pool_start(&pool, &options).code, ERR_OK);
    for (unsigned round = 0; round < ROUNDS; round++)
        one_life(pool, round);
    pool_stop(pool);
}

/* The pool stops while the sweeper would still have work. */
static void test_pool_stops_at_once(void **state)
{
    const struct pool_options options = {.workers = WORKERS, .intake_depth = 64};

    (void)state;
    for (unsigned round = 0; round < ROUNDS / 5; round++) {
        struct pool *pool = NULL;

        assert_int_equal(pool_start(&pool, &options).code, ERR_OK);
        one_life(pool, round);
        pool_stop(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_lives),
        cmocka_unit_test(test_pool_stops_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
