/* Closed loop: a fixed number of calls is in flight; each end starts the next on its connection.
 * Latencies are loaded ones: a slow reply also delays the question after it, so this loop finds
 * what a server can do at most, not how it feels at a given load (run_open.c).
 *
 * warm-up -> measuring -> draining; an end that comes while measuring is counted. */
#include "perf/bench/session.h"

#include "perf/common/clock.h"
#include "perf/common/memory.h"

static const uint64_t step_ns = UINT64_C(20000000);
static const uint64_t silence_max_ns = UINT64_C(10000000000); /* no end for so long = stuck */

struct closed_loop {
    struct session session;
    uint64_t to_start; /* calls that may still be started; UINT64_MAX = until stopped */
    uint64_t last_end_ns;
    bool measuring;
};

static void start(struct closed_loop *loop, unsigned connection, uint64_t now_ns)
{
    if (loop->to_start == 0)
        return;
    if (client_start(loop->session.client, connection, now_ns) && loop->to_start != UINT64_MAX)
        loop->to_start--;
}

static void ended(void *arg, const struct client_end *end)
{
    struct closed_loop *loop = arg;

    loop->last_end_ns = end->ended_ns;
    loop->session.result->errors += !end->ok;
    if (loop->measuring)
        session_count(&loop->session, end);
    /* Once the server has left, calls fail as they are started: no more of them. */
    if (loop->session.result->errors == 0)
        start(loop, end->connection, end->ended_ns);
}

/* Until the clock says so, nothing is left in flight, or a call failed. Measuring goes on until one
 * call at least has ended: the slowest operations (a count by scanning) have figures, too. */
static bool work_until(struct closed_loop *loop, uint64_t until_ns)
{
    struct session *s = &loop->session;

    for (uint64_t now = clock_now_ns();
         now < until_ns || (loop->measuring && s->result->calls == 0); now = clock_now_ns()) {
        uint64_t left = until_ns > now ? until_ns - now : step_ns;

        if (s->result->errors != 0 || s->client->in_flight == 0)
            return true;
        if (now > loop->last_end_ns + silence_max_ns)
            return run_fail(s->result, "no call ended for 10 s");
        if (!client_step(s->client, left < step_ns ? left : step_ns))
            return false;
    }
    return true;
}

static bool fill(struct closed_loop *loop)
{
    const struct run_plan *p = loop->session.plan;
    uint64_t now = clock_now_ns();

    loop->last_end_ns = now;
    for (unsigned i = 0; i < p->in_flight; i++)
        start(loop, i % p->connections, now);
    return client_flush(loop->session.client);
}

static bool go_through(struct closed_loop *loop)
{
    struct session *s = &loop->session;
    const struct run_plan *p = s->plan;
    uint64_t begin = clock_now_ns();

    loop->to_start = p->calls != 0 ? p->calls : UINT64_MAX;
    if (p->calls == 0) {
        if (!fill(loop) || !work_until(loop, begin + (uint64_t)(p->warmup_seconds * 1e9)))
            return false;
    }
    meter_start(&s->meter);
    loop->measuring = true;
    if (p->calls != 0 && !fill(loop))
        return false;
    bool fine = work_until(loop, p->calls != 0 ? UINT64_MAX
                                               : clock_now_ns() + (uint64_t)(p->seconds * 1e9));
    loop->measuring = false;
    meter_stop(&s->meter, s->result);
    loop->to_start = 0;
    return fine && work_until(loop, UINT64_MAX);
}

bool run_closed(const struct run_plan *plan, struct run_result *result)
{
    struct closed_loop *loop = memory_zalloc(1, sizeof *loop);

    loop->session.plan = plan;
    loop->session.result = result;
    bool fine = session_open(&loop->session, plan->in_flight / plan->connections + 1, ended, loop);
    fine = fine && go_through(loop);
    fine = session_close(&loop->session, fine);
    free(loop);
    return fine;
}
