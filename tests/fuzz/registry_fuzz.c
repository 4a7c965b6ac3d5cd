/* Any bytes as requests of the multicast registry, on the embedded store or on a fake one that
 * fails, loses answers, waits or finishes out of order, with and without durability. Beyond not
 * crashing, the call layer of tests requires: one end, answers that decode and fit a message,
 * nothing pending, an empty arena.
 *
 * input: method, world, step, then the request; of a stream, frames of a length byte and so many
 * bytes. The fake knows the identities "i0" to "i4". */
#include "tests/fuzz/fuzz.h"

#include "patterns/multicast_registry/multicast_registry.h"
#include "src/base/log.h"
#include "tests/fuzz/play.h"

#include <stdio.h>

enum { HEAD = 3, MESSAGE_BYTES = 16 * 1024, IDENTITIES = 5, TWO_SLOTS = 3, ALL_SLOTS = 7 };
enum { MASK = FAKE_REGISTRY | FAKE_TOPIC | FAKE_QUEUE | FAKE_BASIC | FAKE_TTL | FAKE_CAS };

/* Bits of the second byte. */
enum { REAL = 1, PARKED = 2, SHUFFLED = 4, FAILS = 8, CANCELLED = 16, SLOTS = 32, LOSES = 64 };

static void make_world(struct fake_rig *rig, unsigned bits, unsigned step)
{
    struct fake_world *world = &rig->world;

    rig->max_message_bytes = MESSAGE_BYTES;
    rig->slots = bits & SLOTS ? ALL_SLOTS : TWO_SLOTS;
    world->mode = bits & PARKED ? FAKE_PARKED : FAKE_AT_ONCE;
    world->order = bits & SHUFFLED ? FAKE_SHUFFLED : FAKE_FIRST_FIRST;
    world->fail_at = bits & FAILS ? step + 1 : 0;
    world->messages.faults.lose_at = bits & LOSES ? step + 1 : 0;
    world->page_limit = 1 + step % 5;
    if (bits & REAL)
        fake_rig_bind_real(rig, "memstore");
    else
        fake_rig_bind(rig);
    for (int i = 0; i < IDENTITIES; i++) {
        char name[8];

        snprintf(name, sizeof name, "i%d", i);
        fake_register(world, name, i % 2 == 0 ? "{\"a\": 1}" : NULL, i == 4 ? 1000 : 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct service *service = pattern_multicast_registry.services[0];
    struct fake_rig rig;

    if (size < HEAD)
        return 0;
    log_configure(LOG_OFF, 2);
    fake_rig_init(&rig, &pattern_multicast_registry, MASK);
    make_world(&rig, data[1], data[2]);
    play_whole(&rig, &service->methods[data[0] % service->method_count], data + HEAD, size - HEAD,
               data[2], (data[1] & CANCELLED) != 0);
    fake_rig_clear(&rig);
    return 0;
}
