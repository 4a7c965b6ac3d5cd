/* Any bytes as requests of the producer pattern, on the embedded store or on a fake one that fails,
 * loses answers, waits or finishes out of order, with and without a state store and an object
 * store. Beyond not crashing, the call layer of tests requires: one end, answers that decode and
 * fit a message, nothing pending, an empty arena.
 *
 * input: method, world, step, then the request; of a stream, frames of a length byte and so many
 * bytes. */
#include "tests/fuzz/fuzz.h"

#include "patterns/producer/producer.h"
#include "src/base/log.h"
#include "tests/fuzz/play.h"

enum { HEAD = 3, MESSAGE_BYTES = 16 * 1024 };
enum { MASK = FAKE_STREAM | FAKE_BASIC | FAKE_TTL | FAKE_CAS, ALL_SLOTS = 7 };

/* Bits of the second byte. */
enum { REAL = 1, PARKED = 2, SHUFFLED = 4, FAILS = 8, CANCELLED = 16, SLOTS = 32, LOSES = 64 };

static void make_world(struct fake_rig *rig, unsigned bits, unsigned step)
{
    struct fake_world *world = &rig->world;

    rig->max_message_bytes = MESSAGE_BYTES;
    rig->slots = bits & SLOTS ? ALL_SLOTS : 1;
    world->mode = bits & PARKED ? FAKE_PARKED : FAKE_AT_ONCE;
    world->order = bits & SHUFFLED ? FAKE_SHUFFLED : FAKE_FIRST_FIRST;
    world->fail_at = bits & FAILS ? step + 1 : 0;
    world->messages.faults.lose_at = bits & LOSES ? step + 1 : 0;
    world->messages.stream.sink.keyed = step % 2 == 0;
    fake_rig_set(rig, "claim_check_threshold", 4);
    fake_rig_set(rig, "retry_for_ms", 100);
    fake_rig_set(rig, "window", 1 + step % 8);
    if (bits & REAL)
        fake_rig_bind_real(rig, "memstore");
    else
        fake_rig_bind(rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct service *service = pattern_producer.services[0];
    const struct method *method;
    struct fake_rig rig;

    if (size < HEAD)
        return 0;
    log_configure(LOG_OFF, 2);
    method = &service->methods[data[0] % service->method_count];
    fake_rig_init(&rig, &pattern_producer, MASK);
    make_world(&rig, data[1], data[2]);
    play_whole(&rig, method, data + HEAD, size - HEAD, data[2], (data[1] & CANCELLED) != 0);
    fake_rig_clear(&rig);
    return 0;
}
