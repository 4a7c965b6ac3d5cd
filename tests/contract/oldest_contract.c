/* Who wants the oldest first has what another process died with in its place, and leaves what the
 * living hold to them. */
#include "tests/contract/message_contract.h"

enum { CREDIT = 1000, BYTES = 1 << 20 };

static bool is_queue(const struct message_fixture *fixture)
{
    return fixture->kv.backend->has.queue != NULL;
}

static void publish(struct message_fixture *fixture, const char *name, unsigned from, unsigned n)
{
    const struct message_sink *sink = is_queue(fixture) ? &fixture->kv.backend->has.queue->sink
                                                        : &fixture->kv.backend->has.stream->sink;

    message_publish_ok(fixture, sink, name, NULL, from, n);
}

static struct probe *receiver(struct message_fixture *fixture, struct backend *backend,
                              const char *name)
{
    struct subscription_want want = probe_want(name, is_queue(fixture) ? NULL : OLDEST_GROUP);

    want.oldest_first = true;
    return is_queue(fixture) ? probe_queue(fixture, backend, want)
                             : probe_stream(fixture, backend, want);
}

static struct probe *heir(struct message_fixture *fixture, const char *name)
{
    struct probe *probe = receiver(fixture, fixture->kv.backend, name);

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* The messages are from..n-1; those before `again` come for the second time. */
static void in_order(struct probe *probe, unsigned from, unsigned again, unsigned n)
{
    probe_wait(probe, n - from);
    for (unsigned i = from; i < n; i++) {
        assert_int_equal(probe_number(probe, i - from), i);
        assert_int_equal(probe_got(probe, i - from)->m.attempt, i < again ? 2 : 1);
    }
    probe_quiet(probe, n - from);
    probe_done(probe, 0, n - from);
    probe_free(probe);
}

static void what_the_dead_had_comes_in_its_place(void **state)
{
    enum { DEAD = 40, BEFORE = 60, ALL = 100, LATER = 101 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *probe;

    publish(fixture, name, 0, BEFORE);
    fixture->dies_with(fixture, name, DEAD);
    publish(fixture, name, BEFORE, ALL - BEFORE);
    probe = heir(fixture, name);
    publish(fixture, name, ALL, LATER - ALL);
    in_order(probe, 0, DEAD, LATER);
}

/* Nobody was there when the dead one's time was over. */
static void so_does_what_the_dead_had_long_ago(void **state)
{
    enum { DEAD = 3, BEFORE = 5, ALL = 10 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);

    publish(fixture, name, 0, BEFORE);
    fixture->dies_with(fixture, name, DEAD);
    kv_pass(&fixture->kv, 2 * fixture->silent_ms);
    publish(fixture, name, BEFORE, ALL - BEFORE);
    in_order(heir(fixture, name), 0, DEAD, ALL);
}

/* Two died, one after the other. */
static void so_does_what_several_dead_had(void **state)
{
    enum { FIRST = 3, SECOND = 6, ALL = 10 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);

    publish(fixture, name, 0, ALL);
    fixture->dies_with(fixture, name, FIRST);
    kv_pass(&fixture->kv, fixture->silent_ms / 2);
    fixture->dies_with(fixture, name, SECOND - FIRST);
    in_order(heir(fixture, name), 0, SECOND, ALL);
}

static void what_the_living_hold_stays_theirs(void **state)
{
    enum { HELD = 2, ALL = 5 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *holder;

    publish(fixture, name, 0, ALL);
    holder = receiver(fixture, fixture->second, name);
    probe_grant(holder, HELD, BYTES);
    probe_wait(holder, HELD);
    in_order(heir(fixture, name), HELD, 0, ALL);
    assert_int_equal(probe_moves(holder).lost, 0);
    probe_done(holder, 0, HELD);
    probe_free(holder);
}

static void what_the_living_give_back_comes_in_its_place(void **state)
{
    enum { HELD = 2, ALL = 5 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *holder, *probe;

    publish(fixture, name, 0, ALL);
    holder = receiver(fixture, fixture->second, name);
    probe_grant(holder, HELD, BYTES);
    probe_wait(holder, HELD);
    probe = heir(fixture, name);
    probe_free(holder);
    in_order(probe, 0, 0, ALL);
}

/* What was given back before anybody came is nobody's, and not waited for. */
static void what_was_given_back_comes_at_once(void **state)
{
    enum { HELD = 2, ALL = 5 };
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct probe *holder;
    uint64_t begun_ms;

    publish(fixture, name, 0, ALL);
    holder = receiver(fixture, fixture->second, name);
    probe_grant(holder, HELD, BYTES);
    probe_wait(holder, HELD);
    probe_free(holder);
    begun_ms = kv_clock_ms();
    holder = heir(fixture, name);
    probe_wait(holder, ALL);
    assert_true(probe_got(holder, ALL - 1)->at_ms - begun_ms < fixture->silent_ms);
    in_order(holder, 0, 0, ALL);
}

int oldest_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(what_the_dead_had_comes_in_its_place),
        KV_TEST(so_does_what_the_dead_had_long_ago),
        KV_TEST(so_does_what_several_dead_had),
        KV_TEST(what_the_living_hold_stays_theirs),
        KV_TEST(what_the_living_give_back_comes_in_its_place),
        KV_TEST(what_was_given_back_comes_at_once),
    };

    return kv_group(name, "the oldest first", tests, sizeof tests / sizeof tests[0], setup,
                    teardown);
}
