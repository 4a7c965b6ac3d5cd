/* What the files of the HTTP client share. */
#ifndef PRISM_BACKENDS_AWS_HTTP_PRIV_H
#define PRISM_BACKENDS_AWS_HTTP_PRIV_H

#include "backends/aws/http.h"
#include "src/base/container.h"

#include <curl/curl.h>

struct http {
    struct worker *home;
    struct http_options options;
    CURLM *multi;
    struct http_transfer *spare; /* for reuse: a handle keeps its connection's settings */
    unsigned spare_count;
    unsigned in_flight;
    uint64_t held_bytes;

    /* libcurl's clock (http_loop.c) */
    struct timer timer;
    struct job kick; /* libcurl wants to be called at once */
    bool kicked;
    unsigned sockets; /* libuv's handles that still refer to this struct */

    bool closing;
    struct job closed_job;
    void (*closed)(void *);
    void *closed_arg;
};

/* An easy handle and the request that it carries. */
struct http_transfer {
    struct http_transfer *next; /* in http->spare */
    CURL *easy;
    struct http_request *request; /* NULL: none */
    struct curl_slist headers[HTTP_MAX_HEADERS + 1];
    unsigned sends; /* how often libcurl has begun to send it */
};

/* Ties libcurl's sockets and its clock to the worker. */
void http_loop_open(struct http *http);

/* Takes what libcurl has finished, and calls done() of it (http.c). */
void http_collect(struct http *http);

/* Once libuv has let go of the last socket. */
void http_closed_if_idle(struct http *http);

/* Sets the functions by which libcurl hands over an answer (http_answer.c). */
void http_answer_prepare(struct http_transfer *transfer);

#endif
