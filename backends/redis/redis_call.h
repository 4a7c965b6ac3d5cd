/* Calls in flight on a connection: commands out, answers in. thread: home of the connection. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_CALL_H
#define PRISM_BACKENDS_REDIS_REDIS_CALL_H

#include "backends/redis/redis_conn.h"
#include "src/base/clock.h"

/* A part of an answer, as it comes off the wire; nothing is kept by hiredis. */
struct redis_node {
    int type;       /* REDIS_REPLY_* */
    unsigned depth; /* 0: the answer itself; 1: an element of it, ... */
    size_t index;   /* depth 0: which answer of the call; else the element's place in its array */
    struct slice text; /* STRING, STATUS, ERROR: valid during the call of node() only */
    long long number;  /* INTEGER; ARRAY: how many elements will come */
};

/* What a kind of call does with its answers. */
struct redis_kind {
    bool writes;      /* if the answer is lost, it may have had an effect */
    bool unstored;    /* a write that changes no key: redis takes it also while it refuses others */
    bool item_errors; /* node() is shown error answers; otherwise the first one becomes the call's
                         err */
    void (*node)(struct redis_call *call, const struct redis_node *node);
    void (*end)(struct redis_call *call); /* all answers are in: finish or go on. NULL: finish with
                                             the call's err */
    /* The other answers will not come: the connection is gone, or the op has to end. Finishes the
     * op, if there is one. NULL: the op ends with why. */
    void (*lost)(struct redis_call *call, struct err why);
    /* Starts the op's command once more, on the node of a cluster that has its key; the call in
     * op->backend_data is the one that was sent away. Of kinds with one answer. NULL: such an
     * answer is an error, ERR_UNAVAILABLE. */
    void (*again)(struct redis *redis, struct op *op);
    bool leads; /* it changes what the command behind it means: both are sent, or neither */
};

/* Commands sent together for one op. It outlives the op if that is cancelled: answers then have no
 * taker. */
struct redis_call {
    struct redis_call *next, **at; /* in the line; at NULL: not in it */
    struct redis *redis;
    const struct redis_kind *kind;
    struct op *op; /* NULL: hello, or cancelled */
    void *state;   /* the kind's own, in the op's arena */
    struct err err;
    /* It has left the line, whatever became of its op; may start others. NULL: nobody asks. */
    void (*left)(struct redis *redis, uint32_t left_word);
    uint32_t left_word;
    uint64_t *hops; /* where it is counted how often its op was sent away; NULL: backend_word */
    uint64_t sent_ns, bytes, offset; /* offset: of its first byte in the connection's output */
    uint64_t largest;                /* bytes of its longest word */
    uint32_t answers, answered;
    bool wanted;  /* somebody waits for the answers */
    bool refused; /* an error is among the answers */
    bool led;     /* by a call that has its answer already */
    bool voided;  /* it is over, and its bytes are not to be sent: redis_line.c */
};

/* Starts a call for an op; a later step of the same op too. NULL: refused, the op is finished.
 * bytes: what its commands hold, about. Its commands must follow before anything else is started.
 */
struct redis_call *redis_begin(struct redis *redis, struct op *op, const struct redis_kind *kind,
                               size_t bytes);

/* A call without an op, for questions of the connection's own. */
struct redis_call *redis_begin_own(struct redis *redis, const struct redis_kind *kind, void *state);

/* Makes room for the bytes of many large words at once: growing for each would copy them again and
 * again. */
void redis_reserve(struct redis_call *call, size_t bytes);

/* One command of argc words of which `name` is the first; its other words must follow. */
void redis_command(struct redis_call *call, unsigned argc, const char *name);
void redis_word(struct redis_call *call, struct slice word);
void redis_word_key(struct redis_call *call,
                    struct slice key); /* puts the namespace's prefix before it */
void redis_word_joined(struct redis_call *call, struct slice head,
                       struct slice tail); /* one word */
void redis_word_number(struct redis_call *call, uint64_t number);

/* Room that the words of a command take beside their bytes. */
static inline size_t redis_words(unsigned argc)
{
    return 24u * (size_t)argc;
}

/* The end of an op of this backend. */
void redis_finish(struct redis *redis, struct op *op, struct err err);

/* The op of a call goes at once. Of a call of which nothing was sent nothing will be: the op is
 * told that it was not done. The answers of others will be dropped. For who parks ops itself. */
void redis_abandon(struct op *op, struct err why);

/* The refusal when max_in_flight is reached. */
struct err redis_too_many(void);

/* An answer of a kind that the command does not have. */
void redis_unexpected(struct redis_call *call);

/* ---- the line of calls (redis_line.c) ---- */

/* A call in the order of its bytes, whose first one is the next that is queued. */
struct redis_call *redis_line_new(struct redis *redis, const struct redis_kind *kind);
void redis_line_up(struct redis_call *call);
void redis_line_leave(struct redis_call *call);

/* Its memory, for the next one. Not in the line. */
void redis_line_recycle(struct redis_call *call);

/* Has anything of it been given to the socket, or of what leads it? */
bool redis_line_sent(const struct redis_call *call);

/* Takes a call that redis_line_sent denies off all counts. Its bytes will not be sent, and it goes
 * with them; `left` is told at once. */
void redis_line_void(struct redis_call *call);

/* ---- for the connection ---- */

/* Sets the functions by which the reader hands over what it parses. */
void redis_take_answers(struct redis *redis);

/* Takes bytes as they come off the wire. false: they are no answers, and link->detail says so; or
 * an answer has made the connection end. */
bool redis_parse(struct redis *redis, const char *bytes, size_t len);

/* Decimal digits of n. */
uint64_t redis_digits(uint64_t n);

/* The connection is gone: ops get ERR_UNAVAILABLE and are told whether a write may have happened.
 */
void redis_fail_calls(struct redis *redis);
void redis_free_calls(struct redis *redis);

/* When the answers have to be looked after; 0: no call is in flight. */
uint64_t redis_watch_due(const struct redis *redis);

/* Ends ops without a deadline of their own that wait too long, and tells whether redis has fallen
 * silent. next_ns: when to look again, 0 = when there is a call. */
bool redis_watch_calls(struct redis *redis, uint64_t *next_ns);

/* ---- turns of slow enumerations (redis_turns.c) ---- */

struct redis_turn {
    struct redis_turn *next, **at; /* in redis->turns; at NULL: does not wait */
    struct redis *redis;
    struct op *op;
    uint32_t buckets; /* COUNT of the SCAN; set by the caller before redis_turn_take */
    void *state;      /* start()'s own */
    void (*start)(struct redis_turn *);                     /* calls redis_begin_turn */
    void (*elsewhere)(struct redis_turn *, struct err why); /* not NULL: other ops work for this
                                                               one, and this cancels them */
};

/* Starts at once or when it is this one's turn, unless the op ends before. The turn is in the op's
 * arena, and the op not parked but by an earlier turn. */
void redis_turn_take(struct redis *redis, struct redis_turn *turn, struct op *op,
                     void (*start)(struct redis_turn *));

/* As redis_begin, for start(). */
struct redis_call *redis_begin_turn(struct redis_turn *turn, const struct redis_kind *kind,
                                    size_t bytes);

/* The connection is gone: those that wait are refused. */
void redis_fail_turns(struct redis *redis);

#endif
