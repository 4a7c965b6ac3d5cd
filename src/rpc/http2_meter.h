/* What one connection of HTTP/2 asks of the server, from the bytes that pass in both directions:
 * streams that are open, requests that are not complete, and how much of its traffic is overhead.
 * Reads the heads of frames, the five bytes before each message, and whether header lists declare
 * gRPC's content type.
 *
 * Overhead is paid for from a purse. Time fills it, and so do calls that are served and bytes of
 * messages: a connection whose calls are served never runs out, however many of them there are.
 *
 * Not safe with threads: the caller locks. */
#ifndef PRISM_RPC_HTTP2_METER_H
#define PRISM_RPC_HTTP2_METER_H

#include "src/rpc/http2_fields.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    METER_PURSE = 8192,        /* tokens at most; a frame of overhead costs one */
    METER_FIRST = 2048,        /* of a new connection: to connect again must not pay */
    METER_TOKENS_PER_MS = 2,   /* by time */
    METER_STREAM_BYTES = 8192, /* what gRPC holds for a stream whose request is not complete */
};

/* What the purse was spent on. */
enum meter_expense {
    METER_RESETS,
    METER_PINGS,
    METER_SETTINGS,
    METER_WINDOW_UPDATES,
    METER_EMPTY_DATA,
    METER_HEADERS,
    METER_UNREAD, /* answers; costs nothing, see inflow_turns.c */
    METER_OTHER,
    METER_EXPENSES
};

/* By their number, for log and metrics. */
#define METER_EXPENSE_NAMES                                                                        \
    "resets", "pings", "settings", "window_updates", "empty_data", "headers", "unread", "other"

/* Why the connection must end. */
enum meter_fault { METER_SOUND, METER_TOO_MANY_STREAMS, METER_LONG_HEADERS, METER_FAULTS };

struct meter_limits {
    uint32_t max_streams;      /* open at once */
    uint32_t max_header_bytes; /* of one header list, as it is sent; continuations count */
};

struct meter_stream;

struct meter_side { /* private */
    uint8_t head[9];
    uint8_t have;    /* bytes of the head */
    uint8_t preface; /* bytes of the client's preface that are to come */
    uint8_t type, flags;
    uint32_t stream, left; /* of the payload */
};

struct meter {
    const struct meter_limits *limits;
    int32_t purse;
    enum meter_expense blame; /* what emptied it */
    enum meter_fault fault;
    uint32_t open;       /* streams */
    uint32_t incomplete; /* of those, whose first message is not here */
    uint64_t part_bytes; /* of messages that are not complete */
    uint64_t frames;     /* received */
    uint64_t list_bytes; /* of header lists, received */
    uint16_t mark;       /* the time, in units of the caller's; set before bytes are looked at */

    struct meter_side in, out; /* private */
    struct meter_stream *streams;
    uint32_t capacity, reach, last_stream, header_bytes;
    uint32_t initial_window; /* of a stream; what we announced last */
    int32_t room;            /* of the connection's window */
    uint16_t shut, idle;     /* when that was used up, and for how many marks altogether before */
    bool in_headers;         /* a header list goes on in the next frame */
    struct fields fields;
};

/* A new connection. `limits` are borrowed. */
void meter_init(struct meter *meter, const struct meter_limits *limits);

/* Frees what it holds. */
void meter_clear(struct meter *meter);

/* The next bytes from the client, and to it. gRPC reads a message with reserved flags as an empty
 * one, so these flags are changed into the one of a compressed message: of an encoding that nobody
 * knows, which is refused. A message of a stream that declares another content type than gRPC's
 * gets that flag as well, and METER_FOREIGN over and over in the place of its bytes. */
#define METER_FOREIGN "\0foreign"
void meter_received(struct meter *meter, uint8_t *bytes, size_t len);
void meter_sent(struct meter *meter, const uint8_t *bytes, size_t len);

/* A stream whose first message, or whose present one, has been on its way for `age` marks; 0: none.
 * Time in which its window, or the connection's, is used up does not count: we hold the client
 * back. Looks at all streams. */
uint32_t meter_overdue(const struct meter *meter, uint16_t age);

/* What comes next from the client is the head of a frame that may belong to any stream. */
bool meter_between_frames(const struct meter *meter);

/* The frame with which we end the client's side of a stream: trailers, without a field. A client of
 * gRPC never ends its side with trailers, so they tell this end from the client's own. */
enum { METER_CUT_BYTES = 9 };
size_t meter_cut(uint32_t stream, uint8_t *bytes);

void meter_earn(struct meter *meter, uint32_t tokens);

#endif
