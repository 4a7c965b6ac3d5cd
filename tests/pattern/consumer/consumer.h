/* Consumer calls in few words, for the tests of this folder. */
#ifndef PRISM_TESTS_PATTERN_CONSUMER_CONSUMER_H
#define PRISM_TESTS_PATTERN_CONSUMER_CONSUMER_H

#include "patterns/consumer/consumer.h"
#include "patterns/consumer/consumer_priv.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEQUENCES = 64, WITH_DEAD_LETTERS = 1 << SLOT_SOURCE | 1 << SLOT_DEAD };

static inline struct fake_rig *consumer_unbound(unsigned mask)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_consumer, mask);
    fake_rig_set(rig, "retry_delay_ms", 0);
    return rig;
}

static inline struct fake_rig *consumer_rig(unsigned mask)
{
    struct fake_rig *rig = consumer_unbound(mask);

    fake_rig_bind(rig);
    return rig;
}

/* With dead letters. 0 attempts: as many as it takes. */
static inline struct fake_rig *mortal(uint64_t max_attempts)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);

    rig->slots = WITH_DEAD_LETTERS;
    fake_rig_set(rig, "max_attempts", max_attempts);
    fake_rig_bind(rig);
    return rig;
}

static inline void consumer_free(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

static inline struct consumer *consumer_in(struct fake_rig *rig)
{
    return CONTAINER_OF(rig->pattern, struct consumer, base);
}

static inline uint64_t stat_of(const struct counter *counter)
{
    return counter_read(counter);
}

/* ---- messages of the world ---- */

static inline void put_item(struct fake_rig *rig, struct outgoing item)
{
    assert_int_equal(fake_rig_publish(rig, &item).code, ERR_OK);
}

static inline void put(struct fake_rig *rig, const char *key, const char *payload)
{
    put_item(rig, (struct outgoing){
                      .topic = slice_str("t"),
                      .key = key != NULL ? slice_str(key) : message_null(),
                      .payload = slice_str(payload),
                  });
}

/* ---- a member ---- */

static inline void say(struct fake_rig *rig, struct call *call, const pb_consume_request *request)
{
    fake_call_push(call, &request->base);
    fake_rig_run(rig);
}

static inline pb_subscribe_request subscription(void)
{
    pb_subscribe_request request = PRISM__PATTERNS__CONSUMER__SUBSCRIBE_REQUEST__INIT;

    request.topic = pb_text("t");
    request.consumer_group = pb_text("g");
    return request;
}

/* What is parked stays so. */
static inline struct call *start_to_join(struct fake_rig *rig, pb_subscribe_request *subscribe)
{
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    struct call *call = fake_call(rig, "Consume", NULL);

    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = subscribe;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
    return call;
}

static inline struct call *join(struct fake_rig *rig, pb_subscribe_request *subscribe)
{
    struct call *call = start_to_join(rig, subscribe);

    fake_rig_run(rig);
    return call;
}

static inline struct call *member(struct fake_rig *rig)
{
    pb_subscribe_request subscribe = subscription();

    return join(rig, &subscribe);
}

static inline void ack(struct fake_rig *rig, struct call *call, int64_t sequence)
{
    Prism__Patterns__Consumer__ConsumeAck which = PRISM__PATTERNS__CONSUMER__CONSUME_ACK__INIT;
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    which.sequences = &sequence;
    which.n_sequences = 1;
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_ACK);
    request.ack = &which;
    say(rig, call, &request);
}

/* What is parked stays so. */
static inline void start_to_reject(struct fake_rig *rig, struct call *call, int64_t sequence,
                                   pb_disposition disposition, int64_t delay_ms)
{
    Prism__Patterns__Consumer__ConsumeReject which =
        PRISM__PATTERNS__CONSUMER__CONSUME_REJECT__INIT;
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    which.sequences = &sequence;
    which.n_sequences = 1;
    which.disposition = disposition;
    which._delay_ms_case = CONSUMER_PB(CONSUME_REJECT___DELAY_MS_DELAY_MS);
    which.delay_ms = delay_ms;
    which.reason = pb_text("because");
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_REJECT);
    request.reject = &which;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
}

static inline void reject(struct fake_rig *rig, struct call *call, int64_t sequence,
                          pb_disposition disposition, int64_t delay_ms)
{
    start_to_reject(rig, call, sequence, disposition, delay_ms);
    fake_rig_run(rig);
}

static inline void leave(struct fake_rig *rig, struct call *call)
{
    fake_call_push(call, NULL);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    fake_call_free(call);
}

static inline void vanish(struct fake_rig *rig, struct call *call)
{
    fake_call_cancel(call);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
}

/* ---- what it was told ---- */

static inline const pb_consume_response *frame_at(const struct call *call, size_t i)
{
    assert_true(i < call->sent_count);
    return (const void *)call->sent[i].message;
}

static inline size_t deliveries(const struct call *call)
{
    size_t n = 0;

    for (size_t i = 0; i < call->sent_count; i++)
        n += frame_at(call, i)->n_messages;
    return n;
}

/* The i-th message that it got, from 0 on. */
static inline const pb_consumed_message *delivery_at(const struct call *call, size_t i)
{
    for (size_t frame = 0; frame < call->sent_count; frame++) {
        const pb_consume_response *response = frame_at(call, frame);

        if (i < response->n_messages)
            return response->messages[i];
        i -= response->n_messages;
    }
    fail_msg("there are fewer messages");
    return NULL;
}

static inline void expect_delivery(const struct call *call, size_t i, const char *payload,
                                   int32_t attempt)
{
    const pb_consumed_message *message = delivery_at(call, i);

    assert_int_equal(message->sequence, (int64_t)i + 1);
    assert_int_equal(message->payload.len, strlen(payload));
    assert_memory_equal(message->payload.data, payload, message->payload.len);
    assert_int_equal(message->attempt, attempt);
}

/* The code of the newest failure; OK: there is none. */
static inline int last_failure(const struct call *call)
{
    for (size_t i = call->sent_count; i-- > 0;) {
        const pb_consume_response *response = frame_at(call, i);

        if (response->n_failures > 0)
            return response->failures[response->n_failures - 1]->code;
    }
    return ERR_OK;
}

static inline int64_t through(const struct call *call)
{
    return frame_at(call, call->sent_count - 1)->settled_through;
}

#endif
