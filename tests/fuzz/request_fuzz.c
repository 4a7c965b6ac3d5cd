/* Any bytes as the request of any registered method, on the embedded store or on a fake one that
 * fails, waits or finishes out of order. Beyond not crashing, the call layer of tests requires: one
 * end, an answer that decodes and fits a message, nothing pending, an empty arena.
 *
 * input: method, world, step, then the request. */
#include "tests/fuzz/fuzz.h"

#include "patterns/keyvalue/keyvalue.h"
#include "src/base/container.h"
#include "src/base/log.h"
#include "tests/fake/fake_call.h"

enum { HEAD = 3, MESSAGE_BYTES = 16 * 1024 };

/* Bits of the second byte. */
enum { REAL = 1, PARKED = 2, SHUFFLED = 4, FAILS = 8, CANCELLED = 16, SINGLE = 32, BARE = 64 };

static const struct method *method_at(size_t index)
{
    const struct service *const *services = pattern_keyvalue.services;
    size_t all = 0;

    for (size_t s = 0; services[s] != NULL; s++)
        all += services[s]->method_count;
    index %= all;
    for (size_t s = 0;; s++) {
        if (index < services[s]->method_count)
            return &services[s]->methods[index];
        index -= services[s]->method_count;
    }
}

static void make_world(struct fake_rig *rig, unsigned bits, unsigned step)
{
    struct fake_world *world = &rig->world;

    rig->max_message_bytes = MESSAGE_BYTES;
    rig->emulate = 1u << BACKEND_KV_BATCH;
    world->mode = bits & PARKED ? FAKE_PARKED : FAKE_AT_ONCE;
    world->order = bits & SHUFFLED ? FAKE_SHUFFLED : FAKE_FIRST_FIRST;
    world->fail_at = bits & FAILS ? step + 1 : 0;
    world->page_limit = 1 + step % 5;
    world->type.limits = (struct backend_limits){.key_bytes = 64, .value_bytes = 4096};
    if (bits & REAL)
        fake_rig_bind_real(rig, "memstore");
    else
        fake_rig_bind(rig);
    fake_put(world, "a", "1");
    fake_put(world, "b", "2");
    fake_put(world, "bb", "3");
}

/* A few calls before it, so that the embedded store is not empty. */
static void fill_store(struct fake_rig *rig)
{
    static const uint8_t store[] = {0x0a, 0x02, 'b', 'b', 0x12, 0x03, 'x', 'y', 'z'};
    struct call *call = fake_call_bytes(rig, fake_method(rig->type, "Store"), store, sizeof store);

    fake_rig_run(rig);
    fake_call_free(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_rig rig;
    unsigned mask = FAKE_ALL;

    if (size < HEAD)
        return 0;
    log_configure(LOG_OFF, 2);
    if (data[1] & SINGLE)
        mask &= ~(unsigned)FAKE_BATCH;
    if (data[1] & BARE)
        mask = FAKE_BASIC;
    fake_rig_init(&rig, &pattern_keyvalue, mask);
    make_world(&rig, data[1], data[2]);
    if (data[1] & REAL)
        fill_store(&rig);

    struct call *call = fake_call_bytes(&rig, method_at(data[0]), data + HEAD, size - HEAD);

    for (unsigned step = 0; step < data[2] && fake_release(&rig.world, 1) > 0; step++)
        fake_rig_drain(&rig);
    if (data[1] & CANCELLED)
        fake_call_cancel(call);
    fake_rig_run(&rig);
    fake_call_free(call);
    fake_rig_clear(&rig);
    return 0;
}
