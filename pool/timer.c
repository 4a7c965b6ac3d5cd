/* A slot holds all timers whose tick is equal to it modulo TIMER_SLOTS, those of later rounds too:
 * a deadline further than one round (about a second) is looked at once a round, and most are
 * disarmed long before.
 *
 * Which slots hold a timer is kept in a bit map, exactly: 1024 bits are two cache lines, the slots
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

static void mark(struct timer_wheel *wheel, size_t slot)
{
    wheel->busy[slot / 64] |= 1ull << (slot % 64);
}

static void unmark(struct timer_wheel *wheel, size_t slot)
{
    wheel->busy[slot / 64] &= ~(1ull << (slot % 64));
}

/* The first tick after this one whose slot holds a timer; one round later if none does. */
static uint64_t next_busy(const struct timer_wheel *wheel, uint64_t tick)
{
    size_t first = (tick + 1) % TIMER_SLOTS;
    size_t word = first / 64;
    uint64_t bits = wheel->busy[word] & (~0ull << (first % 64));

    /* The word that it begins in comes last once more: for the slots before the first. */
    for (size_t left = ARRAY_LEN(wheel->busy); bits == 0 && left > 0; left--) {
        word = (word + 1) % ARRAY_LEN(wheel->busy);
        bits = wheel->busy[word];
    }
    if (bits == 0)
        return tick + TIMER_SLOTS;

    size_t slot = word * 64 + (size_t)__builtin_ctzll(bits);

    return tick + 1 + (slot + TIMER_SLOTS - first) % TIMER_SLOTS;
}

static void unlink_timer(struct timer_wheel *wheel, struct timer *timer)
{
    size_t slot = timer->due_tick % TIMER_SLOTS;

    if (timer->due_tick != 0 && timer->at == &wheel->slots[slot] && timer->next == NULL)
        unmark(wheel, slot);
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

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t at_ns,
               void (*fire)(struct timer *))
{
    /* The tick after the one at_ns falls into: never early. */
    uint64_t tick = tick_of(at_ns) + 1;

    timer_disarm(wheel, timer);
    timer->fire = fire;
    timer->due_tick = tick > wheel->tick ? tick : wheel->tick + 1;
    mark(wheel, timer->due_tick % TIMER_SLOTS);
    link_timer(wheel, timer, &wheel->slots[timer->due_tick % TIMER_SLOTS]);
}

/* The last one armed is the first in its slot: each goes before those that were taken from it. */
static void take_slot(struct timer_wheel *wheel, uint64_t tick)
{
    struct timer **place = wheel->due_end;

    for (struct timer *t = wheel->slots[tick % TIMER_SLOTS], *next; t != NULL; t = next) {
        next = t->next;
        if (t->due_tick > tick)
            continue;
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
    /* After a long sleep one round visits every slot once; due_tick tells what has passed. */
    if (now > wheel->tick + TIMER_SLOTS)
        wheel->tick = now - TIMER_SLOTS;
    while (wheel->armed > 0 && wheel->tick < now) {
        uint64_t next = next_busy(wheel, wheel->tick);

        if (next > now)
            break;
        wheel->tick = next;
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
