/* Atomic batches in few words, for the tests of this folder. */
#ifndef PRISM_TESTS_PATTERN_PRODUCER_ATOMIC_H
#define PRISM_TESTS_PATTERN_PRODUCER_ATOMIC_H

#include "tests/pattern/producer/slots.h"

enum { BATCH = 6, MAX_ATOMIC = 50 };

static inline struct messages batch_of(size_t n)
{
    static char texts[MESSAGES][24];
    static const char *const keys[] = {"a", "b", "c"};
    struct messages messages = {.n = 0};

    for (size_t i = 0; i < n; i++) { /* publish_atomic sets the pointers: this is copied */
        snprintf(texts[i], sizeof texts[i], "%zu", i);
        add(&messages, keyed("orders", keys[i % 3], texts[i]));
    }
    return messages;
}

static inline struct call *publish_atomic(struct fake_rig *rig, struct messages *messages)
{
    pb_publish_batch_request request = PRISM__PATTERNS__PRODUCER__PUBLISH_BATCH_REQUEST__INIT;

    for (size_t i = 0; i < messages->n; i++)
        messages->pointers[i] = &messages->items[i];
    request.messages = messages->pointers;
    request.n_messages = messages->n;
    request.atomic = true;
    return fake_call(rig, "PublishBatch", &request.base);
}

static inline struct call *run_atomic(struct fake_rig *rig, struct messages *messages)
{
    struct call *call = publish_atomic(rig, messages);

    for (int i = 0; i < 1000 && call->ends == 0; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 50);
    }
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
}

/* A status that names what is at fault; nothing is there. */
static inline void expect_refused(struct fake_rig *rig, struct messages *messages,
                                  enum err_code code, const char *subject)
{
    struct call *call = run_atomic(rig, messages);

    assert_int_equal(call->status.code, code);
    if (subject != NULL)
        assert_string_equal(call->status.subject, subject);
    else
        assert_null(call->status.subject);
    assert_int_equal(call->status.effect, EFFECT_NONE);
    assert_int_equal(published(rig), 0);
    fake_call_free(call);
}

/* An answer in which all have the same outcome. */
static inline void expect_all(struct call *call, enum err_code code, pb_outcome outcome)
{
    const pb_publish_batch_response *answers = answers_of(call);

    assert_int_equal(answers->all_success, code == ERR_OK);
    assert_int_equal(answers->success_count, code == ERR_OK ? answers->n_results : 0);
    assert_int_equal(answers->failure_count, code == ERR_OK ? 0 : answers->n_results);
    for (size_t i = 0; i < answers->n_results; i++) {
        assert_int_equal(answers->results[i]->code, code);
        assert_int_equal(answers->results[i]->outcome, outcome);
    }
    fake_call_free(call);
}

static inline void expect_stored(struct call *call)
{
    expect_all(call, ERR_OK, PB(OUTCOME__STORED));
}

#endif
