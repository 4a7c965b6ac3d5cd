/* A multicast whose server dies on the way, and is repeated under its message_id: it goes on behind
 * its last checkpoint. */
#include "patterns/multicast_registry/multicast_priv.h"
#include "tests/pattern/multicast_registry/remembering.h"

/* One target is a page, and has 100 ms. */
enum { MANY = 60, EACH_MS = 100, RATE = 1000 / EACH_MS, STEP_MS = EACH_MS / 2 };
enum { CHECKPOINT = 16 /* pages */, UNDER_WAY = 2, MOST_TWICE = CHECKPOINT + UNDER_WAY };

enum { NAME = 16 };

static void name_of(char *name, int i)
{
    snprintf(name, NAME, "t%02d", i);
}

static struct fake_rig *rig_of_many(int n)
{
    struct fake_rig *rig = unbound_with(REMEMBERS, BOTH_SLOTS);
    char name[NAME];

    fake_rig_set(rig, "retry_attempts", 1);
    fake_rig_bind(rig);
    for (int i = 0; i < n; i++) {
        name_of(name, i);
        fake_register(&rig->world, name, "{\"a\": 1}", 0);
    }
    return rig;
}

static struct call *reader_of_many(struct fake_rig *rig)
{
    static char names[MANY][NAME], *list[MANY];
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    struct call *call;

    for (int i = 0; i < MANY; i++) {
        name_of(names[i], i);
        list[i] = names[i];
    }
    request.identities = list;
    request.n_identities = MANY;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, false);
    fake_rig_run(rig);
    return call;
}

static struct call *begin_slowly(struct fake_rig *rig, bool streams, const char *text)
{
    pb_multicast_request request = to_all();
    struct call *call;

    request.message_id = pb_text("a");
    request._rate_per_second_case =
        MULTICAST_PB(MULTICAST_REQUEST___RATE_PER_SECOND_RATE_PER_SECOND);
    request.rate_per_second = RATE;
    request.payload =
        (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
    call = fake_call(rig, streams ? "MulticastStream" : "Multicast", &request.base);
    fake_rig_drain(rig);
    return call;
}

static void end_slowly(struct fake_rig *rig, struct call *call)
{
    for (int i = 0; i < 4 * MANY && call->ends == 0; i++)
        fake_rig_advance(rig, STEP_MS);
    settle(rig, call);
}

/* The store stays as it is now, and whoever used it is no more. */
static void die(struct fake_rig *rig, struct call *call)
{
    const struct fake_entry *entry = rig->world.n > 0 ? &rig->world.entries[0] : NULL;
    struct arena memory;
    struct slice key = {0}, value = {0};
    uint64_t until_ms = 0;

    arena_init(&memory, NULL);
    if (entry != NULL) {
        key = arena_copy(&memory, entry->key);
        value = arena_copy(&memory, entry->value);
        until_ms = entry->expires_ms;
    }
    if (call->ends == 0)
        fake_call_cancel(call);
    settle(rig, call);
    fake_call_free(call);
    while (rig->world.n > 0)
        fake_table_remove(&rig->world, rig->world.entries[0].key);
    if (entry != NULL)
        fake_table_set(&rig->world, key, value, until_ms - rig->world.now_ms);
    arena_clear(&memory);
}

static const pb_multicast_message *messages[4 * MANY];

static size_t read_by(const struct call *reader)
{
    return sent_messages(reader, messages, ARRAY_LEN(messages));
}

static size_t reached_by(const struct call *reader)
{
    size_t n = read_by(reader), reached = 0;

    for (size_t m = 0; m < n; m++)
        reached += messages[m]->n_identities;
    return reached;
}

/* Everybody has it; returns how many have it twice. */
static int count_twice(const struct call *reader)
{
    size_t n = read_by(reader);
    int got[MANY] = {0}, twice = 0;

    for (size_t m = 0; m < n; m++) {
        for (size_t j = 0; j < messages[m]->n_identities; j++)
            got[strtol(messages[m]->identities[j] + 1, NULL, 10)]++;
    }
    for (int i = 0; i < MANY; i++) {
        assert_true(got[i] == 1 || got[i] == 2);
        twice += got[i] - 1;
    }
    return twice;
}

static void expect_whole(const struct call *call, bool resumed)
{
    const pb_multicast_response *answer = answer_of(call);

    assert_true(answer->success);
    assert_int_equal(answer->target_count, MANY);
    assert_int_equal(answer->delivered_count, MANY);
    assert_int_equal(answer->resumed, resumed);
}

static void expect_whole_stream(const struct call *call)
{
    const pb_multicast_progress *last =
        (const pb_multicast_progress *)call->sent[call->sent_count - 1].message;

    assert_int_equal(call->status.code, ERR_OK);
    assert_true(last->done && last->resumed);
    assert_int_equal(last->target_count, MANY);
    assert_int_equal(last->delivered_count, MANY);
}

static void repeat(struct fake_rig *rig, bool streams)
{
    struct call *call = begin_slowly(rig, streams, "x");

    end_slowly(rig, call);
    if (streams)
        expect_whole_stream(call);
    else
        expect_whole(call, true);
    fake_call_free(call);
}

/* At any moment of its life. */
static void dies_and_is_repeated(bool streams)
{
    for (int steps = 0; steps < 2 * MANY; steps += 5) {
        struct fake_rig *rig = rig_of_many(MANY);
        struct call *reader = reader_of_many(rig), *call = begin_slowly(rig, streams, "x");
        uint64_t writes;

        for (int i = 0; i < steps && call->ends == 0; i++)
            fake_rig_advance(rig, STEP_MS);
        assert_int_equal(call->ends, 0);
        die(rig, call);
        expect_refused(rig, "a", "x", ERR_UNAVAILABLE);
        expect_refused(rig, "a", "y", ERR_ALREADY_EXISTS);
        fake_rig_advance(rig, LEASE_MS);
        expect_refused(rig, "a", "y", ERR_ALREADY_EXISTS);
        repeat(rig, streams);
        assert_true(count_twice(reader) <= MOST_TWICE);
        writes = rig->world.next_version;
        repeat(rig, streams); /* the answer is remembered, and that it was resumed */
        assert_true(count_twice(reader) <= MOST_TWICE);
        assert_int_equal(rig->world.next_version, writes);
        end(rig, reader);
    }
}

static void test_it_goes_on_behind_the_last_checkpoint(void **state)
{
    (void)state;
    dies_and_is_repeated(false);
}

static void test_so_does_a_stream(void **state)
{
    (void)state;
    dies_and_is_repeated(true);
}

/* And whoever repeats it, too: what each had written down counts. */
static void test_each_one_dies(void **state)
{
    enum { STEPS = 40, MOST = 4 };
    struct fake_rig *rig = rig_of_many(MANY);
    struct call *reader = reader_of_many(rig), *call = NULL;

    (void)state;
    for (int i = 0; i < MOST; i++) {
        call = begin_slowly(rig, false, "x");
        for (int step = 0; step < STEPS && call->ends == 0; step++)
            fake_rig_advance(rig, STEP_MS);
        if (i == MOST - 1)
            break;
        die(rig, call);
        fake_rig_advance(rig, LEASE_MS);
    }
    end_slowly(rig, call);
    expect_whole(call, true);
    fake_call_free(call);
    assert_true(count_twice(reader) > 0);
    end(rig, reader);
}

/* Who failed before the checkpoint is tried again by the repetition, and counted once. */
static void test_who_failed_before_it_is_tried_again(void **state)
{
    enum { STEPS = 2 * MANY - 10 };
    struct fake_rig *rig = rig_of_many(MANY);
    struct call *reader = reader_of_many(rig), *call;

    (void)state;
    rig->world.poison = slice_str("prism.multicast.t01");
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    call = begin_slowly(rig, false, "x");
    for (int i = 0; i < STEPS; i++)
        fake_rig_advance(rig, STEP_MS);
    die(rig, call);
    rig->world.poison = message_null();
    fake_rig_advance(rig, LEASE_MS);
    repeat(rig, false);
    assert_true(count_twice(reader) <= MOST_TWICE);
    end(rig, reader);
}

/* The client goes at any step, also while a checkpoint is waited for: nobody gets it twice. */
static void test_a_cancelled_one_goes_on_exactly(void **state)
{
    (void)state;
    for (int steps = 30; steps < 60; steps++) {
        struct fake_rig *rig = rig_of_many(MANY);
        struct call *reader = reader_of_many(rig), *call;

        rig->world.mode = FAKE_PARKED;
        call = begin_slowly(rig, false, "x");
        for (int i = 0; i < steps; i++) {
            fake_release(&rig->world, 1);
            fake_rig_advance(rig, EACH_MS);
        }
        assert_int_equal(call->ends, 0);
        fake_call_cancel(call);
        settle(rig, call);
        fake_call_free(call);
        rig->world.mode = FAKE_AT_ONCE;
        call = begin_slowly(rig, false, "x");
        end_slowly(rig, call);
        expect_whole(call, false);
        fake_call_free(call);
        assert_int_equal(count_twice(reader), 0);
        end(rig, reader);
    }
}

/* Claim and end, and a checkpoint for each CHECKPOINT pages. */
static void test_writes_are_few(void **state)
{
    static const struct {
        int targets;
        uint64_t writes;
    } cases[] = {{1, 2}, {CHECKPOINT, 2}, {CHECKPOINT + 1, 3}, {MANY, 2 + (MANY - 1) / CHECKPOINT}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake_rig *rig = rig_of_many(cases[i].targets);
        struct call *call = begin_slowly(rig, false, "x");

        end_slowly(rig, call);
        assert_int_equal(answer_of(call)->target_count, cases[i].targets);
        assert_int_equal(rig->world.next_version, cases[i].writes);
        fake_call_free(call);
        free_rig(rig);
    }
}

/* It was away for long, and another goes on: it is told so at its next checkpoint, at the latest.
 */
static void test_who_finds_another_at_it_stops(void **state)
{
    struct fake_rig *rig = rig_of_many(MANY);
    struct call *reader = reader_of_many(rig), *call = begin_slowly(rig, false, "x");
    const struct fake_entry *entry = &rig->world.entries[0];

    (void)state;
    assert_int_equal(rig->world.n, 1);
    fake_table_set(&rig->world, entry->key, slice_str("another's"), 0);
    for (int i = 0; i < 4 * MANY && call->ends == 0; i++)
        fake_rig_advance(rig, STEP_MS);
    assert_int_equal(call->ends, 1);
    assert_false(answer_of(call)->success);
    assert_int_equal(answer_of(call)->code, ERR_ABORTED);
    assert_true(slice_equal(entry->value, slice_str("another's")));
    fake_rig_run(rig);
    assert_in_range(reached_by(reader), 1, MOST_TWICE);
    fake_call_free(call);
    end(rig, reader);
}

/* Two of three pages are under way for longer than the lease, which cannot be renewed. */
static struct call *begin_without_renewals(struct fake_rig *rig)
{
    struct call *call;

    rig->world.page_limit = MANY / 3;
    rig->world.mode = FAKE_PARKED;
    call = begin(rig, "a", "x");
    for (int i = 0; i < 3; i++) { /* claim, page, page */
        fake_rig_drain(rig);
        assert_int_equal(fake_release(&rig->world, 1), 1);
    }
    fake_rig_drain(rig);
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_last = UINT64_MAX;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    rig->world.mode = FAKE_AT_ONCE;
    for (int i = 0; i < 4; i++)
        fake_rig_advance(rig, LEASE_MS / 3 + 1);
    return call;
}

/* Another may have begun: nothing more is sent. Once the registry is there again, and nobody has,
 * it goes on. */
static void test_without_a_lease_nothing_is_sent(void **state)
{
    struct fake_rig *rig = rig_of_many(MANY);
    struct call *reader = reader_of_many(rig), *call = begin_without_renewals(rig);

    (void)state;
    while (fake_release(&rig->world, 1) > 0)
        fake_rig_drain(rig);
    assert_int_equal(reached_by(reader), 2 * MANY / 3);
    fake_rig_advance(rig, 3000);
    assert_int_equal(call->ends, 0);
    assert_int_equal(reached_by(reader), 2 * MANY / 3);
    rig->world.fail_at = 0;
    settle(rig, call);
    expect_whole(call, false);
    fake_call_free(call);
    assert_int_equal(count_twice(reader), 0);
    end(rig, reader);
}

static void test_who_waits_for_a_lease_can_be_stopped(void **state)
{
    struct fake_rig *rig = rig_of_many(MANY);
    struct call *call = begin_without_renewals(rig);

    (void)state;
    while (fake_release(&rig->world, 1) > 0)
        fake_rig_drain(rig);
    assert_int_equal(call->ends, 0);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    free_rig(rig);
}

/* ---- that waits for its confirmations ---- */

static struct fake_rig *rig_that_keeps(void)
{
    struct fake_rig *rig = unbound_with(REMEMBERS | FAKE_QUEUE, ALL_SLOTS);

    fake_rig_bind(rig);
    fake_register(&rig->world, "i1", "{\"a\": 1}", 0);
    return rig;
}

static struct call *awaiting(struct fake_rig *rig)
{
    pb_multicast_request request = to_all();
    struct call *call;

    request.message_id = pb_text("a");
    request.await_confirmation = true;
    request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
    request.timeout_ms = 30000;
    call = fake_call(rig, "Multicast", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 0);
    return call;
}

/* Its lease was over, and somebody else has begun. */
static void take_claim(struct fake_rig *rig)
{
    assert_true(rig->world.n > 0);
    fake_table_set(&rig->world, rig->world.entries[rig->world.n - 1].key, slice_str("another's"),
                   0);
}

static void pass_seconds(struct fake_rig *rig, int n)
{
    for (int i = 0; i < n; i++) {
        fake_rig_advance(rig, 1001);
        fake_rig_run(rig);
    }
}

static void expect_one_end(struct fake_rig *rig, struct call *call)
{
    pass_seconds(rig, 40); /* and what was to come later comes no more */
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    free_rig(rig);
}

static void test_who_waits_for_confirmations_ends_once(void **state)
{
    struct fake_rig *rig = rig_that_keeps();
    struct call *call = awaiting(rig);

    (void)state;
    take_claim(rig);
    pass_seconds(rig, 8);
    expect_one_end(rig, call);
}

static void test_who_has_not_begun_to_wait_ends(void **state)
{
    struct fake_rig *rig = rig_that_keeps();
    struct call *call;

    (void)state;
    rig->world.messages.faults.stalled = true; /* the topic of confirmations does not open */
    call = awaiting(rig);
    take_claim(rig);
    pass_seconds(rig, 6);
    rig->world.messages.faults.stalled = false;
    fake_messages_look(&rig->world);
    fake_rig_run(rig);
    expect_one_end(rig, call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_goes_on_behind_the_last_checkpoint),
        cmocka_unit_test(test_so_does_a_stream),
        cmocka_unit_test(test_each_one_dies),
        cmocka_unit_test(test_who_failed_before_it_is_tried_again),
        cmocka_unit_test(test_a_cancelled_one_goes_on_exactly),
        cmocka_unit_test(test_writes_are_few),
        cmocka_unit_test(test_who_finds_another_at_it_stops),
        cmocka_unit_test(test_without_a_lease_nothing_is_sent),
        cmocka_unit_test(test_who_waits_for_a_lease_can_be_stopped),
        cmocka_unit_test(test_who_waits_for_confirmations_ends_once),
        cmocka_unit_test(test_who_has_not_begun_to_wait_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
