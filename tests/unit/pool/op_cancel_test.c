/* Deadlines and cancellation of operations, also against an answer from another thread. */
#include "pool/op.h"

#include "tests/unit/pool/op_scene.h"

#include <pthread.h>
#include <stdatomic.h>

static struct err cancel_err(void)
{
    return err_make(ERR_CANCELLED, "the client went away");
}

/* ---- deadline ---- */

static void test_deadline(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request request;

    (void)state;
    start_parked(scene, &request, 'a');
    set_time(scene, BEGIN_NS + NS_PER_S - 1);
    assert_int_equal(request.cancelled, 0);
    set_time(scene, BEGIN_NS + NS_PER_S + TIMER_TICK_MS * NS_PER_MS);
    assert_int_equal(request.cancelled, 1);
    assert_int_equal(request.why.code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(request.done, 0); /* later, as ever */
    worker_drain(&scene->worker, 0);
    assert_int_equal(request.done, 1);
    assert_int_equal(request.op.err.code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(counter_read(&scene->worker.stats.deadlines), 1);
    scene_close(scene);
}

/* The backend lets go later: nobody asks it twice. */
static void test_deadline_is_a_wish(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request request;

    (void)state;
    start_parked(scene, &request, 'a');
    request.holds_on = true;
    set_time(scene, BEGIN_NS + 2 * NS_PER_S);
    op_group_cancel(&scene->group, cancel_err());
    set_time(scene, BEGIN_NS + 9 * NS_PER_S);
    assert_int_equal(request.cancelled, 1);
    assert_int_equal(scene->group.pending, 1);
    op_finish(&request.op, ERR_NONE); /* the answer came after all */
    worker_drain(&scene->worker, 0);
    assert_int_equal(request.op.err.code, ERR_OK);
    scene_close(scene);
}

static void test_park_after_the_deadline(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS);
    struct request request;

    (void)state;
    start_parked(scene, &request, 'a');
    assert_int_equal(request.cancelled, 1); /* before op_park returned */
    assert_int_equal(request.why.code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(counter_read(&scene->worker.stats.deadlines), 1);
    worker_drain(&scene->worker, 0);
    assert_int_equal(request.done, 1);
    scene_close(scene);
}

/* Without cancel() the deadline is the backend's own affair. */
static void test_park_without_cancel(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request request;

    (void)state;
    start(scene, &request, 'a');
    op_park(&request.op, NULL);
    op_group_cancel(&scene->group, cancel_err());
    set_time(scene, BEGIN_NS + 2 * NS_PER_S);
    assert_int_equal(scene->group.pending, 1);
    op_finish(&request.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_int_equal(request.op.err.code, ERR_OK);
    scene_close(scene);
}

/* ---- cancel ---- */

static void test_cancel_asks_all_that_are_parked(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request a, b, c, running;

    (void)state;
    start_parked(scene, &a, 'a');
    start_parked(scene, &b, 'b');
    start(scene, &running, 'r');
    start_parked(scene, &c, 'c');
    op_finish(&b.op, ERR_NONE);
    worker_drain(&scene->worker, 0); /* out of the middle of the list */
    op_group_cancel(&scene->group, cancel_err());
    assert_int_equal(a.cancelled + c.cancelled, 2);
    assert_int_equal(a.why.code, ERR_CANCELLED);
    assert_int_equal(running.cancelled + b.cancelled, 0);
    op_group_cancel(&scene->group, some_err()); /* a repeat is ignored */
    assert_int_equal(scene->group.cancelled.code, ERR_CANCELLED);
    op_finish(&running.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_int_equal(scene->idles, 1);
    assert_int_equal(c.op.err.code, ERR_CANCELLED);
    assert_int_equal(counter_read(&scene->worker.stats.deadlines), 0);
    scene_close(scene);
}

static void test_park_in_a_cancelled_group(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request before, after;

    (void)state;
    start(scene, &before, 'a');
    op_group_cancel(&scene->group, cancel_err());
    op_park(&before.op, on_cancel);
    assert_int_equal(before.cancelled, 1);
    start_parked(scene, &after, 'b');
    assert_int_equal(after.cancelled, 1);
    worker_drain(&scene->worker, 0);
    assert_string_equal(scene->order, "ab.");
    assert_int_equal(after.op.err.code, ERR_CANCELLED);
    scene_close(scene);
}

/* Finished on its own worker but not done yet: the backend has let go and must not be asked. */
static void test_no_cancel_after_finish(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request late, cancelled;

    (void)state;
    start_parked(scene, &late, 'a');
    op_finish(&late.op, ERR_NONE);
    set_time(scene, BEGIN_NS + 2 * NS_PER_S);
    assert_int_equal(late.cancelled, 0);
    worker_drain(&scene->worker, 0);

    scene->group.deadline_ns = 0;
    start_parked(scene, &cancelled, 'b');
    op_finish(&cancelled.op, ERR_NONE);
    op_group_cancel(&scene->group, cancel_err());
    assert_int_equal(cancelled.cancelled, 0);
    worker_drain(&scene->worker, 0);
    assert_int_equal(late.done + cancelled.done, 2);
    assert_int_equal(cancelled.op.err.code, ERR_OK);
    scene_close(scene);
}

/* A backend that lets go of another op when it is asked about this one (a shared command, say). */
static void test_cancel_that_finishes_another(void **state)
{
    struct scene *scene = scene_open(0);
    struct request a, b;

    (void)state;
    start_parked(scene, &a, 'a');
    start_parked(scene, &b, 'b');
    b.finish = &a; /* the newest is asked first */
    op_group_cancel(&scene->group, cancel_err());
    assert_int_equal(b.cancelled, 1);
    assert_int_equal(a.cancelled, 0);
    op_finish(&b.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_string_equal(scene->order, "ab.");
    scene_close(scene);
}

/* ---- against chance ---- */

/* Many ops whose deadline and whose answer from another thread come at about the same time: done()
 * once for each. The backend says who was first, as op.h asks of one that finishes elsewhere. */
enum { RACES = 500 };

struct race {
    struct op op;
    _Atomic bool taken;
    unsigned done;
};

struct arena_of_races {
    struct race races[RACES];
    struct scene *scene;
    _Atomic unsigned next; /* the answering thread's position */
};

static void race_done(struct op *op)
{
    CONTAINER_OF(op, struct race, op)->done++;
}

static void race_cancel(struct op *op, struct err why)
{
    if (!atomic_exchange(&CONTAINER_OF(op, struct race, op)->taken, true))
        op_finish(op, why);
}

static void *answer(void *arg)
{
    struct arena_of_races *all = arg;

    for (unsigned i = 0; i < RACES; i++) {
        if (!atomic_exchange(&all->races[i].taken, true))
            op_finish(&all->races[i].op, ERR_NONE);
        atomic_store(&all->next, i);
    }
    return NULL;
}

static void race_once(struct arena_of_races *all, unsigned cancel_at)
{
    struct scene *scene = all->scene;
    pthread_t thread;

    memset(all->races, 0, sizeof all->races);
    atomic_store(&all->next, 0);
    op_group_init(&scene->group, &scene->worker, &scene->arena, BEGIN_NS + NS_PER_S);
    timer_wheel_init(&scene->worker.timers, BEGIN_NS);
    scene->worker.now_ns = BEGIN_NS;
    for (unsigned i = 0; i < RACES; i++) {
        op_start(&all->races[i].op, &scene->group, race_done);
        op_park(&all->races[i].op, race_cancel);
    }
    assert_int_equal(pthread_create(&thread, NULL, answer, all), 0);
    while (atomic_load(&all->next) < cancel_at)
        worker_drain(&scene->worker, 0);
    if (cancel_at % 2 == 0)
        set_time(scene, BEGIN_NS + 2 * NS_PER_S);
    else
        op_group_cancel(&scene->group, cancel_err());
    pthread_join(thread, NULL);
    worker_drain(&scene->worker, 0);
    assert_int_equal(scene->group.pending, 0);
    for (unsigned i = 0; i < RACES; i++)
        assert_int_equal(all->races[i].done, 1);
}

static void test_deadline_against_answer(void **state)
{
    struct arena_of_races *all = calloc(1, sizeof *all);
    struct dice dice = {.state = 99};

    (void)state;
    assert_non_null(all);
    all->scene = scene_open(0);
    for (unsigned i = 0; i < 40 * STRESS; i++)
        race_once(all, (unsigned)dice_roll(&dice, RACES));
    scene_close(all->scene);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deadline_is_a_wish),
        cmocka_unit_test(test_park_after_the_deadline),
        cmocka_unit_test(test_park_without_cancel),
        cmocka_unit_test(test_cancel_asks_all_that_are_parked),
        cmocka_unit_test(test_park_in_a_cancelled_group),
        cmocka_unit_test(test_no_cancel_after_finish),
        cmocka_unit_test(test_cancel_that_finishes_another),
        cmocka_unit_test(test_deadline_against_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
