/* Write coalescing below gRPC.
 *
 * gRPC C core calls sendmsg() once for each grpc_call_start_batch(). On a busy connection that
 * system call is about half of the CPU of a unary call, and nothing in the public API merges
 * replies of different streams. So the executable defines sendmsg itself (gRPC's call binds to
 * ours, by ordinary resolution of symbols) and, within the window of one drained batch, appends to
 * a buffer of the connection, which coalesce_end writes with one call.
 *
 * What keeps this honest:
 *  - It acts only on descriptors that a listener of ours accepted: listen() inside
 *    coalesce_listen_begin/end marks the listener, accept4() on a marked listener marks the
 *    connection, close() unmarks; epoll_ctl() is only listened to. Everybody else in the process
 *    (backend clients, the admin endpoint) passes through untouched.
 *  - It acts only inside the window, and on the thread that opened it. Other gRPC threads that
 *    write on the same connection first flush what is held, under the connection's lock: order is
 *    kept.
 *  - Bounded: at most COALESCE_HELD_BYTES per connection. When more would be held and the socket
 *    is full, the caller gets EAGAIN, so flow control stays gRPC's. The socket was really full at
 *    that moment, hence its edge-triggered EPOLLOUT will come.
 *  - Flushed on every way out: the end of the window, shutdown(), close(). What a full socket does
 *    not take at the end of a window stays held, and the descriptor goes into our own epoll set
 *    (one-shot): the main thread flushes it when it can be written again. Nobody polls.
 *  - gRPC was told that these bytes are sent, and the kernel would go on sending after a close. So
 *    the end of the stream is put off until they have left, and so is the close of the descriptor:
 *    for at most LINGER_MS without progress, and for at most MAX_LINGERING of them.
 *  - An error of a delayed write is reported by the next sendmsg of that connection.
 *  - COALESCE_MORE holds nothing here: it adds MSG_MORE and flushes by setting TCP_NODELAY again.
 *
 * Bytes reported as sent may still be here when the process is killed; the kernel's send buffer has
 * the same property. */
#include "src/rpc/coalesce.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_FD = 1 << 16,
    KEPT_BYTES = 16 * 1024,
    MAX_DIRTY = 1024,
    LINGER_MS = 30000,
    MAX_LINGERING = 1024
};

enum fd_role {
    ROLE_NONE,
    ROLE_LISTENER,
    ROLE_CONNECTION,
    ROLE_LINGERING /* closed by gRPC; ours until what is held has left */
};

struct connection {
    pthread_mutex_t lock;
    uint8_t *held;
    size_t len, cap;
    int error;    /* errno of a delayed write that failed */
    bool more;    /* COALESCE_MORE: the kernel holds bytes */
    bool stalled; /* in our epoll set */
    int poller;   /* gRPC's epoll set that watches it; -1: none */
    bool ending;  /* nothing more is taken; the end of the stream follows what is held */
};

static struct {
    _Atomic int level; /* enum coalesce_level */
    int epoll;
    _Atomic uint8_t role[MAX_FD];
    _Atomic(struct connection *)
        connections[MAX_FD]; /* never freed: a descriptor number is used again */
    _Atomic uint64_t writes, flushes, stalls, held_bytes, open, lingering;
} shared = {.epoll = -1};

static bool level_is(enum coalesce_level level)
{
    return atomic_load_explicit(&shared.level, memory_order_relaxed) == (int)level;
}

static _Thread_local bool listening;
static _Thread_local bool window;
static _Thread_local int dirty[MAX_DIRTY];
static _Thread_local int dirty_count;

/* The next definitions in line: libc's, or a sanitizer's interceptors. */
static struct {
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    int (*shutdown)(int, int);
    int (*close)(int);
    int (*listen)(int, int);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*epoll_ctl)(int, int, int, struct epoll_event *);
} next;

static pthread_once_t resolve_once = PTHREAD_ONCE_INIT;

static void resolve_all(void)
{
    *(void **)&next.sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    *(void **)&next.shutdown = dlsym(RTLD_NEXT, "shutdown");
    *(void **)&next.listen = dlsym(RTLD_NEXT, "listen");
    *(void **)&next.accept4 = dlsym(RTLD_NEXT, "accept4");
    *(void **)&next.epoll_ctl = dlsym(RTLD_NEXT, "epoll_ctl");
    *(void **)&next.close = dlsym(RTLD_NEXT, "close");
}

static void resolve(void)
{
    pthread_once(&resolve_once, resolve_all);
}

static enum fd_role role_of(int fd)
{
    if (fd < 0 || fd >= MAX_FD)
        return ROLE_NONE;
    return (enum fd_role)atomic_load_explicit(&shared.role[fd], memory_order_acquire);
}

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

static void flush_held(int fd, struct connection *c)
{
    size_t at = 0;

    while (at < c->len) {
        struct iovec part = {.iov_base = c->held + at, .iov_len = c->len - at};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = next.sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

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
        next.shutdown(fd, SHUT_WR);
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

/* A stalled connection waits in our epoll set until it can be written. */
static void watch(int fd, struct connection *c)
{
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};

    if (c->stalled) {
        next.epoll_ctl(shared.epoll, EPOLL_CTL_MOD, fd, &event);
        return;
    }
    c->stalled = next.epoll_ctl(shared.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
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
    ssize_t n = next.sendmsg(fd, message, inside ? flags | MSG_MORE : flags);

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
        return next.sendmsg(fd, message, flags);
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
        if (role_of(dirty[i]) == ROLE_CONNECTION) {
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

static void adopt(int fd)
{
    if (fd < 0 || fd >= MAX_FD)
        return;

    struct connection *c = connection_of(fd);

    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL)
            return; /* an ordinary descriptor then */
        pthread_mutex_init(&c->lock, NULL);
        atomic_store_explicit(&shared.connections[fd], c, memory_order_release);
    }
    c->poller = -1;
    count(&shared.open, 1);
    atomic_store_explicit(&shared.role[fd], ROLE_CONNECTION, memory_order_release);
}

/* One try that does not block. False: the rest follows later, and then the end of the stream. */
static bool end_stream(int fd)
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

/* gRPC forgets the descriptor; so must its poller. The kernel ends a connection whose peer takes
 * nothing for long: an error, which wakes us. */
static bool linger(int fd, struct connection *c)
{
    unsigned timeout_ms = LINGER_MS;

    if (c->len == 0 || atomic_load(&shared.lingering) >= MAX_LINGERING)
        return false;
    next.epoll_ctl(c->poller, EPOLL_CTL_DEL, fd, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    c->ending = true;
    watch(fd, c);
    return c->stalled;
}

static void forget(int fd, struct connection *c)
{
    set_held(c, 0);
    free(c->held);
    c->held = NULL;
    c->cap = 0;
    c->stalled = c->ending = false;
    c->error = 0;
    atomic_store_explicit(&shared.role[fd], ROLE_NONE, memory_order_release);
    next.close(fd); /* which takes it out of our epoll set */
}

static void let_go(int fd)
{
    struct connection *c = connection_of(fd);

    pthread_mutex_lock(&c->lock);
    count(&shared.open, (uint64_t)-1);
    flush_more(fd, c);
    flush_held(fd, c);
    if (linger(fd, c)) {
        count(&shared.lingering, 1);
        atomic_store_explicit(&shared.role[fd], ROLE_LINGERING, memory_order_release);
    } else {
        forget(fd, c);
    }
    pthread_mutex_unlock(&c->lock);
}

void coalesce_flush_stalled(void)
{
    struct epoll_event events[64];
    int n = epoll_wait(shared.epoll, events, 64, 0);

    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        struct connection *c = connection_of(fd);

        pthread_mutex_lock(&c->lock);
        if (c->stalled)
            flush_held(fd, c);
        if (c->stalled && c->len > 0) {
            watch(fd, c);
        } else if (role_of(fd) == ROLE_LINGERING) {
            count(&shared.lingering, (uint64_t)-1);
            forget(fd, c);
        }
        pthread_mutex_unlock(&c->lock);
    }
}

int coalesce_init(enum coalesce_level level)
{
    resolve();
    atomic_store_explicit(&shared.level, (int)level, memory_order_relaxed);
    if (level != COALESCE_OFF && shared.epoll < 0)
        shared.epoll = epoll_create1(EPOLL_CLOEXEC);
    return shared.epoll;
}

void coalesce_listen_begin(void)
{
    listening = !level_is(COALESCE_OFF);
}

void coalesce_listen_end(void)
{
    listening = false;
}

struct coalesce_stats coalesce_stats(void)
{
    return (struct coalesce_stats){.writes = atomic_load(&shared.writes),
                                   .flushes = atomic_load(&shared.flushes),
                                   .stalls = atomic_load(&shared.stalls),
                                   .held_bytes = atomic_load(&shared.held_bytes),
                                   .connections = atomic_load(&shared.open)};
}

/* ---- what libgrpc finds instead of libc's ---- */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    resolve();
    if (role_of(fd) != ROLE_CONNECTION)
        return next.sendmsg(fd, message, flags);

    struct connection *c = connection_of(fd);

    pthread_mutex_lock(&c->lock);
    count(&shared.writes, 1);
    ssize_t n = level_is(COALESCE_MORE) ? send_more(fd, c, message, flags)
                                        : send_buffered(fd, c, message, flags);
    int saved = errno;

    pthread_mutex_unlock(&c->lock);
    errno = saved;
    return n;
}

int shutdown(int fd, int how)
{
    resolve();
    if (role_of(fd) == ROLE_CONNECTION && how != SHUT_RD && !end_stream(fd))
        return how == SHUT_RDWR ? next.shutdown(fd, SHUT_RD) : 0;
    return next.shutdown(fd, how);
}

int close(int fd)
{
    resolve();
    if (role_of(fd) == ROLE_CONNECTION) {
        let_go(fd);
        return 0;
    }
    if (role_of(fd) == ROLE_LISTENER)
        atomic_store_explicit(&shared.role[fd], ROLE_NONE, memory_order_release);
    return next.close(fd);
}

int listen(int fd, int backlog)
{
    resolve();
    if (listening && fd >= 0 && fd < MAX_FD)
        atomic_store_explicit(&shared.role[fd], ROLE_LISTENER, memory_order_release);
    return next.listen(fd, backlog);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    resolve();

    int accepted = next.accept4(fd, address, length, flags);

    if (accepted >= 0 && role_of(fd) == ROLE_LISTENER)
        adopt(accepted);
    return accepted;
}

int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    resolve();
    if (what == EPOLL_CTL_ADD && role_of(fd) == ROLE_CONNECTION)
        connection_of(fd)->poller = set;
    return next.epoll_ctl(set, what, fd, event);
}
