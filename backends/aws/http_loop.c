/* libcurl's multi interface on the worker's loop: a poll handle for each socket that libcurl wants
 * watched, and its one timer on the worker's wheel. */
#include "backends/aws/http_priv.h"

#include <stdlib.h>
#include <uv.h>

/* libuv frees a handle later than libcurl lets go of the socket, so it stands apart. */
struct http_socket {
    uv_poll_t poll;
    struct http *http;
    curl_socket_t fd;
};

static void act(struct http *http, curl_socket_t fd, int events)
{
    int running;

    worker_look_at_clock(http->home);
    curl_multi_socket_action(http->multi, fd, events, &running);
    http_collect(http);
}

/* An error is for libcurl to find out about: it asks the socket. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_socket *socket = poll->data;
    int flags = 0;

    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if ((events & (UV_READABLE | UV_DISCONNECT)) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    act(socket->http, socket->fd, flags);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct http_socket *socket = handle->data;
    struct http *http = socket->http;

    free(socket);
    http->sockets--;
    http_closed_if_idle(http);
}

static struct http_socket *socket_new(struct http *http, curl_socket_t fd)
{
    struct http_socket *socket = malloc(sizeof *socket);

    if (socket == NULL)
        abort();
    socket->http = http;
    socket->fd = fd;
    if (uv_poll_init(http->home->loop, &socket->poll, fd) != 0)
        abort(); /* a socket that nobody else watches */
    socket->poll.data = socket;
    http->sockets++;
    curl_multi_assign(http->multi, fd, socket);
    return socket;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct http *http = arg;
    struct http_socket *socket = known;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (socket == NULL)
            return 0;
        curl_multi_assign(http->multi, fd, NULL);
        uv_close((uv_handle_t *)&socket->poll, on_socket_closed);
        return 0;
    }
    if (socket == NULL)
        socket = socket_new(http, fd);
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= UV_READABLE;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= UV_WRITABLE;
    uv_poll_start(&socket->poll, events, on_poll);
    return 0;
}

static void on_due(struct timer *timer)
{
    act(CONTAINER_OF(timer, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(struct job *job)
{
    struct http *http = CONTAINER_OF(job, struct http, kick);

    http->kicked = false;
    if (http->closing)
        http_closed_if_idle(http);
    else
        act(http, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl must not be called from here: "at once" is a job. A timer that came too early would find
 * nothing due and not be set again, so the time is read anew. */
static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *http = arg;
    struct timer_wheel *timers = &http->home->timers;

    (void)multi;
    timer_disarm(timers, &http->timer);
    if (timeout_ms > 0) {
        timer_arm(timers, &http->timer, clock_now_ns() + ((uint64_t)timeout_ms + 1) * NS_PER_MS,
                  on_due);
    } else if (timeout_ms == 0 && !http->kicked) {
        http->kicked = true;
        worker_land(http->home, &http->kick);
    }
    return 0;
}

void http_loop_open(struct http *http)
{
    http->kick.run = on_kick;
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
}
