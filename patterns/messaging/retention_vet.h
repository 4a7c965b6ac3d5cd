/* strict_retention at the start: are the topics that the configuration names, those of
 * allowed_topics without a "*", kept until they are read? They are asked about one after the other;
 * while the backend does not answer, again and again for RETENTION_ANSWER_MS. What cannot be known
 * by then, or is not there yet, is left to the first use.
 *
 * thread: home worker. */
#ifndef PRISM_PATTERNS_MESSAGING_RETENTION_VET_H
#define PRISM_PATTERNS_MESSAGING_RETENTION_VET_H

#include "patterns/messaging/retention.h"
#include "patterns/messaging/topics.h"

struct retention_vet_want {
    struct retention_book *book;
    const struct topics *topics;
    struct backend *backend;
    const struct stream *stream; /* NULL: none */
    bool keeps;                  /* the slot holds what is unread until it is settled */
    struct worker *home;
    /* Once, later. The error's text is valid until it returns. */
    void (*vetted)(void *arg, struct err err);
    void *arg;
};

/* A book that is not strict finds no fault. Lives by itself until it has called vetted(). */
void retention_vet(const struct retention_vet_want *want);

#endif
