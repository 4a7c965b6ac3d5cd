/* Deadlines of one worker: intrusive hashed wheels. Arm and disarm are O(1) and allocate nothing,
 * because nearly all timers are disarmed before they fire. Resolution TIMER_TICK_MS: a timer falls
 * due at or up to one tick after its time, never before it.
 *
 * timer_wheel_advance calls nobody: timers that have fallen due wait in a list, and the worker
 * takes them from it one by one, as it takes jobs. They stay armed until then and can be disarmed.
 *
 * thread: the wheel's worker only. Time is passed in, so tests run on virtual time. */
#ifndef PRISM_POOL_TIMER_H
#define PRISM_POOL_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TIMER_TICK_MS = 1, TIMER_SLOTS = 1024, TIMER_FAR = 64 };

struct timer {
    struct timer *next, **at; /* private; at == NULL: not armed */
    uint64_t due_tick;        /* private; 0: in wheel->due */
    void (*fire)(struct timer *);
};

struct timer_wheel {
    struct timer *slots[TIMER_SLOTS];
    uint64_t busy[TIMER_SLOTS / 64]; /* a bit for each slot: it holds a timer */
    struct timer *far[TIMER_FAR];    /* of later rounds */
    uint64_t far_busy;               /* a bit for each of them */
    uint64_t tick;                   /* timers of all ticks <= this have fallen due */
    struct timer *due, **due_end;    /* oldest tick first */
    size_t armed;                    /* those in `due` as well */
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns);

/* timer_wheel_fire calls fire(timer) once at_ns has passed; the timer is disarmed by then. Arming
 * an armed timer moves it. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t at_ns,
               void (*fire)(struct timer *));

/* Nothing if the timer is not armed (zeroed). */
void timer_disarm(struct timer_wheel *wheel, struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
    return timer->at != NULL;
}

/* Moves to wheel->due what has fallen due. Costs what falls due, not the time that has passed. */
void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns);

/* Fires the first timer in wheel->due. False: none is there. */
bool timer_wheel_fire(struct timer_wheel *wheel);

/* Milliseconds until advance should be called again: 0 = now, -1 = nothing is armed. May be early,
 * never late by more than a tick. Asked before every sleep, so it looks at no slot and no timer. */
int timer_wheel_wait_ms(const struct timer_wheel *wheel, uint64_t now_ns);

#endif
