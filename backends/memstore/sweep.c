/* The sweeper: one instance whose timer reclaims expired keys. It is woken when the first shard
 * gets a deadline, and its timer is armed only while there are deadlines, so an idle store costs
 * nothing.
 *
 *   write with a ttl     a shard gets its first deadline: mortal_shards 0 -> 1, store->wake_sweep
 *   wake                 active false -> true: lands `wake` on the sweeper's worker
 *   on_wake, on_timer    a turn; more to do: another in a millisecond; else when the next deadline
 *                        is due, and after REST_MS at the latest
 *   no deadline left     active = false, then a second look at mortal_shards: a writer either finds
 *                        active false and wakes the sweeper, or has raised the number before that
 *                        look */
#include "backends/memstore/instance.h"
#include "backends/memstore/roster.h"
#include "backends/memstore/sessions.h"
#include "src/base/container.h"

#include <stdlib.h>

enum {
    SLICE_STEPS = 64, /* of one tick of the worker: ... */
    SLICES = 16,      /* so many slices at most, ... */
    TURN_US = 200,    /* or until so much time has passed */
    REST_MS = 1000, /* a nearer deadline may come meanwhile and waits so long; its key is invisible
                       in time */
};

void sweep_clear(struct memstore *store)
{
    pthread_mutex_destroy(&store->sweep.lock);
}

static struct memstore *store_of(const struct memstore_instance *instance)
{
    return CONTAINER_OF(instance->base.store, struct memstore, base);
}

static void land_wake(struct memstore_instance *sweeper)
{
    if (sweeper->woken)
        return;
    sweeper->woken = true;
    worker_land(sweeper->base.home, &sweeper->wake);
}

static void wake(struct memstore *store)
{
    struct memstore_sweep *sweep = &store->sweep;

    if (atomic_exchange(&sweep->active, true))
        return;
    pthread_mutex_lock(&sweep->lock);
    if (sweep->sweeper != NULL)
        land_wake(sweep->sweeper);
    else
        atomic_store(&sweep->active, false); /* whoever joins looks for work */
    pthread_mutex_unlock(&sweep->lock);
}

void sweep_init(struct memstore *store)
{
    pthread_mutex_init(&store->sweep.lock, NULL);
    store->wake_sweep = wake;
    atomic_init(&store->sweep.active, false);
}

/* Of identities and sessions; UINT64_MAX: none. */
static uint64_t next_ns(struct memstore *store)
{
    uint64_t roster_ns = roster_next_ns(store->roster);
    uint64_t sessions_ns = sessions_next_ns(store->sessions);

    return roster_ns < sessions_ns ? roster_ns : sessions_ns;
}

static bool has_deadlines(struct memstore *store)
{
    return atomic_load(&store->mortal_shards) > 0 || next_ns(store) != UINT64_MAX;
}

/* ---- the timer ---- */

static void on_timer(struct timer *timer);

/* ns from now; 0 = nothing has a deadline. */
static uint64_t rest_ns(struct memstore *store)
{
    uint64_t tick = expiry_next_tick(store), now_ns = memstore_now_ns(store);
    uint64_t most_ns = REST_MS * NS_PER_MS, least_ns = MEMSTORE_TICK_MS * NS_PER_MS;
    uint64_t others_ns = next_ns(store);

    if (others_ns != UINT64_MAX && others_ns / (MEMSTORE_TICK_MS * NS_PER_MS) < tick)
        tick = others_ns / (MEMSTORE_TICK_MS * NS_PER_MS);
    if (tick == UINT64_MAX)
        return 0;
    if (tick > (now_ns + most_ns) / (MEMSTORE_TICK_MS * NS_PER_MS))
        return most_ns;

    uint64_t at_ns = tick * MEMSTORE_TICK_MS * NS_PER_MS;

    return at_ns > now_ns + least_ns ? at_ns - now_ns : least_ns;
}

/* False: no work is left for now. */
static bool turn(struct memstore *store, struct memstore_instance *instance)
{
    uint64_t until_ns = clock_now_ns() + TURN_US * 1000;

    for (unsigned i = 0; i < SLICES; i++) {
        bool others = roster_reap(store->roster, SLICE_STEPS);

        others |= sessions_reap(store->sessions, SLICE_STEPS) == SLICE_STEPS;
        if (expiry_sweep(store, &instance->from, SLICE_STEPS) < SLICE_STEPS && !others)
            return false;
        if (clock_now_ns() >= until_ns)
            break;
    }
    return true;
}

static void sweep(struct memstore *store, struct memstore_instance *instance)
{
    uint64_t rest = NS_PER_MS;

    if (!turn(store, instance))
        rest = rest_ns(store);
    if (rest == 0) {
        atomic_store(&store->sweep.active, false);
        if (!has_deadlines(store) || atomic_exchange(&store->sweep.active, true))
            return;
        rest = MEMSTORE_TICK_MS * NS_PER_MS;
    }
    timer_arm(&instance->base.home->timers, &instance->timer, instance->base.home->now_ns + rest,
              on_timer);
}

static void on_timer(struct timer *timer)
{
    struct memstore_instance *instance = CONTAINER_OF(timer, struct memstore_instance, timer);

    sweep(store_of(instance), instance);
}

static void on_gone(struct job *job)
{
    struct memstore_instance *instance = CONTAINER_OF(job, struct memstore_instance, gone);
    void (*closed)(void *arg) = instance->closed;
    void *arg = instance->closed_arg;

    if (instance->enumerating) { /* that job is in this worker's lane, and comes first */
        worker_land(instance->base.home, job);
        return;
    }
    free(instance);
    closed(arg);
}

static void on_wake(struct job *job)
{
    struct memstore_instance *instance = CONTAINER_OF(job, struct memstore_instance, wake);
    struct memstore *store = store_of(instance);

    pthread_mutex_lock(&store->sweep.lock);

    bool closing = instance->closing;

    instance->woken = false;
    pthread_mutex_unlock(&store->sweep.lock);
    if (closing)
        on_gone(&instance->gone);
    else
        sweep(store, instance);
}

/* ---- instances come and go ---- */

static struct memstore_instance *choose(const struct memstore_sweep *sweep)
{
    for (struct memstore_instance *i = sweep->instances; i != NULL; i = i->next) {
        if (i->base.home->loop != NULL)
            return i;
    }
    return sweep->instances;
}

void sweep_join(struct memstore *store, struct memstore_instance *instance)
{
    struct memstore_sweep *sweep = &store->sweep;

    instance->wake.run = on_wake;
    instance->gone.run = on_gone;
    pthread_mutex_lock(&sweep->lock);
    instance->next = sweep->instances;
    sweep->instances = instance;
    if (!atomic_load(&sweep->active))
        sweep->sweeper = choose(sweep);
    pthread_mutex_unlock(&sweep->lock);
    if (has_deadlines(store))
        wake(store);
}

void sweep_leave(struct memstore *store, struct memstore_instance *instance)
{
    struct memstore_sweep *sweep = &store->sweep;
    struct memstore_instance **at;

    timer_disarm(&instance->base.home->timers, &instance->timer);
    pthread_mutex_lock(&sweep->lock);
    for (at = &sweep->instances; *at != instance; at = &(*at)->next)
        ;
    *at = instance->next;
    instance->closing = true;
    sweep->sweeper = choose(sweep);
    if (sweep->sweeper == NULL)
        atomic_store(&sweep->active, false);
    else if (atomic_load(&sweep->active))
        land_wake(sweep->sweeper); /* perhaps it was this one's timer; if not, one wake too many */

    bool woken = instance->woken;

    pthread_mutex_unlock(&sweep->lock);
    if (!woken)
        worker_land(instance->base.home, &instance->gone);
}
