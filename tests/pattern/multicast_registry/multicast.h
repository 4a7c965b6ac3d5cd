/* The pattern on the fake: its rig, its requests, its answers. */
#ifndef PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_MULTICAST_H
#define PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_MULTICAST_H

#include "patterns/messages.h"
#include "patterns/multicast_registry/messages.h"
#include "patterns/multicast_registry/multicast_registry.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MASK = FAKE_REGISTRY | FAKE_TOPIC,
    BOTH_SLOTS = 3,
    ALL_SLOTS = 7, /* with durability */
    DEAD_SLOT = 8,
    TARGETS = 10,
    LAST_OPERATION = 12
};

static inline struct fake_rig *unbound_with(unsigned mask, unsigned slots)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_multicast_registry, mask);
    rig->slots = slots;
    return rig;
}

static inline struct fake_rig *unbound(void)
{
    return unbound_with(MASK, BOTH_SLOTS);
}

static inline void enter(struct fake_rig *rig)
{
    for (int i = 0; i < TARGETS; i++) {
        char name[8];

        snprintf(name, sizeof name, "i%d", i);
        fake_register(&rig->world, name, "{\"a\": 1}", 0);
    }
}

static inline struct fake_rig *bound(void)
{
    struct fake_rig *rig = unbound();

    fake_rig_bind(rig);
    enter(rig);
    return rig;
}

static inline void free_rig(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

static inline pb_multicast_request to_all(void)
{
    pb_multicast_request request = MULTICAST_PB(MULTICAST_REQUEST__INIT);

    request.payload = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t) "x"};
    return request;
}

static inline void settle(struct fake_rig *rig, const struct call *call)
{
    for (int i = 0; i < 1000 && call->ends == 0; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 50);
    }
    assert_int_equal(call->ends, 1);
}

static inline const pb_multicast_response *answer_of(const struct call *call)
{
    assert_int_equal(call->status.code, ERR_OK);
    return (const pb_multicast_response *)call->reply;
}

static inline struct call *start(struct fake_rig *rig, bool streams)
{
    pb_multicast_request request = to_all();

    return fake_call(rig, streams ? "MulticastStream" : "Multicast", &request.base);
}

static inline void attach(struct fake_rig *rig, struct call *call, const char *name, bool leave)
{
    pb_attach_identities in = MULTICAST_PB(ATTACH_IDENTITIES__INIT);
    pb_detach_identities out = MULTICAST_PB(DETACH_IDENTITIES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);
    char *names[] = {pb_text(name)};

    in.identities = out.identities = names;
    in.n_identities = out.n_identities = 1;
    if (leave) {
        request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_DETACH);
        request.detach = &out;
    } else {
        request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH);
        request.attach = &in;
    }
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
}

static inline struct call *subscribed(struct fake_rig *rig, bool slow, size_t n,
                                      const char *const *names)
{
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    char *list[4];
    struct call *call;

    for (size_t i = 0; i < n; i++)
        list[i] = pb_text(names[i]);
    request.identities = list;
    request.n_identities = n;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, slow);
    fake_rig_run(rig);
    return call;
}

static inline void multicast_text(struct fake_rig *rig, const char *id, const char *text)
{
    pb_multicast_request request = to_all();
    struct call *call;

    request.message_id = pb_text(id);
    request.payload =
        (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    fake_call_free(call);
    fake_rig_run(rig);
}

static inline void end(struct fake_rig *rig, struct call *call)
{
    fake_call_cancel(call);
    settle(rig, call);
    fake_rig_run(rig);
    fake_call_free(call);
    free_rig(rig);
}

static inline size_t sent_messages(const struct call *call, const pb_multicast_message **out,
                                   size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_receive_frame *frame = (const pb_receive_frame *)call->sent[i].message;

        for (size_t j = 0; j < frame->n_messages && n < max; j++)
            out[n++] = frame->messages[j];
    }
    return n;
}

#endif
