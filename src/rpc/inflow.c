/* gRPC C core 1.51 reads a connection until its socket is empty. A client that sends faster than
 * its bytes are worked through is never done: one thread reads all connections, so the others wait,
 * and what was read piles up. And much of what a client can make it hold is counted nowhere.
 *
 *  - Turns. Between two looks at what is ready (epoll_wait) a connection may have TURN_BYTES, or a
 *    quarter of that while its frames are small. Then gRPC is told EAGAIN, and the descriptor is
 *    armed again: it goes to the end of the kernel's queue.
 *  - A purse (http2_meter.h). A connection of overhead, frames that no call is served for, is not
 *    read until time has filled its purse again; the kernel's flow control slows the client.
 *  - Bounds on what it holds. A stream counts from its headers on, a message from its first byte.
 *    More open streams than were announced, or a header list without end, end the connection; the
 *    sums of all connections are bounded as well, and beyond them the one that holds most is ended.
 *
 * With TLS the frames are seen where gRPC calls the library (tls_calls.c). */
#include "src/rpc/inflow.h"

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/rpc/guard_peers.h"
#include "src/rpc/sockets.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    TURN_BYTES = 256 * 1024,
    SMALL_FRAME = 512, /* bytes on average */
    TURN_SMALL_BYTES = TURN_BYTES / 16,
    SHORTEST_PAUSE_MS = 5,
    LONGEST_PAUSE_MS = 1000,
    MAX_IOVEC = 64
};

struct flow { /* of a descriptor number; never freed, as the number is used again */
    pthread_mutex_t lock;
    bool live;   /* gRPC has it */
    bool ending; /* its end is decided: nothing is counted any more */
    bool paused;
    bool listed;     /* among the paused: it may be one that had this number before */
    bool small;      /* its last frames were */
    uint32_t serial; /* connections that had this number */
    uint64_t turn;
    uint32_t turn_bytes;
    uint64_t filled_ns, resume_ns;
    struct meter meter;
    uint32_t open, incomplete; /* what the sums have of it */
    uint64_t part_bytes;
    _Atomic uint64_t weight; /* in bytes: what is not complete */
};

/* Options are never changed: a later server of the process, as tests have it, sets new ones beside
 * the connections of an earlier one. */
struct settings {
    struct inflow_options options;
    struct settings *older;
};

static struct settings none;

static struct {
    _Atomic(struct settings *) settings;
    _Atomic(struct flow *) flows[SOCKETS_MAX_FD];
    _Atomic int highest;
    _Atomic uint64_t turn;
    pthread_mutex_t lock;           /* of the list; taken inside a flow's */
    int paused[2 * SOCKETS_MAX_FD]; /* one may be added while its former entry is taken out */
    size_t paused_count;
    _Atomic uint64_t open, incomplete, part_bytes;
    _Atomic uint64_t slowed[METER_EXPENSES], ended[INFLOW_ENDS];
    struct log_budget slow_lines, end_lines;
} shared = {.settings = &none,
            .lock = PTHREAD_MUTEX_INITIALIZER,
            .slow_lines = LOG_BUDGET(3, 10000),
            .end_lines = LOG_BUDGET(3, 10000)};

static _Thread_local uint64_t current;

void inflow_init(const struct inflow_options *options)
{
    struct settings *settings = malloc(sizeof *settings);

    if (settings == NULL)
        abort();
    settings->options = *options;
    settings->older = atomic_load(&shared.settings);
    atomic_store(&shared.settings, settings);
}

static const struct inflow_options *options_now(void)
{
    return &atomic_load_explicit(&shared.settings, memory_order_acquire)->options;
}

static struct flow *flow_of(int fd)
{
    return atomic_load_explicit(&shared.flows[fd], memory_order_acquire);
}

struct inflow_stats inflow_stats(void)
{
    struct inflow_stats stats = {.open_streams = atomic_load(&shared.open),
                                 .incomplete = atomic_load(&shared.incomplete),
                                 .part_bytes = atomic_load(&shared.part_bytes)};

    pthread_mutex_lock(&shared.lock);
    stats.paused = shared.paused_count;
    pthread_mutex_unlock(&shared.lock);
    for (int i = 0; i < METER_EXPENSES; i++)
        stats.slowed[i] = atomic_load(&shared.slowed[i]);
    for (int i = 0; i < INFLOW_ENDS; i++)
        stats.ended[i] = atomic_load(&shared.ended[i]);
    return stats;
}

/* ---- what is counted and written ---- */

static void log_about(struct log_budget *budget, const char *event, const char *why, int fd)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    char peer[PEERS_TEXT];

    getpeername(fd, (struct sockaddr *)&from, &length);
    peers_name((const struct sockaddr *)&from, peer);
    log_limited(budget, LOG_WARN, event,
                (const struct log_field[]){LOG_S("why", why), LOG_S("peer", peer)}, 2);
}

/* Brings the sums up to date; the caller holds the lock. True: they are beyond their bounds. */
static bool settle(struct flow *f)
{
    const struct inflow_options *o = options_now();
    const struct meter *m = &f->meter;

    if (f->open != m->open)
        atomic_fetch_add_explicit(&shared.open, (uint64_t)m->open - f->open, memory_order_relaxed);
    f->open = m->open;
    if (f->incomplete == m->incomplete && f->part_bytes == m->part_bytes)
        return false;
    atomic_fetch_add_explicit(&shared.incomplete, (uint64_t)m->incomplete - f->incomplete,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&shared.part_bytes, m->part_bytes - f->part_bytes,
                              memory_order_relaxed);
    f->incomplete = m->incomplete;
    f->part_bytes = m->part_bytes;
    atomic_store_explicit(&f->weight, m->incomplete * (uint64_t)METER_STREAM_BYTES + m->part_bytes,
                          memory_order_relaxed);
    return atomic_load_explicit(&shared.incomplete, memory_order_relaxed) > o->max_incomplete ||
           (o->max_part_bytes > 0 &&
            atomic_load_explicit(&shared.part_bytes, memory_order_relaxed) > o->max_part_bytes);
}

/* The caller holds the lock. gRPC sees the end of the stream, and ends all calls. */
static void end(int fd, struct flow *f, enum inflow_end why)
{
    static const char *const names[INFLOW_ENDS] = {
        [INFLOW_TOO_MANY_STREAMS] = "more open streams than limits.max_streams_per_connection",
        [INFLOW_LONG_HEADERS] = "a header list beyond limits.max_metadata_bytes",
        [INFLOW_INCOMPLETE] = "it held most of too many incomplete requests"};

    atomic_fetch_add(&shared.ended[why], 1);
    log_about(&shared.end_lines, "connection_ended", names[why], fd);
    f->ending = true;
    meter_clear(&f->meter);
    settle(f);
    socket_next.shutdown(fd, SHUT_RDWR);
}

static void end_heaviest(void)
{
    int highest = atomic_load(&shared.highest), heaviest = -1;
    uint64_t most = 0;

    for (int fd = 0; fd <= highest; fd++) {
        struct flow *f = flow_of(fd);
        uint64_t weight = f != NULL ? atomic_load_explicit(&f->weight, memory_order_relaxed) : 0;

        if (weight > most) {
            most = weight;
            heaviest = fd;
        }
    }
    if (heaviest < 0)
        return;

    struct flow *f = flow_of(heaviest);

    pthread_mutex_lock(&f->lock);
    if (f->live && !f->ending && atomic_load(&f->weight) > 0)
        end(heaviest, f, INFLOW_INCOMPLETE);
    pthread_mutex_unlock(&f->lock);
}

/* After bytes were looked at; the caller holds the lock. True: call end_heaviest without it. */
static bool judge(int fd, struct flow *f)
{
    static const enum inflow_end ends[METER_FAULTS] = {[METER_TOO_MANY_STREAMS] =
                                                           INFLOW_TOO_MANY_STREAMS,
                                                       [METER_LONG_HEADERS] = INFLOW_LONG_HEADERS};

    if (f->meter.fault != METER_SOUND) {
        end(fd, f, ends[f->meter.fault]);
        return false;
    }
    return settle(f);
}

/* ---- turns and pauses; the caller holds the flow's lock ---- */

static void fill_purse(struct flow *f, uint64_t now_ns)
{
    uint64_t ms = (now_ns - f->filled_ns) / NS_PER_MS;

    if (ms == 0)
        return;
    f->filled_ns = now_ns;
    meter_earn(&f->meter,
               ms < METER_PURSE * 2 ? (uint32_t)ms * METER_TOKENS_PER_MS : METER_PURSE * 2);
}

static void pause_reading(int fd, struct flow *f, uint64_t now_ns)
{
    static const char *const names[METER_EXPENSES] = {METER_EXPENSE_NAMES};
    uint32_t ms = (uint32_t)(-f->meter.purse) / METER_TOKENS_PER_MS;

    ms = ms < SHORTEST_PAUSE_MS ? SHORTEST_PAUSE_MS : ms > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : ms;
    f->paused = true;
    f->resume_ns = now_ns + ms * NS_PER_MS;
    atomic_fetch_add(&shared.slowed[f->meter.blame], 1);
    log_about(&shared.slow_lines, "connection_slowed", names[f->meter.blame], fd);
    pthread_mutex_lock(&shared.lock);
    if (!f->listed)
        shared.paused[shared.paused_count++] = fd;
    pthread_mutex_unlock(&shared.lock);
    f->listed = true;
    sockets_run_within(ms);
}

/* Bytes that may be read now; 0: not this turn. */
static size_t room_of(int fd, struct flow *f)
{
    uint64_t turn = atomic_load_explicit(&shared.turn, memory_order_relaxed);
    uint32_t most = f->small ? TURN_SMALL_BYTES : TURN_BYTES;

    if (f->paused)
        return 0;
    if (f->meter.purse < METER_PURSE / 2) {
        uint64_t now_ns = clock_now_ns();

        fill_purse(f, now_ns);
        if (f->meter.purse < 0) {
            pause_reading(fd, f, now_ns);
            return 0;
        }
    }
    if (f->turn != turn) {
        f->turn = turn;
        f->turn_bytes = 0;
    }
    if (f->turn_bytes < most)
        return most - f->turn_bytes;
    return sockets_rearm(fd) ? 0 : most;
}

static bool resume(int fd, uint64_t now_ns)
{
    struct flow *f = flow_of(fd);
    bool over;

    pthread_mutex_lock(&f->lock);
    over = !f->paused || now_ns >= f->resume_ns;
    if (over && f->paused)
        sockets_rearm(fd);
    if (over)
        f->paused = f->listed = false;
    pthread_mutex_unlock(&f->lock);
    return over;
}

/* The list changes behind us only at its end: pauses are added there, and nobody else removes. */
void inflow_tick(void)
{
    uint64_t now_ns = clock_now_ns();
    size_t at = 0;

    for (;;) {
        int fd = -1;

        pthread_mutex_lock(&shared.lock);
        if (at < shared.paused_count)
            fd = shared.paused[at];
        pthread_mutex_unlock(&shared.lock);
        if (fd < 0)
            break;
        if (!resume(fd, now_ns)) {
            at++;
            continue;
        }
        pthread_mutex_lock(&shared.lock);
        shared.paused[at] = shared.paused[--shared.paused_count];
        pthread_mutex_unlock(&shared.lock);
    }
    if (at > 0)
        sockets_run_within(SHORTEST_PAUSE_MS);
}

void inflow_turn(void)
{
    atomic_fetch_add_explicit(&shared.turn, 1, memory_order_relaxed);
}

/* ---- bytes ---- */

typedef void meter_fn(struct meter *, const uint8_t *, size_t);

static void feed(struct meter *meter, meter_fn *take, const struct msghdr *message, size_t bytes)
{
    for (size_t i = 0; i < message->msg_iovlen && bytes > 0; i++) {
        size_t n = message->msg_iov[i].iov_len < bytes ? message->msg_iov[i].iov_len : bytes;

        take(meter, message->msg_iov[i].iov_base, n);
        bytes -= n;
    }
}

static void note_frames(struct flow *f, uint64_t frames, size_t bytes)
{
    f->small = frames * SMALL_FRAME > bytes;
}

/* recvmsg into no more than `room` bytes of the message. */
static ssize_t receive_within(int fd, struct msghdr *message, int flags, size_t room)
{
    struct iovec parts[MAX_IOVEC], *all = message->msg_iov;
    size_t count = message->msg_iovlen, n = 0;
    ssize_t got;

    for (; n < count && n < MAX_IOVEC && room > 0; n++) {
        parts[n] = all[n];
        if (parts[n].iov_len > room)
            parts[n].iov_len = room;
        room -= parts[n].iov_len;
    }
    message->msg_iov = parts;
    message->msg_iovlen = n;
    got = socket_next.recvmsg(fd, message, flags);
    message->msg_iov = all;
    message->msg_iovlen = count;
    return got;
}

ssize_t inflow_receive(int fd, struct msghdr *message, int flags)
{
    struct flow *f = flow_of(fd);
    bool over = false;
    ssize_t n = -1;
    int error = EAGAIN;

    if ((flags & (MSG_ERRQUEUE | MSG_PEEK)) != 0) /* not the next bytes of the stream */
        return socket_next.recvmsg(fd, message, flags);
    pthread_mutex_lock(&f->lock);

    size_t room = f->ending ? 0 : room_of(fd, f);

    if (room > 0) {
        n = receive_within(fd, message, flags, room);
        error = errno;
    } else if (f->ending) { /* also what is in the socket still */
        error = ECONNRESET;
    }
    if (n > 0) {
        f->turn_bytes += (uint32_t)n;
        current = (uint64_t)f->serial << 32 | (uint32_t)fd;
    }
    if (n > 0 && !options_now()->encrypted) {
        uint64_t before = f->meter.frames;

        feed(&f->meter, meter_received, message, (size_t)n);
        note_frames(f, f->meter.frames - before, (size_t)n);
        over = judge(fd, f);
    }
    pthread_mutex_unlock(&f->lock);
    if (over)
        end_heaviest();
    errno = error;
    return n;
}

void inflow_sent(int fd, const struct msghdr *message, size_t bytes)
{
    struct flow *f = flow_of(fd);

    if (options_now()->encrypted)
        return;
    pthread_mutex_lock(&f->lock);
    if (!f->ending) {
        feed(&f->meter, meter_sent, message, bytes);
        settle(f);
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- TLS ---- */

uint64_t inflow_current(void)
{
    return current;
}

/* The connection's flow, locked; NULL: it is over, its number may be somebody else's. */
static struct flow *lock_flow(uint64_t connection)
{
    struct flow *f = connection != 0 ? flow_of((int)(uint32_t)connection) : NULL;

    if (f == NULL)
        return NULL;
    pthread_mutex_lock(&f->lock);
    if (f->live && !f->ending && f->serial == connection >> 32)
        return f;
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

void inflow_decrypted(uint64_t connection, const uint8_t *bytes, size_t len)
{
    struct flow *f = lock_flow(connection);
    uint64_t before;
    bool over;

    if (f == NULL)
        return;
    before = f->meter.frames;
    meter_received(&f->meter, bytes, len);
    note_frames(f, f->meter.frames - before, len);
    over = judge((int)(uint32_t)connection, f);
    pthread_mutex_unlock(&f->lock);
    if (over)
        end_heaviest();
}

void inflow_encrypting(uint64_t connection, const uint8_t *bytes, size_t len)
{
    struct flow *f = lock_flow(connection);

    if (f == NULL)
        return;
    meter_sent(&f->meter, bytes, len);
    settle(f);
    pthread_mutex_unlock(&f->lock);
}

/* ---- the life of a connection ---- */

void inflow_adopt(int fd)
{
    struct flow *f = flow_of(fd);
    int highest = atomic_load(&shared.highest);

    if (f == NULL) {
        f = calloc(1, sizeof *f);
        if (f == NULL)
            abort();
        pthread_mutex_init(&f->lock, NULL);
        atomic_store_explicit(&shared.flows[fd], f, memory_order_release);
    }
    while (fd > highest && !atomic_compare_exchange_weak(&shared.highest, &highest, fd))
        ;
    pthread_mutex_lock(&f->lock);
    meter_init(&f->meter, &options_now()->each);
    f->live = f->small = true; /* until its frames are seen */
    f->ending = false;
    f->serial++;
    f->turn_bytes = 0;
    f->filled_ns = clock_now_ns();
    pthread_mutex_unlock(&f->lock);
}

void inflow_left(int fd)
{
    struct flow *f = flow_of(fd);

    pthread_mutex_lock(&f->lock);
    f->live = f->paused = false;
    meter_clear(&f->meter);
    settle(f);
    pthread_mutex_unlock(&f->lock);
}
