#include "pool/op.h"

#include "tests/unit/pool/op_scene.h"

#include <pthread.h>

/* ---- finishing ---- */

/* The call of a backend that finished at once returns before done() runs. */
static void test_inline_finish_is_not_inline_done(void **state)
{
    struct scene *scene = scene_open(0);
    struct request request;

    (void)state;
    start(scene, &request, 'a');
    assert_int_equal(scene->group.pending, 1);
    op_finish(&request.op, some_err());
    assert_int_equal(request.done, 0);
    assert_int_equal(worker_drain(&scene->worker, 0), 1);
    assert_int_equal(request.done, 1);
    assert_int_equal(request.op.err.code, ERR_UNAVAILABLE);
    assert_string_equal(scene->order, "a.");
    assert_int_equal(scene->wakes, 0);
    scene_close(scene);
}

/* Outputs belong to an op: what one reads into memory of its own, another of the same call does not
 * touch. */
static void test_an_op_may_have_memory_of_its_own(void **state)
{
    struct scene *scene = scene_open(0);
    struct request own, plain;
    struct arena memory;

    (void)state;
    arena_init(&memory, NULL);
    start(scene, &own, 'a');
    own.op.arena = &memory;
    start(scene, &plain, 'b');
    assert_ptr_equal(op_arena(&own.op), &memory);
    assert_ptr_equal(op_arena(&plain.op), &scene->arena);
    op_finish(&own.op, ERR_NONE);
    op_finish(&plain.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    start(scene, &own, 'a'); /* used again: the call's memory again */
    assert_ptr_equal(op_arena(&own.op), &scene->arena);
    op_finish(&own.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    arena_clear(&memory);
    scene_close(scene);
}

static void *finish_it(void *arg)
{
    op_finish(arg, some_err());
    return NULL;
}

static void finish_elsewhere(struct op *op)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, finish_it, op), 0);
    pthread_join(thread, NULL);
}

static void test_finish_from_another_thread(void **state)
{
    struct scene *scene = scene_open(0);
    struct request request;

    (void)state;
    start(scene, &request, 'a');
    atomic_store(&scene->worker.sleeping, true);
    finish_elsewhere(&request.op);
    assert_int_equal(scene->wakes, 1);
    assert_int_equal(request.done, 0);
    assert_int_equal(worker_drain(&scene->worker, 0), 1);
    assert_int_equal(request.done, 1);
    assert_int_equal(request.op.err.code, ERR_UNAVAILABLE);
    scene_close(scene);
}

static void test_finish_after_park(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + NS_PER_S);
    struct request here, elsewhere;

    (void)state;
    start_parked(scene, &here, 'a');
    start_parked(scene, &elsewhere, 'b');
    assert_int_equal(scene->worker.timers.armed, 2);
    op_finish(&here.op, ERR_NONE);
    finish_elsewhere(&elsewhere.op);
    assert_int_equal(worker_drain(&scene->worker, 0), 2);
    assert_int_equal(here.done, 1);
    assert_int_equal(elsewhere.done, 1);
    set_time(scene, BEGIN_NS + 2 * NS_PER_S);
    assert_int_equal(here.cancelled + elsewhere.cancelled, 0);
    assert_int_equal(counter_read(&scene->worker.stats.deadlines), 0);
    scene_close(scene);
}

static void test_an_op_may_start_again_in_done(void **state)
{
    struct scene *scene = scene_open(0);
    struct request request;

    (void)state;
    start(scene, &request, 'a');
    request.starts_again = true;
    op_finish(&request.op, some_err());
    worker_drain(&scene->worker, 0);
    assert_int_equal(request.done, 2);
    assert_int_equal(request.op.err.code, ERR_OK);
    assert_string_equal(scene->order, "aa."); /* the group was busy all the time */
    scene_close(scene);
}

/* ---- the group ---- */

static void test_idle_comes_after_the_last(void **state)
{
    struct scene *scene = scene_open(0);
    struct request a, b, c;

    (void)state;
    op_group_enter(&scene->group);
    start(scene, &a, 'a');
    start(scene, &b, 'b');
    op_finish(&b.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    op_finish(&a.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_string_equal(scene->order, "ba");
    start(scene, &c, 'c');
    op_group_leave(&scene->group);
    assert_int_equal(scene->idles, 0);
    op_finish(&c.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_string_equal(scene->order, "bac.");
    op_group_enter(&scene->group); /* a group may be used again */
    op_group_leave(&scene->group);
    assert_string_equal(scene->order, "bac..");
    scene_close(scene);
}

static void test_a_group_without_idle(void **state)
{
    struct scene *scene = scene_open(0);
    struct request request;

    (void)state;
    scene->group.idle = NULL;
    start(scene, &request, 'a');
    op_finish(&request.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_string_equal(scene->order, "a");
    scene_close(scene);
}

static void test_arena_and_deadline_are_the_group_s(void **state)
{
    struct scene *scene = scene_open(BEGIN_NS + 5);
    struct request request;

    (void)state;
    start(scene, &request, 'a');
    assert_ptr_equal(op_arena(&request.op), &scene->arena);
    assert_int_equal(op_deadline_ns(&request.op), BEGIN_NS + 5);
    op_finish(&request.op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    scene_close(scene);
}

static void free_it(struct op *op)
{
    free(CONTAINER_OF(op, struct request, op));
}

static void test_an_op_may_be_gone_after_done(void **state)
{
    struct scene *scene = scene_open(0);
    struct request *request = calloc(1, sizeof *request);

    (void)state;
    assert_non_null(request);
    op_start(&request->op, &scene->group, free_it);
    op_finish(&request->op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    assert_int_equal(scene->idles, 1);
    scene_close(scene);
}

/* ---- misuse ---- */

static struct request *bad_request(struct scene **scene)
{
    struct request *request = calloc(1, sizeof *request);

    *scene = scene_open(0);
    start(*scene, request, 'x');
    return request;
}

static void finish_twice(void)
{
    struct scene *scene;
    struct request *request = bad_request(&scene);

    op_finish(&request->op, ERR_NONE);
    op_finish(&request->op, ERR_NONE);
}

static void finish_again_after_done(void)
{
    struct scene *scene;
    struct request *request = bad_request(&scene);

    op_finish(&request->op, ERR_NONE);
    worker_drain(&scene->worker, 0);
    op_finish(&request->op, ERR_NONE);
}

static void finish_unstarted(void)
{
    struct op op = {0};

    op_finish(&op, ERR_NONE);
}

static void start_twice(void)
{
    struct scene *scene;
    struct request *request = bad_request(&scene);

    op_start(&request->op, &scene->group, on_done);
}

static void park_twice(void)
{
    struct scene *scene;
    struct request *request = bad_request(&scene);

    op_park(&request->op, on_cancel);
    op_park(&request->op, on_cancel);
}

static void park_after_finish(void)
{
    struct scene *scene;
    struct request *request = bad_request(&scene);

    op_finish(&request->op, ERR_NONE);
    op_park(&request->op, on_cancel);
}

static void leave_without_enter(void)
{
    struct scene *scene = scene_open(0);

    op_group_leave(&scene->group);
}

static void test_misuse_aborts(void **state)
{
    (void)state;
    assert_true(aborts(finish_twice));
    assert_true(aborts(finish_again_after_done));
    assert_true(aborts(finish_unstarted));
    assert_true(aborts(start_twice));
    assert_true(aborts(park_twice));
    assert_true(aborts(park_after_finish));
    assert_true(aborts(leave_without_enter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline_finish_is_not_inline_done),
        cmocka_unit_test(test_an_op_may_have_memory_of_its_own),
        cmocka_unit_test(test_finish_from_another_thread),
        cmocka_unit_test(test_finish_after_park),
        cmocka_unit_test(test_an_op_may_start_again_in_done),
        cmocka_unit_test(test_idle_comes_after_the_last),
        cmocka_unit_test(test_a_group_without_idle),
        cmocka_unit_test(test_arena_and_deadline_are_the_group_s),
        cmocka_unit_test(test_an_op_may_be_gone_after_done),
        cmocka_unit_test(test_misuse_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
