/* Multicasts under a message_id, on the fake. */
#ifndef PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_REMEMBERING_H
#define PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_REMEMBERING_H

#include "tests/pattern/multicast_registry/multicast.h"

enum { REMEMBERS = MASK | FAKE_BASIC | FAKE_TTL | FAKE_CAS, READERS = 4 };
enum { WINDOW_MS = 120000, LEASE_MS = 15000 };

static const char *const readers[READERS] = {"i0", "i1", "i2", "i3"};

static inline struct fake_rig *rig_with(unsigned mask)
{
    struct fake_rig *rig = unbound_with(mask, BOTH_SLOTS);

    fake_rig_set(rig, "retry_attempts", 1);
    fake_rig_bind(rig);
    enter(rig);
    return rig;
}

static inline struct call *begin(struct fake_rig *rig, const char *id, const char *text)
{
    pb_multicast_request request = to_all();

    request.message_id = pb_text(id);
    request.payload =
        (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
    return fake_call(rig, "Multicast", &request.base);
}

static inline struct call *send(struct fake_rig *rig, const char *id, const char *text)
{
    struct call *call = begin(rig, id, text);

    settle(rig, call);
    return call;
}

static inline void expect_refused(struct fake_rig *rig, const char *id, const char *text, int code)
{
    struct call *call = send(rig, id, text);

    assert_int_equal(call->status.code, code);
    fake_call_free(call);
}

static inline void expect_sent(struct fake_rig *rig, const char *id, const char *text, int failed)
{
    struct call *call = send(rig, id, text);
    const pb_multicast_response *answer = answer_of(call);

    assert_int_equal(answer->success, failed == 0);
    assert_int_equal(answer->target_count, TARGETS);
    assert_int_equal(answer->failed_count, failed);
    assert_int_equal(answer->delivered_count + answer->no_receiver_count, TARGETS - failed);
    fake_call_free(call);
}

/* How many messages the i-th reader has. */
static inline size_t got(const struct call *call, size_t i)
{
    const pb_multicast_message *messages[256];
    size_t n = sent_messages(call, messages, ARRAY_LEN(messages)), count = 0;

    for (size_t m = 0; m < n; m++) {
        for (size_t j = 0; j < messages[m]->n_identities; j++)
            count += strcmp(messages[m]->identities[j], readers[i]) == 0;
    }
    return count;
}

static inline void expect_got(struct fake_rig *rig, const struct call *call, size_t each)
{
    fake_rig_run(rig);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(got(call, i), each);
}

#endif
