/* Write coalescing below gRPC.
 *
 * gRPC C core calls sendmsg() once for each grpc_call_start_batch(). On a busy connection that
 * system call is about half of the CPU of a unary call, and nothing in the public API merges
 * replies of different streams. So sendmsg is taken in (sockets.h) and, within the window of one
 * drained batch, appends to a buffer of the connection, which coalesce_end writes with one call.
 *
 * What keeps this honest:
 *  - It acts only inside the window, and on the thread that opened it. Other gRPC threads that
 *    write on the same connection first flush what is held, under the connection's lock: order is
 *    kept.
 *  - Bounded: at most COALESCE_HELD_BYTES per connection. When more would be held and the socket
 *    is full, the caller gets EAGAIN, so flow control stays gRPC's. The socket was really full at
 *    that moment, hence its edge-triggered EPOLLOUT will come.
 *  - Flushed on every way out: the end of the window, shutdown(), close(). What a full socket does
 *    not take at the end of a window stays held, and the descriptor goes into the epoll set of
 *    sockets.c (one-shot): the main thread flushes it when it can be written again. Nobody polls.
 *  - gRPC was told that these bytes are sent, and the kernel would go on sending after a close. So
 *    the end of the stream is put off until they have left, and so is the close of the descriptor:
 *    for at most LINGER_MS without progress, and for at most MAX_LINGERING of them. The kernel
 *    watches over the progress of TCP, coalesce_tick over that of unix sockets.
 *  - An error of a delayed write is reported by the next sendmsg of that connection.
 *  - COALESCE_MORE holds nothing here: it adds MSG_MORE and flushes by setting TCP_NODELAY again.
 *
 * Bytes reported as sent may still be here when the process is killed; the kernel's send buffer has
 * the same property. */
#include "src/rpc/coalesce.h"

#include "src/base/clock.h"
#include "src/rpc/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEPT_BYTES = 16 * 1024,
    MAX_DIRTY = 1024,
    LINGER_MS = 30000,
    LINGER_LOOK_MS = 1000,
    MAX_LINGERING = 1024
};

struct connection {
    pthread_mutex_t lock;
    uint8_t *held;
    size_t len, cap;
    int error;         /* errno of a delayed write that failed */
    bool more;         /* COALESCE_MORE: the kernel holds bytes */
    bool stalled;      /* in the epoll set of sockets.c */
    _Atomic bool full; /* the socket took less than it was given */
    bool ending;       /* nothing more is taken; the end of the stream follows what is held */
    uint64_t until_ns; /* lingering without the kernel's watch ends then; 0: the kernel watches */
};

static struct {
    _Atomic int level; /* enum coalesce_level */
    _Atomic(struct connection *)
        connections[SOCKETS_MAX_FD]; /* never freed: a descriptor number is used again */
    pthread_mutex_t watched_lock;
    int watched[MAX_LINGERING]; /* descriptors with until_ns */
    size_t watched_count;
    _Atomic uint64_t writes, flushes, stalls, held_bytes, open, lingering;
} shared = {.watched_lock = PTHREAD_MUTEX_INITIALIZER};

static bool level_is(enum coalesce_level level)
{
    return atomic_load_explicit(&shared.level, memory_order_relaxed) == (int)level;
}

static _Thread_local bool window;
static _Thread_local int dirty[MAX_DIRTY];
static _Thread_local int dirty_count;

static struct connection *connection_of(int fd)
{
    return atomic_load_explicit(&shared.connections[fd], memory_order_acquire);
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void set_held(struct connection *c, size_t len)
{
    count(&shared.held_bytes, (uint64_t)len - (uint64_t)c->len);
    c->len = len;
    if (len == 0 && c->cap > KEPT_BYTES) {
        free(c->held);
        c->held = NULL;
        c->cap = 0;
    }
}

/* ---- one connection; the caller holds its lock ---- */

static void note_full(struct connection *c, bool full)
{
    atomic_store_explicit(&c->full, full, memory_order_relaxed);
}

static ssize_t send_now(int fd, struct connection *c, const struct msghdr *message, int flags)
{
    ssize_t n = socket_next.sendmsg(fd, message, flags);
    size_t bytes = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    if (n >= 0 || errno == EAGAIN)
        note_full(c, n < 0 || (size_t)n < bytes);
    return n;
}

static void flush_held(int fd, struct connection *c)
{
    size_t at = 0;

    while (at < c->len) {
        struct iovec part = {.iov_base = c->held + at, .iov_len = c->len - at};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = send_now(fd, c, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        count(&shared.flushes, 1);
        if (n >= 0) {
            at += (size_t)n;
        } else if (errno == EAGAIN) {
            count(&shared.stalls, 1);
            break;
        } else if (errno != EINTR) {
            c->error = errno;
            at = c->len;
        }
    }
    if (at > 0 && at < c->len)
        memmove(c->held, c->held + at, c->len - at);
    set_held(c, c->len - at);
    if (c->len == 0 && c->ending)
        socket_next.shutdown(fd, SHUT_WR);
}

static void flush_more(int fd, struct connection *c)
{
    int on = 1;

    if (!c->more)
        return;
    c->more = false;
    count(&shared.flushes, 1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(int fd, struct connection *c)
{
    c->stalled = sockets_await_writable(fd, c->stalled);
}

static bool hold(struct connection *c, const struct msghdr *message, size_t bytes)
{
    if (c->len + bytes > c->cap) {
        size_t cap = c->cap == 0 ? 4096 : c->cap;

        while (cap < c->len + bytes)
            cap *= 2;

        uint8_t *held = realloc(c->held, cap);

        if (held == NULL)
            return false;
        c->held = held;
        c->cap = cap;
    }
    size_t at = c->len;

    for (size_t i = 0; i < message->msg_iovlen; i++) {
        memcpy(c->held + at, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        at += message->msg_iov[i].iov_len;
    }
    set_held(c, at);
    return true;
}

/* ---- the window ---- */

static bool remember(int fd)
{
    for (int i = dirty_count - 1; i >= 0 && i >= dirty_count - 4; i--) {
        if (dirty[i] == fd)
            return true;
    }
    if (dirty_count == MAX_DIRTY)
        return false;
    dirty[dirty_count++] = fd;
    return true;
}

static ssize_t send_more(int fd, struct connection *c, const struct msghdr *message, int flags)
{
    bool inside = window && remember(fd);
    ssize_t n = send_now(fd, c, message, inside ? flags | MSG_MORE : flags);

    if (n > 0)
        c->more = inside; /* outside, the kernel has sent the rest along */
    return n;
}

static ssize_t send_buffered(int fd, struct connection *c, const struct msghdr *message, int flags)
{
    size_t bytes = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    if (c->error != 0 || c->ending) {
        errno = c->error != 0 ? c->error : EPIPE;
        return -1;
    }
    if (c->len > 0 && (!window || c->len + bytes > COALESCE_HELD_BYTES))
        flush_held(fd, c);
    if (c->len == 0 && (!window || bytes > COALESCE_HELD_BYTES / 4))
        return send_now(fd, c, message, flags);
    if (c->len + bytes > COALESCE_HELD_BYTES) { /* the socket is full, and so are we */
        errno = EAGAIN;
        return -1;
    }
    if (!hold(c, message, bytes)) {
        errno = ENOMEM;
        return -1;
    }
    if (!window || !remember(fd)) {
        flush_held(fd, c);
        if (c->len > 0)
            watch(fd, c);
    }
    return (ssize_t)bytes;
}

void coalesce_begin(void)
{
    window = !level_is(COALESCE_OFF);
}

void coalesce_end(void)
{
    window = false;
    for (int i = 0; i < dirty_count; i++) {
        struct connection *c = connection_of(dirty[i]);

        pthread_mutex_lock(&c->lock);
        if (sockets_role(dirty[i]) == SOCKET_CONNECTION) {
            flush_more(dirty[i], c);
            flush_held(dirty[i], c);
            if (c->len > 0)
                watch(dirty[i], c);
        }
        pthread_mutex_unlock(&c->lock);
    }
    dirty_count = 0;
}

/* ---- life of a descriptor ---- */

void coalesce_adopt(int fd)
{
    struct connection *c = connection_of(fd);

    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL)
            abort();
        pthread_mutex_init(&c->lock, NULL);
        atomic_store_explicit(&shared.connections[fd], c, memory_order_release);
    }
    note_full(c, false);
    count(&shared.open, 1);
}

bool coalesce_full(int fd)
{
    return atomic_load_explicit(&connection_of(fd)->full, memory_order_relaxed);
}

/* One try that does not block. */
bool coalesce_end_stream(int fd)
{
    struct connection *c = connection_of(fd);

    pthread_mutex_lock(&c->lock);
    flush_more(fd, c);
    flush_held(fd, c);
    c->ending = c->len > 0;

    bool empty = c->len == 0;

    if (!empty)
        watch(fd, c);
    pthread_mutex_unlock(&c->lock);
    return empty;
}

/* The kernel ends a TCP connection whose peer takes nothing for long: an error, which wakes us. It
 * has no such rule for other sockets: those are listed for coalesce_tick. */
static bool bound_linger(int fd, struct connection *c)
{
    unsigned timeout_ms = LINGER_MS;
    bool room;

    c->until_ns = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms) == 0)
        return true;
    c->until_ns = clock_now_ns() + LINGER_MS * NS_PER_MS;
    pthread_mutex_lock(&shared.watched_lock);
    room = shared.watched_count < MAX_LINGERING;
    if (room)
        shared.watched[shared.watched_count++] = fd;
    pthread_mutex_unlock(&shared.watched_lock);
    if (room)
        sockets_run_within(LINGER_LOOK_MS);
    return room;
}

/* gRPC forgets the descriptor; so must its poller. */
static bool linger(int fd, struct connection *c)
{
    if (c->len == 0 || atomic_load(&shared.lingering) >= MAX_LINGERING)
        return false;
    sockets_unwatch(fd);
    c->ending = true;
    watch(fd, c);
    return c->stalled && bound_linger(fd, c);
}

static void forget(int fd, struct connection *c)
{
    set_held(c, 0);
    free(c->held);
    c->held = NULL;
    c->cap = 0;
    c->stalled = c->ending = c->more = false;
    c->error = 0;
    c->until_ns = 0;
    sockets_close(fd);
}

static void end_linger(int fd, struct connection *c)
{
    count(&shared.lingering, (uint64_t)-1);
    forget(fd, c);
}

void coalesce_close(int fd)
{
    struct connection *c = connection_of(fd);

    pthread_mutex_lock(&c->lock);
    count(&shared.open, (uint64_t)-1);
    flush_more(fd, c);
    flush_held(fd, c);
    if (linger(fd, c)) {
        count(&shared.lingering, 1);
        sockets_set_role(fd, SOCKET_LINGERING);
    } else {
        forget(fd, c);
    }
    pthread_mutex_unlock(&c->lock);
}

void coalesce_writable(int fd)
{
    struct connection *c = connection_of(fd);
    size_t before;

    pthread_mutex_lock(&c->lock);
    before = c->len;
    if (c->stalled)
        flush_held(fd, c);
    if (c->until_ns != 0 && c->len < before)
        c->until_ns = clock_now_ns() + LINGER_MS * NS_PER_MS;
    if (c->stalled && c->len > 0)
        watch(fd, c);
    else if (sockets_role(fd) == SOCKET_LINGERING)
        end_linger(fd, c);
    pthread_mutex_unlock(&c->lock);
}

/* The number may have got another owner since it was listed: until_ns is 0 then. */
static bool still_lingers(int fd, uint64_t now_ns)
{
    struct connection *c = connection_of(fd);
    bool waits;

    pthread_mutex_lock(&c->lock);
    waits = sockets_role(fd) == SOCKET_LINGERING && c->until_ns != 0;
    if (waits && now_ns >= c->until_ns) {
        end_linger(fd, c);
        waits = false;
    }
    pthread_mutex_unlock(&c->lock);
    return waits;
}

void coalesce_tick(void)
{
    static _Thread_local int listed[MAX_LINGERING];
    uint64_t now_ns = clock_now_ns();
    size_t n, kept = 0;

    pthread_mutex_lock(&shared.watched_lock);
    n = shared.watched_count;
    shared.watched_count = 0;
    memcpy(listed, shared.watched, n * sizeof listed[0]);
    pthread_mutex_unlock(&shared.watched_lock);
    for (size_t i = 0; i < n; i++) {
        if (still_lingers(listed[i], now_ns))
            listed[kept++] = listed[i];
    }
    if (kept == 0)
        return;
    pthread_mutex_lock(&shared.watched_lock);
    for (size_t i = 0; i < kept && shared.watched_count < MAX_LINGERING; i++)
        shared.watched[shared.watched_count++] = listed[i];
    pthread_mutex_unlock(&shared.watched_lock);
    sockets_run_within(LINGER_LOOK_MS);
}

int coalesce_init(enum coalesce_level level)
{
    atomic_store_explicit(&shared.level, (int)level, memory_order_relaxed);
    return sockets_init();
}

struct coalesce_stats coalesce_stats(void)
{
    return (struct coalesce_stats){.writes = atomic_load(&shared.writes),
                                   .flushes = atomic_load(&shared.flushes),
                                   .stalls = atomic_load(&shared.stalls),
                                   .held_bytes = atomic_load(&shared.held_bytes),
                                   .connections = atomic_load(&shared.open)};
}

ssize_t coalesce_send(int fd, const struct msghdr *message, int flags)
{
    struct connection *c = connection_of(fd);

    if (level_is(COALESCE_OFF))
        return socket_next.sendmsg(fd, message, flags);
    pthread_mutex_lock(&c->lock);
    count(&shared.writes, 1);
    ssize_t n = level_is(COALESCE_MORE) ? send_more(fd, c, message, flags)
                                        : send_buffered(fd, c, message, flags);
    int saved = errno;

    pthread_mutex_unlock(&c->lock);
    errno = saved;
    return n;
}
