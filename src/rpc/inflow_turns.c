/* Turns between connections, and pauses for those that flood: see inflow.c. */
#include "src/rpc/inflow_priv.h"

#include "src/base/clock.h"

enum {
    TURN_BYTES = 256 * 1024,
    TURN_SMALL_BYTES = TURN_BYTES / 16,
    SHORTEST_PAUSE_MS = 5,
    LONGEST_PAUSE_MS = 1000
};

static void fill_purse(struct flow *f, uint64_t now_ns)
{
    uint64_t ms = (now_ns - f->filled_ns) / NS_PER_MS;

    if (ms == 0)
        return;
    f->filled_ns = now_ns;
    meter_earn(&f->meter,
               ms < METER_PURSE * 2 ? (uint32_t)ms * METER_TOKENS_PER_MS : METER_PURSE * 2);
}

static void pause_reading(int fd, struct flow *f, uint64_t now_ns)
{
    static const char *const names[METER_EXPENSES] = {METER_EXPENSE_NAMES};
    uint32_t ms = (uint32_t)(-f->meter.purse) / METER_TOKENS_PER_MS;

    ms = ms < SHORTEST_PAUSE_MS ? SHORTEST_PAUSE_MS : ms > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : ms;
    f->paused = true;
    f->resume_ns = now_ns + ms * NS_PER_MS;
    atomic_fetch_add(&inflow.slowed[f->meter.blame], 1);
    inflow_log(&inflow.slow_lines, "connection_slowed", names[f->meter.blame], fd);
    pthread_mutex_lock(&inflow.lock);
    if (!f->listed)
        inflow.paused[inflow.paused_count++] = fd;
    pthread_mutex_unlock(&inflow.lock);
    f->listed = true;
    sockets_run_within(ms);
}

size_t inflow_room(int fd, struct flow *f)
{
    uint64_t turn = atomic_load_explicit(&inflow.turn, memory_order_relaxed);
    uint32_t most = f->small ? TURN_SMALL_BYTES : TURN_BYTES;

    if (f->paused)
        return 0;
    if (f->meter.purse < METER_PURSE / 2) {
        uint64_t now_ns = clock_now_ns();

        fill_purse(f, now_ns);
        if (f->meter.purse < 0) {
            pause_reading(fd, f, now_ns);
            return 0;
        }
    }
    if (f->turn != turn) {
        f->turn = turn;
        f->turn_bytes = 0;
    }
    if (f->turn_bytes < most)
        return most - f->turn_bytes;
    return sockets_rearm(fd) ? 0 : most;
}

static bool resume(int fd, uint64_t now_ns)
{
    struct flow *f = inflow_flow(fd);
    bool over;

    pthread_mutex_lock(&f->lock);
    over = !f->paused || now_ns >= f->resume_ns;
    if (over && f->paused)
        sockets_rearm(fd);
    if (over)
        f->paused = f->listed = false;
    pthread_mutex_unlock(&f->lock);
    return over;
}

/* The list changes behind us only at its end: pauses are added there, and nobody else removes. */
void inflow_resume(uint64_t now_ns)
{
    size_t at = 0;

    for (;;) {
        int fd = -1;

        pthread_mutex_lock(&inflow.lock);
        if (at < inflow.paused_count)
            fd = inflow.paused[at];
        pthread_mutex_unlock(&inflow.lock);
        if (fd < 0)
            break;
        if (!resume(fd, now_ns)) {
            at++;
            continue;
        }
        pthread_mutex_lock(&inflow.lock);
        inflow.paused[at] = inflow.paused[--inflow.paused_count];
        pthread_mutex_unlock(&inflow.lock);
    }
    if (at > 0)
        sockets_run_within(SHORTEST_PAUSE_MS);
}
