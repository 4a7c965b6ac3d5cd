/* Pages and counts on their way. A count of a large store takes a second of work, and a page a
 * millisecond: those of one instance stand in two queues, and a job that lands itself again does a
 * slice of about a millisecond at a time. So a neighbour waits for one slice, not for a thousand
 * pages, and between two slices a count can be cancelled.
 *
 *   method    queue_push, op_park; the job is landed unless it is already
 *   run_job   the first page, if there is one, and what is left of the slice for the first count
 *   cancel    out of the queue; op_finish */
#include "backends/memstore/instance.h"
#include "src/base/container.h"

enum { SLICE_US = 1000, COUNT_ENTRIES = 1024 /* some 200 us, if all miss the cache */ };

/* In the op's arena. */
struct memstore_enumeration {
    struct memstore_enumeration *next, **at; /* in its queue */
    struct memstore_queue *queue;
    struct op *op;
    struct memstore_position position; /* of a count */
};

static void queue_push(struct memstore_queue *queue, struct memstore_enumeration *e)
{
    e->queue = queue;
    e->next = NULL;
    e->at = queue->last;
    *queue->last = e;
    queue->last = &e->next;
}

static void finish(struct memstore_enumeration *e, struct err err)
{
    *e->at = e->next;
    if (e->next != NULL)
        e->next->at = e->at;
    else
        e->queue->last = e->at;
    op_finish(e->op, err);
}

static struct memstore *store_of(const struct memstore_instance *instance)
{
    return CONTAINER_OF(instance->base.store, struct memstore, base);
}

static void take_page(struct memstore_instance *instance)
{
    struct memstore_enumeration *e = instance->pages.first;
    struct err err =
        memstore_page(store_of(instance), CONTAINER_OF(e->op, struct kv_scan_page, op));

    if (err.code != ERR_OK)
        counter_add(&instance->base.stats.errors, 1);
    finish(e, err);
}

/* At least one stretch, so that pages do not keep a count from its end. */
static void go_on_counting(struct memstore_instance *instance, uint64_t until_ns)
{
    struct memstore_enumeration *e;

    while ((e = instance->counts.first) != NULL) {
        struct kv_count *count = CONTAINER_OF(e->op, struct kv_count, op);

        memstore_count(store_of(instance), count->prefix, &e->position, COUNT_ENTRIES,
                       &count->count);
        if (e->position.at == MEMSTORE_END)
            finish(e, ERR_NONE);
        if (clock_now_ns() >= until_ns)
            return;
    }
}

static void land(struct memstore_instance *instance)
{
    if (instance->enumerating)
        return;
    instance->enumerating = true;
    worker_land(instance->base.home, &instance->enumerate);
}

static void run_job(struct job *job)
{
    struct memstore_instance *instance = CONTAINER_OF(job, struct memstore_instance, enumerate);
    uint64_t until_ns = clock_now_ns() + SLICE_US * 1000ull;

    instance->enumerating = false;
    if (instance->pages.first != NULL)
        take_page(instance);
    go_on_counting(instance, until_ns);
    if (instance->pages.first != NULL || instance->counts.first != NULL)
        land(instance);
}

static void on_cancel(struct op *op, struct err why)
{
    finish(op->backend_data, why);
}

static void begin(struct backend *backend, struct op *op, struct memstore_queue *queue)
{
    struct memstore_enumeration *e = arena_zalloc(op_arena(op), sizeof *e);

    counter_add(&backend->stats.calls, 1);
    e->op = op;
    op->backend_data = e;
    queue_push(queue, e);
    land(CONTAINER_OF(backend, struct memstore_instance, base));
    op_park(op, on_cancel);
}

static void page(struct backend *backend, struct kv_scan_page *page)
{
    begin(backend, &page->op, &CONTAINER_OF(backend, struct memstore_instance, base)->pages);
}

static void count(struct backend *backend, struct kv_count *count)
{
    count->count = 0;
    begin(backend, &count->op, &CONTAINER_OF(backend, struct memstore_instance, base)->counts);
}

const struct kv_scan memstore_scan = {
    .exactly_once = true, .max_items = 65536, .calls = "1", .page = page, .count = count};

void enumerate_init(struct memstore_instance *instance)
{
    instance->pages.last = &instance->pages.first;
    instance->counts.last = &instance->counts.first;
    instance->enumerate.run = run_job;
}

void enumerate_stop(struct memstore_instance *instance, struct err why)
{
    while (instance->pages.first != NULL)
        finish(instance->pages.first, why);
    while (instance->counts.first != NULL)
        finish(instance->counts.first, why);
}
