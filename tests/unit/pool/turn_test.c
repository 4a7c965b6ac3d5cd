/* A turn is bounded by time as well as by jobs. */
#include "pool/turn.h"
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

static void await_tick(void)
{
    uint64_t begun_ns = clock_coarse_ns();

    while (clock_coarse_ns() == begun_ns)
        ;
}

static void test_a_slow_job_ends_a_turn(void **state)
{
    struct turn turn = turn_begin(1000);

    (void)state;
    await_tick();
    assert_true(turn_over(&turn));
}

static void test_a_turn_has_at_most_so_many_jobs(void **state)
{
    (void)state;
    for (unsigned max = 1; max < 100; max++) {
        struct turn turn = turn_begin(max);
        unsigned n = 1;

        while (!turn_over(&turn))
            n++;
        assert_in_range(n, 1, max);
    }
}

/* A chain of slow jobs, and a timer that waits for the end of a turn. */
struct chain {
    struct job job;
    struct worker *worker;
    struct timer timer;
    unsigned ran, ran_before_timer;
    _Atomic(bool) fired;
};

enum { LINKS = 200 };

static void next_link(struct job *job)
{
    struct chain *chain = CONTAINER_OF(job, struct chain, job);

    await_tick();
    if (++chain->ran < LINKS)
        worker_land(chain->worker, &chain->job);
}

static void ring_timer(struct timer *timer)
{
    struct chain *chain = CONTAINER_OF(timer, struct chain, timer);

    chain->ran_before_timer = chain->ran;
    atomic_store(&chain->fired, true);
}

static void begin_chain(void *arg)
{
    struct chain *chain = arg;

    timer_arm(&chain->worker->timers, &chain->timer, clock_now_ns() + NS_PER_MS, ring_timer);
    worker_land(chain->worker, &chain->job);
}

static bool chain_fired(void *arg)
{
    return atomic_load(&((struct chain *)arg)->fired);
}

static void test_timers_do_not_wait_for_a_chain(void **state)
{
    struct pool *pool = start(1, 2);
    struct chain chain = {.worker = pool_worker(pool, 0), .job.run = next_link};

    (void)state;
    worker_run_sync(chain.worker, begin_chain, &chain);
    assert_true(becomes(chain_fired, &chain));
    pool_stop(pool);
    assert_in_range(chain.ran_before_timer, 1, LINKS / 2);
}

/* ---- due timers and jobs ---- */

struct note {
    struct job job;
    struct timer timer;
    unsigned more; /* the job lands itself again so often */
};

static struct worker alone;
static char order[32];
static size_t ran;

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static void note_job(struct job *job)
{
    struct note *note = CONTAINER_OF(job, struct note, job);

    order[ran++] = 'j';
    if (note->more-- > 0)
        worker_land(&alone, job);
}

static void note_timer(struct timer *timer)
{
    assert_false(timer_armed(timer));
    order[ran++] = 't';
}

/* One by one, also when a turn ends in between; a timer that is due can still be disarmed. */
static void test_timers_take_turns_with_jobs(void **state)
{
    struct note notes[6] = {{.job.run = note_job, .more = 4}};

    (void)state;
    worker_init(&alone, 0, no_wake);
    worker_set_current(&alone);
    for (unsigned i = 0; i < ARRAY_LEN(notes); i++)
        timer_arm(&alone.timers, &notes[i].timer, 0, note_timer);
    worker_land(&alone, &notes[0].job);
    timer_wheel_advance(&alone.timers, clock_now_ns() + NS_PER_S);
    assert_string_equal(order, "");
    timer_disarm(&alone.timers, &notes[5].timer);
    drain_by(&alone, 3);
    assert_string_equal(order, "tjt");
    assert_int_equal(worker_drain(&alone, 0), 7);
    assert_string_equal(order, "tjtjtjtjtj");
    assert_true(worker_idle(&alone));
    worker_set_current(NULL);
    worker_clear(&alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_job_ends_a_turn),
        cmocka_unit_test(test_a_turn_has_at_most_so_many_jobs),
        cmocka_unit_test(test_timers_do_not_wait_for_a_chain),
        cmocka_unit_test(test_timers_take_turns_with_jobs),
    };

    return cmocka_run_group_tests_name("turn", tests, NULL, NULL);
}
