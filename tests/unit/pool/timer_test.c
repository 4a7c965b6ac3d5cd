#include "tests/unit/pool/timer_world.h"

/* ---- one timer ---- */

static void check_delay(uint64_t delay_ns)
{
    struct world *world = world_new();
    struct alarm alarm = {0};
    uint64_t at_ns = BEGIN_NS + delay_ns;

    arm(world, &alarm, at_ns, count);
    assert_true(timer_armed(&alarm.timer));
    for (uint64_t ns = BEGIN_NS; ns < at_ns; ns += delay_ns / 7 + 1)
        assert_int_equal(advance_to(world, ns), 0);
    if (delay_ns > 0)
        assert_int_equal(advance_to(world, at_ns - 1), 0);
    assert_int_equal(advance_to(world, at_ns + TICK_NS), 1);
    assert_int_equal(alarm.fired, 1);
    assert_false(timer_armed(&alarm.timer));
    assert_int_equal(advance_to(world, at_ns + 10 * NS_PER_S), 0);
    assert_int_equal(alarm.fired, 1);
    free(world);
}

/* Within a round, at its end, and beyond one. */
static void test_never_early_at_most_a_tick_late(void **state)
{
    static const uint64_t ticks[] = {0,    1,    2,    500,  1022, 1023,
                                     1024, 1025, 2047, 2048, 5000, 3600000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ticks); i++) {
        for (uint64_t part = 0; part < TICK_NS; part += TICK_NS / 4 + 1)
            check_delay(ticks[i] * TICK_NS + part);
    }
}

static void test_past_and_present_fire_at_the_next_tick(void **state)
{
    struct world *world = world_new();
    struct alarm past = {0}, present = {0}, zero = {0};

    (void)state;
    arm(world, &past, BEGIN_NS - 5 * NS_PER_S, count);
    arm(world, &present, BEGIN_NS, count);
    arm(world, &zero, 0, count);
    assert_int_equal(advance_to(world, BEGIN_NS), 0); /* time has not moved */
    assert_int_equal(advance_to(world, BEGIN_NS + TICK_NS), 3);
    free(world);
}

static void test_disarm(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0}, other = {0}, never = {0};

    (void)state;
    timer_disarm(&world->wheel, &never.timer);
    arm(world, &alarm, BEGIN_NS + TICK_NS, count);
    arm(world, &other, BEGIN_NS + TICK_NS, count);
    timer_disarm(&world->wheel, &alarm.timer);
    timer_disarm(&world->wheel, &alarm.timer);
    assert_false(timer_armed(&alarm.timer));
    assert_int_equal(advance_to(world, BEGIN_NS + NS_PER_S), 1);
    assert_int_equal(alarm.fired, 0);
    assert_int_equal(other.fired, 1);
    timer_disarm(&world->wheel, &other.timer); /* fired already */
    assert_int_equal(timer_wheel_wait_ms(&world->wheel, world->now_ns), -1);
    free(world);
}

static void test_arming_again_moves(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0};

    (void)state;
    arm(world, &alarm, BEGIN_NS + TICK_NS, count);
    arm(world, &alarm, BEGIN_NS + 3 * NS_PER_S, count);
    assert_int_equal(advance_to(world, BEGIN_NS + 2 * NS_PER_S), 0);
    arm(world, &alarm, BEGIN_NS + 2 * NS_PER_S + 2 * TICK_NS, count);
    assert_int_equal(advance_to(world, BEGIN_NS + 2 * NS_PER_S + 3 * TICK_NS), 1);
    assert_int_equal(advance_to(world, BEGIN_NS + 9 * NS_PER_S), 0);
    free(world);
}

/* Nothing is armed while hours pass; then a short delay is still short. */
static void test_an_empty_wheel_catches_up(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0};

    (void)state;
    assert_int_equal(advance_to(world, BEGIN_NS + 7200 * NS_PER_S), 0);
    arm(world, &alarm, world->now_ns + TICK_NS, count);
    assert_in_range(timer_wheel_wait_ms(&world->wheel, world->now_ns), 1, 2);
    assert_int_equal(advance_to(world, world->now_ns + TICK_NS - 1), 0);
    assert_int_equal(advance_to(world, world->now_ns + TICK_NS + 1), 1);
    free(world);
}

/* ---- callbacks that change the wheel ---- */

static void fire_disarms_other(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    count(timer);
    timer_disarm(&alarm->world->wheel, &alarm->timer);
    timer_disarm(&alarm->world->wheel, &alarm->other->timer);
}

/* Two of one tick, each disarms the other: one fires, whichever it is. Neighbours are left alone.
 */
static void test_disarm_in_fire(void **state)
{
    struct world *world = world_new();
    struct alarm pair[2] = {0}, neighbours[4] = {0};
    uint64_t at_ns = BEGIN_NS + 5 * TICK_NS;

    (void)state;
    arm(world, &neighbours[0], at_ns, count);
    arm(world, &pair[0], at_ns, fire_disarms_other);
    arm(world, &neighbours[3], at_ns, count);
    arm(world, &neighbours[1], at_ns + 2 * ROUND_NS, count); /* same slot, later round */
    arm(world, &pair[1], at_ns, fire_disarms_other);
    arm(world, &neighbours[2], at_ns, count);
    pair[0].other = &pair[1];
    pair[1].other = &pair[0];
    assert_int_equal(advance_to(world, at_ns + TICK_NS), 4);
    assert_int_equal(pair[0].fired + pair[1].fired, 1);
    assert_int_equal(neighbours[0].fired + neighbours[2].fired + neighbours[3].fired, 3);
    assert_int_equal(world->wheel.armed, 1);
    assert_int_equal(advance_to(world, neighbours[1].at_ns + TICK_NS), 1);
    assert_int_equal(world->wheel.armed, 0);
    free(world);
}

static void fire_again(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    count(timer);
    arm(alarm->world, alarm, alarm->world->now_ns + alarm->again_after_ns, fire_again);
}

static void test_rearm_in_fire(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {.again_after_ns = 10 * TICK_NS};

    (void)state;
    arm(world, &alarm, BEGIN_NS + 10 * TICK_NS, fire_again);
    for (unsigned i = 1; i <= 500; i++) {
        assert_int_equal(advance_to(world, alarm.at_ns - 1), 0);
        assert_int_equal(advance_to(world, alarm.at_ns + TICK_NS), 1);
        assert_int_equal(alarm.fired, i);
        assert_true(timer_armed(&alarm.timer));
    }
    timer_disarm(&world->wheel, &alarm.timer);
    assert_int_equal(advance_to(world, world->now_ns + NS_PER_S), 0);
    free(world);
}

static void fire_in_the_past(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    count(timer);
    if (alarm->fired < 1000000)
        arm(alarm->world, alarm, 0, fire_in_the_past);
}

/* A timer that is always overdue fires once a tick: advance ends. */
static void test_rearm_in_the_past_ends(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0};

    (void)state;
    arm(world, &alarm, 0, fire_in_the_past);
    assert_true(advance_to(world, BEGIN_NS + 3 * TICK_NS) <= 4);
    assert_true(timer_armed(&alarm.timer));
    assert_true(advance_to(world, BEGIN_NS + 10 * NS_PER_S) <= TIMER_SLOTS);
    assert_true(timer_armed(&alarm.timer));
    free(world);
}

static void fire_moves_other(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    count(timer);
    arm(alarm->world, alarm->other, alarm->world->now_ns + 3 * NS_PER_S, count);
}

/* A timer that is about to fire in the same tick is moved away: it must not fire now. */
static void test_fire_moves_one_that_is_due(void **state)
{
    struct world *world = world_new();
    struct alarm first = {0}, second = {0};

    (void)state;
    arm(world, &first, BEGIN_NS + TICK_NS, fire_moves_other);
    arm(world, &second, BEGIN_NS + TICK_NS, fire_moves_other);
    first.other = &second;
    second.other = &first;
    assert_int_equal(advance_to(world, BEGIN_NS + 2 * TICK_NS), 1);
    assert_int_equal(first.fired + second.fired, 1);
    assert_int_equal(world->wheel.armed, 1);
    assert_int_equal(advance_to(world, BEGIN_NS + 2 * NS_PER_S), 0);
    assert_int_equal(advance_to(world, BEGIN_NS + 4 * NS_PER_S), 1);
    free(world);
}

static void fire_frees(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    alarm->other->fired++;
    free(alarm);
}

/* The memory of a timer may go in its fire(), that of its neighbours in the list too. */
static void test_free_in_fire(void **state)
{
    struct world *world = world_new();
    struct alarm tally = {0};

    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        struct alarm *alarm = calloc(1, sizeof *alarm);

        assert_non_null(alarm);
        alarm->other = &tally;
        arm(world, alarm, BEGIN_NS + i / 10 * TICK_NS, fire_frees);
    }
    assert_int_equal(advance_to(world, BEGIN_NS + NS_PER_S), 50);
    assert_int_equal(tally.fired, 50);
    assert_int_equal(world->wheel.armed, 0);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_early_at_most_a_tick_late),
        cmocka_unit_test(test_past_and_present_fire_at_the_next_tick),
        cmocka_unit_test(test_disarm),
        cmocka_unit_test(test_arming_again_moves),
        cmocka_unit_test(test_an_empty_wheel_catches_up),
        cmocka_unit_test(test_disarm_in_fire),
        cmocka_unit_test(test_rearm_in_fire),
        cmocka_unit_test(test_rearm_in_the_past_ends),
        cmocka_unit_test(test_fire_moves_one_that_is_due),
        cmocka_unit_test(test_free_in_fire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
