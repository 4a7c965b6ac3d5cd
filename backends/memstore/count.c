/* A count of a large store takes a second of work: it is done in slices of a few milliseconds, one
 * in each tick of the worker's timers, and can be cancelled between them. */
#include "backends/memstore/memstore_priv.h"
#include "src/base/container.h"

enum { SLICE_ENTRIES = 32768 };

/* In the op's arena. */
struct memstore_counting {
    struct memstore_counting *next, **at; /* in instance->counting */
    struct memstore *store;
    struct kv_count *request;
    struct memstore_position position;
    struct timer timer;
};

/* Is it the last one? */
static bool slice(struct memstore_counting *counting)
{
    struct kv_count *request = counting->request;

    memstore_count(counting->store, request->prefix, &counting->position, SLICE_ENTRIES,
                   &request->count);
    return counting->position.at == MEMSTORE_END;
}

static void finish(struct memstore_counting *counting, struct err err)
{
    struct op *op = &counting->request->op;

    timer_disarm(&op->group->home->timers, &counting->timer);
    *counting->at = counting->next;
    if (counting->next != NULL)
        counting->next->at = counting->at;
    op->backend_data = NULL;
    op_finish(op, err);
}

static void on_cancel(struct op *op, struct err why)
{
    finish(op->backend_data, why);
}

static void on_timer(struct timer *timer);

static void again(struct memstore_counting *counting)
{
    struct worker *home = counting->request->op.group->home;

    timer_arm(&home->timers, &counting->timer, home->now_ns, on_timer);
}

static void on_timer(struct timer *timer)
{
    struct memstore_counting *counting = CONTAINER_OF(timer, struct memstore_counting, timer);

    if (slice(counting))
        finish(counting, ERR_NONE);
    else
        again(counting);
}

void memstore_count_start(struct backend *backend, struct kv_count *request)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);
    struct memstore_counting *counting = arena_zalloc(op_arena(&request->op), sizeof *counting);

    counting->store = CONTAINER_OF(backend->store, struct memstore, base);
    counting->request = request;
    request->count = 0;
    if (slice(counting)) {
        op_finish(&request->op, ERR_NONE);
        return;
    }
    counting->next = instance->counting;
    counting->at = &instance->counting;
    if (counting->next != NULL)
        counting->next->at = &counting->next;
    instance->counting = counting;
    request->op.backend_data = counting;
    again(counting);
    op_park(&request->op, on_cancel);
}

void memstore_count_stop(struct memstore_instance *instance, struct err why)
{
    while (instance->counting != NULL)
        finish(instance->counting, why);
}
