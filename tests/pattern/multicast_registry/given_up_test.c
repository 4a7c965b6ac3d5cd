/* M7: what was handed over too often goes to the dead letters, where there is a slot for them. */
#include "patterns/multicast_registry/multicast_priv.h"
#include "tests/pattern/multicast_registry/keeping.h"

static const struct kind {
    unsigned mask;
    const char *letters;
} kinds[] = {{FAKE_STREAM, "prism.queue.i1.prism.multicast.dead"},
             {FAKE_QUEUE, "prism.queue.i1.dead"}};

static struct fake_rig *with_letters(const struct kind *kind)
{
    return keeping_in(kind->mask, ALL_SLOTS | DEAD_SLOT);
}

static const struct multicast *multicast_in(const struct fake_rig *rig)
{
    return CONTAINER_OF(rig->pattern, struct multicast, base);
}

static void fail_with_it(struct fake_rig *rig, int times)
{
    for (int i = 0; i < times; i++)
        leave(rig, attached_with(rig, 0));
}

static const char *header_of(const struct outgoing *letter, const char *name)
{
    static char text[64];

    for (size_t i = 0; i < letter->n_headers; i++) {
        if (!slice_equal(letter->headers[i].name, slice_str(name)))
            continue;
        snprintf(text, sizeof text, "%.*s", (int)letter->headers[i].value.len,
                 (const char *)letter->headers[i].value.data);
        return text;
    }
    return "";
}

/* Original bytes and headers, and what happened; then the next one comes. */
static void test_it_is_kept(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        const struct outgoing *letter;
        struct call *call;
        char seen[40];

        multicast_text(rig, "m1", "a");
        multicast_text(rig, "m2", "b");
        fail_with_it(rig, 3);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 0);
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "b");
        assert_int_equal(waiting(rig), 1);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 1);
        letter = fake_message(&rig->world, kinds[k].letters, 0);
        assert_true(slice_equal(letter->payload, slice_str("a")));
        assert_string_not_equal(header_of(letter, MULTICAST_HEADER_PUBLISHED), "");
        assert_string_equal(header_of(letter, DEAD_LETTER_HEADER "reason"),
                            "handed over 3 times without being confirmed");
        assert_string_equal(header_of(letter, DEAD_LETTER_HEADER "topic"), "prism.queue.i1");
        assert_string_equal(header_of(letter, DEAD_LETTER_IDENTITY), "i1");
        assert_string_equal(header_of(letter, DEAD_LETTER_HEADER "attempt"), "3");
        assert_int_equal(counter_read(&multicast_in(rig)->letters.stored), 1);
        assert_int_equal(counter_read(&multicast_in(rig)->stats.given_up), 1);
        end(rig, call);
    }
}

/* The slot is away: nothing is lost, what stands behind comes, and it is tried again. */
static void test_it_stays_until_it_is_kept(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        struct call *call;
        char seen[40];

        multicast_text(rig, "", "a");
        multicast_text(rig, "", "b");
        fail_with_it(rig, 3);
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
        rig->world.fail_at = rig->world.ops + 1; /* the dead letter */
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "b");
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 0);
        assert_int_equal(waiting(rig), 2);
        assert_int_equal(counter_read(&multicast_in(rig)->letters.failed), 1);
        assert_int_equal(counter_read(&multicast_in(rig)->stats.given_up), 0);
        assert_non_null(pattern_multicast_registry.restriction(rig->pattern, SLOT_DEAD));
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 1);
        assert_int_equal(waiting(rig), 1);
        assert_null(pattern_multicast_registry.restriction(rig->pattern, SLOT_DEAD));
        end(rig, call);
    }
}

/* Its receiver goes while it waits to be tried again: the next one's turn. */
static void test_who_goes_meanwhile_gives_it_back(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);

        multicast_text(rig, "", "a");
        fail_with_it(rig, 3);
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
        rig->world.fail_at = rig->world.ops + 1;
        leave(rig, attached_with(rig, 0));
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 0);
        assert_int_equal(waiting(rig), 1);
        leave(rig, attached_with(rig, 0));
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 1);
        assert_int_equal(waiting(rig), 0);
        free_rig(rig);
    }
}

/* Cancelled with the letter on its way: the call ends once, and nothing is lost. */
static void test_the_end_while_it_is_kept(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        struct call *call;

        multicast_text(rig, "", "a");
        fail_with_it(rig, 3);
        rig->world.mode = FAKE_PARKED;
        call = attached_with(rig, 0);
        fake_call_cancel(call);
        settle(rig, call);
        assert_int_equal(call->ends, 1);
        fake_rig_run(rig);
        fake_call_free(call);
        rig->world.mode = FAKE_AT_ONCE;
        leave(rig, attached_with(rig, 0));
        assert_in_range(fake_published(&rig->world, kinds[k].letters), 1, 2);
        assert_int_equal(waiting(rig), 0);
        free_rig(rig);
    }
}

/* Its letter is too large as it is: what can be kept is kept, and says what it lacks. */
static void test_a_letter_that_does_not_fit_is_kept_without_its_payload(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        const struct letters *letters = &multicast_in(rig)->letters;
        const struct outgoing *letter;
        struct call *call;
        char seen[40];

        multicast_text(rig, "m1", "a");
        multicast_text(rig, "m2", "b");
        fail_with_it(rig, 3);
        rig->world.fail_with = err_about(ERR_INVALID_ARGUMENT, "payload", "too large");
        rig->world.fail_at = rig->world.ops + 1;
        call = attached_with(rig, 0);
        fake_rig_advance(rig, 1);
        texts_of(call, seen);
        assert_string_equal(seen, "b");
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 1);
        letter = fake_message(&rig->world, kinds[k].letters, 0);
        assert_int_equal(letter->payload.len, 0);
        assert_string_equal(header_of(letter, DEAD_LETTER_OMITTED), "1");
        assert_string_equal(header_of(letter, DEAD_LETTER_IDENTITY), "i1");
        assert_int_equal(waiting(rig), 1);
        assert_int_equal(counter_read(&letters->cut), 1);
        assert_int_equal(counter_read(&letters->stored), 0);
        assert_int_equal(counter_read(&letters->failed), 0);
        assert_int_equal(counter_read(&multicast_in(rig)->stats.given_up), 1);
        assert_null(pattern_multicast_registry.restriction(rig->pattern, SLOT_DEAD));
        end(rig, call);
    }
}

enum { MANY = 40 }; /* more than an identity has credit */

/* Each of many is handed over as often as it may, and a good one is behind them. */
static struct call *after_many(struct fake_rig *rig, const struct kind *kind, enum err_code code)
{
    struct call *call;

    rig->world.fail_with = err_make(code, "not here");
    rig->world.poison = slice_str(kind->letters);
    for (int i = 0; i < MANY; i++)
        multicast_text(rig, "", "a");
    for (int i = 0; i < 3 * MANY; i++) {
        call = attached_with(rig, 0);
        fake_rig_advance(rig, 1);
        leave(rig, call);
    }
    multicast_text(rig, "", "b");
    call = attached_with(rig, 0);
    fake_rig_advance(rig, 1);
    return call;
}

/* Nobody can keep them: they are counted, and hold up nothing. */
static void test_many_that_are_refused_for_good(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        const struct letters *letters = &multicast_in(rig)->letters;
        struct call *call = after_many(rig, &kinds[k], ERR_INVALID_ARGUMENT);
        char seen[40];

        texts_of(call, seen);
        assert_string_equal(seen, "b");
        assert_int_equal(waiting(rig), 1);
        assert_int_equal(counter_read(&letters->refused), MANY);
        assert_int_equal(counter_read(&multicast_in(rig)->stats.given_up), MANY);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 0);
        assert_non_null(pattern_multicast_registry.restriction(rig->pattern, SLOT_DEAD));
        end(rig, call);
    }
}

/* Those that wait for their slot leave credit to what is behind them. */
static void test_many_that_wait_for_their_slot(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        struct call *call = after_many(rig, &kinds[k], ERR_UNAVAILABLE);
        char seen[40];

        texts_of(call, seen);
        assert_string_equal(seen, "b");
        assert_int_equal(waiting(rig), MANY + 1);
        rig->world.poison = slice_of(NULL, 0);
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), MANY);
        assert_int_equal(waiting(rig), 1);
        end(rig, call);
    }
}

/* There is room for the batch and not for a copy: it is in its queue, and comes again. */
static void test_no_memory_for_the_letter(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = with_letters(&kinds[k]);
        struct call *call;

        multicast_text(rig, "", "a");
        fail_with_it(rig, 3);
        rig->hold_limit = 300;
        call = attached_with(rig, 0);
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        assert_int_equal(call->ends, 0);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 0);
        assert_int_equal(waiting(rig), 1);
        assert_true(counter_read(&multicast_in(rig)->letters.failed) >= 1);
        rig->hold_limit = 0;
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        assert_int_equal(fake_published(&rig->world, kinds[k].letters), 1);
        assert_int_equal(waiting(rig), 0);
        end(rig, call);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_kept),
        cmocka_unit_test(test_it_stays_until_it_is_kept),
        cmocka_unit_test(test_who_goes_meanwhile_gives_it_back),
        cmocka_unit_test(test_the_end_while_it_is_kept),
        cmocka_unit_test(test_a_letter_that_does_not_fit_is_kept_without_its_payload),
        cmocka_unit_test(test_many_that_are_refused_for_good),
        cmocka_unit_test(test_many_that_wait_for_their_slot),
        cmocka_unit_test(test_no_memory_for_the_letter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
