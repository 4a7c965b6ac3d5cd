/* What a subscription knows of deliveries: those that are not settled, those that were given back,
 * and the messages that wait until the latter are known. Part of jet_priv.h.
 *
 * JetStream counts every delivery. One that was given back was no attempt, so it is written down,
 * before it is given back, in a stream of Prism's own, the journal. It holds one message for each
 * group that has something to say, its page:
 *
 *   give back   the page is read unless its last revision is known -> rows are added -> it is
 *               written on the condition that nobody else has meanwhile -> the deliveries go back
 *   redelivery  the page is read, unless what it can say is known -> `attempt`
 *
 * A message that is delivered once and settled asks nothing of it. A row says something about one
 * delivery that never becomes wrong: rows from anywhere may be put together, the newest counts. A
 * journal that is away, or may not be used, holds nothing up for longer than an answer may take;
 * then what is given back is an attempt to all but the subscription that did it. */
#ifndef PRISM_BACKENDS_NATS_JET_DELIVERIES_H
#define PRISM_BACKENDS_NATS_JET_DELIVERIES_H

#include "backends/nats/nats_priv.h"

enum {
    JET_RETURNS_MOST = 2048,    /* rows of a group */
    JET_PAGE_BYTES = 96 << 10,  /* of a page; more rows than that are not written */
    JET_JOURNAL_AGAIN_MS = 1000 /* a journal that failed is not asked before */
};

struct jet_listener;
struct jet_settling;
struct jet_store;

/* ---- jet_unsettled.c: deliveries that are not settled. thread: home ---- */

struct jet_delivery {
    uint64_t token; /* rising */
    uint64_t stream_sequence, consumer_sequence;
    uint32_t deliveries; /* of the message, this one counted */
    uint32_t attempt;    /* as it was told; 0: it waits for the page */
    uint64_t bytes;      /* of the message, as the server counts them, or more */
    bool settling;
    bool gone;          /* settled or lost: only its place is left */
    bool returned;      /* nobody has seen it: it goes back */
    bool removed;       /* from the stream: it will not come again */
    uint64_t lease_ns;  /* it is given back then */
    uint64_t server_ns; /* the server gives it to others then */
    uint64_t tried_ns;  /* when that was put off last, or tried to */
};

struct jet_unsettled {
    struct jet_delivery *items; /* by rising token */
    size_t n, room, n_gone;
    size_t n_settling;
    struct jet_readers *readers; /* who counts what is held with others; NULL: nobody */
};

struct jet_delivery *jet_unsettled_add(struct jet_unsettled *unsettled, uint64_t token);
struct jet_delivery *jet_unsettled_find(const struct jet_unsettled *unsettled, uint64_t token);
void jet_unsettled_drop(struct jet_unsettled *unsettled, struct jet_delivery *delivery);
/* It is about to be settled or given back; or that was not answered, and it is held as before. */
void jet_unsettled_settling(struct jet_unsettled *unsettled, struct jet_delivery *delivery,
                            bool settling);
void jet_unsettled_clear(struct jet_unsettled *unsettled);

static inline size_t jet_unsettled_count(const struct jet_unsettled *unsettled)
{
    return unsettled->n - unsettled->n_gone;
}

/* Those of them that nobody settles. */
static inline size_t jet_unsettled_held(const struct jet_unsettled *unsettled)
{
    return jet_unsettled_count(unsettled) - unsettled->n_settling;
}

/* ---- jet_returns.c: what is known of the attempts of messages. thread: one at a time ---- */

/* The messages `from`..`to` had been delivered so often, and their next delivery is this attempt.
 */
struct jet_return {
    uint64_t from, to; /* sequences in the stream */
    uint32_t deliveries, attempt;
};

/* Rising, none overlaps another. Beyond JET_RETURNS_MOST the oldest are forgotten. */
struct jet_returns {
    struct jet_return *items;
    size_t n, room;
    uint64_t forgotten;
};

/* What is older than what is known of the message is not taken. */
void jet_returns_add(struct jet_returns *returns, uint64_t sequence, uint32_t deliveries,
                     uint32_t attempt);
/* All that can be known of the attempts before this delivery is. */
bool jet_returns_know(const struct jet_returns *returns, uint64_t sequence, uint64_t deliveries);
uint32_t jet_returns_attempt(const struct jet_returns *returns, uint64_t sequence,
                             uint64_t deliveries);
/* It needs no row any more, where that splits none. */
void jet_returns_settled(struct jet_returns *returns, uint64_t sequence);
/* Nor do those up to the floor. */
void jet_returns_settled_to(struct jet_returns *returns, uint64_t floor);
void jet_returns_clear(struct jet_returns *returns);

/* A page: "1 CREATED" and a line FROM-TO DELIVERIES ATTEMPT for each row, without those that say
 * what the server's count does. The caller frees it. */
char *jet_returns_write(const struct jet_returns *returns, int64_t created);
/* Adds what stands there. Nothing, if it is of a consumer that was made at another time. */
void jet_returns_read(struct jet_returns *returns, const char *page, int64_t created);

/* ---- jet_page.c: a group's page, on the worker ---- */

/* Messages in their order, and a gap before them. */
struct jet_held {
    struct jet_held *next;
    struct incoming_batch *batch; /* NULL: only the gap */
    uint64_t gap_from, gap_to;    /* [from, to) is missing; from 0: nothing is */
    bool asked;                   /* the request that is under way tells all that they need */
};

struct jet_page {
    struct jet_returns returns;
    uint64_t revision; /* what a write goes on from; 0: there was no page */
    bool fresh;        /* revision was read, or written by us */
    bool busy, writes; /* a request is under way; it writes */
    bool blind;        /* what waits cannot be noted without reading once more */
    uint64_t again_ns; /* the journal is not asked before */
    uint64_t until_ns; /* settlings wait no longer for others who write */
    struct jet_held *held, **held_end;
    struct jet_settling *waiting; /* to be written down, then sent */
    struct jet_settling *written; /* as the request does */
};

void jet_page_init(struct jet_page *page);
void jet_page_clear(struct jet_page *page);
/* This delivery's attempt cannot be told without reading. */
bool jet_page_has_to_read(const struct jet_listener *listener, uint64_t sequence,
                          uint64_t deliveries);
/* Delivers it, and a gap before it, when the page was read. batch: NULL, or owned. */
void jet_page_hold(struct jet_listener *listener, struct incoming_batch *batch, uint64_t gap_from,
                   uint64_t gap_to);
/* Delivers all that waits, by what is known. */
void jet_page_let_go(struct jet_listener *listener);
/* Sends it when what it gives back is written down, or cannot be. */
void jet_page_put(struct jet_listener *listener, struct jet_settling *settling);
/* The consumer is another one. */
void jet_page_forget(struct jet_listener *listener);
/* Asks what is to be asked next. */
void jet_page_go_on(struct jet_listener *listener);

/* ---- jet_journal.c: the stream that keeps the pages. thread: the store's, unless it is said ----
 */

enum jet_journal_state {
    JET_JOURNAL_UNKNOWN,
    JET_JOURNAL_READY,
    JET_JOURNAL_REFUSED, /* until the next connection; also where none is configured */
};

enum jet_page_outcome {
    JET_PAGE_FAILED, /* it may have been written */
    JET_PAGE_DONE,
    JET_PAGE_CHANGED /* somebody else has written it meanwhile; nothing was */
};

struct jet_page_request {
    char *text;        /* in: what is written; NULL: it is read. Out: what was; NULL: nothing */
    uint64_t revision; /* in and out */
    enum jet_page_outcome outcome;
};

/* Of any store, on its thread as well. */
int jet_journal_state(const struct jet_store *store);
/* One at a time for each listener; jet_page_answered is called at home. thread: home. */
void jet_journal_ask(struct jet_listener *listener, struct jet_page_request request);
/* Owns request.text. */
void jet_page_answered(struct jet_listener *listener, struct jet_page_request request); /* home */

void jet_journal_init(struct jet_store *store);
/* Somebody reads: finds the stream, or makes it. */
void jet_journal_look(struct jet_store *store);
void jet_journal_lost(struct jet_store *store);
void jet_journal_denied(struct jet_store *store, const char *subject);
/* Prism publishes there for its sake. thread: any. */
bool jet_journal_owns(const struct jet_store *store, const char *subject);
uint64_t jet_journal_tick(struct jet_store *store, uint64_t now_ns);

/* jet_settle.c, for the page: what waits there says what it gives back, and is sent when that is
 * written. */
struct jet_settling **jet_settling_next(struct jet_settling *s);
bool jet_settling_returns(const struct jet_settling *s); /* some of it is to be written */
/* What some of it was an attempt of is not known, and the page may say. */
bool jet_settling_is_blind(const struct jet_settling *s, const struct jet_returns *returns);
void jet_settling_note(struct jet_settling *s, struct jet_returns *returns);
void jet_settling_send(struct jet_settling *s, bool written);

#endif
