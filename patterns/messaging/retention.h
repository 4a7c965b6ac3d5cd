/* May messages go that a group has not read, and what has happened to one that is acknowledged?
 * Streams are asked, topic by topic, and what they say is kept in one book for the instances of a
 * namespace on all workers.
 *
 *   usual     nobody waits for an answer. A topic that may lose messages is named in the log, and
 *             from then on the book says so
 *   strict    (strict_retention) a topic is used once it is known to keep what is unread, and
 *             refused as long as it is not
 *
 * thread: any for the book, the home worker for questions. */
#ifndef PRISM_PATTERNS_MESSAGING_RETENTION_H
#define PRISM_PATTERNS_MESSAGING_RETENTION_H

#include "backends/backend.h"
#include "backends/stream.h"
#include "pool/op.h"
#include "src/base/arena.h"
#include "src/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    RETENTION_TOPICS = 1024,    /* that a book knows; a full one begins anew */
    RETENTION_ANSWER_MS = 5000, /* for how long an answer is waited for */
    RETENTION_AGAIN_MS = 1000,  /* until a topic is asked about again that gave no answer, or that
                                   was not there yet */
    RETENTION_UNTOLD_MS = 60000 /* the same, where the backend may not or cannot tell */
};

struct retention_entry;

struct retention_book {
    /* in, before it is used */
    const char *namespace_name, *slot; /* for the log */
    bool strict;
    /* private */
    _Atomic bool lossy;
    _Atomic int ack; /* enum backend_ack; negative: some topic does not tell */
    struct log_budget log;
    pthread_mutex_t lock; /* of what is below */
    struct arena memory;
    struct retention_entry **buckets;
    size_t n;
    uint64_t seed; /* clients choose names */
};

/* Adds the fault of `strict_retention` where the backend in this slot (NULL: none) keeps nothing.
 */
void retention_check(struct backend_faults *faults, const char *slot,
                     const struct backend_type *backend);

/* Borrows the texts. */
void retention_book_init(struct retention_book *book, const char *namespace_name, const char *slot,
                         bool strict);
void retention_book_clear(struct retention_book *book);

/* A topic was found that may lose messages. Holds until the namespace ends. */
bool retention_is_lossy(const struct retention_book *book);

/* What an acknowledgement means in all topics that were found: the least of it. UNKNOWN: none was,
 * or one of them does not tell. */
enum backend_ack retention_ack(const struct retention_book *book);

enum retention_todo {
    RETENTION_ASK,  /* the caller asks now: said once for a topic, and again later where no answer
                       came that lasts */
    RETENTION_WAIT, /* somebody asks, or it is not time to do so again */
    RETENTION_KNOWN
};

enum retention_todo retention_todo(struct retention_book *book, struct slice topic,
                                   uint64_t now_ns);

/* Strict: it is known that the topic keeps what is unread. */
bool retention_keeps(struct retention_book *book, struct slice topic);

/* The topic's answer came, or its error is in op.err. Strict: may it be used? ERR_NONE, or why not,
 * about "topic", with a text in `arena`. Otherwise always ERR_NONE, and a topic that may lose
 * messages is named in the log, with the group where there is one. */
struct err retention_answered(struct retention_book *book, const struct stream_describe *describe,
                              struct slice group, struct arena *arena);

#endif
