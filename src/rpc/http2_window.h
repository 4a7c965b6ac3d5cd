/* The streams of a meter, and the windows of HTTP/2: a client that may not send is not late. Part
 * of http2_meter.c. */
#ifndef PRISM_RPC_HTTP2_WINDOW_H
#define PRISM_RPC_HTTP2_WINDOW_H

#include "src/rpc/http2_meter.h"

enum { HTTP2_FIRST_WINDOW = 65535 }; /* of a connection, and of streams until a setting says else */

struct meter_stream {
    uint32_t id;   /* 0: a free place */
    uint32_t left; /* of the message; while the prefix comes in, its length so far */
    uint32_t held; /* bytes of the message that have come */
    int32_t room;  /* of its window, beyond the initial one */
    uint16_t mark; /* when it, or its present message, began; later by what it could not send */
    uint16_t shut; /* when its window was used up */
    uint8_t prefix_bytes;
    bool foreign;  /* it does not declare gRPC's content type */
    bool complete; /* there was a whole message, or the client has ended its side */
};

/* The mark, without the time in which the connection's window was used up. */
static inline uint16_t clock_of(const struct meter *m)
{
    return (uint16_t)((m->room > 0 ? m->mark : m->shut) - m->idle);
}

static inline bool is_shut(const struct meter *m, const struct meter_stream *s)
{
    return m->initial_window + (int64_t)s->room <= 0;
}

static inline void note_window(const struct meter *m, struct meter_stream *s, bool was_shut)
{
    if (is_shut(m, s) == was_shut)
        return;
    if (was_shut)
        s->mark = (uint16_t)(s->mark + clock_of(m) - s->shut);
    else
        s->shut = clock_of(m);
}

static inline void add_room(const struct meter *m, struct meter_stream *s, uint32_t bytes)
{
    bool was_shut = is_shut(m, s);

    s->room = (int32_t)((uint32_t)s->room + bytes);
    note_window(m, s, was_shut);
}

static inline void add_connection_room(struct meter *m, uint32_t bytes)
{
    bool was_shut = m->room <= 0;

    m->room = (int32_t)((uint32_t)m->room + bytes);
    if (was_shut && m->room > 0)
        m->idle = (uint16_t)(m->idle + m->mark - m->shut);
    else if (!was_shut && m->room <= 0)
        m->shut = m->mark;
}

static inline void set_initial_window(struct meter *m, uint32_t bytes)
{
    uint32_t before = m->initial_window;

    for (uint32_t i = 0; i < m->capacity; i++) {
        struct meter_stream *s = &m->streams[i];
        bool was_shut;

        m->initial_window = before;
        was_shut = is_shut(m, s);
        m->initial_window = bytes;
        note_window(m, s, was_shut);
    }
    m->initial_window = bytes;
}

#endif
