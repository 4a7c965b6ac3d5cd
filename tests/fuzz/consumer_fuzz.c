/* Any bytes as requests of the consumer pattern, on the embedded store or on a fake one whose
 * stream holds a few messages and which fails, loses answers, waits or finishes out of order, with
 * and without the other slots. Beyond not crashing, the call layer of tests requires: one end,
 * answers that decode and fit a message, nothing pending, an empty arena.
 *
 * input: method, world, step, then the request; of a stream, frames of a length byte and so many
 * bytes. The topic "t" has the messages. */
#include "tests/fuzz/fuzz.h"

#include "patterns/consumer/consumer.h"
#include "src/base/log.h"
#include "tests/fuzz/play.h"

enum { HEAD = 3, MESSAGE_BYTES = 16 * 1024, PUBLISHED = 5, ALL_SLOTS = 15 };
enum { MASK = FAKE_STREAM | FAKE_BASIC | FAKE_TTL | FAKE_CAS };

/* Bits of the second byte. */
enum { REAL = 1, PARKED = 2, SHUFFLED = 4, FAILS = 8, CANCELLED = 16, SLOTS = 32, LOSES = 64 };

static void make_world(struct fake_rig *rig, unsigned bits, unsigned step)
{
    rig->max_message_bytes = MESSAGE_BYTES;
    rig->slots = bits & SLOTS ? ALL_SLOTS : 1;
    rig->world.messages.partitions = step % 3;
    rig->world.messages.faults.reorder = step % 2 == 1;
    fake_rig_set(rig, "max_attempts", step % 4);
    fake_rig_set(rig, "max_in_flight", 1 + step % 8);
    fake_rig_set(rig, "max_frame_messages", 1 + step % 5);
    fake_rig_set(rig, "retry_delay_ms", step % 2 * 100);
    if (bits & REAL)
        fake_rig_bind_real(rig, "memstore");
    else
        fake_rig_bind(rig);
}

static void publish_some(struct fake_rig *rig)
{
    static const char *const keys[] = {"k", "l", NULL};

    for (size_t i = 0; i < PUBLISHED; i++) {
        const char *key = keys[i % (sizeof keys / sizeof *keys)];
        struct outgoing item = {.topic = slice_str("t"),
                                .key = key != NULL ? slice_str(key) : message_null(),
                                .payload = slice_str("payload")};

        (void)fake_rig_publish(rig, &item);
    }
}

static void make_faults(struct fake_world *world, unsigned bits, unsigned step)
{
    world->mode = bits & PARKED ? FAKE_PARKED : FAKE_AT_ONCE;
    world->order = bits & SHUFFLED ? FAKE_SHUFFLED : FAKE_FIRST_FIRST;
    world->fail_at = bits & FAILS ? PUBLISHED + step + 1 : 0;
    world->messages.faults.lose_at = bits & LOSES ? PUBLISHED + step + 1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct service *service = pattern_consumer.services[0];
    struct fake_rig rig;

    if (size < HEAD)
        return 0;
    log_configure(LOG_OFF, 2);
    fake_rig_init(&rig, &pattern_consumer, MASK);
    make_world(&rig, data[1], data[2]);
    if ((data[1] & REAL) == 0)
        publish_some(&rig);
    make_faults(&rig.world, data[1], data[2]);
    play_whole(&rig, &service->methods[data[0] % service->method_count], data + HEAD, size - HEAD,
               data[2], (data[1] & CANCELLED) != 0);
    fake_rig_clear(&rig);
    return 0;
}
