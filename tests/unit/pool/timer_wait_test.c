/* How long a worker may sleep: what it is told, and what it costs to ask. */
#include "tests/unit/pool/timer_world.h"

#include <sys/mman.h>

/* Sleeps as long as it is told, and looks: the timer fires in time, and no sleep is of length zero.
 */
static void check_sleep(uint64_t delay_ns)
{
    struct world *world = world_new();
    struct alarm alarm = {0};
    unsigned sleeps = 0;

    arm(world, &alarm, BEGIN_NS + delay_ns, count);
    while (alarm.fired == 0) {
        int wait_ms = timer_wheel_wait_ms(&world->wheel, world->now_ns);

        assert_in_range(wait_ms, 1, TIMER_SLOTS * TIMER_FAR * TIMER_TICK_MS);
        advance_to(world, ms_after(world->now_ns, wait_ms));
        sleeps++;
    }
    assert_true(world->now_ns < alarm.at_ns + 2 * TICK_NS);
    assert_true(sleeps <= delay_ns / (TIMER_FAR * ROUND_NS) + 3); /* one to its round, one in it */
    free(world);
}

static void test_wait_is_never_late(void **state)
{
    struct dice dice = {.state = 42};
    static const uint64_t rounds[] = {1, 2, TIMER_SLOTS, 10 * TIMER_SLOTS,
                                      3 * TIMER_FAR * TIMER_SLOTS};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rounds); i++) {
        for (unsigned n = 0; n < 500; n++)
            check_sleep(dice_roll(&dice, rounds[i] * TICK_NS));
    }
}

/* A thousand subscriptions that look after something each minute wake nobody in between. */
static void test_timers_that_are_far_away_wake_nobody(void **state)
{
    enum { MANY = 1000, FIRST_MS = 40000 };

    struct world *world = world_new();
    struct alarm *alarms = calloc(MANY, sizeof *alarms);
    unsigned wakes = 0;

    (void)state;
    assert_non_null(alarms);
    for (size_t i = 0; i < MANY; i++)
        arm(world, &alarms[i], BEGIN_NS + (FIRST_MS + 7 * i) * TICK_NS, count);
    while (alarms[0].fired == 0) {
        advance_to(world,
                   ms_after(world->now_ns, timer_wheel_wait_ms(&world->wheel, world->now_ns)));
        wakes++;
    }
    assert_true(wakes <= 2);
    for (size_t i = 0; i < MANY; i++)
        timer_disarm(&world->wheel, &alarms[i].timer);
    assert_int_equal(timer_wheel_wait_ms(&world->wheel, world->now_ns), -1);
    free(alarms);
    free(world);
}

/* Somebody else kept the worker busy meanwhile: what is overdue needs no sleep. */
static void test_overdue_needs_no_sleep(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0};

    (void)state;
    assert_int_equal(timer_wheel_wait_ms(&world->wheel, BEGIN_NS), -1);
    arm(world, &alarm, BEGIN_NS + 5 * TICK_NS, count);
    assert_int_equal(timer_wheel_wait_ms(&world->wheel, BEGIN_NS + NS_PER_S), 0);
    timer_disarm(&world->wheel, &alarm.timer);
    assert_int_equal(timer_wheel_wait_ms(&world->wheel, BEGIN_NS + NS_PER_S), -1);
    free(world);
}

static void test_time_that_stands_or_goes_back(void **state)
{
    struct world *world = world_new();
    struct alarm alarm = {0};

    (void)state;
    assert_int_equal(advance_to(world, BEGIN_NS + NS_PER_S), 0);
    arm(world, &alarm, BEGIN_NS + NS_PER_S + 3 * TICK_NS, count);
    assert_int_equal(advance_to(world, BEGIN_NS), 0);
    assert_int_equal(advance_to(world, BEGIN_NS), 0);
    assert_int_equal(advance_to(world, alarm.at_ns + TICK_NS), 1);
    free(world);
}

/* Far timers stay while short ones come and go, as calls do: a worker that sleeps as long as it is
 * told wakes for those that fire and once a round, however many were disarmed before their time. */
static void test_what_was_disarmed_wakes_nobody(void **state)
{
    struct world *world = world_new();
    struct alarm call = {0}, far = {0};
    unsigned wakes = 0;

    (void)state;
    arm(world, &far, BEGIN_NS + 5000 * TICK_NS, count);
    for (unsigned i = 0; i < 100; i++) {
        arm(world, &call, world->now_ns + (1 + i % 20) * TICK_NS, count);
        assert_in_range(timer_wheel_wait_ms(&world->wheel, world->now_ns), 1, 2 + i % 20);
        timer_disarm(&world->wheel, &call.timer);
        assert_true(timer_wheel_wait_ms(&world->wheel, world->now_ns) > 800);
        advance_to(world, world->now_ns + TICK_NS / 3);
    }
    while (far.fired == 0) {
        int wait_ms = timer_wheel_wait_ms(&world->wheel, world->now_ns);

        assert_true(wait_ms >= 1);
        advance_to(world, ms_after(world->now_ns, wait_ms));
        wakes++;
    }
    assert_true(wakes <= 5000 / TIMER_SLOTS + 2);
    assert_int_equal(call.fired, 0);
    free(world);
}

/* The slots lie on pages that may not be touched while the question is asked. */
static void test_wait_looks_at_no_slot(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t slots = sizeof((struct timer_wheel *)NULL)->slots;
    size_t bytes = (sizeof(struct world) + page - 1) / page * page;
    struct world *world;
    struct alarm far = {0};

    (void)state;
    assert_int_equal(offsetof(struct world, wheel.slots), 0);
    if (slots % page != 0)
        skip();
    world = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(world, MAP_FAILED);
    world->now_ns = 1000 * ROUND_NS + 123456; /* all of it in one round */
    timer_wheel_init(&world->wheel, world->now_ns);
    arm(world, &far, world->now_ns + 900 * NS_PER_MS, count);
    assert_int_equal(mprotect(world, slots, PROT_NONE), 0);
    for (uint64_t ms = 0; ms < 890; ms++) {
        assert_in_range(timer_wheel_wait_ms(&world->wheel, world->now_ns), 899 - ms, 901 - ms);
        /* Nor does time that passes without anything due. */
        assert_int_equal(advance_to(world, world->now_ns + NS_PER_MS), 0);
    }
    assert_int_equal(mprotect(world, slots, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(advance_to(world, far.at_ns + TICK_NS), 1);
    munmap(world, bytes);
}

/* ---- against a naive model ---- */

enum { MODEL = 40, STEPS = 20000 };

struct modelled {
    struct alarm alarm;
    bool armed; /* what the model believes */
};

struct model {
    struct world *world;
    struct modelled timers[MODEL];
    struct dice dice;
};

static void model_fire(struct timer *timer)
{
    struct modelled *m = CONTAINER_OF(alarm_of(timer), struct modelled, alarm);

    assert_true(m->armed);
    count(timer);
    m->armed = false;
}

static uint64_t any_delay(struct dice *dice)
{
    switch (dice_roll(dice, 4)) {
    case 0:
        return dice_roll(dice, 3 * TICK_NS);
    case 1:
        return dice_roll(dice, 50 * TICK_NS);
    case 2:
        return dice_roll(dice, 2 * ROUND_NS);
    default:
        return dice_roll(dice, 20 * NS_PER_S);
    }
}

/* Of a timer, the next tick at which its slot is looked at, found the slow way: its own in the
 * round that is under way, else the beginning of a round that shares the far slot. */
static uint64_t looked_at(uint64_t now, uint64_t due)
{
    uint64_t round = now / TIMER_SLOTS + 1;

    if (due / TIMER_SLOTS == now / TIMER_SLOTS)
        return due;
    while (round % TIMER_FAR != due / TIMER_SLOTS % TIMER_FAR)
        round++;
    return round * TIMER_SLOTS;
}

/* The first of these. */
static int naive_wait_ms(const struct model *model)
{
    const struct world *world = model->world;
    uint64_t first = UINT64_MAX;

    for (unsigned i = 0; i < MODEL; i++) {
        const struct modelled *m = &model->timers[i];
        uint64_t tick =
            m->armed ? looked_at(world->wheel.tick, m->alarm.timer.due_tick) : UINT64_MAX;

        if (tick < first)
            first = tick;
    }
    if (first == UINT64_MAX)
        return -1;
    if (first * TICK_NS <= world->now_ns)
        return 0;
    return (int)((first * TICK_NS - world->now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* After an advance: who is still armed has no right to have fired, and the wheel knows how many
 * they are. */
static void check_model(struct model *model)
{
    uint64_t now_ns = model->world->now_ns, earliest_ns = UINT64_MAX;
    size_t armed = 0;
    int wait_ms = timer_wheel_wait_ms(&model->world->wheel, now_ns);

    for (unsigned i = 0; i < MODEL; i++) {
        struct modelled *m = &model->timers[i];

        assert_int_equal(m->armed, timer_armed(&m->alarm.timer));
        if (!m->armed)
            continue;
        armed++;
        assert_true(now_ns < m->alarm.at_ns + TICK_NS);
        if (m->alarm.at_ns < earliest_ns)
            earliest_ns = m->alarm.at_ns;
    }
    assert_int_equal(model->world->wheel.armed, armed);
    if (armed == 0)
        assert_int_equal(wait_ms, -1);
    else
        assert_true(ms_after(now_ns, wait_ms) < earliest_ns + 2 * TICK_NS);
}

static void test_as_the_model_says(void **state)
{
    struct model *model = calloc(1, sizeof *model);

    (void)state;
    assert_non_null(model);
    model->world = world_new();
    model->dice.state = 20240607;
    for (unsigned step = 0; step < STEPS; step++) {
        assert_int_equal(timer_wheel_wait_ms(&model->world->wheel, model->world->now_ns),
                         naive_wait_ms(model));

        struct modelled *m = &model->timers[dice_roll(&model->dice, MODEL)];
        uint64_t now_ns = model->world->now_ns;

        switch (dice_roll(&model->dice, 3)) {
        case 0:
            arm(model->world, &m->alarm, now_ns + any_delay(&model->dice), model_fire);
            m->armed = true;
            break;
        case 1:
            timer_disarm(&model->world->wheel, &m->alarm.timer);
            m->armed = false;
            break;
        default:
            advance_to(model->world,
                       now_ns + any_delay(&model->dice) / (1 + dice_roll(&model->dice, 30)));
            check_model(model);
        }
    }
    free(model->world);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_is_never_late),
        cmocka_unit_test(test_timers_that_are_far_away_wake_nobody),
        cmocka_unit_test(test_what_was_disarmed_wakes_nobody),
        cmocka_unit_test(test_wait_looks_at_no_slot),
        cmocka_unit_test(test_overdue_needs_no_sleep),
        cmocka_unit_test(test_time_that_stands_or_goes_back),
        cmocka_unit_test(test_as_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
