/* Any bytes as the request of any method of the session store, on the embedded store or on a fake
 * one that fails, waits or finishes out of order. Beyond not crashing, the call layer of tests
 * requires: one end, an answer that decodes and fits a message, nothing pending, an empty arena.
 *
 * input: method, world, step, then the request. The fake knows the session "s" of the user "u". */
#include "tests/fuzz/fuzz.h"

#include "patterns/session_store/session_store.h"
#include "src/base/log.h"
#include "tests/fake/fake_call.h"

enum { HEAD = 3, MESSAGE_BYTES = 256 * 1024 };

/* Bits of the second byte. */
enum { REAL = 1, PARKED = 2, SHUFFLED = 4, FAILS = 8, CANCELLED = 16, LIMITED = 32 };

static void make_world(struct fake_rig *rig, unsigned bits, unsigned step)
{
    struct fake_world *world = &rig->world;

    rig->max_message_bytes = MESSAGE_BYTES;
    if (bits & LIMITED) {
        fake_rig_set(rig, "max_sessions_per_user", 1);
        fake_rig_set(rig, "max_session_bytes", 1024);
        fake_rig_set_text(rig, "on_user_limit", step % 2 == 0 ? "refuse" : "end_oldest");
    }
    world->mode = bits & PARKED ? FAKE_PARKED : FAKE_AT_ONCE;
    world->order = bits & SHUFFLED ? FAKE_SHUFFLED : FAKE_FIRST_FIRST;
    world->fail_at = bits & FAILS ? step + 1 : 0;
    world->page_limit = 1 + step % 5;
    if (bits & REAL)
        fake_rig_bind_real(rig, "memstore");
    else
        fake_rig_bind(rig);
    fake_session(world, "s", "u");
    fake_session(world, "t", "u");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct service *service = pattern_session_store.services[0];
    struct fake_rig rig;

    if (size < HEAD)
        return 0;
    log_configure(LOG_OFF, 2);
    fake_rig_init(&rig, &pattern_session_store, FAKE_SESSION);
    make_world(&rig, data[1], data[2]);

    struct call *call = fake_call_bytes(&rig, &service->methods[data[0] % service->method_count],
                                        data + HEAD, size - HEAD);

    for (unsigned step = 0; step < data[2] && fake_release(&rig.world, 1) > 0; step++)
        fake_rig_drain(&rig);
    if (data[1] & CANCELLED)
        fake_call_cancel(call);
    fake_rig_run(&rig);
    fake_call_free(call);
    fake_rig_clear(&rig);
    return 0;
}
