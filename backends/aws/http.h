/* HTTP/1.1 requests over libcurl's multi interface, on one worker's loop. Connections are kept and
 * bounded; requests beyond their number wait within libcurl. Nothing blocks: names are resolved by
 * a thread of libcurl's.
 *
 * thread: everything here runs on the worker that http_open ran on. */
#ifndef PRISM_BACKENDS_AWS_HTTP_H
#define PRISM_BACKENDS_AWS_HTTP_H

#include "pool/worker.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct http;
struct http_transfer;

struct http_options {
    const char *ca_file; /* PEM; NULL: the system's; outlives the client */
    uint32_t max_connections;
    uint32_t connect_timeout_ms; /* to resolve, connect, and agree on TLS */
    uint64_t max_held_bytes;     /* bodies of requests and answers in flight; see http_begin */
    struct counter *connects, *bytes_sent, *bytes_received; /* written by this worker */
};

enum { HTTP_TAG_BYTES = 128, HTTP_MAX_HEADERS = 12 };

/* How far a request came when it failed. */
enum http_reach {
    HTTP_NOT_SENT,  /* the server has seen nothing of it */
    HTTP_MAYBE_DONE /* it was given away */
};

/* Embedded by the caller, who owns it and what it points to until done() or http_drop. */
struct http_request {
    /* in */
    const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;
    const char *headers[HTTP_MAX_HEADERS]; /* "Name: value" */
    unsigned header_count;
    struct slice body;
    bool once; /* libcurl must not send it again on another connection when one turns out dead */
    uint32_t timeout_ms; /* for all of it; 0: none */
    uint64_t max_body;   /* bytes of an answer that are taken; the rest of a larger one is not
                            read */
    struct arena *arena; /* for the answer; outlives the request */
    const char *wanted;  /* a header of the answer that is kept, with its colon; NULL: none */
    void (*done)(struct http_request *);

    /* out, in done() */
    struct err err; /* ERR_OK: there is an answer, whatever its status */
    enum http_reach reach;
    unsigned status;
    struct slice body_out;
    uint64_t length; /* bytes that the answer's body has, or was announced to have; too_long and not
                        announced: has at least */
    bool too_long;   /* more than max_body: body_out is empty */
    uint32_t retry_after_ms;
    char tag[HTTP_TAG_BYTES];  /* ETag, with its quotes; "": none */
    struct slice wanted_value; /* in arena; empty: no such header */

    /* private */
    struct http *http;
    struct http_transfer *transfer;
    size_t room;
    uint64_t held;
};

/* The worker needs an event loop. Allocation failure aborts. */
struct http *http_open(struct worker *worker, const struct http_options *options);

/* No request may be in flight. closed(arg) comes later, on this worker; then the memory is gone. */
void http_close(struct http *http, void (*closed)(void *), void *arg);

/* done() comes later, never within this call. ERR_RESOURCE_EXHAUSTED about "max_buffer_bytes": its
 * body and those in flight are too many bytes together, nothing was begun and done() does not come.
 * One request alone is taken whatever its size. The same bound ends a request whose answer is too
 * large beside the others. */
struct err http_begin(struct http *http, struct http_request *request);

/* Lets go of a request in flight; done() does not come. Returns how far it came. */
enum http_reach http_drop(struct http_request *request);

/* Process-wide, counted: before the first http_open and after the last http_close. thread: main. */
void http_library_open(void);
void http_library_close(void);

#endif
