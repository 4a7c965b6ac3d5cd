/* Attempts of a source that does not count them: they are kept in the slot `state_store`, so that
 * they are known when the group is read anew. */
#include "tests/pattern/consumer/consumer.h"

#include "patterns/consumer/attempts.h"

enum { WITH_STATE = 1 << SLOT_SOURCE | 1 << SLOT_STATE };

static const pb_disposition retry = CONSUMER_PB(DISPOSITION__RETRY);

/* As a log that keeps one position for each group. */
static struct fake_rig *log_rig(unsigned slots)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM | FAKE_BASIC);

    rig->world.messages.stream.settling.single = false;
    rig->world.messages.stream.settling.counts_attempts = false;
    rig->world.messages.describes_at_once = true;
    rig->slots = slots;
    return rig;
}

static struct fake_rig *bound(unsigned slots)
{
    struct fake_rig *rig = log_rig(slots);

    fake_rig_bind(rig);
    return rig;
}

static void end(struct fake_rig *rig, struct call *call)
{
    leave(rig, call);
    consumer_free(rig);
}

/* C16: the source keeps no count, so the state slot does. */
static void test_attempts_survive_the_end_of_a_subscription(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "bad");
    put(rig, NULL, "good");
    reject(rig, call, 1, retry, 0);
    expect_delivery(call, 2, "bad", 2);
    reject(rig, call, 3, retry, 0);
    expect_delivery(call, 3, "bad", 3);
    leave(rig, call);
    assert_int_equal(fake_keys(&rig->world), 1);
    call = member(rig);
    expect_delivery(call, 0, "bad", 3);
    expect_delivery(call, 1, "good", 1);
    ack(rig, call, 1);
    assert_int_equal(fake_keys(&rig->world), 0);
    end(rig, call);
}

static void test_without_the_slot_they_begin_anew(void **state)
{
    struct fake_rig *rig = bound(1 << SLOT_SOURCE);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "bad");
    reject(rig, call, 1, retry, 0);
    expect_delivery(call, 1, "bad", 2);
    leave(rig, call);
    call = member(rig);
    expect_delivery(call, 0, "bad", 1);
    end(rig, call);
}

/* C12: its client dies of it each time, and the subscription with its client. */
static void test_a_message_that_kills_its_readers_ends(void **state)
{
    struct fake_rig *rig = log_rig(WITH_STATE | 1 << SLOT_DEAD);
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_attempts", 2);
    fake_rig_bind(rig);
    call = member(rig);
    put(rig, NULL, "killer");
    expect_delivery(call, 0, "killer", 1);
    vanish(rig, call);
    call = member(rig);
    expect_delivery(call, 0, "killer", 2);
    vanish(rig, call);
    call = member(rig);
    assert_int_equal(deliveries(call), 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    assert_int_equal(fake_keys(&rig->world), 0);
    end(rig, call);
}

static void test_groups_and_partitions_count_for_themselves(void **state)
{
    struct fake_rig *rig = log_rig(WITH_STATE);
    pb_subscribe_request subscribe = subscription();
    struct call *one, *other;

    (void)state;
    rig->world.messages.partitions = 2;
    fake_rig_bind(rig);
    one = member(rig);
    for (char key[] = "a"; key[0] < 'j'; key[0]++)
        put(rig, key, "x");
    for (int64_t sequence = 1; sequence <= 9; sequence++)
        reject(rig, one, sequence, retry, 0);
    assert_int_equal(fake_keys(&rig->world), 2);
    subscribe.consumer_group = pb_text("h");
    other = join(rig, &subscribe);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(delivery_at(other, i)->attempt, 1);
    leave(rig, one);
    one = member(rig);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(delivery_at(one, i)->attempt, 2);
    leave(rig, one);
    end(rig, other);
}

/* Nothing waits for a store that is away; it is counted, and asked again later. */
static void test_a_store_that_is_away_stops_nothing(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    reject(rig, call, 1, retry, 0);
    leave(rig, call);
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    call = member(rig);
    expect_delivery(call, 0, "a", 1);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.state_failures), 1);
    assert_non_null(pattern_consumer.restriction(rig->pattern, SLOT_STATE));
    fake_rig_advance(rig, 2000);
    put(rig, NULL, "b");
    assert_int_equal(deliveries(call), 2);
    assert_null(pattern_consumer.restriction(rig->pattern, SLOT_STATE));
    reject(rig, call, 1, retry, 0);
    expect_delivery(call, 2, "a", 2);
    end(rig, call);
}

/* A write that failed goes with the next one. */
static void test_what_could_not_be_written_is_written_later(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    reject(rig, call, 1, retry, 0);
    assert_int_equal(fake_keys(&rig->world), 0);
    reject(rig, call, 2, retry, 0);
    leave(rig, call);
    call = member(rig);
    expect_delivery(call, 0, "a", 2);
    expect_delivery(call, 1, "b", 2);
    end(rig, call);
}

/* ---- a topic that is made anew ---- */

static void make_anew(struct fake_rig *rig)
{
    fake_remove(&rig->world, "t");
    fake_rig_advance(rig, 1);
}

/* Its offsets are those of messages that failed. */
static void test_a_new_topic_begins_without_attempts(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    reject(rig, call, 1, retry, 0);
    reject(rig, call, 2, retry, 0);
    leave(rig, call);
    assert_int_equal(fake_keys(&rig->world), 1);
    make_anew(rig);
    put(rig, NULL, "new a");
    put(rig, NULL, "new b");
    call = member(rig);
    expect_delivery(call, 0, "new a", 1);
    expect_delivery(call, 1, "new b", 1);
    assert_int_equal(fake_keys(&rig->world), 0);
    reject(rig, call, 1, retry, 0);
    expect_delivery(call, 2, "new a", 2);
    leave(rig, call);
    call = member(rig);
    expect_delivery(call, 0, "new a", 2);
    end(rig, call);
}

/* What is left of the old one is at offsets that the new one has not reached. */
static void test_a_new_topic_has_room_for_its_own_attempts(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = member(rig);

    (void)state;
    for (int64_t sequence = 1; sequence <= 2 + ATTEMPTS_MOST; sequence++) {
        put(rig, NULL, "old");
        if (sequence <= 2)
            ack(rig, call, sequence);
        else
            reject(rig, call, sequence, retry, 60000);
    }
    leave(rig, call);
    make_anew(rig);
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    call = member(rig);
    reject(rig, call, 1, retry, 0);
    reject(rig, call, 2, retry, 0);
    leave(rig, call);
    call = member(rig);
    expect_delivery(call, 0, "a", 2);
    expect_delivery(call, 1, "b", 2);
    end(rig, call);
}

/* ---- while the store is asked ---- */

/* Two messages have come, and the answer of the store has not. */
static struct call *asking_member(struct fake_rig *rig)
{
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    put(rig, NULL, "a");
    put(rig, NULL, "b");
    rig->world.mode = FAKE_PARKED;
    call = fake_call(rig, "Consume", NULL);
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = &subscribe;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 1);
    assert_int_equal(deliveries(call), 0);
    return call;
}

static void answer(struct fake_rig *rig)
{
    rig->world.mode = FAKE_AT_ONCE;
    fake_rig_run(rig);
}

static void test_nothing_is_delivered_before_its_attempts_are_known(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = asking_member(rig);

    (void)state;
    answer(rig);
    assert_int_equal(deliveries(call), 2);
    expect_delivery(call, 0, "a", 1);
    end(rig, call);
}

static void test_a_member_leaves_while_the_store_is_asked(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = asking_member(rig);

    (void)state;
    fake_call_push(call, NULL);
    fake_rig_drain(rig);
    answer(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    call = member(rig);
    assert_int_equal(deliveries(call), 2);
    end(rig, call);
}

/* What another process counted meanwhile is read before the messages are delivered again. */
static void test_a_partition_that_went_is_asked_for_anew(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);
    struct call *call = asking_member(rig);
    uint64_t asked = rig->world.ops;

    (void)state;
    fake_revoke(&rig->world, "t", "g");
    fake_rig_drain(rig);
    assert_int_equal(deliveries(call), 0);
    answer(rig);
    assert_int_equal(deliveries(call), 2);
    assert_true(rig->world.ops > asked);
    end(rig, call);
}

/* C16: the state slot, or nobody beyond this process. */
static void test_the_capabilities_say_who_counts(void **state)
{
    struct fake_rig *rig = bound(WITH_STATE);

    (void)state;
    assert_int_equal(consumer_how(&consumer_in(rig)->plan, NEED_ATTEMPTS), PATTERN_EMULATED);
    consumer_free(rig);
    rig = bound(1 << SLOT_SOURCE);
    assert_int_equal(consumer_how(&consumer_in(rig)->plan, NEED_ATTEMPTS), PATTERN_UNAVAILABLE);
    consumer_free(rig);
    rig = consumer_rig(FAKE_STREAM);
    assert_int_equal(consumer_how(&consumer_in(rig)->plan, NEED_ATTEMPTS), PATTERN_NATIVE);
    consumer_free(rig);
}

/* The variant as GetCapabilities tells it, without what it points to. */
static schema_operation_capability kept_attempts(struct fake_rig *rig)
{
    Prism__Patterns__Consumer__GetCapabilitiesRequest request =
        PRISM__PATTERNS__CONSUMER__GET_CAPABILITIES_REQUEST__INIT;
    struct call *call = fake_call(rig, "GetCapabilities", &request.base);
    const pb_consumer_capabilities *caps;
    schema_operation_capability found = {0};

    fake_rig_run(rig);
    assert_int_equal(call->status.code, ERR_OK);
    caps = (const void *)call->reply;
    for (size_t i = 0; i < caps->n_operations; i++) {
        if (strcmp(caps->operations[i]->variant, "kept_attempts") == 0)
            found = *caps->operations[i];
    }
    fake_call_free(call);
    return found;
}

static void expect_keeper(struct fake_rig *rig)
{
    static const struct {
        enum backend_ack ack;
        enum backend_eviction eviction;
        schema_acknowledgement told;
        bool may_be_evicted;
    } cases[] = {
        {BACKEND_ACK_MEMORY, BACKEND_EVICTION_POSSIBLE,
         PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY, true},
        {BACKEND_ACK_DISK, BACKEND_EVICTION_NEVER, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__DISK,
         false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        schema_operation_capability told;

        atomic_store(&rig->world.store.ack, (int)cases[i].ack);
        atomic_store(&rig->world.store.eviction, (int)cases[i].eviction);
        atomic_fetch_add(&rig->world.store.facts_version, 1);
        told = kept_attempts(rig);
        assert_int_equal(told.acknowledgement, cases[i].told);
        assert_int_not_equal(told._may_be_evicted_case, 0);
        assert_int_equal(told.may_be_evicted, cases[i].may_be_evicted);
    }
    consumer_free(rig);
}

static void test_the_capabilities_say_what_attempts_outlive(void **state)
{
    struct fake_rig *rig = bound(1 << SLOT_SOURCE);

    (void)state;
    assert_int_equal(kept_attempts(rig).acknowledgement,
                     PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__ACKNOWLEDGEMENT_UNSPECIFIED);
    consumer_free(rig);
    expect_keeper(bound(WITH_STATE));
    expect_keeper(consumer_rig(FAKE_STREAM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempts_survive_the_end_of_a_subscription),
        cmocka_unit_test(test_without_the_slot_they_begin_anew),
        cmocka_unit_test(test_a_message_that_kills_its_readers_ends),
        cmocka_unit_test(test_groups_and_partitions_count_for_themselves),
        cmocka_unit_test(test_a_store_that_is_away_stops_nothing),
        cmocka_unit_test(test_what_could_not_be_written_is_written_later),
        cmocka_unit_test(test_a_new_topic_begins_without_attempts),
        cmocka_unit_test(test_a_new_topic_has_room_for_its_own_attempts),
        cmocka_unit_test(test_nothing_is_delivered_before_its_attempts_are_known),
        cmocka_unit_test(test_a_member_leaves_while_the_store_is_asked),
        cmocka_unit_test(test_a_partition_that_went_is_asked_for_anew),
        cmocka_unit_test(test_the_capabilities_say_who_counts),
        cmocka_unit_test(test_the_capabilities_say_what_attempts_outlive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
