/* Turns between connections, and pauses for those that flood: see inflow.c. */
#include "src/rpc/inflow_priv.h"

#include "src/base/clock.h"
#include "src/rpc/coalesce.h"

enum {
    TURN_BYTES = 256 * 1024,
    TURN_SMALL_BYTES = TURN_BYTES / 16,
    FULL_TURNS = 16,        /* so many may have all of it; if more are ready they share that */
    TURN_LEAST_BYTES = 512, /* a request or two */
    SHORTEST_PAUSE_MS = 5,
    LONGEST_PAUSE_MS = 1000,
    UNREAD_STREAMS = 512, /* may be open while the client does not read */
    MANY_STREAMS = 1024,  /* more than these come in by a few, lest they overtake their answers */
    UNREAD_DOUBLINGS = 5  /* of the pause, while it goes on */
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

static void pause_reading(int fd, struct flow *f, enum meter_expense why, uint32_t ms)
{
    static const char *const names[METER_EXPENSES] = {METER_EXPENSE_NAMES};

    ms = ms < SHORTEST_PAUSE_MS ? SHORTEST_PAUSE_MS : ms > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : ms;
    f->paused = true;
    f->resume_ns = clock_now_ns() + ms * NS_PER_MS;
    atomic_fetch_add(&inflow.slowed[why], 1);
    inflow_log(&inflow.slow_lines, "connection_slowed", names[why], fd);
    pthread_mutex_lock(&inflow.lock);
    if (!f->listed)
        inflow.paused[inflow.paused_count++] = fd;
    pthread_mutex_unlock(&inflow.lock);
    f->listed = true;
    sockets_run_within(ms);
}

/* Each call holds some 20 kB of gRPC's memory until its answer has left, also that of a refusal. A
 * client that does not read gets no more of them. */
static bool owes_reading(int fd, struct flow *f)
{
    if (f->meter.open <= UNREAD_STREAMS || !coalesce_full(fd)) {
        f->unread = 0;
        return false;
    }
    pause_reading(fd, f, METER_UNREAD, (uint32_t)SHORTEST_PAUSE_MS << f->unread);
    if (f->unread < UNREAD_DOUBLINGS)
        f->unread++;
    return true;
}

static uint32_t turn_bytes(const struct flow *f)
{
    uint32_t most = f->small ? TURN_SMALL_BYTES : TURN_BYTES;
    int ready = atomic_load_explicit(&inflow.ready, memory_order_relaxed);

    if (f->meter.open > MANY_STREAMS && f->small)
        return TURN_LEAST_BYTES;
    if (ready > FULL_TURNS)
        most = most / (uint32_t)ready * FULL_TURNS;
    return most > TURN_LEAST_BYTES ? most : TURN_LEAST_BYTES;
}

size_t inflow_room(int fd, struct flow *f)
{
    uint64_t turn = atomic_load_explicit(&inflow.turn, memory_order_relaxed);
    uint32_t most = turn_bytes(f);

    if (f->paused || owes_reading(fd, f))
        return 0;
    if (f->meter.purse < METER_PURSE / 2) {
        fill_purse(f, clock_now_ns());
        if (f->meter.purse < 0) {
            pause_reading(fd, f, f->meter.blame, (uint32_t)(-f->meter.purse) / METER_TOKENS_PER_MS);
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
