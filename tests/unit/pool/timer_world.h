/* A wheel on virtual time, and timers that know when they are due. */
#ifndef PRISM_TESTS_UNIT_POOL_TIMER_WORLD_H
#define PRISM_TESTS_UNIT_POOL_TIMER_WORLD_H

#include "pool/timer.h"

#include "tests/unit/pool/fixture.h"

#define TICK_NS  ((uint64_t)TIMER_TICK_MS * NS_PER_MS)
#define ROUND_NS ((uint64_t)TIMER_SLOTS * TICK_NS)
#define BEGIN_NS (1000 * NS_PER_S + 123456) /* no tick begins here */

struct world {
    struct timer_wheel wheel;
    uint64_t now_ns;
};

struct alarm {
    struct timer timer;
    struct world *world;
    uint64_t at_ns;
    unsigned fired;
    struct alarm *other;     /* what fire_x does something with */
    uint64_t again_after_ns; /* fire_again */
};

static inline struct alarm *alarm_of(struct timer *timer)
{
    return CONTAINER_OF(timer, struct alarm, timer);
}

static inline void count(struct timer *timer)
{
    struct alarm *alarm = alarm_of(timer);

    assert_false(timer_armed(timer));
    assert_true(alarm->world->now_ns >= alarm->at_ns); /* never early */
    alarm->fired++;
}

static inline void arm(struct world *world, struct alarm *alarm, uint64_t at_ns,
                       void (*fire)(struct timer *))
{
    alarm->world = world;
    alarm->at_ns = at_ns;
    timer_arm(&world->wheel, &alarm->timer, at_ns, fire);
}

static inline struct world *world_new(void)
{
    struct world *world = malloc(sizeof *world);

    assert_non_null(world);
    world->now_ns = BEGIN_NS;
    timer_wheel_init(&world->wheel, world->now_ns);
    return world;
}

static inline uint64_t ms_after(uint64_t ns, int ms)
{
    uint64_t n = (uint64_t)ms;

    return ns + n * NS_PER_MS;
}

/* Fires what falls due. Returns how many fired. */
static inline size_t advance_to(struct world *world, uint64_t ns)
{
    size_t fired = 0;

    world->now_ns = ns;
    timer_wheel_advance(&world->wheel, ns);
    while (timer_wheel_fire(&world->wheel))
        fired++;
    return fired;
}

#endif
