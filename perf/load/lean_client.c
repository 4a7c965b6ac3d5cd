/* Sockets and loop of the lean client; lean_call.c holds the HTTP/2 side.
 *
 * It keeps HTTP/2 (flow control, HPACK, settings: libnghttp2) and leaves out what a load does not
 * need: no channel, no name resolution, no timers, replies judged in place. What it sends in one
 * step goes out in one write per connection. */
#include "perf/load/lean_priv.h"

#include "perf/common/clock.h"
#include "perf/common/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_BYTES = 1 << 18, OUT_BYTES = 1 << 18, EVENTS = 64 };

static const uint64_t open_timeout_ns = UINT64_C(5000000000);

static bool watch(struct lean_connection *k, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = k};

    if (epoll_ctl(k->client->epoll_fd, operation, k->fd, &event) == 0)
        return true;
    return client_fail(&k->client->base, "epoll_ctl: %s", strerror(errno));
}

static void append(struct lean_connection *k, const uint8_t *frame, size_t bytes)
{
    if (k->out_room - k->out_bytes < bytes + LEAN_HEADERS_FRAME_MAX) {
        k->out_room = (k->out_bytes + bytes + LEAN_HEADERS_FRAME_MAX) * 2;
        k->out = memory_grow(k->out, k->out_room);
    }
    if (lean_headers_is(frame, bytes))
        bytes = lean_write_headers(k, frame, k->out + k->out_bytes);
    else
        memcpy(k->out + k->out_bytes, frame, bytes);
    k->out_bytes += bytes;
}

/* Moves what the session has to send into the connection's buffer, so one write carries it all.
 * k->queued stays true when the buffer was too small for everything. */
static bool collect(struct lean_connection *k)
{
    const uint8_t *data;
    ssize_t bytes = 0;

    k->queued = true;
    while (k->out_bytes < OUT_BYTES) {
        bytes = nghttp2_session_mem_send(k->session, &data);
        if (bytes <= 0) {
            k->queued = false;
            break;
        }
        append(k, data, (size_t)bytes);
    }
    if (bytes < 0)
        client_fail(&k->client->base, "nghttp2 cannot send: %s", nghttp2_strerror((int)bytes));
    return bytes >= 0;
}

/* Writes what is buffered. When the socket is full, EPOLLOUT is asked for until it has room. */
static bool drain(struct lean_connection *k)
{
    while (k->out_sent < k->out_bytes) {
        ssize_t bytes = send(k->fd, k->out + k->out_sent, k->out_bytes - k->out_sent, MSG_NOSIGNAL);
        if (bytes > 0) {
            k->out_sent += (size_t)bytes;
            continue;
        }
        if (errno == EAGAIN)
            break;
        return client_fail(&k->client->base, "send: %s", strerror(errno));
    }
    if (k->out_sent == k->out_bytes)
        k->out_sent = k->out_bytes = 0;

    bool full = k->out_bytes != 0;
    if (full == k->waits_for_room)
        return true;
    k->waits_for_room = full;
    return watch(k, EPOLL_CTL_MOD, full ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static bool flush(struct lean_connection *k)
{
    if (!k->connected)
        return true;
    do {
        if (!collect(k) || !drain(k))
            return false;
    } while (k->queued && !k->waits_for_room);
    return true;
}

static bool finish_connect(struct lean_connection *k)
{
    int error = 0;
    socklen_t bytes = sizeof error;

    if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0)
        return client_fail(&k->client->base, "connect to port %u: %s", k->client->base.options.port,
                           strerror(error ? error : errno));
    k->connected = true;
    return watch(k, EPOLL_CTL_MOD, EPOLLIN);
}

static bool receive(struct lean_connection *k)
{
    struct lean_client *c = k->client;
    ssize_t bytes = recv(k->fd, c->in, IN_BYTES, 0);

    if (bytes < 0 && errno == EAGAIN)
        return true;
    if (bytes <= 0)
        return client_fail(&c->base, "connection lost: %s",
                           bytes == 0 ? "closed by the server" : strerror(errno));
    ssize_t used = nghttp2_session_mem_recv(k->session, c->in, (size_t)bytes);
    if (used != bytes)
        return client_fail(&c->base, "nghttp2 cannot read: %s", nghttp2_strerror((int)used));
    return true;
}

static bool handle(struct lean_connection *k, uint32_t events)
{
    if (!k->connected && !finish_connect(k))
        return false;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !receive(k))
        return false;
    return flush(k);
}

static bool lean_flush(struct client *base)
{
    struct lean_client *c = (struct lean_client *)base;

    for (unsigned i = 0; i < c->base.options.connections; i++) {
        struct lean_connection *k = &c->connections[i];
        if (k->queued && !flush(k))
            return false;
    }
    return true;
}

/* Below a millisecond where the kernel can (valgrind cannot); there it polls instead. */
static int wait_for_events(struct lean_client *c, struct epoll_event *events, uint64_t timeout_ns)
{
    const uint64_t ms = 1000000;
    struct timespec timeout = {.tv_nsec = (long)(timeout_ns % ms)};

    if (timeout_ns != 0 && timeout_ns < ms) {
        int count = epoll_pwait2(c->epoll_fd, events, EVENTS, &timeout, NULL);
        if (count >= 0 || errno != ENOSYS)
            return count;
    }
    return epoll_wait(c->epoll_fd, events, EVENTS, (int)(timeout_ns / ms));
}

static bool lean_step(struct client *base, uint64_t timeout_ns)
{
    struct lean_client *c = (struct lean_client *)base;
    struct epoll_event events[EVENTS];
    int count = wait_for_events(c, events, timeout_ns);

    if (count < 0 && errno != EINTR)
        return client_fail(&c->base, "waiting for events: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (!handle(events[i].data.ptr, events[i].events))
            return false;
    }
    return true;
}

static bool open_connection(struct lean_connection *k)
{
    const struct client_options *o = &k->client->base.options;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(o->port)};
    int on = 1;

    if (inet_pton(AF_INET, o->host, &address.sin_addr) != 1)
        return client_fail(&k->client->base, "%s is not a numeric IPv4 address", o->host);
    k->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0)
        return client_fail(&k->client->base, "socket: %s", strerror(errno));
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(k->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        return client_fail(&k->client->base, "connect to %s:%u: %s", o->host, o->port,
                           strerror(errno));
    if (!lean_session_open(k))
        return client_fail(&k->client->base, "nghttp2 refused a session");
    return watch(k, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static bool ready(const struct lean_client *c)
{
    for (unsigned i = 0; i < c->base.options.connections; i++) {
        if (!c->connections[i].has_settings)
            return false;
    }
    return true;
}

static bool open_all(struct lean_client *c)
{
    uint64_t deadline = clock_now_ns() + open_timeout_ns;

    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0)
        return client_fail(&c->base, "epoll_create1: %s", strerror(errno));
    for (unsigned i = 0; i < c->base.options.connections; i++) {
        if (!open_connection(&c->connections[i]))
            return false;
    }
    while (!ready(c)) {
        if (clock_now_ns() > deadline)
            return client_fail(&c->base, "no HTTP/2 settings from %s:%u within 5 s",
                               c->base.options.host, c->base.options.port);
        if (!lean_step(&c->base, UINT64_C(100000000)))
            return false;
    }
    return true;
}

static bool lean_open(struct client *base)
{
    struct lean_client *c = (struct lean_client *)base;
    unsigned connections = base->options.connections;

    c->epoll_fd = -1;
    c->in = memory_zalloc(IN_BYTES, 1);
    c->connections = memory_zalloc(connections, sizeof *c->connections);
    for (unsigned i = 0; i < connections; i++) {
        c->connections[i].client = c;
        c->connections[i].index = i;
        c->connections[i].fd = -1;
    }
    return open_all(c);
}

static void lean_close(struct client *base)
{
    struct lean_client *c = (struct lean_client *)base;

    for (unsigned i = 0; i < base->options.connections; i++) {
        struct lean_connection *k = &c->connections[i];
        lean_session_close(k);
        free(k->out);
        if (k->fd >= 0)
            close(k->fd);
    }
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    free(c->connections);
    free(c->in);
}

const struct client_type client_lean = {
    .open = lean_open,
    .start = lean_start,
    .flush = lean_flush,
    .step = lean_step,
    .close = lean_close,
    .bytes = sizeof(struct lean_client),
};
