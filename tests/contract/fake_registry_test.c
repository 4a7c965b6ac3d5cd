/* The contracts of the registry and of sessions on the fake world: at once, and with operations
 * that finish on another thread. */
#include "tests/contract/registry_contract.h"
#include "tests/contract/session_contract.h"
#include "tests/fake/fake_backend.h"

#include <stdlib.h>

struct fake_fixture {
    struct kv_fixture kv; /* first */
    struct worker worker;
    struct fake_world world;
};

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static void pass_ms(struct kv_fixture *kv, unsigned ms)
{
    ((struct fake_fixture *)kv)->world.now_ms += ms;
}

static int open_world(void **state)
{
    struct fake_fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    worker_init(&fixture->worker, 0, no_wake);
    fake_world_init(&fixture->world, FAKE_REGISTRY | FAKE_SESSION);
    fixture->kv.worker = &fixture->worker;
    fixture->kv.pass_ms = pass_ms;
    kv_fixture_init(&fixture->kv);
    fixture->kv.backend = fake_open(&fixture->world, &fixture->worker);
    *state = fixture;
    return 0;
}

static int open_threaded(void **state)
{
    open_world(state);
    ((struct fake_fixture *)*state)->world.mode = FAKE_THREAD;
    return 0;
}

static int close_world(void **state)
{
    struct fake_fixture *fixture = *state;

    kv_fixture_clear(&fixture->kv);
    fake_world_clear(&fixture->world);
    worker_clear(&fixture->worker);
    free(fixture);
    return 0;
}

/* The world has one instance. */
static struct backend *same(struct kv_fixture *kv)
{
    return kv->backend;
}

int main(void)
{
    int failed = registry_contract("fake", open_world, close_world, NULL) +
                 registry_contract("fake, threaded", open_threaded, close_world, NULL) +
                 session_contract("fake", open_world, close_world, same);

    return failed != 0;
}
