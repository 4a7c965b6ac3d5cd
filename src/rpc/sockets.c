#include "src/rpc/sockets.h"

#include "src/base/clock.h"
#include "src/rpc/coalesce.h"
#include "src/rpc/guard.h"
#include "src/rpc/inflow.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MS_PER_S = 1000, EVENTS = 64, TO_READ = 64 };

struct socket_calls socket_next;

static struct {
    int epoll, timer;
    _Atomic int grpc_epoll; /* the set that watches our listeners */
    _Atomic uint8_t role[SOCKETS_MAX_FD];
    _Atomic int to_read[TO_READ]; /* descriptor + 1; 0: a free place */
    _Atomic unsigned to_read_count;
    struct watch { /* in gRPC's epoll set; written before gRPC uses the descriptor */
        int set;
        struct epoll_event event;
    } watches[SOCKETS_MAX_FD];
} shared = {.epoll = -1, .timer = -1, .grpc_epoll = -1};

static _Thread_local bool listening;
static pthread_once_t resolve_once = PTHREAD_ONCE_INIT;
static pthread_once_t open_once = PTHREAD_ONCE_INIT;

static void resolve_all(void)
{
    *(void **)&socket_next.sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    *(void **)&socket_next.recvmsg = dlsym(RTLD_NEXT, "recvmsg");
    *(void **)&socket_next.shutdown = dlsym(RTLD_NEXT, "shutdown");
    *(void **)&socket_next.listen = dlsym(RTLD_NEXT, "listen");
    *(void **)&socket_next.accept4 = dlsym(RTLD_NEXT, "accept4");
    *(void **)&socket_next.epoll_ctl = dlsym(RTLD_NEXT, "epoll_ctl");
    *(void **)&socket_next.epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
    *(void **)&socket_next.close = dlsym(RTLD_NEXT, "close");
}

static void resolve(void)
{
    pthread_once(&resolve_once, resolve_all);
}

/* ---- roles ---- */

enum socket_role sockets_role(int fd)
{
    if (fd < 0 || fd >= SOCKETS_MAX_FD)
        return SOCKET_OTHER;
    return (enum socket_role)atomic_load_explicit(&shared.role[fd], memory_order_acquire);
}

void sockets_set_role(int fd, enum socket_role role)
{
    atomic_store_explicit(&shared.role[fd], (uint8_t)role, memory_order_release);
}

void sockets_listen_begin(void)
{
    listening = true;
}

void sockets_listen_end(void)
{
    listening = false;
}

/* ---- gRPC's epoll set ---- */

bool sockets_rearm(int fd)
{
    struct watch *w = &shared.watches[fd];

    return w->set >= 0 && socket_next.epoll_ctl(w->set, EPOLL_CTL_MOD, fd, &w->event) == 0;
}

bool sockets_have_read(int fd)
{
    for (int i = 0; i < TO_READ; i++) {
        int none = 0;

        if (!atomic_compare_exchange_strong(&shared.to_read[i], &none, fd + 1))
            continue;
        atomic_fetch_add(&shared.to_read_count, 1);
        if (sockets_rearm(fd)) /* it can be written, as a rule: that is an event */
            return true;
        atomic_store(&shared.to_read[i], 0);
        atomic_fetch_sub(&shared.to_read_count, 1);
        return false;
    }
    return false;
}

/* Which of them have an event: that becomes one to read. Those that were closed meanwhile go. */
static void add_reads(int set, struct epoll_event *events, int n)
{
    for (int i = 0; i < TO_READ; i++) {
        int fd = atomic_load(&shared.to_read[i]) - 1;
        bool over = fd >= 0 && sockets_role(fd) != SOCKET_CONNECTION;

        for (int k = 0; fd >= 0 && !over && k < n; k++) {
            if (shared.watches[fd].set != set ||
                events[k].data.u64 != shared.watches[fd].event.data.u64)
                continue;
            events[k].events |= EPOLLIN;
            over = true;
        }
        if (!over)
            continue;
        atomic_store(&shared.to_read[i], 0);
        atomic_fetch_sub(&shared.to_read_count, 1);
    }
}

void sockets_unwatch(int fd)
{
    struct watch *w = &shared.watches[fd];

    if (w->set >= 0)
        socket_next.epoll_ctl(w->set, EPOLL_CTL_DEL, fd, NULL);
    w->set = -1;
}

void sockets_close(int fd)
{
    guard_closed(fd);
    sockets_set_role(fd, SOCKET_OTHER);
    socket_next.close(fd); /* which takes it out of both epoll sets */
}

/* ---- our epoll set ---- */

static void open_all(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    resolve();
    shared.epoll = epoll_create1(EPOLL_CLOEXEC);
    shared.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    event.data.fd = shared.timer;
    if (shared.timer >= 0)
        socket_next.epoll_ctl(shared.epoll, EPOLL_CTL_ADD, shared.timer, &event);
}

int sockets_init(void)
{
    pthread_once(&open_once, open_all);
    return shared.epoll;
}

bool sockets_await_writable(int fd, bool again)
{
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};

    return socket_next.epoll_ctl(shared.epoll, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) ==
           0;
}

void sockets_run_within(uint32_t ms)
{
    struct itimerspec now,
        at = {.it_value = {.tv_sec = ms / MS_PER_S,
                           .tv_nsec = (long)(ms % MS_PER_S) * (long)NS_PER_MS + 1}};

    if (timerfd_gettime(shared.timer, &now) != 0)
        return;

    bool runs = now.it_value.tv_sec != 0 || now.it_value.tv_nsec != 0;
    bool sooner =
        at.it_value.tv_sec < now.it_value.tv_sec ||
        (at.it_value.tv_sec == now.it_value.tv_sec && at.it_value.tv_nsec < now.it_value.tv_nsec);

    if (!runs || sooner)
        timerfd_settime(shared.timer, 0, &at, NULL);
}

void sockets_run(void)
{
    struct epoll_event events[EVENTS];
    int n = socket_next.epoll_wait(shared.epoll, events, EVENTS, 0);

    for (int i = 0; i < n; i++) {
        uint64_t times;

        if (events[i].data.fd != shared.timer) {
            coalesce_writable(events[i].data.fd);
        } else if (read(shared.timer, &times, sizeof times) == (ssize_t)sizeof times) {
            guard_tick();
            inflow_tick();
            coalesce_tick();
        }
    }
}

/* ---- what libgrpc finds instead of libc's ---- */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    resolve();
    if (sockets_role(fd) != SOCKET_CONNECTION)
        return socket_next.sendmsg(fd, message, flags);

    ssize_t n = coalesce_send(fd, message, flags);
    int error = errno;

    if (n > 0)
        inflow_sent(fd, message, (size_t)n);
    errno = error;
    return n;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    resolve();
    if (sockets_role(fd) != SOCKET_CONNECTION)
        return socket_next.recvmsg(fd, message, flags);
    return inflow_receive(fd, message, flags);
}

int shutdown(int fd, int how)
{
    resolve();
    if (sockets_role(fd) == SOCKET_CONNECTION && how != SHUT_RD && !coalesce_end_stream(fd))
        return how == SHUT_RDWR ? socket_next.shutdown(fd, SHUT_RD) : 0;
    return socket_next.shutdown(fd, how);
}

int close(int fd)
{
    resolve();
    if (sockets_role(fd) == SOCKET_CONNECTION) {
        inflow_left(fd);
        coalesce_close(fd);
        return 0;
    }
    if (sockets_role(fd) == SOCKET_LISTENER) {
        guard_listener_closed(fd);
        sockets_set_role(fd, SOCKET_OTHER);
    }
    return socket_next.close(fd);
}

int listen(int fd, int backlog)
{
    resolve();
    if (listening && fd >= 0 && fd < SOCKETS_MAX_FD) {
        shared.watches[fd].set = -1;
        sockets_set_role(fd, SOCKET_LISTENER);
    }
    return socket_next.listen(fd, backlog);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    resolve();
    if (sockets_role(fd) != SOCKET_LISTENER)
        return socket_next.accept4(fd, address, length, flags);

    int accepted = guard_accept(fd, address, length, flags);

    if (accepted >= 0) {
        shared.watches[accepted].set = -1;
        coalesce_adopt(accepted);
        inflow_adopt(accepted, address);
        sockets_set_role(accepted, SOCKET_CONNECTION);
    }
    return accepted;
}

int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    resolve();
    if (what == EPOLL_CTL_ADD && set != shared.epoll &&
        (sockets_role(fd) == SOCKET_CONNECTION || sockets_role(fd) == SOCKET_LISTENER)) {
        shared.watches[fd].event = *event;
        shared.watches[fd].set = set;
        if (sockets_role(fd) == SOCKET_LISTENER)
            atomic_store_explicit(&shared.grpc_epoll, set, memory_order_relaxed);
    }
    return socket_next.epoll_ctl(set, what, fd, event);
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout_ms)
{
    resolve();
    if (set != atomic_load_explicit(&shared.grpc_epoll, memory_order_relaxed))
        return socket_next.epoll_wait(set, events, most, timeout_ms);

    int n = socket_next.epoll_wait(set, events, most, timeout_ms);

    inflow_turn(n);
    if (n > 0 && atomic_load_explicit(&shared.to_read_count, memory_order_relaxed) > 0)
        add_reads(set, events, n);
    return n;
}
