/* Every operation of a scenario fails in turn: what the scenarios share. */
#ifndef PRISM_TESTS_PATTERN_PRODUCER_TORTURE_H
#define PRISM_TESTS_PATTERN_PRODUCER_TORTURE_H

#include "tests/pattern/producer/producer.h"

enum { LAST_OPERATION = 80 };

/* Operation number `at` fails, or its answer is lost. Before the rig is bound. */
static inline void torture_with(struct fake_rig *rig, uint64_t at, bool parked, bool lost,
                                enum err_code code)
{
    rig->world.mode = parked ? FAKE_PARKED : FAKE_AT_ONCE;
    rig->world.order = FAKE_SHUFFLED;
    if (lost)
        rig->world.messages.faults.lose_at = at;
    else
        rig->world.fail_at = at;
    rig->world.fail_with = err_make(code, "told to fail");
}

static inline void torture_each(void (*scenario)(uint64_t at, bool parked, bool lost,
                                                 enum err_code))
{
    static const enum err_code codes[] = {ERR_UNAVAILABLE, ERR_NOT_FOUND, ERR_RESOURCE_EXHAUSTED,
                                          ERR_ABORTED};

    for (uint64_t at = 1; at <= LAST_OPERATION; at++) {
        for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
            scenario(at, false, false, codes[c]);
            scenario(at, true, false, codes[c]);
        }
        scenario(at, false, true, ERR_UNAVAILABLE);
        scenario(at, true, true, ERR_UNAVAILABLE);
    }
}

/* Nothing is unsettled, and each of so many messages has one outcome. */
static inline void torture_settled(struct fake_rig *rig, int messages)
{
    pb_get_stats_request request = PRISM__PATTERNS__PRODUCER__GET_STATS_REQUEST__INIT;
    struct call *call = fake_call(rig, "GetStats", &request.base);
    const pb_get_stats_response *stats = (const void *)call->reply;

    assert_int_equal(stats->unsettled, 0);
    assert_int_equal(stats->unsettled_bytes, 0);
    assert_int_equal(stats->messages_published + stats->messages_failed + stats->messages_unknown +
                         stats->messages_deduplicated,
                     messages);
    fake_call_free(call);
}

#endif
