/* Open loop: calls become due at a fixed rate, whatever the server does.
 *
 * Free of coordinated omission: the i-th call is due at begin + i / rate, its latency counts from
 * then, and a call that could not be sent in time because its predecessors were slow keeps its due
 * time. A call that never ends is an error, so slow calls cannot drop out of the figures.
 *
 * A timer would wake the client tens of microseconds late, so the last stretch before a due time is
 * spent polling; the client should have a core of its own. */
#include "perf/bench/session.h"

#include "perf/common/clock.h"
#include "perf/common/memory.h"

static const uint64_t spin_ns = 60000; /* covers the wake-up latency of a timer */
static const uint64_t nap_ns = 900000; /* below one millisecond: epoll_pwait2's exact timeouts */
static const uint64_t drain_max_ns = UINT64_C(10000000000);

struct open_loop {
    struct session session;
    uint64_t begin_ns;                        /* the first call is due */
    uint64_t measure_from_ns, measure_end_ns; /* calls due in between count */
    uint64_t next;                            /* number of the next call */
    uint64_t held_ns; /* what was due by then waited for the server: in_flight calls were out */
    struct histogram start_delays;
};

static uint64_t due_ns(const struct open_loop *loop, uint64_t number)
{
    return loop->begin_ns + (uint64_t)((double)number * 1e9 / loop->session.plan->rate);
}

static void ended(void *arg, const struct client_end *end)
{
    struct open_loop *loop = arg;

    loop->session.result->errors += !end->ok;
    if (end->started_ns >= loop->measure_from_ns && end->started_ns < loop->measure_end_ns)
        session_count(&loop->session, end);
}

/* The client's own lateness, not that of a call which the in_flight bound held back. */
static void note_start(struct open_loop *loop, uint64_t due, uint64_t now_ns)
{
    if (due > loop->held_ns)
        histogram_record(&loop->start_delays, now_ns - due);
}

/* Starts every call that is due; one that finds in_flight calls on its way stays due. */
static bool start_due(struct open_loop *loop, uint64_t now_ns)
{
    const struct run_plan *p = loop->session.plan;
    struct client *client = loop->session.client;
    uint64_t due = due_ns(loop, loop->next);

    while (due <= now_ns && due < loop->measure_end_ns && client->in_flight < p->in_flight) {
        if (!client_start(client, (unsigned)(loop->next % p->connections), due))
            break;
        note_start(loop, due, now_ns);
        due = due_ns(loop, ++loop->next);
    }
    if (due <= now_ns && client->in_flight >= p->in_flight)
        loop->held_ns = now_ns;
    return client_flush(client);
}

static uint64_t pause_ns(const struct open_loop *loop, uint64_t now_ns)
{
    uint64_t due = due_ns(loop, loop->next);

    if (due <= now_ns + spin_ns)
        return 0;
    uint64_t left = due - now_ns - spin_ns;
    return left < nap_ns ? left : nap_ns;
}

static bool work_until(struct open_loop *loop, uint64_t until_ns)
{
    for (uint64_t now = clock_now_ns(); now < until_ns; now = clock_now_ns()) {
        if (loop->session.result->errors != 0)
            return true;
        if (!start_due(loop, now))
            return false;
        if (!client_step(loop->session.client, pause_ns(loop, clock_now_ns())))
            return false;
    }
    return true;
}

/* Until every call that was due has been sent and has ended. */
static bool drain(struct open_loop *loop)
{
    struct client *client = loop->session.client;
    uint64_t deadline = clock_now_ns() + drain_max_ns;

    while (client->in_flight > 0 || due_ns(loop, loop->next) < loop->measure_end_ns) {
        uint64_t now = clock_now_ns();
        if (loop->session.result->errors != 0)
            return true;
        if (now > deadline)
            return run_fail(loop->session.result, "the server cannot keep up with %.0f calls/s",
                            loop->session.plan->rate);
        if (!start_due(loop, now) || !client_step(client, pause_ns(loop, now)))
            return false;
    }
    return true;
}

static bool go_through(struct open_loop *loop)
{
    struct session *s = &loop->session;

    loop->begin_ns = clock_now_ns();
    loop->measure_from_ns = loop->begin_ns + (uint64_t)(s->plan->warmup_seconds * 1e9);
    loop->measure_end_ns = loop->measure_from_ns + (uint64_t)(s->plan->seconds * 1e9);
    if (!work_until(loop, loop->measure_from_ns))
        return false;
    histogram_init(&loop->start_delays);
    meter_start(&s->meter);
    bool fine = work_until(loop, loop->measure_end_ns);
    meter_stop(&s->meter, s->result);
    s->result->start_delay_max_ns = (double)histogram_max(&loop->start_delays);
    s->result->start_delay_p99_ns = (double)histogram_percentile(&loop->start_delays, 99);
    return fine && drain(loop);
}

bool run_open(const struct run_plan *plan, struct run_result *result)
{
    struct open_loop *loop = memory_zalloc(1, sizeof *loop);

    histogram_init(&loop->start_delays);
    loop->session.plan = plan;
    loop->session.result = result;
    bool fine = session_open(&loop->session, plan->in_flight, ended, loop);
    fine = fine && go_through(loop);
    fine = session_close(&loop->session, fine);
    free(loop);
    return fine;
}
