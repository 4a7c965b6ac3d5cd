/* A connection that waits for new entries (redis_wait.c says how), and its life (redis_join.c). */
#ifndef PRISM_BACKENDS_REDIS_REDIS_WATCH_H
#define PRISM_BACKENDS_REDIS_REDIS_WATCH_H

#include "backends/redis/redis_stream.h"

struct redis_watch {
    struct redis connection;        /* first */
    struct redis_watch *next, **at; /* in streams->watches */
    struct redis_streams *streams;
    struct arena texts;
    struct slice notes; /* the stream's key */
    unsigned readers;
    struct job job;
    bool landed, introducing, asked, poking;
    bool closing, closed;
    bool refused_over;     /* readers may ask again what was refused */
    bool changed;          /* readers wait that the XREAD under way does not ask for */
    bool may_poke;         /* CLIENT UNBLOCK is permitted, as far as is known */
    uint64_t client;       /* the connection's number; 0: unknown */
    struct redis_id noted; /* the last note that was seen */
    bool notes_known;      /* ... is set */
    bool caught_up;        /* the readers have looked at what was given back before it */
    struct timer guard, poke_again;
    uint64_t rest_ns; /* nothing is asked before */
    struct {          /* of the answer that is being read */
        bool is_note, refused;
        uint8_t key_len, topic_len, group_len;
        unsigned field;
        bool is_ours, is_seek, is_ask;
        uint8_t key[256], topic[256], group[256];
    } read;
};

/* Something may be to be done. */
void redis_watch_look(struct redis_watch *watch);
void redis_watch_run(struct job *job); /* watch->job's */

/* All of its readers look for themselves. */
void redis_watch_wake(struct redis_watch *watch);

/* Who has its slot; and: it is connected to another one. */
struct redis *redis_watch_owner(const struct redis_watch *watch);
bool redis_watch_strayed(const struct redis_watch *watch);

/* Frees it, if it is closed and nothing refers to it any more. */
void redis_watch_over(struct redis_watch *watch);

static inline struct redis_watch *redis_watch_of(const struct redis_call *call)
{
    return call->state;
}

static inline struct timer_wheel *redis_watch_timers(struct redis_watch *watch)
{
    return &watch->connection.base.home->timers;
}

static inline uint64_t redis_watch_now(const struct redis_watch *watch)
{
    return watch->connection.base.home->now_ns;
}

#endif
