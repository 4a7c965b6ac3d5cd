/* Every operation of a scenario fails in turn, or its answer is lost, with every slot bound: each
 * call ends once, each delivery has one outcome, and no message is lost. */
#include "tests/pattern/consumer/consumer.h"

#include "patterns/messaging/claim.h"

enum {
    SLOTS = 1 << SLOT_SOURCE | 1 << SLOT_DEAD | 1 << SLOT_OBJECT | 1 << SLOT_STATE,
    LAST_OPERATION = 40,
    SIZE = 1000,
    DEAD = 2, /* of the messages below */
};

static const char *const payloads[] = {"good", "again", "dies", "dead", "dropped", "kept"};

/* As the source is: it counts attempts or does not, and the state slot does. */
struct torture {
    uint64_t at;
    enum err_code code;
    bool parked, lost, counts, ordered;
};

static void put_claimed(struct fake_rig *rig)
{
    static char text[SIZE + 1];
    char name[128];
    struct arena arena;

    memset(text, 'x', SIZE);
    arena_init(&arena, NULL);

    struct claim claim = claim_new(&arena, slice_of(text, SIZE), 0);
    struct header header = {.name = slice_str(CLAIM_HEADER), .value = claim_write(&arena, &claim)};

    snprintf(name, sizeof name, "%.*s", (int)claim.key.len, (const char *)claim.key.data);
    fake_put(&rig->world, name, text);
    put_item(rig, (struct outgoing){.topic = slice_str("t"),
                                    .key = slice_str("a"),
                                    .payload = message_empty(),
                                    .headers = &header,
                                    .n_headers = 1});
    arena_clear(&arena);
}

/* The fault is counted from the first operation after what the test publishes itself. */
static struct fake_rig *tortured(const struct torture *how)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM | FAKE_BASIC);

    rig->slots = SLOTS;
    rig->world.messages.stream.settling.single = how->counts;
    rig->world.messages.stream.settling.counts_attempts = how->counts;
    rig->world.messages.describes_at_once = true;
    rig->world.order = FAKE_SHUFFLED;
    fake_rig_set(rig, "max_attempts", 2);
    fake_rig_bind(rig);
    for (size_t i = 0; i < ARRAY_LEN(payloads); i++)
        put(rig, i % 2 == 0 ? "a" : "b", payloads[i]);
    put_claimed(rig);
    rig->world.mode = how->parked ? FAKE_PARKED : FAKE_AT_ONCE;
    if (how->lost)
        rig->world.messages.faults.lose_at = rig->world.ops + how->at;
    else
        rig->world.fail_at = rig->world.ops + how->at;
    rig->world.fail_with = err_make(how->code, "told to fail");
    return rig;
}

static bool is(const pb_consumed_message *message, const char *payload)
{
    return slice_equal(slice_of((const char *)message->payload.data, message->payload.len),
                       slice_str(payload));
}

static void extend(struct fake_rig *rig, struct call *call, int64_t sequence)
{
    Prism__Patterns__Consumer__ConsumeExtend which =
        PRISM__PATTERNS__CONSUMER__CONSUME_EXTEND__INIT;
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    which.sequences = &sequence;
    which.n_sequences = 1;
    which.lease_ms = 60000;
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_EXTEND);
    request.extend = &which;
    say(rig, call, &request);
}

static void answer(struct fake_rig *rig, struct call *call, const pb_consumed_message *message)
{
    int64_t sequence = message->sequence;

    if (is(message, "dies") || (is(message, "again") && message->attempt == 1)) {
        reject(rig, call, sequence, CONSUMER_PB(DISPOSITION__RETRY), 0);
    } else if (is(message, "dead")) {
        reject(rig, call, sequence, CONSUMER_PB(DISPOSITION__DEAD_LETTER), 0);
    } else if (is(message, "dropped")) {
        reject(rig, call, sequence, CONSUMER_PB(DISPOSITION__DROP), 0);
    } else {
        if (is(message, "kept"))
            extend(rig, call, sequence);
        ack(rig, call, sequence);
    }
}

/* Answers what has come since, and again what has failed and is still the member's. */
static void answer_new(struct fake_rig *rig, struct call *call, size_t *frame)
{
    for (; *frame < call->sent_count && call->ends == 0; ++*frame) {
        for (size_t i = 0; i < frame_at(call, *frame)->n_messages; i++)
            answer(rig, call, frame_at(call, *frame)->messages[i]);
        for (size_t i = 0; i < frame_at(call, *frame)->n_failures; i++) {
            const pb_settlement_failure *failure = frame_at(call, *frame)->failures[i];

            if (failure->code != ERR_ABORTED)
                answer(rig, call, delivery_at(call, (size_t)failure->sequence - 1));
        }
    }
}

static struct call *join_as(struct fake_rig *rig, const struct torture *how)
{
    pb_subscribe_request subscribe = subscription();

    if (how->ordered)
        subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    return join(rig, &subscribe);
}

static void expect_rest(struct fake_rig *rig)
{
    const struct consumer *consumer = consumer_in(rig);
    size_t letters = fake_published(&rig->world, "t.g.dead");

    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_in_range(letters, DEAD,
                    DEAD + 1); /* a letter may be stored, and its message not settled */
    assert_int_equal(stat_of(&consumer->stats.unsettled), 0);
    assert_int_equal(stat_of(&consumer->stats.parked), 0);
    assert_int_equal(stat_of(&consumer->stats.held_bytes), 0);
    assert_int_equal(rig->world.messages.batches_out, 0);
}

static void run(const struct torture *how)
{
    struct fake_rig *rig = tortured(how);
    struct call *call = join_as(rig, how);
    size_t frame = 0;

    for (int i = 0; i < 200 && fake_unsettled(&rig->world, "t", "g") > 0; i++) {
        answer_new(rig, call, &frame);
        fake_rig_advance(rig, 100);
        fake_rig_run(rig);
    }
    answer_new(rig, call, &frame);
    assert_int_equal(call->ends, 0);
    fake_rig_advance(rig, 1000);
    assert_int_equal(through(call), deliveries(call));
    leave(rig, call);
    expect_rest(rig);
    if (how->at == LAST_OPERATION && !how->lost) /* none is left that did not fail */
        assert_true(rig->world.ops < rig->world.fail_at);
    consumer_free(rig);
}

static void each(void (*scenario)(const struct torture *))
{
    static const enum err_code codes[] = {ERR_UNAVAILABLE, ERR_RESOURCE_EXHAUSTED,
                                          ERR_PERMISSION_DENIED};

    for (struct torture how = {.at = 1}; how.at <= LAST_OPERATION; how.at++) {
        for (unsigned bits = 0; bits < 8; bits++) {
            how.parked = (bits & 1) != 0;
            how.counts = (bits & 2) != 0;
            how.ordered = (bits & 4) != 0;
            how.lost = false;
            for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
                how.code = codes[c];
                scenario(&how);
            }
            how.lost = true;
            how.code = ERR_UNAVAILABLE;
            scenario(&how);
        }
    }
}

static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    each(run);
}

/* The member vanishes after so many steps, whatever is under way. Another one gets the rest. */
static void test_a_member_vanishes_at_every_step(void **state)
{
    (void)state;
    for (size_t steps = 0; steps < LAST_OPERATION; steps++) {
        for (unsigned bits = 0; bits < 4; bits++) {
            struct torture how = {.parked = true, .counts = bits & 1, .ordered = bits & 2};
            struct fake_rig *rig = tortured(&how);
            struct call *call = join_as(rig, &how), *other;
            size_t frame = 0;

            for (size_t i = 0; i < steps; i++) {
                if (i % 4 == 0)
                    answer_new(rig, call, &frame);
                fake_release(&rig->world, 1);
                fake_rig_drain(rig);
            }
            vanish(rig, call);
            frame = 0;
            other = join_as(rig, &how);
            for (int i = 0; i < 200 && fake_unsettled(&rig->world, "t", "g") > 0; i++) {
                answer_new(rig, other, &frame);
                fake_rig_advance(rig, 100);
                fake_rig_run(rig);
            }
            leave(rig, other);
            assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
            assert_int_equal(stat_of(&consumer_in(rig)->stats.unsettled), 0);
            assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
            consumer_free(rig);
        }
    }
}

/* ---- unary calls ---- */

static void expect_one_end(struct fake_rig *rig, struct call *call)
{
    for (int i = 0; i < 200 && call->ends == 0; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 100);
    }
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
}

static void settle_by_calls(struct fake_rig *rig, struct call *stream)
{
    pb_deliveries which = PRISM__PATTERNS__CONSUMER__DELIVERIES__INIT;
    pb_acknowledge_request acknowledge = PRISM__PATTERNS__CONSUMER__ACKNOWLEDGE_REQUEST__INIT;
    pb_reject_request rejection = PRISM__PATTERNS__CONSUMER__REJECT_REQUEST__INIT;
    pb_extend_request extension = PRISM__PATTERNS__CONSUMER__EXTEND_REQUEST__INIT;
    int64_t sequences[2] = {1, 2};

    which.subscription_id = frame_at(stream, 0)->started->subscription_id;
    which.sequences = sequences;
    which.n_sequences = 2;
    extension.deliveries = acknowledge.deliveries = rejection.deliveries = &which;
    extension.lease_ms = 60000;
    rejection.disposition = CONSUMER_PB(DISPOSITION__DEAD_LETTER);
    expect_one_end(rig, fake_call(rig, "Extend", &extension.base));
    expect_one_end(rig, fake_call(rig, "Acknowledge", &acknowledge.base));
    sequences[0] = 3;
    sequences[1] = 4;
    expect_one_end(rig, fake_call(rig, "Reject", &rejection.base));
}

static void ask(struct fake_rig *rig)
{
    pb_get_state_request get = PRISM__PATTERNS__CONSUMER__GET_STATE_REQUEST__INIT;
    pb_seek_request seek = PRISM__PATTERNS__CONSUMER__SEEK_REQUEST__INIT;
    pb_redrive_request redrive = PRISM__PATTERNS__CONSUMER__REDRIVE_REQUEST__INIT;

    get.topic = seek.topic = redrive.topic = pb_text("t");
    get.consumer_group = seek.consumer_group = redrive.consumer_group = pb_text("g");
    seek.target_case = CONSUMER_PB(SEEK_REQUEST__TARGET_POSITION);
    seek.position = CONSUMER_PB(START_POSITION__EARLIEST);
    expect_one_end(rig, fake_call(rig, "GetState", &get.base));
    expect_one_end(rig, fake_call(rig, "Seek", &seek.base));
    expect_one_end(rig, fake_call(rig, "Redrive", &redrive.base));
}

static void run_unary(const struct torture *how)
{
    struct fake_rig *rig = tortured(how);
    pb_subscribe_request subscribe = subscription();
    pb_unsubscribe_request unsubscribe = PRISM__PATTERNS__CONSUMER__UNSUBSCRIBE_REQUEST__INIT;
    struct call *stream = fake_call(rig, "Subscribe", &subscribe.base);

    for (int i = 0; i < 50 && deliveries(stream) < 4; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 100);
    }
    settle_by_calls(rig, stream);
    ask(rig);
    unsubscribe.subscription_id = frame_at(stream, 0)->started->subscription_id;
    expect_one_end(rig, fake_call(rig, "Unsubscribe", &unsubscribe.base));
    expect_one_end(rig, stream);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.unsettled), 0);
    assert_int_equal(rig->world.messages.batches_out, 0);
    consumer_free(rig);
}

static void test_unary_calls_end_once(void **state)
{
    (void)state;
    each(run_unary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_a_member_vanishes_at_every_step),
        cmocka_unit_test(test_unary_calls_end_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
