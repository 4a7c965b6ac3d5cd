/* A call of any kind from any bytes, played to its end in virtual time. */
#ifndef PRISM_TESTS_FUZZ_PLAY_H
#define PRISM_TESTS_FUZZ_PLAY_H

#include "tests/fake/fake_call.h"

#include <stddef.h>
#include <stdint.h>

enum { PLAY_PATIENCE = 200, PLAY_STEP_MS = 50 };

static inline void play_on(struct fake_rig *rig)
{
    fake_rig_run(rig);
    fake_rig_advance(rig, PLAY_STEP_MS);
}

/* Each frame is a length byte and so many bytes, or the rest; then the client half-closes. */
static inline void play_frames(struct fake_rig *rig, struct call *call, const uint8_t *data,
                               size_t size)
{
    while (size > 0 && call->ends == 0) {
        size_t len = data[0] < size ? data[0] : size - 1;

        for (int i = 0; i < PLAY_PATIENCE && call->has_incoming; i++)
            play_on(rig);
        if (call->has_incoming || call->half_closed)
            return;
        fake_call_push_bytes(call, data + 1, len);
        fake_rig_drain(rig);
        data += 1 + len;
        size -= 1 + len;
    }
    if (call->ends == 0 && !call->has_incoming && !call->half_closed)
        fake_call_push(call, NULL);
}

/* The request of a unary or server-streaming method; the frames of a bidirectional one. */
static inline struct call *play(struct fake_rig *rig, const struct method *method,
                                const uint8_t *data, size_t size)
{
    struct call *call;

    if (method->kind != METHOD_BIDI)
        return fake_call_bytes(rig, method, data, size);
    call = fake_call(rig, method->path, NULL);
    play_frames(rig, call, data, size);
    return call;
}

/* Until it has ended: what waits for time gets it, and what waits for more is cancelled. */
static inline void play_out(struct fake_rig *rig, struct call *call)
{
    for (int i = 0; i < PLAY_PATIENCE && call->ends == 0; i++)
        play_on(rig);
    fake_call_cancel(call);
    for (int i = 0; i < PLAY_PATIENCE && call->group.pending > 0; i++)
        play_on(rig);
    fake_rig_run(rig);
}

/* A call to its end: so many of the world's operations are let go one by one first. Frees the call.
 */
static inline void play_whole(struct fake_rig *rig, const struct method *method,
                              const uint8_t *data, size_t size, unsigned steps, bool cancelled)
{
    struct call *call = play(rig, method, data, size);

    for (unsigned step = 0; step < steps && fake_release(&rig->world, 1) > 0; step++)
        fake_rig_drain(rig);
    if (cancelled)
        fake_call_cancel(call);
    play_out(rig, call);
    fake_call_free(call);
}

#endif
