#include "src/rpc/http2_meter.h"

#include "src/rpc/http2_window.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEAD_BYTES = 9,
    PREFACE_BYTES = 24,
    PREFIX_BYTES = 5, /* before each message: flag, length */
    FEWEST_STREAMS = 16,
    FRAME_COST = 1,
    RESET_COST = 4, /* the work for a call that nobody waits for */
    SERVED_EARNS = 4,
    SENT_EARNS = 2,          /* the client may open its two windows again for each small message */
    FREE_INCOMPLETE = 128,   /* a client may have so many requests under way */
    INCOMPLETE_COST = 16,    /* and one more costs this, which its bytes earn again */
    TOKEN_BYTES = 1024,      /* of messages earn a token, of header lists cost one */
    INITIAL_WINDOW_SIZE = 4, /* the setting's number */
    SETTING_BYTES = 6,
    PRIORITY_BYTES = 5, /* in a frame of headers */
    UPDATE_BYTES = 4
};

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION
};
enum { FLAG_END_STREAM = 1, FLAG_ACK = 1, FLAG_END_HEADERS = 4, FLAG_PRIORITY = 0x20 };
enum { FLAG_COMPRESSED = 1 }; /* of a message; the other bits are reserved */

static uint32_t number(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* ---- the purse ---- */

static void pay(struct meter *m, enum meter_expense what, uint32_t tokens)
{
    if (m->purse >= 0 && m->purse < (int32_t)tokens)
        m->blame = what;
    m->purse -= (int32_t)tokens;
}

void meter_earn(struct meter *m, uint32_t tokens)
{
    int32_t room = METER_PURSE - m->purse;

    m->purse += tokens < (uint32_t)room ? (int32_t)tokens : room;
}

/* ---- streams: a table with linear probing. Numbers follow each other, so they rarely meet: a
 * search looks at `reach` places more than one, the longest way that any of them had to go. ---- */

static uint32_t place_of(const struct meter *m, uint32_t id)
{
    return (id >> 1) & (m->capacity - 1);
}

static struct meter_stream *find(const struct meter *m, uint32_t id)
{
    uint32_t at = place_of(m, id);

    if (m->open == 0)
        return NULL;
    for (uint32_t i = 0; i <= m->reach; i++, at = (at + 1) & (m->capacity - 1)) {
        if (m->streams[at].id == id)
            return &m->streams[at];
    }
    return NULL;
}

static void put(struct meter *m, struct meter_stream s)
{
    uint32_t at = place_of(m, s.id), way = 0;

    for (; m->streams[at].id != 0; way++)
        at = (at + 1) & (m->capacity - 1);
    m->streams[at] = s;
    if (way > m->reach)
        m->reach = way;
}

static void resize(struct meter *m, uint32_t capacity)
{
    struct meter_stream *old = m->streams;
    uint32_t old_capacity = m->capacity;

    m->streams = calloc(capacity, sizeof *m->streams);
    if (m->streams == NULL)
        abort();
    m->capacity = capacity;
    m->reach = 0;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i].id != 0)
            put(m, old[i]);
    }
    free(old);
}

static void open_stream(struct meter *m, uint32_t id)
{
    if (m->open >= m->limits->max_streams) {
        m->fault = METER_TOO_MANY_STREAMS;
        return;
    }
    if (m->open + m->open / 2 >= m->capacity)
        resize(m, m->capacity == 0 ? FEWEST_STREAMS : m->capacity * 2);
    put(m, (struct meter_stream){.id = id, .mark = clock_of(m), .shut = clock_of(m)});
    m->open++;
    if (m->incomplete++ >= FREE_INCOMPLETE)
        pay(m, METER_HEADERS, INCOMPLETE_COST);
}

static void close_stream(struct meter *m, struct meter_stream *s)
{
    m->open--;
    m->incomplete -= !s->complete;
    m->part_bytes -= s->held;
    s->id = 0;
    if (m->open > 0)
        return;
    m->reach = 0;
    if (m->capacity > FEWEST_STREAMS * 16) {
        free(m->streams);
        m->streams = NULL;
        m->capacity = 0;
    }
}

/* ---- messages ---- */

static void let_go(struct meter *m, struct meter_stream *s)
{
    m->part_bytes -= s->held;
    s->held = 0;
    s->prefix_bytes = 0;
    s->left = 0;
}

static void complete(struct meter *m, struct meter_stream *s)
{
    let_go(m, s);
    if (!s->complete)
        m->incomplete--;
    s->complete = true;
}

/* Of the five bytes; how many were there. */
static uint32_t take_prefix(struct meter_stream *s, uint8_t *at, uint32_t n)
{
    uint32_t take = 0;

    if (s->prefix_bytes == 0 && (at[0] > FLAG_COMPRESSED || s->foreign))
        at[0] = FLAG_COMPRESSED;
    if (s->prefix_bytes == 0 && n >= PREFIX_BYTES) {
        s->prefix_bytes = PREFIX_BYTES;
        s->left = number(at + 1);
        return PREFIX_BYTES;
    }
    for (; take < n && s->prefix_bytes < PREFIX_BYTES; take++) {
        if (s->prefix_bytes++ > 0)
            s->left = s->left << 8 | at[take];
    }
    return take;
}

/* A message that begins with a zero is none of protobuf's. */
static void overwrite(const struct meter_stream *s, uint8_t *at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        at[i] = (uint8_t)METER_FOREIGN[(s->held - PREFIX_BYTES + i) % sizeof METER_FOREIGN];
}

static void take_message_bytes(struct meter *m, struct meter_stream *s, uint8_t *at, uint32_t n)
{
    while (n > 0) {
        uint32_t take = n < s->left ? n : s->left;

        if (s->complete && s->held == 0)
            s->mark = clock_of(m);
        if (s->prefix_bytes < PREFIX_BYTES)
            take = take_prefix(s, at, n);
        else
            s->left -= take;
        if (s->foreign && s->held >= PREFIX_BYTES)
            overwrite(s, at, take);
        s->held += take;
        m->part_bytes += take;
        at += take;
        n -= take;
        if (s->prefix_bytes == PREFIX_BYTES && s->left == 0)
            complete(m, s);
    }
}

/* ---- frames from the client ---- */

static void end_list(struct meter *m)
{
    struct meter_stream *s = fields_are_grpc(&m->fields) ? NULL : find(m, m->in.stream);

    if (s != NULL)
        s->foreign = true;
}

static void take_headers(struct meter *m, uint32_t bytes)
{
    m->header_bytes += bytes;
    m->list_bytes += bytes;
    if (m->header_bytes > m->limits->max_header_bytes)
        m->fault = METER_LONG_HEADERS;
    if (bytes >= TOKEN_BYTES)
        pay(m, METER_HEADERS, bytes / TOKEN_BYTES);
}

static void begin_headers(struct meter *m, const struct meter_side *in)
{
    m->header_bytes = 0;
    fields_begin(&m->fields, (in->flags & FLAG_PRIORITY) != 0 ? PRIORITY_BYTES : 0);
    take_headers(m, in->left);
    if (in->stream > m->last_stream && in->stream % 2 == 1) {
        m->last_stream = in->stream;
        open_stream(m, in->stream);
    } else if (find(m, in->stream) == NULL) {
        pay(m, METER_HEADERS, RESET_COST);
    }
}

static void reset_received(struct meter *m, uint32_t id)
{
    struct meter_stream *s = find(m, id);

    pay(m, METER_RESETS, s != NULL ? RESET_COST : FRAME_COST);
    if (s != NULL)
        close_stream(m, s);
}

static void begin_received(struct meter *m, const struct meter_side *in)
{
    m->frames++;
    if (in->type == HEADERS || in->type == CONTINUATION)
        m->in_headers = (in->flags & FLAG_END_HEADERS) == 0;
    switch (in->type) {
    case DATA:
        if (in->left == 0 && (in->flags & FLAG_END_STREAM) == 0)
            pay(m, METER_EMPTY_DATA, FRAME_COST);
        else if (in->left >= TOKEN_BYTES)
            meter_earn(m, in->left / TOKEN_BYTES);
        break;
    case HEADERS:
        begin_headers(m, in);
        break;
    case CONTINUATION:
        pay(m, METER_HEADERS, FRAME_COST);
        take_headers(m, in->left);
        break;
    case RST_STREAM:
        reset_received(m, in->stream);
        break;
    case SETTINGS:
        pay(m, METER_SETTINGS, FRAME_COST);
        break;
    case PING:
        pay(m, METER_PINGS, FRAME_COST);
        break;
    case WINDOW_UPDATE:
        pay(m, METER_WINDOW_UPDATES, FRAME_COST);
        break;
    default:
        pay(m, METER_OTHER, FRAME_COST + in->left / TOKEN_BYTES);
    }
}

static bool ends_stream(const struct meter_side *side)
{
    return (side->type == DATA || side->type == HEADERS) && (side->flags & FLAG_END_STREAM) != 0;
}

static void end_received(struct meter *m)
{
    struct meter_stream *s = ends_stream(&m->in) ? find(m, m->in.stream) : NULL;

    if ((m->in.type == HEADERS || m->in.type == CONTINUATION) && !m->in_headers)
        end_list(m);
    if (s != NULL)
        complete(m, s);
}

/* ---- frames to the client ---- */

static void begin_sent(struct meter *m, const struct meter_side *out)
{
    struct meter_stream *s;

    if (out->type == DATA && out->left > PREFIX_BYTES)
        meter_earn(m, SENT_EARNS + out->left / TOKEN_BYTES);
    if (out->type != RST_STREAM && !ends_stream(out))
        return;
    s = find(m, out->stream);
    if (s == NULL)
        return;
    if (out->type != RST_STREAM)
        meter_earn(m, SERVED_EARNS);
    close_stream(m, s);
}

static void open_window(struct meter *m, uint32_t stream, uint32_t more)
{
    struct meter_stream *s = stream != 0 ? find(m, stream) : NULL;

    if (stream == 0)
        add_connection_room(m, more);
    else if (s != NULL)
        add_room(m, s, more);
}

/* ---- bytes ---- */

static void read_head(struct meter_side *side, const uint8_t *head)
{
    side->left = number(head) >> 8;
    side->type = head[3];
    side->flags = head[4];
    side->stream = number(head + 5) & INT32_MAX;
}

/* Takes bytes of a frame's head. False: it is not complete. */
static inline bool take_head(struct meter_side *side, const uint8_t *head, size_t *n)
{
    size_t wanted = (size_t)HEAD_BYTES - side->have, take = wanted < *n ? wanted : *n;

    if (take < HEAD_BYTES) { /* cut by the end of these bytes, or of those before */
        memcpy(side->head + side->have, head, take);
        head = side->head;
    }
    *n -= take;
    side->have = (uint8_t)(take < wanted ? side->have + take : 0);
    if (take == wanted)
        read_head(side, head);
    return take == wanted;
}

static uint32_t take_payload(struct meter_side *side, size_t *n)
{
    uint32_t take = side->left < *n ? side->left : (uint32_t)*n;

    side->left -= take;
    *n -= take;
    return take;
}

static void take_received(struct meter *m, uint8_t *bytes, size_t *n)
{
    uint32_t taken = take_payload(&m->in, n);
    struct meter_stream *s;

    if (m->in.type == HEADERS || m->in.type == CONTINUATION)
        fields_take(&m->fields, bytes, taken);
    if (m->in.type != DATA) {
        if (m->in.left == 0)
            end_received(m);
        return;
    }
    s = find(m, m->in.stream);
    if (s != NULL) {
        take_message_bytes(m, s, bytes, taken);
        add_room(m, s, 0 - taken);
    }
    add_connection_room(m, 0 - taken);
    if (s == NULL)
        return;
    if (m->in.left == 0 && ends_stream(&m->in))
        complete(m, s);
}

void meter_received(struct meter *m, uint8_t *bytes, size_t len)
{
    uint8_t *end = bytes + len;

    if (m->in.preface > 0) {
        size_t skip = m->in.preface < len ? m->in.preface : len;

        m->in.preface = (uint8_t)(m->in.preface - skip);
        len -= skip;
    }
    while (len > 0 && m->fault == METER_SOUND) {
        if (m->in.left > 0) {
            take_received(m, end - len, &len);
        } else if (take_head(&m->in, end - len, &len)) {
            begin_received(m, &m->in);
            if (m->in.left == 0)
                end_received(m);
        }
    }
}

/* Gathers settings and window updates, a piece of them in the place of a head. */
static void take_sent(struct meter *m, const uint8_t *bytes, size_t *n)
{
    struct meter_side *out = &m->out;
    uint32_t taken = take_payload(out, n);
    uint32_t wanted = out->type == SETTINGS ? SETTING_BYTES : UPDATE_BYTES;

    if (out->type != SETTINGS && out->type != WINDOW_UPDATE)
        return;
    for (uint32_t i = 0; i < taken; i++) {
        out->head[out->have++] = bytes[i];
        if (out->have < wanted)
            continue;
        out->have = 0;
        if (out->type == WINDOW_UPDATE)
            open_window(m, out->stream, number(out->head));
        else if (out->head[0] == 0 && out->head[1] == INITIAL_WINDOW_SIZE)
            set_initial_window(m, number(out->head + 2));
    }
    if (out->left == 0)
        out->have = 0;
}

void meter_sent(struct meter *m, const uint8_t *bytes, size_t len)
{
    const uint8_t *end = bytes + len;

    while (len > 0) {
        if (m->out.left > 0)
            take_sent(m, end - len, &len);
        else if (take_head(&m->out, end - len, &len))
            begin_sent(m, &m->out);
    }
}

/* ---- age ---- */

uint32_t meter_overdue(const struct meter *m, uint16_t age)
{
    for (uint32_t i = 0; i < m->capacity; i++) {
        const struct meter_stream *s = &m->streams[i];

        if (s->id != 0 && (!s->complete || s->held > 0) && !is_shut(m, s) &&
            (uint16_t)(clock_of(m) - s->mark) >= age)
            return s->id;
    }
    return 0;
}

bool meter_between_frames(const struct meter *m)
{
    return m->in.preface == 0 && m->in.have == 0 && m->in.left == 0 && !m->in_headers;
}

size_t meter_cut(uint32_t stream, uint8_t *bytes)
{
    const uint8_t frame[HEAD_BYTES] = {[3] = HEADERS,
                                       [4] = FLAG_END_STREAM | FLAG_END_HEADERS,
                                       [5] = (uint8_t)(stream >> 24),
                                       [6] = (uint8_t)(stream >> 16),
                                       [7] = (uint8_t)(stream >> 8),
                                       [8] = (uint8_t)stream};

    memcpy(bytes, frame, sizeof frame);
    return sizeof frame;
}

/* ---- life ---- */

void meter_init(struct meter *m, const struct meter_limits *limits)
{
    *m = (struct meter){.limits = limits,
                        .purse = METER_FIRST,
                        .room = HTTP2_FIRST_WINDOW,
                        .initial_window = HTTP2_FIRST_WINDOW,
                        .in.preface = PREFACE_BYTES};
}

void meter_clear(struct meter *m)
{
    free(m->streams);
    m->streams = NULL;
    m->capacity = m->open = m->incomplete = 0;
    m->part_bytes = 0;
}
