/* A request ends that is not complete within limits.request_timeout_ms. gRPC C core has no such
 * bound: until a unary request is complete nobody above it knows of the call.
 *
 * Between two frames of the client gRPC reads one more, trailers that end the client's side. So
 * gRPC hands the call on, it is refused as a request without a whole message, and the client gets
 * that answer while the other calls of its connection go on. A stream that had messages before is
 * told so when it receives (finish_stream.c): its client did not end its side. Where there is no
 * such place, within a frame that does not come to its end, the connection ends after twice the
 * time: nothing else can pass on it.
 *
 * Time is counted in marks, of which there are MARKS in a timeout, and only while something is
 * incomplete: an idle server does nothing. */
#include "src/rpc/inflow_priv.h"

#include "src/base/clock.h"

enum { MARKS = 4 };

uint16_t inflow_age_mark(void)
{
    return atomic_load_explicit(&inflow.ages.mark, memory_order_relaxed);
}

static uint32_t mark_ms(void)
{
    return inflow_options_now()->request_timeout_ms / MARKS;
}

void inflow_watch_ages(void)
{
    if (mark_ms() == 0 || atomic_load_explicit(&inflow.ages.watching, memory_order_relaxed) ||
        atomic_exchange(&inflow.ages.watching, true))
        return;
    atomic_store(&inflow.ages.next_ns, clock_now_ns() + mark_ms() * NS_PER_MS);
    sockets_run_within(mark_ms());
}

static void look_at(int fd, struct flow *f)
{
    f->meter.mark = inflow_age_mark();

    bool overdue = meter_overdue(&f->meter, MARKS + 1) != 0;

    if (!overdue || !f->overdue)
        f->warned = f->meter.mark;
    f->overdue = overdue;
    if (!overdue)
        return;
    if ((uint16_t)(f->meter.mark - f->warned) >= MARKS)
        inflow_end(fd, f, INFLOW_OVERDUE);
    else
        sockets_have_read(fd);
}

void inflow_end_overdue(uint64_t now_ns)
{
    int highest = atomic_load(&inflow.highest);

    if (!atomic_load(&inflow.ages.watching))
        return;
    if (now_ns < atomic_load(&inflow.ages.next_ns)) {
        sockets_run_within(mark_ms());
        return;
    }
    atomic_fetch_add(&inflow.ages.mark, 1);
    atomic_store(&inflow.ages.watching, false);
    for (int fd = 0; fd <= highest; fd++) {
        struct flow *f = inflow_flow(fd);

        if (f == NULL || atomic_load_explicit(&f->weight, memory_order_relaxed) == 0)
            continue;
        pthread_mutex_lock(&f->lock);
        if (f->live && !f->ending)
            look_at(fd, f);
        pthread_mutex_unlock(&f->lock);
        inflow_watch_ages();
    }
}

size_t inflow_frame_for_overdue(struct flow *f, uint8_t *bytes, size_t room)
{
    if (room < METER_CUT_BYTES || !meter_between_frames(&f->meter))
        return 0;
    f->meter.mark = inflow_age_mark();

    uint32_t stream = meter_overdue(&f->meter, MARKS + 1);

    f->overdue = stream != 0;
    if (stream == 0)
        return 0;
    atomic_fetch_add(&inflow.overdue_streams, 1);
    return meter_cut(stream, bytes);
}
