/* AWS Signature Version 4: what a request's Authorization header says. No clock, no I/O, no state
 * but the key of a day. */
#ifndef PRISM_BACKENDS_AWS_SIGV4_H
#define PRISM_BACKENDS_AWS_SIGV4_H

#include "src/base/arena.h"
#include "src/base/digest.h"
#include "src/base/slice.h"

#include <stdint.h>

enum { SIGV4_TIME_BYTES = 17, SIGV4_DAY_DIGITS = 8 };

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"

/* name in lower case; value without spaces around it. */
struct sigv4_header {
    const char *name, *value;
};

/* A request as the server will see it. */
struct sigv4_request {
    const char *method;
    const char *path;                   /* percent-encoded as it is sent (sigv4_encode) */
    const char *query;                  /* likewise; names sorted, each with its '='; "": none */
    const struct sigv4_header *headers; /* all that are signed, sorted by name */
    unsigned header_count;
    const char *payload; /* hex digits of the body's SHA-256, or SIGV4_UNSIGNED */
};

/* Who signs, and where. */
struct sigv4_scope {
    const char *access_key, *secret_key, *region, *service;
};

/* The key that signs all requests of a day; zeroed: none is made yet. Secret: sigv4_forget. */
struct sigv4_key {
    char day[SIGV4_DAY_DIGITS + 1];
    struct digest digest;
};

/* "20130524T000000Z" of seconds since 1970. */
void sigv4_time(int64_t unix_seconds, char out[SIGV4_TIME_BYTES]);

/* The header's value, in arena. key is made anew when the day changes; whoever changes the scope
 * forgets it. thread: any, one at a time for each key. */
const char *sigv4_authorization(const struct sigv4_request *request,
                                const struct sigv4_scope *scope, struct sigv4_key *key,
                                const char time[SIGV4_TIME_BYTES], struct arena *arena);

void sigv4_forget(struct sigv4_key *key);

/* Percent-encodes all but letters, digits and -._~, and '/' if it is to be kept: the only spelling
 * that a signature's path and query have. Appends a NUL. out: room for 3 * text.len + 1 bytes;
 * returns the bytes without the NUL. */
size_t sigv4_encode(struct slice text, bool keep_slashes, char *out);

#endif
