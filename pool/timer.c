/* Two wheels. Near slots, one for each tick, hold the timers of the round that is under way; far
 * slots, one for each round (about a second), those of later rounds, of TIMER_FAR rounds later as
 * well. When a round begins, its timers move from their far slot to the near ones. So a deadline
 * that is far away wakes nobody until its round, but for once in TIMER_FAR rounds; and most are
 * disarmed before.
 *
 * Which slots hold a timer is kept in bit maps, exactly: 1024 bits are two cache lines, the slots
 * themselves are 128. A remembered lower bound of the earliest tick would cost less to keep, but a
 * worker disarms the earliest timer, the deadline of the call that has just been answered, before
 * almost every sleep, and each time the next one would have to be looked for among the slots. */
#include "pool/timer.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <string.h>

static uint64_t tick_of(uint64_t ns)
{
    return ns / (TIMER_TICK_MS * NS_PER_MS);
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->tick = tick_of(now_ns);
    wheel->due_end = &wheel->due;
}

static uint64_t round_of(uint64_t tick)
{
    return tick / TIMER_SLOTS;
}

static void mark(struct timer_wheel *wheel, size_t slot)
{
    wheel->busy[slot / 64] |= 1ull << (slot % 64);
}

static void unmark(struct timer_wheel *wheel, size_t slot)
{
    wheel->busy[slot / 64] &= ~(1ull << (slot % 64));
}

/* The first tick after this one of its round whose slot holds a timer; 0: none does. */
static uint64_t next_near(const struct timer_wheel *wheel, uint64_t tick)
{
    size_t first = tick % TIMER_SLOTS + 1;

    if (first == TIMER_SLOTS)
        return 0;

    size_t word = first / 64;
    uint64_t bits = wheel->busy[word] & (~0ull << (first % 64));

    while (bits == 0 && ++word < ARRAY_LEN(wheel->busy))
        bits = wheel->busy[word];
    return bits == 0 ? 0 : round_of(tick) * TIMER_SLOTS + word * 64 + (size_t)__builtin_ctzll(bits);
}

/* The first tick of the next round whose far slot holds a timer; TIMER_FAR rounds on if none does.
 */
static uint64_t next_far(const struct timer_wheel *wheel, uint64_t tick)
{
    uint64_t round = round_of(tick) + 1;
    unsigned shift = (unsigned)(round % TIMER_FAR);
    uint64_t bits = wheel->far_busy >> shift;

    if (shift > 0)
        bits |= wheel->far_busy << (TIMER_FAR - shift);
    return (round + (bits == 0 ? TIMER_FAR : (unsigned)__builtin_ctzll(bits))) * TIMER_SLOTS;
}

static uint64_t next_busy(const struct timer_wheel *wheel, uint64_t tick)
{
    uint64_t near = next_near(wheel, tick);

    return near != 0 ? near : next_far(wheel, tick);
}

static void unlink_timer(struct timer_wheel *wheel, struct timer *timer)
{
    size_t slot = timer->due_tick % TIMER_SLOTS, far = round_of(timer->due_tick) % TIMER_FAR;

    if (timer->due_tick != 0 && timer->at == &wheel->slots[slot] && timer->next == NULL)
        unmark(wheel, slot);
    if (timer->due_tick != 0 && timer->at == &wheel->far[far] && timer->next == NULL)
        wheel->far_busy &= ~(1ull << far);
    if (timer->due_tick == 0 && timer->next == NULL)
        wheel->due_end = timer->at;
    *timer->at = timer->next;
    if (timer->next != NULL)
        timer->next->at = timer->at;
    timer->at = NULL;
    wheel->armed--;
}

void timer_disarm(struct timer_wheel *wheel, struct timer *timer)
{
    if (timer->at != NULL)
        unlink_timer(wheel, timer);
}

static void link_timer(struct timer_wheel *wheel, struct timer *timer, struct timer **place)
{
    timer->next = *place;
    timer->at = place;
    if (*place != NULL)
        (*place)->at = &timer->next;
    *place = timer;
    wheel->armed++;
}

/* Where it belongs while wheel->tick is what it is. */
static void put_timer(struct timer_wheel *wheel, struct timer *timer)
{
    size_t slot = timer->due_tick % TIMER_SLOTS, far = round_of(timer->due_tick) % TIMER_FAR;

    if (round_of(timer->due_tick) == round_of(wheel->tick)) {
        mark(wheel, slot);
        link_timer(wheel, timer, &wheel->slots[slot]);
    } else {
        wheel->far_busy |= 1ull << far;
        link_timer(wheel, timer, &wheel->far[far]);
    }
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t at_ns,
               void (*fire)(struct timer *))
{
    /* The tick after the one at_ns falls into: never early. */
    uint64_t tick = tick_of(at_ns) + 1;

    timer_disarm(wheel, timer);
    timer->fire = fire;
    timer->due_tick = tick > wheel->tick ? tick : wheel->tick + 1;
    put_timer(wheel, timer);
}

/* A round begins. Those that were armed first are put first, as they were. */
static void begin_round(struct timer_wheel *wheel, uint64_t round)
{
    struct timer *timer = wheel->far[round % TIMER_FAR], *first = NULL;

    for (struct timer *next; timer != NULL; timer = next) {
        next = timer->next;
        unlink_timer(wheel, timer);
        timer->next = first;
        first = timer;
    }
    for (struct timer *next; first != NULL; first = next) {
        next = first->next;
        put_timer(wheel, first);
    }
}

/* The last one armed is the first in its slot: each goes before those that were taken from it. */
static void take_slot(struct timer_wheel *wheel, uint64_t tick)
{
    struct timer **place = wheel->due_end;

    for (struct timer *t = wheel->slots[tick % TIMER_SLOTS], *next; t != NULL; t = next) {
        next = t->next;
        unlink_timer(wheel, t);
        t->due_tick = 0;
        link_timer(wheel, t, place);
        if (t->next == NULL)
            wheel->due_end = &t->next;
    }
}

void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns)
{
    uint64_t now = tick_of(now_ns);

    if (now <= wheel->tick)
        return;
    while (wheel->armed > 0 && wheel->tick < now) {
        uint64_t next = next_busy(wheel, wheel->tick);

        if (next > now)
            break;
        wheel->tick = next;
        if (next % TIMER_SLOTS == 0)
            begin_round(wheel, round_of(next));
        take_slot(wheel, next);
    }
    wheel->tick = now;
}

bool timer_wheel_fire(struct timer_wheel *wheel)
{
    struct timer *timer = wheel->due;

    if (timer == NULL)
        return false;
    unlink_timer(wheel, timer);
    timer->fire(timer);
    return true;
}

int timer_wheel_wait_ms(const struct timer_wheel *wheel, uint64_t now_ns)
{
    if (wheel->armed == 0)
        return -1;
    if (wheel->due != NULL)
        return 0;

    uint64_t at_ns = next_busy(wheel, wheel->tick) * TIMER_TICK_MS * NS_PER_MS;

    return at_ns <= now_ns ? 0 : (int)((at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}
