/* What others had of a group when a subscription came that wants the oldest first. Part of
 * jet_priv.h. thread: home.
 *
 * Budget of a subscription, beside its credit: JET_KEPT_MOST messages and JET_KEPT_BYTES of what is
 * older, as many of what is newer, and one more of each. */
#ifndef PRISM_BACKENDS_NATS_JET_OLDEST_H
#define PRISM_BACKENDS_NATS_JET_OLDEST_H

#include "backends/nats/nats_priv.h"

enum { JET_KEPT_MOST = 32, JET_KEPT_BYTES = 256 << 10 };

struct jet_delivery;
struct jet_kept;
struct jet_listener;
struct jet_source;
struct jet_store;

enum jet_oldest_step {
    JET_OLDEST_OVER,  /* messages go on as they come */
    JET_OLDEST_WAITS, /* they are kept */
    JET_OLDEST_LAST,  /* the server has what the dead had: it is asked for */
    JET_OLDEST_REST   /* what was kept goes on, as there is credit, before anything is asked for */
};

struct jet_oldest {
    enum jet_oldest_step step;
    bool wanted;         /* by the subscription, and nothing has come yet */
    bool quiet;          /* nothing is asked for before the next look */
    bool doubtful;       /* a server that was killed may have forgotten that we keep something */
    bool looking;        /* the control thread asks the server */
    uint32_t ask;        /* so many at once */
    uint64_t bound;      /* all up to it had been delivered to somebody */
    uint64_t missing;    /* of these, unsettled and not here; or more */
    uint64_t until_ns;   /* of the step */
    uint64_t look_ns;    /* of the next look */
    uint64_t look_in_ns; /* and to the one behind it */
    uint64_t took;       /* by all readers here, when the server was asked */
    struct jet_kept *kept;
    size_t n, room, n_newer;
    uint64_t bytes, newer_bytes;
    /* the control thread's while it looks */
    bool looked;
    uint64_t unsettled, floor;
};

/* The server is about to be asked. */
void jet_oldest_ask(struct jet_listener *listener);
/* The consumer's place was looked up, opened() was not told yet if it is the first time. */
void jet_oldest_placed(struct jet_listener *listener);
/* The consumer is another one; or 2.9 says so after a restart, and others are to have what was
 * here. It begins anew, with the next place. */
void jet_oldest_moved(struct jet_listener *listener);
/* How many messages a request may ask for. */
uint64_t jet_oldest_most(const struct jet_listener *listener);
/* And how long it stays open, at most `ms`: what is kept may wait for its credit. */
uint32_t jet_oldest_request_ms(const struct jet_listener *listener, uint32_t ms);
/* Owns the message. It holds credit, that is given back until the message is handed over. */
void jet_oldest_keep(struct jet_listener *listener, natsMsg *message,
                     const struct jet_source *source, struct jet_delivery *delivery,
                     uint64_t bytes);
/* Another reader here has ended. */
void jet_oldest_other_left(struct jet_listener *listener);
/* True: the control thread is to look. */
bool jet_oldest_go_on(struct jet_listener *listener);
void jet_oldest_look(struct jet_store *store, jsCtx *js, struct jet_listener *listener); /* there */
void jet_oldest_looked(struct jet_listener *listener);
/* What is kept goes back. */
void jet_oldest_withdrawn(struct jet_listener *listener);
/* Nothing is kept any more; the deliveries are void, or given back by others. */
void jet_oldest_clear(struct jet_listener *listener);

#endif
