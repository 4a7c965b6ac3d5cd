/* A worker's timers, the callbacks of its loop, and how they share its time. */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

#include <uv.h>

/* ---- deadlines ---- */

/* The pool's calls of uv_timer_start pass by here: a worker that chose how long to sleep can be
 * held up until that time has passed, as the scheduler may do. */
static _Atomic bool dawdle;

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
    uint64_t until_ns = clock_now_ns() + (timeout + 2) * NS_PER_MS;

    *(void **)&real = libuv("uv_timer_start");

    int result = real(timer, cb, timeout, repeat);

    while (atomic_load(&dawdle) && clock_now_ns() < until_ns)
        ;
    return result;
}

struct bell {
    struct timer timer;
    struct worker *worker;
    uint64_t after_ns, at_ns, rang_ns;
    bool said_asleep;
    sem_t rang;
};

static void ring(struct timer *timer)
{
    struct bell *bell = CONTAINER_OF(timer, struct bell, timer);

    bell->rang_ns = clock_now_ns();
    bell->said_asleep = atomic_load(&bell->worker->sleeping);
    sem_post(&bell->rang);
}

static void set_bell(void *arg)
{
    struct bell *bell = arg;

    bell->at_ns = clock_now_ns() + bell->after_ns;
    timer_arm(&bell->worker->timers, &bell->timer, bell->at_ns, ring);
}

static void bell_open(struct bell *bell, struct worker *worker, uint64_t after_ns)
{
    *bell = (struct bell){.worker = worker, .after_ns = after_ns};
    sem_init(&bell->rang, 0, 0);
}

/* Nothing else happens: the sleep itself must end in time. */
static void test_timers_fire_in_a_sleeping_worker(void **state)
{
    static const uint64_t after_ms[] = {0, 1, 2, 30, 1500};
    struct pool *pool = start(1, 2);
    struct bell bell;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(after_ms); i++) {
        bell_open(&bell, pool_worker(pool, 0), after_ms[i] * NS_PER_MS);
        worker_run_sync(bell.worker, set_bell, &bell);
        assert_true(gate_pass(&bell.rang));
        assert_true(bell.rang_ns >= bell.at_ns);
        assert_false(bell.said_asleep); /* nobody needs to wake it now */
    }
    pool_stop(pool);
}

/* The worker is preempted after it chose how long to sleep, for longer than that. */
static void test_a_timer_survives_a_preempted_sleep(void **state)
{
    struct pool *pool = start(1, 2);
    struct bell bell;

    (void)state;
    atomic_store(&dawdle, true);
    for (unsigned i = 0; i < 10; i++) {
        bell_open(&bell, pool_worker(pool, 0), 3 * NS_PER_MS);
        worker_run_sync(bell.worker, set_bell, &bell);
        assert_true(gate_pass(&bell.rang));
    }
    atomic_store(&dawdle, false);
    pool_stop(pool);
}

/* ---- callbacks of the loop ---- */

/* A uv timer that is due runs between the choice to sleep and the sleep: what it lands must still
 * run at once. */
struct visitor {
    uv_timer_t timer;
    uv_async_t async;
    struct worker *home, *other;
    struct job here, there;
    struct bell bell;
    sem_t ran;
};

static void ran_here(struct job *job)
{
    sem_post(&CONTAINER_OF(job, struct visitor, here)->ran);
}

static void ran_there(struct job *job)
{
    sem_post(&CONTAINER_OF(job, struct visitor, there)->ran);
}

static void land_here(uv_timer_t *timer)
{
    struct visitor *visitor = timer->data;

    worker_land(visitor->home, &visitor->here);
}

static void land_there(uv_timer_t *timer)
{
    struct visitor *visitor = timer->data;

    worker_land(visitor->other, &visitor->there);
}

static void ring_later(uv_timer_t *timer)
{
    struct visitor *visitor = timer->data;

    set_bell(&visitor->bell);
}

static void open_visitor(void *arg)
{
    struct visitor *visitor = arg;

    uv_timer_init(visitor->home->loop, &visitor->timer);
    visitor->timer.data = visitor;
}

static void visit_here(void *arg)
{
    uv_timer_start(&((struct visitor *)arg)->timer, land_here, 0, 0);
}

static void visit_there(void *arg)
{
    uv_timer_start(&((struct visitor *)arg)->timer, land_there, 0, 0);
}

static void visit_bell(void *arg)
{
    uv_timer_start(&((struct visitor *)arg)->timer, ring_later, 0, 0);
}

static void close_visitor(void *arg)
{
    uv_close((uv_handle_t *)&((struct visitor *)arg)->timer, NULL);
}

static void test_callbacks_of_the_loop_may_land(void **state)
{
    struct pool *pool = start(2, 2);
    struct visitor visitor = {.home = pool_worker(pool, 0),
                              .other = pool_worker(pool, 1),
                              .here.run = ran_here,
                              .there.run = ran_there};

    (void)state;
    sem_init(&visitor.ran, 0, 0);
    bell_open(&visitor.bell, visitor.home, 2 * NS_PER_MS);
    worker_run_sync(visitor.home, open_visitor, &visitor);
    worker_run_sync(visitor.home, visit_here, &visitor);
    assert_true(gate_pass(&visitor.ran));
    assert_true(becomes(sleeps, visitor.other));
    worker_run_sync(visitor.home, visit_there, &visitor);
    assert_true(gate_pass(&visitor.ran));
    worker_run_sync(visitor.home, visit_bell, &visitor);
    assert_true(gate_pass(&visitor.bell.rang));
    worker_run_sync(visitor.home, close_visitor, &visitor);
    pool_stop(pool);
}

/* ---- fairness ---- */

/* A job that always lands itself again (a long scan of an in-memory store) leaves room for all
 * others. */
struct chain {
    struct job job, greeting, submitted;
    struct worker *home, *other;
    uv_async_t async;
    struct timer timer;
    uint64_t give_up_ns;
    bool timer_fired, loop_ran, intake_ran;
    _Atomic bool greeted;
    sem_t over;
};

static void chain_greeted(struct job *job)
{
    atomic_store(&CONTAINER_OF(job, struct chain, greeting)->greeted, true);
}

static void chain_submitted(struct job *job)
{
    CONTAINER_OF(job, struct chain, submitted)->intake_ran = true;
}

static void chain_timer(struct timer *timer)
{
    CONTAINER_OF(timer, struct chain, timer)->timer_fired = true;
}

static void chain_async(uv_async_t *async)
{
    CONTAINER_OF(async, struct chain, async)->loop_ran = true;
}

static void run_chain(struct job *job)
{
    struct chain *chain = CONTAINER_OF(job, struct chain, job);
    bool all =
        chain->timer_fired && chain->loop_ran && chain->intake_ran && atomic_load(&chain->greeted);

    if (all || clock_now_ns() > chain->give_up_ns)
        sem_post(&chain->over);
    else
        worker_land(chain->home, job);
}

static void start_chain(void *arg)
{
    struct chain *chain = arg;

    chain->give_up_ns = clock_now_ns() + PATIENCE_S / 4 * NS_PER_S;
    uv_async_init(chain->home->loop, &chain->async, chain_async);
    uv_async_send(&chain->async);
    timer_arm(&chain->home->timers, &chain->timer, clock_now_ns() + 5 * NS_PER_MS, chain_timer);
    worker_land(chain->other, &chain->greeting);
    worker_land(chain->home, &chain->job);
}

static void close_chain(void *arg)
{
    uv_close((uv_handle_t *)&((struct chain *)arg)->async, NULL);
}

static void test_an_endless_chain_starves_nobody(void **state)
{
    struct pool *pool = start(2, 2);
    struct chain chain = {.home = pool_worker(pool, 0),
                          .other = pool_worker(pool, 1),
                          .job.run = run_chain,
                          .greeting.run = chain_greeted,
                          .submitted.run = chain_submitted};

    (void)state;
    sem_init(&chain.over, 0, 0);
    assert_true(becomes(sleeps, chain.other));
    worker_run_sync(chain.home, start_chain, &chain);
    assert_true(worker_submit(chain.home, &chain.submitted));
    worker_kick(chain.home);
    assert_true(gate_pass(&chain.over));
    worker_run_sync(chain.home, close_chain, &chain);
    pool_stop(pool);
    assert_true(chain.timer_fired);
    assert_true(chain.loop_ran);
    assert_true(chain.intake_ran);
    assert_true(atomic_load(&chain.greeted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_a_sleeping_worker),
        cmocka_unit_test(test_a_timer_survives_a_preempted_sleep),
        cmocka_unit_test(test_callbacks_of_the_loop_may_land),
        cmocka_unit_test(test_an_endless_chain_starves_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
