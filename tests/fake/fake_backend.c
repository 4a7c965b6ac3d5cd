/* How operations arrive, wait and finish.
 *
 * at once   arrive -> apply -> op_finish
 * parked    arrive -> held -> fake_release: apply, op_finish; or cancelled: op_finish, no effect
 * thread    arrive -> apply -> handed to the thread -> op_finish there */
#include "tests/fake/fake_backend.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <string.h>

struct fake_held {
    struct fake_held *next;
    struct fake_world *world;
    struct op *op;
    struct err (*apply)(struct fake_world *, struct op *);
    struct err err;
};

/* ---- finishing ---- */

static void finish(struct fake_world *world, struct op *op, struct err err)
{
    world->in_flight--;
    op_finish(op, err);
}

/* A server's own words, as those of a real backend: they live as long as the op's outputs. */
struct err fake_told(const struct op *op, struct err err)
{
    if (err.text != NULL)
        err.text = arena_strdup(op_arena(op), slice_str(err.text));
    return err;
}

static struct err outcome(struct fake_world *world, struct op *op, uint64_t number,
                          struct err (*apply)(struct fake_world *, struct op *))
{
    uint64_t last = world->fail_last != 0 ? world->fail_last : world->fail_at;

    if (world->fail_at != 0 && number >= world->fail_at && number <= last)
        return fake_told(op, world->fail_with);

    struct err err = fake_told(op, apply(world, op));

    if (err.code == ERR_OK && number == world->messages.faults.lose_at)
        return err_lost(err_make(ERR_UNAVAILABLE, "the fake lost the answer"));
    return err;
}

/* ---- parked ---- */

struct numbered {
    struct fake_held held;
    uint64_t number;
};

static void unhold(struct fake_world *world, struct fake_held *held)
{
    struct fake_held **at = &world->held;

    while (*at != held)
        at = &(*at)->next;
    *at = held->next;
    if (world->held_end == &held->next)
        world->held_end = at;
}

static void cancel(struct op *op, struct err why)
{
    struct fake_held *held = op->backend_data;
    struct fake_world *world = held->world;

    unhold(world, held);
    free(held);
    world->cancelled++;
    finish(world, op, why);
}

static struct fake_held *hold(struct fake_world *world, struct op *op,
                              struct err (*apply)(struct fake_world *, struct op *))
{
    struct numbered *numbered = calloc(1, sizeof *numbered);

    if (numbered == NULL)
        abort();
    numbered->number = world->ops;
    numbered->held = (struct fake_held){.world = world, .op = op, .apply = apply};
    return &numbered->held;
}

static struct fake_held *pick(struct fake_world *world)
{
    struct fake_held *held = world->held;
    size_t n = 0, skip = 0;

    for (struct fake_held *h = held; h != NULL; h = h->next)
        n++;
    if (world->order == FAKE_LAST_FIRST)
        skip = n - 1;
    if (world->order == FAKE_SHUFFLED) {
        world->shuffle = world->shuffle * 1103515245u + 12345u;
        skip = (world->shuffle >> 16) % n;
    }
    while (skip-- > 0)
        held = held->next;
    return held;
}

size_t fake_release(struct fake_world *world, size_t n)
{
    size_t released = 0;

    while (released < n && world->held != NULL) {
        struct fake_held *held = pick(world);
        struct numbered *numbered = CONTAINER_OF(held, struct numbered, held);
        struct op *op = held->op;
        struct err err = outcome(world, op, numbered->number, held->apply);

        unhold(world, held);
        free(numbered);
        finish(world, op, err);
        released++;
    }
    return released;
}

/* ---- from another thread ---- */

static void *thread_main(void *arg)
{
    struct fake_world *world = arg;

    pthread_mutex_lock(&world->lock);
    while (!world->stopping || world->handed != NULL) {
        struct fake_held *held = world->handed;

        if (held == NULL) {
            pthread_cond_wait(&world->changed, &world->lock);
            continue;
        }
        world->handed = held->next;
        if (world->handed == NULL)
            world->handed_end = &world->handed;
        pthread_mutex_unlock(&world->lock);
        op_finish(held->op, held->err);
        free(held);
        pthread_mutex_lock(&world->lock);
    }
    pthread_mutex_unlock(&world->lock);
    return NULL;
}

static void hand_over(struct fake_world *world, struct op *op, struct err err)
{
    struct fake_held *held = hold(world, op, NULL);

    held->err = err;
    world->in_flight--;
    op_park(op, NULL);
    if (!world->thread_runs) {
        world->thread_runs = true;
        if (pthread_create(&world->thread, NULL, thread_main, world) != 0)
            abort();
    }
    pthread_mutex_lock(&world->lock);
    *world->handed_end = held;
    world->handed_end = &held->next;
    pthread_cond_signal(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

/* ---- arriving ---- */

void fake_arrive(struct fake_world *world, struct op *op,
                 struct err (*apply)(struct fake_world *, struct op *))
{
    worker_assert_home(world->base.home);
    world->ops++;
    world->in_flight++;
    if (world->in_flight > world->max_in_flight)
        world->max_in_flight = world->in_flight;
    if (world->mode == FAKE_AT_ONCE) {
        finish(world, op, outcome(world, op, world->ops, apply));
        return;
    }
    if (world->mode == FAKE_THREAD) {
        hand_over(world, op, outcome(world, op, world->ops, apply));
        return;
    }

    struct fake_held *held = hold(world, op, apply);

    *world->held_end = held;
    world->held_end = &held->next;
    op->backend_data = held;
    op_park(op, cancel);
}

/* ---- the world ---- */

static void cut(struct fake_world *world, struct backend_interfaces *has, unsigned mask)
{
    *has = fake_interfaces;
    has->topic = (mask & FAKE_TOPIC) != 0 ? &world->messages.topic : NULL;
    has->stream = (mask & FAKE_STREAM) != 0 ? &world->messages.stream : NULL;
    has->queue = (mask & FAKE_QUEUE) != 0 ? &world->messages.queue : NULL;
    has->registry = (mask & FAKE_REGISTRY) != 0 ? &world->registry.methods : NULL;
    has->session = (mask & FAKE_SESSION) != 0 ? &world->sessions.methods : NULL;
    if ((mask & FAKE_WINDOW) == 0)
        has->kv_basic = &fake_basic_without_window;
    if ((mask & FAKE_BASIC) == 0)
        has->kv_basic = NULL;
    if ((mask & FAKE_TTL) == 0)
        has->kv_ttl = NULL;
    if ((mask & FAKE_SCAN) == 0)
        has->kv_scan = NULL;
    if ((mask & FAKE_BATCH) == 0)
        has->kv_batch = NULL;
    if ((mask & FAKE_TXN) == 0)
        has->kv_txn = NULL;
    if ((mask & FAKE_CAS) == 0)
        has->kv_cas = NULL;
}

void fake_world_init(struct fake_world *world, unsigned mask)
{
    *world = (struct fake_world){
        .type = {.name = "fake", .doc = "A world for tests."},
        .fail_with = err_make(ERR_UNAVAILABLE, "the fake was told to fail"),
        .shuffle = 1,
    };
    fake_messages_init(world);
    fake_registry_init(world);
    fake_sessions_init(world);
    cut(world, &world->type.interfaces, mask);
    world->store.type = &world->type;
    world->held_end = &world->held;
    world->handed_end = &world->handed;
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->changed, NULL);
}

void fake_world_clear(struct fake_world *world)
{
    if (world->thread_runs) {
        pthread_mutex_lock(&world->lock);
        world->stopping = true;
        pthread_cond_signal(&world->changed);
        pthread_mutex_unlock(&world->lock);
        pthread_join(world->thread, NULL);
    }
    if (world->held != NULL)
        abort(); /* an operation was started and never finished */
    pthread_mutex_destroy(&world->lock);
    pthread_cond_destroy(&world->changed);
    fake_table_clear(world);
    fake_messages_clear(world);
    fake_registry_clear(world);
    fake_sessions_clear(world);
}

void fake_world_offer(struct fake_world *world, unsigned mask)
{
    cut(world, &world->base.has, mask);
    atomic_fetch_add(&world->store.facts_version, 1);
}

struct backend *fake_open(struct fake_world *world, struct worker *worker)
{
    world->base = (struct backend){
        .type = &world->type,
        .store = &world->store,
        .home = worker,
        .has = world->type.interfaces,
        .limits = world->type.limits,
    };
    return &world->base;
}
