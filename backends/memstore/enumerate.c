/* What takes more than a moment goes by slices. A count of a large store takes a second of work, a
 * page a millisecond, a batch of registrations ten: those of one instance stand in two queues, and
 * a job that lands itself again does a slice of about a millisecond at a time. So a neighbour waits
 * for one slice, not for a thousand pages, and between two slices an operation can be cancelled.
 *
 *   method    enumerate_begin: into a queue, op_park; the job is landed unless it is already
 *   run_job   one slice of the first in `turns`, and what is left of the time for the first count
 *   cancel    out of the queue; op_finish */
#include "backends/memstore/instance.h"
#include "src/base/container.h"

enum { SLICE_US = 1000, COUNT_ENTRIES = 1024 /* some 200 us, if all miss the cache */ };

static void queue_push(struct memstore_queue *queue, struct memstore_errand *errand)
{
    errand->queue = queue;
    errand->next = NULL;
    errand->at = queue->last;
    *queue->last = errand;
    queue->last = &errand->next;
}

static void finish(struct memstore_errand *errand, struct err err)
{
    *errand->at = errand->next;
    if (errand->next != NULL)
        errand->next->at = errand->at;
    else
        errand->queue->last = errand->at;
    op_finish(errand->op, err);
}

static struct memstore *store_of(const struct memstore_instance *instance)
{
    return CONTAINER_OF(instance->base.store, struct memstore, base);
}

static void slice_of_first(struct memstore_instance *instance, struct memstore_queue *queue)
{
    struct memstore_errand *errand = queue->first;

    if (errand->slice(errand))
        return;
    if (errand->err.code != ERR_OK)
        counter_add(&instance->base.stats.errors, 1);
    finish(errand, errand->err);
}

static void land(struct memstore_instance *instance)
{
    if (instance->enumerating)
        return;
    instance->enumerating = true;
    worker_land(instance->base.home, &instance->enumerate);
}

/* One slice of a count at least, so that others do not keep it from its end. */
static void run_job(struct job *job)
{
    struct memstore_instance *instance = CONTAINER_OF(job, struct memstore_instance, enumerate);
    uint64_t until_ns = clock_now_ns() + SLICE_US * 1000ull;

    instance->enumerating = false;
    if (instance->turns.first != NULL)
        slice_of_first(instance, &instance->turns);
    while (instance->counts.first != NULL) {
        slice_of_first(instance, &instance->counts);
        if (clock_now_ns() >= until_ns)
            break;
    }
    if (instance->turns.first != NULL || instance->counts.first != NULL)
        land(instance);
}

static void on_cancel(struct op *op, struct err why)
{
    struct memstore_errand *errand = op->backend_data;

    finish(errand, errand->done > 0 ? err_lost(why) : why);
}

void enumerate_begin(struct memstore_instance *instance, struct memstore_queue *queue,
                     struct op *op, bool (*slice)(struct memstore_errand *))
{
    struct memstore_errand *errand = arena_zalloc(op_arena(op), sizeof *errand);

    counter_add(&instance->base.stats.calls, 1);
    errand->store = store_of(instance);
    errand->op = op;
    errand->slice = slice;
    op->backend_data = errand;
    queue_push(queue, errand);
    land(instance);
    op_park(op, on_cancel);
}

/* ---- kv_scan ---- */

static bool page_slice(struct memstore_errand *errand)
{
    errand->err = memstore_page(errand->store, CONTAINER_OF(errand->op, struct kv_scan_page, op));
    return false;
}

static void page(struct backend *backend, struct kv_scan_page *page)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    enumerate_begin(instance, &instance->turns, &page->op, page_slice);
}

static bool count_slice(struct memstore_errand *errand)
{
    struct kv_count *count = CONTAINER_OF(errand->op, struct kv_count, op);

    memstore_count(errand->store, count->prefix, &errand->position, COUNT_ENTRIES, &count->count);
    return errand->position.at != MEMSTORE_END;
}

static void count(struct backend *backend, struct kv_count *count)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    count->count = 0;
    enumerate_begin(instance, &instance->counts, &count->op, count_slice);
}

const struct kv_scan memstore_scan = {
    .exactly_once = true, .max_items = 65536, .calls = "1", .page = page, .count = count};

void enumerate_init(struct memstore_instance *instance)
{
    instance->turns.last = &instance->turns.first;
    instance->counts.last = &instance->counts.first;
    instance->enumerate.run = run_job;
}

void enumerate_stop(struct memstore_instance *instance, struct err why)
{
    while (instance->turns.first != NULL)
        finish(instance->turns.first, why);
    while (instance->counts.first != NULL)
        finish(instance->counts.first, why);
}
