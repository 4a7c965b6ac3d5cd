/* Producer calls in few words, for the tests of this folder. */
#ifndef PRISM_TESTS_PATTERN_PRODUCER_PRODUCER_H
#define PRISM_TESTS_PATTERN_PRODUCER_PRODUCER_H

#include "patterns/messages.h"
#include "patterns/producer/messages.h"
#include "patterns/producer/producer.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PB(NAME) PRISM__PATTERNS__PRODUCER__##NAME

enum { MESSAGES = 64 };

/* ---- rigs ---- */

static inline struct fake_rig *producer_unbound(unsigned mask)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_producer, mask);
    rig->world.messages.describes_at_once = true; /* questions are no part of what is counted */
    return rig;
}

static inline struct fake_rig *producer_rig(unsigned mask)
{
    struct fake_rig *rig = producer_unbound(mask);

    fake_rig_bind(rig);
    return rig;
}

static inline void producer_free(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

/* ---- messages ---- */

static inline ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static inline pb_publish_request message_to(const char *topic, const char *payload)
{
    pb_publish_request request = PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST__INIT;

    request.topic = pb_text(topic);
    request._payload_case = PB(PUBLISH_REQUEST___PAYLOAD_PAYLOAD);
    request.payload = bytes_of(payload);
    return request;
}

static inline pb_publish_request keyed(const char *topic, const char *key, const char *payload)
{
    pb_publish_request request = message_to(topic, payload);

    request._ordering_key_case = PB(PUBLISH_REQUEST___ORDERING_KEY_ORDERING_KEY);
    request.ordering_key = bytes_of(key);
    return request;
}

static inline void set_id(pb_publish_request *request, const char *id)
{
    request->_message_id_case = PB(PUBLISH_REQUEST___MESSAGE_ID_MESSAGE_ID);
    request->message_id = pb_text(id);
}

/* Messages of one batch or frame. */
struct messages {
    pb_publish_request items[MESSAGES];
    pb_publish_request *pointers[MESSAGES];
    size_t n;
};

static inline void add(struct messages *messages, pb_publish_request request)
{
    assert_true(messages->n < MESSAGES);
    messages->items[messages->n] = request;
    messages->pointers[messages->n] = &messages->items[messages->n];
    messages->n++;
}

static inline struct call *publish_batch(struct fake_rig *rig, struct messages *messages)
{
    pb_publish_batch_request request = PRISM__PATTERNS__PRODUCER__PUBLISH_BATCH_REQUEST__INIT;

    request.messages = messages->pointers;
    request.n_messages = messages->n;
    return fake_call(rig, "PublishBatch", &request.base);
}

/* ---- streams ---- */

static inline struct call *stream_open(struct fake_rig *rig)
{
    struct call *call = fake_call(rig, "PublishStream", NULL);

    fake_rig_drain(rig);
    return call;
}

/* Changed by the test before it is pushed. */
static inline pb_publish_frame frame_of(struct messages *messages)
{
    pb_publish_frame frame = PRISM__PATTERNS__PRODUCER__PUBLISH_FRAME__INIT;

    frame.messages = messages->pointers;
    frame.n_messages = messages->n;
    return frame;
}

static inline void push(struct fake_rig *rig, struct call *call, const pb_publish_frame *frame)
{
    fake_call_push(call, &frame->base);
    fake_rig_drain(rig);
}

static inline const pb_publish_ack *ack_at(const struct call *call, size_t i)
{
    assert_true(i < call->sent_count);
    return (const void *)call->sent[i].message;
}

static inline const pb_publish_ack *last_ack(const struct call *call)
{
    return ack_at(call, call->sent_count - 1);
}

/* ---- answers ---- */

static inline const pb_publish_response *answer_of(const struct call *call)
{
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    return (const void *)call->reply;
}

static inline const pb_publish_batch_response *answers_of(const struct call *call)
{
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    return (const void *)call->reply;
}

static inline void expect_payload(struct fake_rig *rig, const char *topic, size_t i,
                                  const char *payload)
{
    const struct outgoing *kept = fake_message(&rig->world, topic, i);

    assert_non_null(kept);
    assert_int_equal(kept->payload.len, strlen(payload));
    assert_memory_equal(kept->payload.data, payload, kept->payload.len);
}

#endif
