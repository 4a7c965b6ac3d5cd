/* What a subscription knows of messages that the stream has removed. Part of jet_priv.h. */
#ifndef PRISM_BACKENDS_NATS_JET_REMOVED_H
#define PRISM_BACKENDS_NATS_JET_REMOVED_H

#include "backends/nats/nats_priv.h"

struct jet_listener;
struct jet_store;

/* Work for the control thread. */
struct jet_errand {
    struct jet_errand *next;
    /* js: NULL when there is no connection. */
    void (*work)(struct jet_store *, jsCtx *js, struct jet_errand *);
    /* The last touch of the thread. NULL in a call: it goes home. */
    void (*worked)(struct jet_store *, struct jet_errand *);
};

/* ---- jet_removed.c: what the stream removed before it was settled. thread: home ---- */

enum { JET_NOTICES = 128 }; /* of one look */

enum jet_notice_step { JET_LOOKS, JET_CLAIMS, JET_PUTS_BACK };

struct jet_notice {
    uint64_t number;   /* in the stream of notices */
    uint64_t sequence; /* of the message; 0: it says nothing of this group's */
    bool wanted, ours; /* it is to be removed; we have */
};

/* Of an errand: the control thread's while it is under way. */
struct jet_notices {
    enum jet_notice_step step;
    bool again; /* out: not all was done, and it may be possible later */
    size_t n;
    struct jet_notice items[JET_NOTICES];
    uint64_t *back; /* sequences that are put back; the first n_put of them are */
    size_t n_back, n_put;
    uint64_t until_ns; /* not tried again after */
};

/* Of a listener; thread: home. */
struct jet_removed {
    struct jet_errand errand;
    _Atomic uint64_t name_hash;
    struct jet_notices *notices;         /* NULL: nothing is asked */
    bool asking;                         /* they are the control thread's */
    unsigned looks;                      /* to be taken */
    uint64_t look_ns;                    /* when; at the end: when it is put back again */
    uint64_t seen, seen_ns, seen_before; /* numbers of notices */
    uint64_t *lost;                      /* sequences, to be told */
    size_t n_lost, room;
};

void jet_removed_init(struct jet_removed *removed);
void jet_removed_clear(struct jet_removed *removed);

void jet_removed_placed(struct jet_listener *listener);
/* An advisory about its consumer has come. */
void jet_removed_noticed(struct jet_listener *listener);
/* The control thread is done. */
void jet_removed_back(struct jet_listener *listener);
/* A removed message that we had in hand was not settled, and will not come again. */
void jet_removed_lost(struct jet_listener *listener, uint64_t sequence);
void jet_removed_go_on(struct jet_listener *listener);
/* What was not told is put back. False: that is under way. */
bool jet_removed_end(struct jet_listener *listener);

/* ---- jet_notices.c ---- */

enum {
    JET_NOTICED = 32,            /* consumers at a time; of more, all are woken */
    JET_NOTICES_AGAIN_MS = 2000, /* a stream that failed is not asked before */
};

enum jet_notices_state {
    JET_NOTICES_UNKNOWN,
    JET_NOTICES_READY,
    JET_NOTICES_REFUSED, /* until the next connection: not permitted, or not suitable */
};

struct jet_store_notices {
    enum jet_notices_state state; /* the control thread's; the store's sets it while there is no
                                     connection */
    uint64_t wait_ms;             /* likewise: for the next answer */
    uint64_t again_ns;            /* likewise; while UNKNOWN it is not asked before */
    struct log_budget log;        /* likewise */
    struct nats_task task;
    pthread_mutex_t lock; /* of what follows: the library's threads put */
    uint64_t hashes[JET_NOTICED];
    unsigned n;
    bool many, queued;
};

void jet_notices_init(struct jet_store_notices *notices);
void jet_notices_clear(struct jet_store_notices *notices);
void jet_notices_open(struct jet_store *store); /* with a new connection; thread: the store's */
uint64_t jet_notices_hash(const char *subject); /* STREAM.CONSUMER */
/* The library's last refusal was about it. thread: any. */
bool jet_notices_own(const struct jet_store *store, const char *subject);
/* The stream is there, or made, as far as is known. thread: control. */
bool jet_notices_usable(struct jet_store *store, jsCtx *js);
/* A listener's errand. thread: control. */
void jet_notices_work(struct jet_store *store, jsCtx *js, struct jet_errand *errand);

#endif
