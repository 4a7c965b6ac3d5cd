/* What the queue's files share. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_QUEUE_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_QUEUE_H

#include "backends/postgres/postgres_call.h"
#include "backends/queue.h"
#include "src/base/digest.h"

enum {
    POSTGRES_FRAME_ITEMS = 1000,
    POSTGRES_FRAME_BYTES = 4 << 20,
    POSTGRES_LEASE_MAX_MS = 43200000 /* 12 h */
};

extern const struct queue postgres_queue;

/* In the order in which messages are taken. */
struct postgres_place {
    int64_t available_at, id;
};

/* A subscription of a queue, until it is closed. It asks for messages while it has credit: again at
 * once while some come or somebody says that one has come, when the next one is due, and at the
 * latest after queue_poll_ms. */
struct postgres_listener {
    struct postgres_listener *next; /* in postgres->listeners */
    struct postgres *postgres;
    struct subscription *subscription;
    struct timer timer;
    bool asking;                  /* a TAKE is on the wire */
    uint32_t asked;               /* messages that it may bring */
    bool again;                   /* something has come since it was sent */
    uint64_t due_ms;              /* until the queue's next message; 0: none, or not known */
    struct postgres_place at;     /* where a look begins, unless it is a whole one */
    bool whole;                   /* the one on the wire is a whole one */
    uint64_t asked_ns;            /* when it was sent */
    uint64_t whole_ns;            /* when the next whole one is due; NEVER: one is on the wire */
    bool oldest_first;            /* postgres_oldest.c comes before all that takes */
    int64_t oldest_until;         /* what its first look has left out; 0: it has not looked */
    bool withdrawn;               /* the credit that it holds is void */
    struct incoming_batch *batch; /* what it has brought */
    unsigned settling;            /* settlements on the wire */
    bool tickets;                 /* some were made */
    bool releasing;               /* what is not settled is being given back */
    bool renewing;                /* postgres_renew.c refers to it */
    uint64_t round;               /* the last one that has met it */
    struct job closed;
    uint64_t *tokens; /* deliveries that are not settled: open addressing, 0 = free */
    size_t n, room;
    /* Of the queue's name, in hex; of what is given back there, and of what tickets settle. */
    char digest[DIGEST_HEX + 1], returned_digest[DIGEST_HEX + 1], settled_digest[DIGEST_HEX + 1];
};

void postgres_queue_open(struct backend *backend, struct subscription *subscription);
void postgres_queue_grant(struct backend *backend, struct subscription *subscription,
                          uint32_t messages, uint64_t bytes);
void postgres_queue_withdraw(struct backend *backend, struct subscription *subscription);
void postgres_queue_close(struct backend *backend, struct subscription *subscription);

/* A look is over: the next one, unless it closes. */
void postgres_look_in(struct postgres_listener *listener, uint64_t ns);
/* What the dead have left goes to its place, or is waited for. */
void postgres_oldest(struct postgres_listener *listener, struct postgres_conn *conn);

/* Something may have come into a queue of this instance. */
void postgres_queue_poke(struct postgres *postgres);
void postgres_listener_poke(struct postgres_listener *listener);
/* The same of something that has come to an old place of its own: all is looked at. */
void postgres_listener_returned(struct postgres_listener *listener);
/* Something has been given back to this queue. */
void postgres_queue_returned(struct postgres *postgres, struct slice queue);

/* All settlements of a listener that closes are in. */
void postgres_queue_settled(struct postgres_listener *listener);

void postgres_queue_settle(struct backend *backend, struct settle *settle);
void postgres_queue_extend(struct backend *backend, struct extend *extend);
void postgres_queue_recall(struct backend *backend, struct recall *recall);

extern const struct message_tickets postgres_tickets; /* postgres_ticket.c */

/* ---- leases (postgres_renew.c) ---- */

/* Something is held: it will be renewed, while it is. */
void postgres_renew_look(struct postgres *postgres);
/* Something that is held may have been settled by a ticket: the next round begins now. */
void postgres_renew_now(struct postgres *postgres);
void postgres_renew_stop(struct postgres *postgres);

/* ---- what others push (postgres_wake.c); postgres_conn.h has the rest ---- */

void postgres_wake_name(struct postgres_listener *listener);

/* Something has come into the queue, and is committed: others will be told. */
void postgres_wake_note(struct postgres *postgres, struct slice queue);
/* The same of what has come to an old place there. */
void postgres_wake_note_returned(struct postgres *postgres, struct slice queue);
/* The same of what a ticket has settled there. */
void postgres_wake_note_settled(struct postgres *postgres, struct slice queue);

/* ---- deliveries that are not settled (postgres_tokens.c) ---- */

void postgres_tokens_add(struct postgres_listener *listener, uint64_t token);
bool postgres_tokens_has(const struct postgres_listener *listener, uint64_t token);
void postgres_tokens_remove(struct postgres_listener *listener, uint64_t token);

/* ---- bounds (postgres_queue.c, postgres_surplus.c) ---- */

/* The refusal by a bound, by its number in answers. */
struct err postgres_queue_refused(int32_t bound);

/* The end of a push. */
void postgres_queue_pushed(struct postgres *postgres, struct publish *publish, struct err err);

/* Takes back what a push has written beyond the bounds of its queues, refuses it, and ends the
 * push. ids: of its items, in their order, in the op's arena; 0: not written. */
void postgres_surplus(struct postgres *postgres, struct publish *publish, const int64_t *ids);

/* ---- headers as one value (postgres_headers.c) ---- */

size_t postgres_headers_bytes(const struct header *headers, size_t n);
uint8_t *postgres_headers_put(uint8_t *to, const struct header *headers, size_t n);

/* Copies into the arena; ends at the first thing that is no header. */
const struct header *postgres_headers_read(struct arena *arena, struct slice bytes, uint32_t *n);

/* A column: null stays null. In the arena. */
struct slice postgres_copy(struct arena *arena, const PGresult *result, int row, int column);

#endif
