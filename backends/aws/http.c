/* Requests: libcurl's easy handles are made once and used again; their request is set anew each
 * time. */
#include "backends/aws/http_priv.h"

#include <stdlib.h>
#include <string.h>

/* A connection that has idled for longer may be about to be closed by the server, and what is sent
 * over it be lost. */
#define IDLE_S 15L

enum { SPARE_MAX = 256 };

void http_library_open(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        abort();
}

void http_library_close(void)
{
    curl_global_cleanup();
}

/* ---- transfers ---- */

/* What is the same for all requests. libcurl would wait for its resolver's thread when a request is
 * dropped, unless it is told to leave at once; and with a folder of authorities it would read all
 * of them for each connection, which takes as long as the whole handshake. */
static void set_up(struct http *http, struct http_transfer *transfer)
{
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_S);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)http->options.connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (http->options.ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->options.ca_file);
    http_answer_prepare(transfer);
}

static struct http_transfer *transfer_take(struct http *http)
{
    struct http_transfer *transfer = http->spare;

    if (transfer != NULL) {
        http->spare = transfer->next;
        http->spare_count--;
        return transfer;
    }
    transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL || (transfer->easy = curl_easy_init()) == NULL)
        abort();
    set_up(http, transfer);
    return transfer;
}

static void transfer_free(struct http_transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
    free(transfer);
}

static void transfer_give(struct http *http, struct http_transfer *transfer)
{
    transfer->request = NULL;
    if (http->spare_count >= SPARE_MAX) {
        transfer_free(transfer);
        return;
    }
    transfer->next = http->spare;
    http->spare = transfer;
    http->spare_count++;
}

/* libcurl's own list type, in memory of the transfer: no copies. */
static struct curl_slist *headers_of(struct http_transfer *transfer)
{
    const struct http_request *request = transfer->request;
    static const char no_expect[] = "Expect:"; /* no round trip before a large body */
    unsigned n = 0;

    transfer->headers[n++].data = (char *)no_expect;
    for (unsigned i = 0; i < request->header_count; i++)
        transfer->headers[n++].data = (char *)request->headers[i];
    for (unsigned i = 0; i < n; i++)
        transfer->headers[i].next = i + 1 < n ? &transfer->headers[i + 1] : NULL;
    return transfer->headers;
}

/* Each setting of a method takes back those before it. */
static void set_method(CURL *easy, const struct http_request *request)
{
    bool head = strcmp(request->method, "HEAD") == 0, get = strcmp(request->method, "GET") == 0;
    bool body = strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0;

    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, head || get ? NULL : request->method);
    if (head)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (!body)
        return;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                     request->body.len > 0 ? (const char *)request->body.data : "");
}

static void release(struct http_request *request)
{
    struct http *http = request->http;
    struct http_transfer *transfer = request->transfer;

    curl_multi_remove_handle(http->multi, transfer->easy);
    http->in_flight--;
    http->held_bytes -= request->held;
    request->held = 0;
    request->transfer = NULL;
    transfer_give(http, transfer);
}

static enum http_reach reach_of(const struct http_transfer *transfer)
{
    return transfer->sends > 0 ? HTTP_MAYBE_DONE : HTTP_NOT_SENT;
}

/* ---- begin and drop ---- */

struct err http_begin(struct http *http, struct http_request *request)
{
    struct http_transfer *transfer;

    if (http->in_flight > 0 && http->held_bytes + request->body.len > http->options.max_held_bytes)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                         "too many bytes are on their way; this operation was not sent");
    transfer = transfer_take(http);
    transfer->request = request;
    transfer->sends = 0;
    request->http = http;
    request->transfer = transfer;
    request->err = ERR_NONE;
    request->status = 0;
    request->body_out = slice_of(NULL, 0);
    request->room = 0;
    request->too_long = false;
    request->tag[0] = '\0';
    request->wanted_value = slice_of(NULL, 0);
    request->length = 0;
    request->retry_after_ms = 0;
    request->held = request->body.len;
    http->held_bytes += request->held;
    http->in_flight++;
    set_method(transfer->easy, request);
    curl_easy_setopt(transfer->easy, CURLOPT_URL, request->url);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, headers_of(transfer));
    curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    if (curl_multi_add_handle(http->multi, transfer->easy) != CURLM_OK)
        abort(); /* no memory */
    return ERR_NONE;
}

enum http_reach http_drop(struct http_request *request)
{
    enum http_reach reach = reach_of(request->transfer);

    release(request);
    return reach;
}

/* ---- the end of a request ---- */

static struct err failure_of(CURLcode code, const struct http_transfer *transfer)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_make(ERR_UNAVAILABLE, "the server's host name cannot be resolved");
    case CURLE_COULDNT_CONNECT:
        return err_make(ERR_UNAVAILABLE, "the server cannot be connected to");
    case CURLE_OPERATION_TIMEDOUT:
        return err_make(ERR_UNAVAILABLE, transfer->sends > 0
                                             ? "the server did not answer in time"
                                             : "no connection to the server came up in time");
    case CURLE_PEER_FAILED_VERIFICATION:
        return err_make(ERR_FAILED_PRECONDITION, "the server's certificate is not accepted");
    case CURLE_SSL_CONNECT_ERROR:
        return err_make(ERR_UNAVAILABLE, "TLS with the server failed");
    case CURLE_SSL_CACERT_BADFILE:
        return err_make(ERR_FAILED_PRECONDITION,
                        "the file of accepted certificates cannot be read");
    case CURLE_PARTIAL_FILE:
        return err_make(ERR_UNAVAILABLE, "the server's answer was cut short");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
        return err_make(ERR_UNAVAILABLE, "the server does not speak HTTP/1.1");
    default:
        return err_make(ERR_UNAVAILABLE, "the connection to the server was lost");
    }
}

static void count(struct http *http, CURL *easy)
{
    long connects = 0, head = 0, answer_head = 0;
    curl_off_t up = 0, down = 0;

    curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &head);
    curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &answer_head);
    curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
    curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
    counter_add(http->options.connects, (uint64_t)connects);
    counter_add(http->options.bytes_sent, (uint64_t)head + (uint64_t)up);
    counter_add(http->options.bytes_received, (uint64_t)answer_head + (uint64_t)down);
}

/* An answer that was not taken whole on purpose is an answer. */
static void finish(struct http_transfer *transfer, CURLcode code)
{
    struct http_request *request = transfer->request;
    struct http *http = request->http;
    long status = 0;

    count(http, transfer->easy);
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    request->status = (unsigned)status;
    request->reach = reach_of(transfer);
    if (request->too_long)
        request->body_out = slice_of(NULL, 0);
    else if (request->err.code == ERR_OK && code != CURLE_OK)
        request->err = failure_of(code, transfer);
    if (request->err.code == ERR_OK && !request->too_long && request->body_out.len > 0)
        request->length = request->body_out.len;
    release(request);
    request->done(request);
}

void http_collect(struct http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
        struct http_transfer *transfer = NULL;
        CURLcode code = message->data.result;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        finish(transfer, code);
    }
}

/* ---- the client ---- */

struct http *http_open(struct worker *worker, const struct http_options *options)
{
    struct http *http = calloc(1, sizeof *http);

    if (http == NULL || (http->multi = curl_multi_init()) == NULL)
        abort();
    http->home = worker;
    http->options = *options;
    http_loop_open(http);
    curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)options->max_connections);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)options->max_connections);
    return http;
}

static void finish_close(struct job *job)
{
    struct http *http = CONTAINER_OF(job, struct http, closed_job);
    void (*closed)(void *) = http->closed;
    void *arg = http->closed_arg;

    free(http);
    closed(arg);
}

void http_closed_if_idle(struct http *http)
{
    if (!http->closing || http->sockets > 0 || http->kicked)
        return;
    http->closing = false;
    http->closed_job.run = finish_close;
    worker_land(http->home, &http->closed_job);
}

void http_close(struct http *http, void (*closed)(void *), void *arg)
{
    if (http->in_flight > 0)
        abort();
    http->closed = closed;
    http->closed_arg = arg;
    while (http->spare != NULL) {
        struct http_transfer *transfer = http->spare;

        http->spare = transfer->next;
        transfer_free(transfer);
    }
    curl_multi_cleanup(http->multi);
    timer_disarm(&http->home->timers, &http->timer);
    http->closing = true;
    http_closed_if_idle(http);
}
