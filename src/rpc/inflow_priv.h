/* What the files of inflow.c share. */
#ifndef PRISM_RPC_INFLOW_PRIV_H
#define PRISM_RPC_INFLOW_PRIV_H

#include "src/rpc/inflow.h"

#include "src/base/log.h"
#include "src/rpc/sockets.h"

#include <pthread.h>
#include <stdatomic.h>

struct flow { /* of a descriptor number; never freed, as the number is used again */
    pthread_mutex_t lock;
    bool live;   /* gRPC has it */
    bool ending; /* its end is decided: nothing is counted any more */
    bool paused;
    bool listed;           /* among the paused: it may be one that had this number before */
    bool small;            /* its last frames were */
    bool overdue;          /* a stream of it is to end */
    uint8_t unread;        /* pauses in a row for answers that it does not read */
    _Atomic uint16_t port; /* of its peer; 0: it has none */
    uint16_t warned;       /* the mark at which that was found */
    uint32_t serial;       /* connections that had this number */
    uint64_t turn;
    uint32_t turn_bytes;
    uint64_t filled_ns, resume_ns;
    struct meter meter;
    uint64_t frames, list_bytes; /* of the meter, when `small` was found */
    uint32_t open, incomplete;   /* what the sums have of it */
    uint64_t part_bytes;
    _Atomic uint64_t weight; /* in bytes: what is not complete */
};

extern struct inflow {
    _Atomic(struct flow *) flows[SOCKETS_MAX_FD];
    _Atomic int highest;
    _Atomic uint64_t turn;
    _Atomic int ready;              /* descriptors in this turn */
    pthread_mutex_t lock;           /* of the list; taken inside a flow's */
    int paused[2 * SOCKETS_MAX_FD]; /* one may be added while its former entry is taken out */
    size_t paused_count;
    _Atomic uint64_t open, incomplete, part_bytes;
    _Atomic uint64_t slowed[METER_EXPENSES], ended[INFLOW_ENDS], overdue_streams;
    struct log_budget slow_lines, end_lines;
    struct { /* inflow_overdue.c */
        _Atomic bool watching;
        _Atomic uint16_t mark;
        _Atomic uint64_t next_ns; /* when the mark moves */
    } ages;
} inflow;

const struct inflow_options *inflow_options_now(void);

static inline struct flow *inflow_flow(int fd)
{
    return atomic_load_explicit(&inflow.flows[fd], memory_order_acquire);
}

void inflow_log(struct log_budget *budget, const char *event, const char *why, int fd);

/* gRPC sees the end of the connection, and ends all its calls. The caller holds the lock. */
void inflow_end(int fd, struct flow *f, enum inflow_end why);

/* ---- inflow_turns.c; the caller holds the flow's lock ---- */

/* Bytes that may be read now; 0: not this turn. */
size_t inflow_room(int fd, struct flow *f);

/* Has those read on whose pause is over. The caller holds no lock. */
void inflow_resume(uint64_t now_ns);

/* ---- inflow_overdue.c ---- */

/* There are requests that are not complete: looks at their age from now on. */
void inflow_watch_ages(void);

/* For the meters: streams and messages are marked with it. */
uint16_t inflow_age_mark(void);

/* Ends what is overdue, if it is time to look. The caller holds no lock. */
void inflow_end_overdue(uint64_t now_ns);

/* A frame that ends an overdue stream on its client's behalf; 0: there is none, or this is not the
 * place between two frames. The caller holds the lock. */
size_t inflow_frame_for_overdue(struct flow *f, uint8_t *bytes, size_t room);

#endif
