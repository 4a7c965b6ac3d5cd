/* One worker of its own runs the backends, one slot after the other:
 * store_open -> open (on the worker) -> probe, again until it succeeds or the time is up -> close
 * -> store_close. Backends connect in the background and refuse calls until they have, hence
 * "again". */
#include "client/prismctl/probe.h"

#include "pool/op.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

enum { INTERVAL_MS = 50 };

struct attempt {
    struct backend_store *store;
    struct worker *worker;
    struct backend *instance;
    uint64_t deadline_ns;
    struct op op;
    struct op_group group;
    struct arena arena;
    struct err err;
    sem_t over; /* posted when the group is idle, or the instance closed */
};

static void open_here(void *arg)
{
    struct attempt *attempt = arg;

    attempt->instance = attempt->store->type->open(attempt->store, attempt->worker);
}

static void probed(struct op *op)
{
    struct attempt *attempt = CONTAINER_OF(op, struct attempt, op);

    attempt->err = op->err;
}

static void idle(struct op_group *group)
{
    struct attempt *attempt = CONTAINER_OF(group, struct attempt, group);

    sem_post(&attempt->over);
}

static void probe_here(void *arg)
{
    struct attempt *attempt = arg;

    op_group_init(&attempt->group, attempt->worker, &attempt->arena, attempt->deadline_ns);
    attempt->group.idle = idle;
    op_start(&attempt->op, &attempt->group, probed);
    attempt->instance->type->probe(attempt->instance, &attempt->op);
}

static void closed(void *arg)
{
    sem_post(&((struct attempt *)arg)->over);
}

static void close_here(void *arg)
{
    struct attempt *attempt = arg;

    attempt->instance->type->close(attempt->instance, closed, attempt);
}

static void await(sem_t *over)
{
    while (sem_wait(over) != 0 && errno == EINTR)
        ;
}

static void pause_ms(uint32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static struct err probe_until(struct attempt *attempt)
{
    if (attempt->instance->type->probe == NULL)
        return ERR_NONE;
    for (;;) {
        worker_run_sync(attempt->worker, probe_here, attempt);
        await(&attempt->over);
        if (attempt->err.code != ERR_UNAVAILABLE ||
            clock_now_ns() + INTERVAL_MS * NS_PER_MS >= attempt->deadline_ns)
            return attempt->err;
        pause_ms(INTERVAL_MS);
    }
}

static void add_fault(struct faults *faults, struct fault fault)
{
    if (faults->count < CONFIG_MAX_FAULTS)
        faults->items[faults->count++] = fault;
    else
        faults->omitted++;
}

static bool offers_any(const struct backend_interfaces *has, const enum backend_interface *any_of)
{
    if (any_of == NULL)
        return true;
    for (; *any_of != BACKEND_INTERFACE_COUNT; any_of++) {
        if (backend_offers(has, *any_of))
            return true;
    }
    return false;
}

static void check_interfaces(const struct backend_interfaces *has, const struct slot_schema *schema,
                             struct fault fault, struct faults *faults)
{
    for (const enum backend_interface *i = schema->required;
         i != NULL && *i != BACKEND_INTERFACE_COUNT; i++) {
        if (backend_offers(has, *i))
            continue;
        fault.interface = backend_interface_name(*i);
        fault.message =
            arena_printf(&faults->arena, "the connected server does not offer %s", fault.interface);
        add_fault(faults, fault);
    }
    if (offers_any(has, schema->any_of))
        return;
    fault.interface = backend_interface_name(schema->any_of[0]);
    fault.message = "the connected server offers none of the interfaces that the slot can use";
    add_fault(faults, fault);
}

static struct err try_slot(struct attempt *attempt, const struct slot_schema *schema,
                           struct fault fault, struct faults *faults)
{
    struct err err;

    sem_init(&attempt->over, 0, 0);
    arena_init(&attempt->arena, NULL);
    worker_run_sync(attempt->worker, open_here, attempt);
    err = probe_until(attempt);
    if (err.code == ERR_OK)
        check_interfaces(&attempt->instance->has, schema, fault, faults);
    worker_run_sync(attempt->worker, close_here, attempt);
    await(&attempt->over);
    sem_destroy(&attempt->over);
    return err;
}

/* What the backend says of itself is more than that the time was up. */
static const char *late_text(struct backend_health health)
{
    if (health.state == BACKEND_DOWN)
        return health.text;
    return health.state == BACKEND_CONNECTING ? "no connection came about in time"
                                              : "no answer came in time";
}

static const char *what_failed(const struct attempt *attempt, struct err err, struct arena *arena)
{
    const char *place = attempt->store->place;
    const char *why =
        err.code == ERR_DEADLINE_EXCEEDED ? late_text(backend_health(attempt->store)) : err.text;

    if (place == NULL)
        return arena_strdup(arena, slice_str(why));
    return arena_printf(arena, "%s (%s)", why, place);
}

static void probe_slot(struct worker *worker, const struct config *config, size_t space_index,
                       size_t index, uint32_t timeout_ms, struct faults *faults)
{
    const struct config_namespace *space = &config->namespaces[space_index];
    const struct config_slot *slot = &space->slots[index];
    const struct slot_schema *schema = &space->pattern->slots[index];
    const struct backend_options options = {
        .namespace_name = space->name, .slot = schema->name, .values = slot->values};
    struct fault fault = {.line = slot->line, .slot = schema->name, .backend = slot->backend->name};
    struct attempt attempt = {.worker = worker,
                              .deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS};
    struct err err = slot->backend->store_open(&attempt.store, &options);

    fault.path =
        arena_printf(&faults->arena, "namespaces[%zu].slots.%s", space_index, schema->name);
    if (err.code == ERR_OK) {
        err = try_slot(&attempt, schema, fault, faults);
        if (err.code != ERR_OK)
            fault.message = what_failed(&attempt, err, &faults->arena);
        slot->backend->store_close(attempt.store);
    } else {
        fault.message = arena_strdup(&faults->arena, slice_str(err.text));
    }
    if (err.code != ERR_OK)
        add_fault(faults, fault);
    arena_clear(&attempt.arena);
}

void probe_backends(const struct config *config, uint32_t timeout_ms, struct faults *faults)
{
    const struct pool_options options = {.workers = 1, .intake_depth = 2};
    struct pool *pool = NULL;
    struct err err;

    log_configure(LOG_OFF, 2); /* faults say what backends would log */
    err = pool_start(&pool, &options);
    if (err.code != ERR_OK) {
        add_fault(faults, (struct fault){.path = "", .message = err.text});
        return;
    }
    for (size_t i = 0; i < config->namespace_count; i++) {
        const struct config_namespace *space = &config->namespaces[i];

        for (size_t slot = 0; slot < space->pattern->slot_count; slot++) {
            if (space->slots[slot].backend != NULL)
                probe_slot(pool_worker(pool, 0), config, i, slot, timeout_ms, faults);
        }
    }
    pool_stop(pool);
}
