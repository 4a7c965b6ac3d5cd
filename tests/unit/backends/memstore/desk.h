/* An instance of a rig's store on a worker without a thread, which the test drives. */
#ifndef PRISM_TESTS_UNIT_BACKENDS_MEMSTORE_DESK_H
#define PRISM_TESTS_UNIT_BACKENDS_MEMSTORE_DESK_H

#include "tests/unit/backends/memstore/memstore_rig.h"

struct desk {
    struct worker worker;
    struct backend *backend;
    struct op_group group;
    bool closed;
};

static inline void no_wake(struct worker *worker)
{
    (void)worker;
}

static inline void desk_open(struct desk *desk, struct rig *rig, unsigned id)
{
    *desk = (struct desk){.closed = false};
    worker_init(&desk->worker, id, no_wake);
    worker_set_current(&desk->worker);
    desk->backend = backend_memstore.open(&rig->store->base, &desk->worker);
    op_group_init(&desk->group, &desk->worker, &rig->arena, 0);
}

static inline void on_closed(void *arg)
{
    struct desk *desk = arg;

    desk->closed = true;
}

static inline void drain(struct desk *desk)
{
    worker_set_current(&desk->worker);
    worker_drain(&desk->worker, 0);
}

/* Starts to close; comes with the next drain. */
static inline void desk_leave(struct desk *desk)
{
    worker_set_current(&desk->worker);
    backend_memstore.close(desk->backend, on_closed, desk);
    assert_false(desk->closed);
}

static inline void desk_close(struct desk *desk)
{
    desk_leave(desk);
    drain(desk);
    assert_true(desk->closed);
    assert_int_equal(desk->worker.timers.armed, 0);
    worker_clear(&desk->worker);
    worker_set_current(NULL);
}

/* Lets the worker's timers see that `ms` more have passed than they have seen. */
static inline void tick(struct desk *desk, uint64_t ms)
{
    uint64_t tick_ns = TIMER_TICK_MS * NS_PER_MS;

    worker_set_current(&desk->worker);
    desk->worker.now_ns = (desk->worker.timers.tick * tick_ns) + ms * NS_PER_MS;
    timer_wheel_advance(&desk->worker.timers, desk->worker.now_ns);
    worker_drain(&desk->worker, 0);
}

#endif
