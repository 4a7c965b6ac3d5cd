/* A member of a feed: a stream that gets messages, and what is known of them.
 *
 * Two halves. This one lives at the feed's home and knows all; the other (struct outlet) lives with
 * its call on any worker and only receives and sends. Between them go jobs, of each kind one at a
 * time:
 *
 *   outlet  join -> said (a message of the client) -> gone, drain     -> bye
 *   member        <- heard (go on receiving)  <- frame .. sent ->     <- over      <- ended
 *
 * Frames are the exception: while one is written the next ones may be sent behind it, full ones
 * only, and CALL_AHEAD_BYTES of them at most. They come back as sent in their order.
 *
 * `over` comes when no frame is under way; `bye` is the last job of the outlet; after `ended` the
 * call may end. */
#ifndef PRISM_PATTERNS_CONSUMER_MEMBER_H
#define PRISM_PATTERNS_CONSUMER_MEMBER_H

#include "patterns/consumer/consumed.h"
#include "patterns/consumer/feed.h"
#include "patterns/messaging/settling.h"

enum { MEMBER_RECENT = 256, MEMBER_MAX_NOTES = 10000, FRAME_MAX_MESSAGES = 1024 };

/* Settlements that failed and are told of, by receipts. */
struct failures {
    struct receipt *first, **end;
    size_t n; /* not told yet */
};

/* What is told by the next frame. */
struct note {
    struct note *next;
    void *message; /* of protobuf-c */
};

struct notes {
    struct note *first, **end;
    size_t n;
};

struct outlet;

/* A frame on its way, in memory of its own, which the outlet's worker may read meanwhile. */
struct frame {
    struct outlet *outlet;
    struct job go, sent; /* to the worker, to the home */
    struct op sending;
    struct err err;               /* sent */
    struct arena arena;           /* holds this struct */
    pb_consume_response response; /* all but the messages */
    struct consumed *messages;
    size_t n, bytes;       /* of messages, as wire_bytes counts them */
    size_t messages_bytes; /* on the wire */
};

struct outlet {
    struct call *call;
    struct worker *worker;
    struct member *member; /* what only its home touches */
    struct feed *feed;
    struct member_want want;
    struct job join, said, gone, drain, bye; /* to the home */
    struct job heard, over, ended;           /* to the worker */
    struct call_receive receive;
    struct arena arena; /* of what the client said */
    struct arena asked; /* of its first request, until it has joined: `want` is in it */
    struct err why;     /* gone: of the client */
    struct err end;     /* over: of the call */
    char end_text[ERR_KEPT_BYTES];
    size_t untold; /* heard: sequences that the client named, and is still to hear of */
    bool orderly;  /* gone: by half-close */
    bool left;     /* nothing more goes to the home */
    bool bidi, headed, told_gone, draining;
    /* NULL: frames are sent as they are. Otherwise writes the frame, one at a time, in its own way
     * and ends in outlet_written, at once or later. */
    void (*write)(struct frame *);
    size_t written; /* its own */
};

struct member {
    struct member *next;        /* feed->members */
    struct member *next_listed; /* shared.c */
    struct feed *feed;
    struct outlet *outlet;
    struct arena memory;
    char id[SUBSCRIPTION_ID_BYTES + 1];
    const char *consumer_id, *topic;
    struct settling settling;
    uint32_t max_frame_messages;
    uint64_t max_frame_bytes, max_in_flight_bytes, max_inline_bytes, lease_ms;
    uint64_t max_wait_ns, waits_since_ns; /* to fill a frame; since 0: it does not wait */
    uint64_t credit;
    int64_t credit_bytes;
    bool credited, credited_bytes, automatic, ack_tokens;
    uint64_t *recent; /* MEMBER_RECENT sequences that were taken away; NULL: none yet */
    unsigned n_recent;

    struct frame *frames[CALL_SENDS]; /* a ring */
    unsigned oldest, n_frames;        /* on their way */
    size_t frames_bytes;              /* of them */
    struct arena notes_memory;
    struct notes revoked, gaps, extended;
    struct failures failures;
    size_t n_extended;                   /* sequences that `extended` tells of */
    size_t naming;                       /* sequences that open receipts name */
    uint64_t told_through, last_through; /* last: before the first that it gave back */
    bool started, owes_assigned, owes_drain, told_drain, unheard;
    bool told_alone; /* what it owes, in the frame before: a large message waits for one */

    unsigned receipts; /* open */
    bool leaving, over_sent, bye;
    bool left; /* its feed ends without it */
    struct err end;
};

_Static_assert(sizeof(struct member) <= 704, "many wait for most of the time");

/* ---- outlet.c ---- */

struct outlet *outlet_new(struct call *call, bool bidi);
/* `asked` holds the request, and goes with the first frame. */
void outlet_join(struct outlet *outlet, const pb_subscribe_request *request);
void outlet_send(struct job *job); /* a frame's `go` */
void outlet_written(struct frame *frame, struct err err);

/* ---- member.c ---- */

/* From the outlet's join. */
void member_join(struct job *job);
void member_said(struct job *job); /* settle.c */
void member_gone(struct job *job);
void member_drain(struct job *job);
void member_sent(struct job *job);
void member_bye(struct job *job);

/* It gets nothing more; what it holds goes to others. failed: that counts as an attempt. */
void member_end(struct member *member, struct err end, bool failed);
/* The rest of its end, when the last receipt has gone. */
void member_maybe_free(struct member *member);
/* The delivery is no longer its own, and the client is told. */
void member_revoke(struct delivery *delivery, pb_revoke_reason reason);
/* The place of a delivery that is settled or given back. */
void member_release(struct delivery *delivery);
bool member_lost(const struct member *member, uint64_t sequence);

/* Of a delivery that the member has, or had. */
static inline uint64_t member_sequence(const struct member *member, const struct delivery *delivery)
{
    uint64_t next = member->settling.next;

    return next - (uint32_t)((uint32_t)next - delivery->sequence);
}

/* More than it shall have to say before its client says more. */
static inline bool member_owes_much(const struct member *member)
{
    return member->failures.n + member->extended.n + member->n_extended > MEMBER_MAX_NOTES;
}

void member_note(struct member *member, struct notes *notes, void *message);

/* ---- frame.c ---- */

uint64_t member_room(const struct member *member); /* messages */
/* Sends a frame if there is anything to say; at most `most` messages. */
void member_send(struct member *member, size_t most);
/* Bytes of messages that may be sent behind the frames on their way; 0: none. */
size_t member_room_ahead(const struct member *member);
/* About: that many of the messages that are ready make a full frame. */
bool member_fills_frame(const struct member *member, size_t n);
bool member_has_news(const struct member *member);
/* The oldest one is over. */
void member_clear_frame(struct member *member);
/* The frame on the wire: the messages, and behind them the rest. thread: the outlet's worker. */
size_t member_frame_bytes(const struct frame *frame);
call_write_fn member_frame_write;
const char *member_message_id(const struct member *member, struct arena *arena,
                              const struct incoming *message);

/* ---- named.c ---- */

/* For each identifier the only open delivery that has it; 0: there is none, or more than one. */
uint64_t *member_sequences_of_ids(struct member *member, struct arena *arena, char *const *ids,
                                  size_t n);

/* ---- settle.c ---- */

/* Collects the outcomes of one request of a client. */
struct receipt {
    struct receipt *next; /* failures.c */
    struct member *member;
    struct arena memory;
    pb_settlement_failure **failures;
    size_t n_failures, cap, told;
    size_t names; /* sequences of the request */
    int32_t settled, dead;
    unsigned pending;
    void (*done)(struct receipt *);
};

struct which {
    const int64_t *sequences;
    size_t n;
    uint64_t through;
    char **message_ids;
    size_t n_message_ids;
};

/* What was extended. */
struct extension {
    int32_t n;
    int64_t expires_at_ms; /* 0: nothing was, or there is no lease */
    int64_t *sequences;    /* those that `through` does not name */
    size_t n_sequences;
};

void receipt_init(struct receipt *receipt, struct member *member, void (*done)(struct receipt *));
/* NULL: nobody waits. */
void receipt_fail(struct receipt *receipt, const struct delivery *delivery, struct err err);
void receipt_enter(struct receipt *receipt);
void receipt_leave(struct receipt *receipt);

/* ---- said.c ---- */

/* How many sequences the client names. thread: any. */
size_t member_names(const pb_consume_request *request);
/* Goes on receiving what the client says. */
void member_hear(struct member *member);

/* ---- failures.c ---- */

void failures_init(struct failures *failures);
/* The receipt is over; its memory holds it. */
void failures_add(struct failures *failures, struct receipt *receipt);
/* As many as fit go with this frame, which is empty. */
void failures_tell(struct failures *failures, struct frame *frame);
void failures_clear(struct failures *failures);

/* ---- settle.c, what clients say ---- */

void settle_acknowledge(struct receipt *receipt, const struct which *which);
void settle_reject(struct receipt *receipt, const struct which *which, pb_disposition disposition,
                   uint64_t delay_ms, const char *reason);
/* `sequences` lives as long as the receipt. */
struct extension settle_extend(struct receipt *receipt, const struct which *which,
                               uint64_t lease_ms);
/* One delivery, without or with a receipt. */
void settle_one(struct delivery *delivery, enum settle_how how, struct receipt *receipt);
/* They are SETTLING. */
void settle_all(struct feed *feed, struct delivery **deliveries, size_t n, enum settle_how how);
/* The frame was taken: ACK_AUTO. */
void settle_frame(struct member *member, struct frame *frame);
/* The source's subscription is about to end: those with which a member vanished, whose lease ran
 * out, or that wait here for a retry have failed, which giving back would not say. */
void settle_untold(struct feed *feed); /* give_back.c */
/* The subscription stays until what dies is settled: the source has all else back now, where it
 * takes back single messages. Nobody here gets any of it. */
void settle_living(struct feed *feed); /* give_back.c */

/* Unix time in ms of a point of CLOCK_MONOTONIC. */
int64_t unix_ms_of(uint64_t monotonic_ns);

#endif
