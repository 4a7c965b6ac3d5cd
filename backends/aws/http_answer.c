/* Answers: the headers that are of use, and the body, within its bounds, straight into the arena of
 * the request. */
#include "backends/aws/http_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIRST_ROOM = 1024, MS_PER_S = 1000, MAX_RETRY_S = 3600 };

/* The header's value without spaces around it; empty: it is another header. */
static struct slice value_of(struct slice line, const char *name)
{
    size_t len = strlen(name);
    const uint8_t *at = line.data + len, *end = line.data + line.len;

    if (line.len <= len || strncasecmp((const char *)line.data, name, len) != 0)
        return slice_of(NULL, 0);
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\r' || end[-1] == '\n'))
        end--;
    return slice_of(at, (size_t)(end - at));
}

/* What does not fit is not kept: half a tag is none. */
static void keep(char *to, size_t room, struct slice value)
{
    if (value.len == 0 || value.len >= room)
        return;
    memcpy(to, value.data, value.len);
    to[value.len] = '\0';
}

static uint64_t number_of(struct slice digits, uint64_t max)
{
    uint64_t n = 0;

    for (size_t i = 0; i < digits.len && digits.data[i] >= '0' && digits.data[i] <= '9'; i++)
        n = n < max / 10 ? n * 10 + (uint64_t)(digits.data[i] - '0') : max;
    return n;
}

static void forget_headers(struct http_request *request)
{
    request->tag[0] = '\0';
    request->wanted_value = slice_of(NULL, 0);
    request->length = 0;
    request->retry_after_ms = 0;
}

/* A status line begins anew: an interim answer (100) came before the one that counts. */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct http_request *request = ((struct http_transfer *)arg)->request;
    struct slice line = slice_of(data, size * n), value;

    if (slice_starts_with(line, slice_str("HTTP/")))
        forget_headers(request);
    else if ((value = value_of(line, "etag:")).len > 0)
        keep(request->tag, sizeof request->tag, value);
    else if ((value = value_of(line, "content-length:")).len > 0)
        request->length = number_of(value, UINT64_MAX / 2);
    else if ((value = value_of(line, "retry-after:")).len > 0)
        request->retry_after_ms = (uint32_t)number_of(value, MAX_RETRY_S) * MS_PER_S;
    else if (request->wanted != NULL && (value = value_of(line, request->wanted)).len > 0)
        request->wanted_value = arena_copy(request->arena, value);
    return size * n;
}

/* False: other bodies in flight leave no room for so many bytes more. */
static bool hold(struct http_request *request, uint64_t bytes)
{
    struct http *http = request->http;

    if (http->in_flight > 1 && http->held_bytes + bytes > http->options.max_held_bytes)
        return false;
    http->held_bytes += bytes;
    request->held += bytes;
    return true;
}

/* An announced length is asked for at once; without one the room is doubled. */
static bool make_room(struct http_request *request, size_t more)
{
    size_t need = request->body_out.len + more, room = request->room * 2;
    uint8_t *grown;

    if (need <= request->room)
        return true;
    if (room < FIRST_ROOM)
        room = FIRST_ROOM;
    if (request->room == 0 && request->length >= need)
        room = (size_t)request->length;
    if (room < need)
        room = need;
    if (!hold(request, room - request->room)) {
        request->err = err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                                 "the answer does not fit beside the others in flight");
        return false;
    }
    grown = arena_alloc(request->arena, room);
    if (request->body_out.len > 0)
        memcpy(grown, request->body_out.data, request->body_out.len);
    request->body_out.data = grown;
    request->room = room;
    return true;
}

/* Another number of bytes than it was given ends the transfer, and with it the connection. */
static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct http_request *request = ((struct http_transfer *)arg)->request;
    uint64_t whole = request->body_out.len + n;

    if (whole > request->max_body || request->length > request->max_body) {
        request->too_long = true;
        if (request->length < whole)
            request->length = whole; /* none was announced: it has at least so many */
        return 0;
    }
    if (!make_room(request, n))
        return 0;
    memcpy((uint8_t *)request->body_out.data + request->body_out.len, data, n);
    request->body_out.len += n;
    return size * n;
}

/* Called when a connection is there and the request is about to be sent: a second time if the first
 * connection turned out dead. */
static int on_send(void *arg, char *to, char *from, int to_port, int from_port)
{
    struct http_transfer *transfer = arg;

    (void)to;
    (void)from;
    (void)to_port;
    (void)from_port;
    transfer->sends++;
    return transfer->request->once && transfer->sends > 1 ? CURL_PREREQFUNC_ABORT
                                                          : CURL_PREREQFUNC_OK;
}

void http_answer_prepare(struct http_transfer *transfer)
{
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(transfer->easy, CURLOPT_PREREQDATA, transfer);
}
