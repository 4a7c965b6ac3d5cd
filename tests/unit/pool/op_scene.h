/* Operations on a worker that has no thread of its own and on virtual time. */
#ifndef PRISM_TESTS_UNIT_POOL_OP_SCENE_H
#define PRISM_TESTS_UNIT_POOL_OP_SCENE_H

#include "pool/op.h"
#include "pool/worker.h"
#include "tests/unit/pool/fixture.h"

/* ---- a worker without a thread, on virtual time ---- */

#define BEGIN_NS (1000 * NS_PER_S)

struct scene {
    struct worker worker;
    struct op_group group;
    struct arena arena;
    unsigned wakes, idles;
    char order[32]; /* names of ops as they were done; '.' for idle */
    size_t len;
};

static inline void wake(struct worker *worker)
{
    CONTAINER_OF(worker, struct scene, worker)->wakes++;
}

static inline void on_idle(struct op_group *group)
{
    struct scene *scene = CONTAINER_OF(group, struct scene, group);

    assert_int_equal(group->pending, 0);
    scene->idles++;
    scene->order[scene->len++] = '.';
}

static inline void set_time(struct scene *scene, uint64_t ns)
{
    scene->worker.now_ns = ns;
    timer_wheel_advance(&scene->worker.timers, ns);
    while (timer_wheel_fire(&scene->worker.timers))
        ;
}

static inline struct scene *scene_open(uint64_t deadline_ns)
{
    struct scene *scene = aligned_alloc(64, sizeof *scene);

    assert_non_null(scene);
    memset(scene, 0, sizeof *scene);
    worker_init(&scene->worker, 0, wake);
    timer_wheel_init(&scene->worker.timers, BEGIN_NS);
    set_time(scene, BEGIN_NS);
    worker_set_current(&scene->worker);
    arena_init(&scene->arena, &scene->worker.arenas);
    op_group_init(&scene->group, &scene->worker, &scene->arena, deadline_ns);
    scene->group.idle = on_idle;
    return scene;
}

static inline void scene_close(struct scene *scene)
{
    assert_int_equal(scene->group.pending, 0);
    assert_null(scene->group.parked);
    assert_int_equal(scene->worker.timers.armed, 0);
    assert_true(worker_idle(&scene->worker));
    arena_clear(&scene->arena);
    worker_clear(&scene->worker);
    worker_set_current(NULL);
    free(scene);
}

/* ---- a request and its backend ---- */

struct request {
    struct op op; /* first: a backend knows its op only */
    struct scene *scene;
    char name;
    unsigned done, cancelled;
    struct err why;         /* cancel()'s */
    struct request *finish; /* in cancel(): which one lets go; NULL: this one */
    bool holds_on;          /* in cancel(): the backend lets go later */
    bool starts_again;      /* in done() */
};

static inline void on_done(struct op *op)
{
    struct request *request = CONTAINER_OF(op, struct request, op);
    struct scene *scene = request->scene;

    assert_ptr_equal(worker_current(), &scene->worker);
    assert_null(op->cancel);
    request->done++;
    scene->order[scene->len++] = request->name;
    if (!request->starts_again)
        return;
    request->starts_again = false;
    op_start(op, &scene->group, on_done);
    op_finish(op, ERR_NONE);
}

static inline void on_cancel(struct op *op, struct err why)
{
    struct request *request = CONTAINER_OF(op, struct request, op);

    assert_ptr_equal(worker_current(), &request->scene->worker);
    assert_int_equal(request->done, 0);
    request->cancelled++;
    request->why = why;
    if (!request->holds_on)
        op_finish(request->finish != NULL ? &request->finish->op : op, why);
}

static inline void start(struct scene *scene, struct request *request, char name)
{
    *request = (struct request){.scene = scene, .name = name};
    op_start(&request->op, &scene->group, on_done);
}

static inline void start_parked(struct scene *scene, struct request *request, char name)
{
    start(scene, request, name);
    op_park(&request->op, on_cancel);
}

static inline struct err some_err(void)
{
    return err_make(ERR_UNAVAILABLE, "the backend is down");
}

#endif
