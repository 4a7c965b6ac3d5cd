/* The end of the namespaces, after the drain, while workers still run. Each step begins everywhere
 * at once and then waits for all: a client library may take seconds to close, and seconds for each
 * worker and slot would add up.
 *
 *   patterns stop    what outlives calls ends (subscriptions, redelivery)
 *   stores stop      what was accepted and not yet sent goes out, until the deadline
 *   unbind, close    patterns first, then their instances, on each worker
 *   close_shared     what the instances had in common */
#include "src/slots_priv.h"

#include "pool/worker.h"
#include "src/base/log.h"

#include <semaphore.h>
#include <stdlib.h>

struct closing {
    struct slots *slots;
    unsigned worker;  /* on which a step runs now */
    unsigned waiting; /* main, and a worker while main waits for it in slots_run_on */
    sem_t over;       /* one for each that is waited for */
    _Atomic uint64_t undelivered;
};

static void on_over(void *arg)
{
    sem_post(&((struct closing *)arg)->over);
}

static void await_all(struct closing *closing)
{
    while (closing->waiting > 0) {
        if (sem_wait(&closing->over) == 0)
            closing->waiting--;
    }
}

static void on_each_worker(struct closing *closing, void (*fn)(void *))
{
    for (unsigned w = 0; w < closing->slots->workers; w++) {
        closing->worker = w;
        slots_run_on(closing->slots, w, fn, closing);
    }
    await_all(closing);
}

/* ---- patterns ---- */

static struct pattern *pattern_at(const struct space *space, unsigned worker)
{
    return space->patterns != NULL ? space->patterns[worker] : NULL;
}

static void stop_here(void *arg)
{
    struct closing *closing = arg;

    for (size_t i = 0; i < closing->slots->space_count; i++) {
        struct pattern *pattern = pattern_at(&closing->slots->spaces[i], closing->worker);

        if (pattern == NULL || pattern->type->stop == NULL)
            continue;
        closing->waiting++;
        pattern->type->stop(pattern, on_over, closing);
    }
}

/* ---- stores ---- */

struct stopping {
    struct closing *closing;
    const struct slot *slot;
};

static void on_stopped(void *arg, uint64_t undelivered)
{
    struct stopping *stopping = arg;
    const struct slot *slot = stopping->slot;

    if (undelivered > 0)
        log_event(LOG_ERROR, "undelivered", LOG_S("namespace", slot->space->config->name),
                  LOG_S("slot", slot->schema->name), LOG_S("backend", slot->store->type->name),
                  LOG_U("messages", undelivered));
    atomic_fetch_add(&stopping->closing->undelivered, undelivered);
    on_over(stopping->closing);
}

static void stop_stores(struct closing *closing, uint64_t deadline_ns)
{
    struct slots *slots = closing->slots;
    struct stopping *stopping = calloc(slots->filled_count + 1, sizeof *stopping);

    if (stopping == NULL)
        abort();
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot *slot = slots->filled[i];

        stopping[i] = (struct stopping){.closing = closing, .slot = slot};
        if (slot->store->type->store_stop == NULL || slot->stopped || slot->borrowed)
            continue;
        slot->stopped = true;
        closing->waiting++;
        slot->store->type->store_stop(slot->store, deadline_ns, on_stopped, &stopping[i]);
    }
    await_all(closing);
    free(stopping);
}

/* ---- instances ---- */

static void close_space_here(struct closing *closing, struct space *space)
{
    const struct pattern_type *type = space->config->pattern;
    struct pattern *pattern = pattern_at(space, closing->worker);

    if (pattern != NULL) {
        type->unbind(pattern);
        space->patterns[closing->worker] = NULL;
    }
    for (size_t i = 0; i < type->slot_count; i++) {
        struct slot *slot = &space->slots[i];
        struct backend *instance = slot->store != NULL ? slot->instances[closing->worker] : NULL;

        if (instance == NULL)
            continue;
        slot->instances[closing->worker] = NULL;
        closing->waiting++;
        instance->type->close(instance, on_over, closing);
    }
}

static void close_here(void *arg)
{
    struct closing *closing = arg;

    for (size_t i = 0; i < closing->slots->space_count; i++)
        close_space_here(closing, &closing->slots->spaces[i]);
}

static void close_shared(struct slots *slots)
{
    for (size_t i = 0; i < slots->space_count; i++) {
        struct space *space = &slots->spaces[i];

        if (space->shared != NULL)
            space->config->pattern->close_shared(space->shared);
        space->shared = NULL;
    }
}

uint64_t slots_close(struct slots *slots, uint64_t deadline_ns)
{
    struct closing closing = {.slots = slots};

    if (slots == NULL)
        return 0;
    sem_init(&closing.over, 0, 0);
    on_each_worker(&closing, stop_here);
    stop_stores(&closing, deadline_ns);
    on_each_worker(&closing, close_here);
    close_shared(slots);
    sem_destroy(&closing.over);
    return atomic_load(&closing.undelivered);
}
