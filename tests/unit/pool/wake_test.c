/* Nobody sleeps through a job: producers that strike at every moment of a worker's falling asleep.
 */
#include "pool/worker.h"

#include "tests/unit/pool/crew.h"

#include <pthread.h>

/* ---- one job to and fro ---- */

struct rally {
    struct job job;
    struct worker *worker;
    bool by_intake;
    uint64_t rounds;
    struct dice dice;
    _Atomic uint64_t back; /* how often it came back */
    sem_t landed;          /* the same, for those that sleep meanwhile */
    bool spins;
    bool lost;
};

static void hit_back(struct job *job)
{
    struct rally *rally = CONTAINER_OF(job, struct rally, job);

    if (rally->spins)
        atomic_fetch_add(&rally->back, 1);
    else
        sem_post(&rally->landed);
}

/* Who spins finds the worker on its way to bed with the next strike. */
static bool came_back(struct rally *rally, uint64_t times)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_S * NS_PER_S;

    if (!rally->spins)
        return gate_pass(&rally->landed);
    for (unsigned looks = 1; atomic_load(&rally->back) < times; looks++) {
        if (looks % 1024 != 0)
            continue;
        if (clock_now_ns() > until_ns)
            return false;
        sched_yield();
    }
    return true;
}

/* Strikes while the worker is still at it, about to fall asleep (mostly), or asleep. */
static void pick_the_moment(struct rally *rally)
{
    switch (dice_roll(&rally->dice, 16)) {
    case 0:
        if (!becomes(sleeps, rally->worker))
            rally->lost = true;
        break;
    case 1:
        break;
    default:
        for (uint64_t n = dice_roll(&rally->dice, 3000); n > 0; n--)
            __asm__ volatile("");
    }
}

static void *play(void *arg)
{
    struct rally *rally = arg;

    for (uint64_t i = 0; i < rally->rounds && !rally->lost; i++) {
        pick_the_moment(rally);
        if (rally->by_intake) {
            if (!worker_submit(rally->worker, &rally->job))
                rally->lost = true;
            worker_kick(rally->worker);
        } else {
            worker_land(rally->worker, &rally->job);
        }
        if (!came_back(rally, i + 1))
            rally->lost = true;
    }
    return NULL;
}

static void rally_open(struct rally *rally, struct worker *worker, bool by_intake, uint64_t seed)
{
    *rally = (struct rally){.job.run = hit_back,
                            .worker = worker,
                            .by_intake = by_intake,
                            .rounds = 2000u * STRESS,
                            .spins = true,
                            .dice.state = seed};
    sem_init(&rally->landed, 0, 0);
}

static void test_no_lost_wakeup_of_one_producer(void **state)
{
    struct pool *pool = start(1, 2);
    struct rally rally;

    (void)state;
    for (unsigned by_intake = 0; by_intake < 2; by_intake++) {
        rally_open(&rally, pool_worker(pool, 0), by_intake == 1, 11 + by_intake);
        play(&rally);
        assert_false(rally.lost);
    }
    assert_true(counter_read(&pool_worker(pool, 0)->stats.sleeps) > 100);
    assert_true(counter_read(&pool_worker(pool, 0)->stats.wakes) > 100);
    pool_stop(pool);
}

/* Several producers, one of them by the intake lane, each with a job of its own. */
static void test_no_lost_wakeup_of_many_producers(void **state)
{
    enum { PLAYERS = 4 };
    struct pool *pool = start(1, 2);
    struct rally rallies[PLAYERS];
    pthread_t threads[PLAYERS];

    (void)state;
    for (unsigned i = 0; i < PLAYERS; i++) {
        rally_open(&rallies[i], pool_worker(pool, 0), i == 0, 100 + i);
        rallies[i].rounds /= 2;
        rallies[i].spins = false;
        assert_int_equal(pthread_create(&threads[i], NULL, play, &rallies[i]), 0);
    }
    for (unsigned i = 0; i < PLAYERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < PLAYERS; i++)
        assert_false(rallies[i].lost);
    pool_stop(pool);
}

/* Between workers, whose wakes are held back to the end of their batch. */
struct ball {
    struct job job;
    struct pool *pool;
    unsigned at, left; /* left: touched by the worker that has the ball */
    sem_t over;
};

static void pass_on(struct job *job)
{
    struct ball *ball = CONTAINER_OF(job, struct ball, job);

    if (ball->left-- == 0) {
        sem_post(&ball->over);
        return;
    }
    ball->at = (ball->at + 1) % pool_size(ball->pool);
    worker_land(pool_worker(ball->pool, ball->at), job);
}

static void test_no_lost_wakeup_between_workers(void **state)
{
    enum { BALLS = 3 };
    struct pool *pool = start(3, 2);
    struct ball balls[BALLS];

    (void)state;
    for (unsigned i = 0; i < BALLS; i++) {
        balls[i] =
            (struct ball){.job.run = pass_on, .pool = pool, .left = 3000u * STRESS * (i + 1)};
        sem_init(&balls[i].over, 0, 0);
        worker_land(pool_worker(pool, 0), &balls[i].job);
    }
    for (unsigned i = 0; i < BALLS; i++)
        assert_true(gate_pass(&balls[i].over));
    pool_stop(pool);
}

/* ---- many jobs ---- */

enum { LANDERS = 4, EACH = 3000 };

struct parcel {
    struct job job;
    struct parcels *all;
    unsigned from, number;
};

struct parcels {
    struct parcel items[LANDERS][EACH];
    struct worker *to;
    unsigned seen[LANDERS];
    bool in_order;
    _Atomic unsigned next, arrived;
};

static void arrive(struct job *job)
{
    struct parcel *parcel = CONTAINER_OF(job, struct parcel, job);

    if (parcel->all->seen[parcel->from]++ != parcel->number)
        parcel->all->in_order = false;
    atomic_fetch_add(&parcel->all->arrived, 1);
}

static void *post_parcels(void *arg)
{
    struct parcels *all = arg;
    unsigned from = atomic_fetch_add(&all->next, 1);

    for (unsigned i = 0; i < EACH; i++) {
        all->items[from][i] =
            (struct parcel){.job.run = arrive, .all = all, .from = from, .number = i};
        worker_land(all->to, &all->items[from][i].job);
        if (i % 100 == 99)
            becomes(sleeps, all->to);
    }
    return NULL;
}

static bool all_arrived(void *arg)
{
    return atomic_load(&((struct parcels *)arg)->arrived) == LANDERS * EACH;
}

static void test_landings_of_a_thread_keep_their_order(void **state)
{
    struct parcels *all = calloc(1, sizeof *all);
    struct pool *pool = start(1, 2);
    pthread_t threads[LANDERS];

    (void)state;
    assert_non_null(all);
    all->to = pool_worker(pool, 0);
    all->in_order = true;
    for (unsigned i = 0; i < LANDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_parcels, all), 0);
    for (unsigned i = 0; i < LANDERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(becomes(all_arrived, all));
    pool_stop(pool);
    assert_true(all->in_order);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_lost_wakeup_of_one_producer),
        cmocka_unit_test(test_no_lost_wakeup_of_many_producers),
        cmocka_unit_test(test_no_lost_wakeup_between_workers),
        cmocka_unit_test(test_landings_of_a_thread_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
