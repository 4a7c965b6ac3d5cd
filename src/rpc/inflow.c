/* gRPC C core 1.51 reads a connection until its socket is empty. A client that sends faster than
 * its bytes are worked through is never done: one thread reads all connections, so the others wait,
 * and what was read piles up. And much of what a client can make it hold is counted nowhere.
 *
 *  - Turns. Between two looks at what is ready (epoll_wait) a connection may have TURN_BYTES, or
 *    TURN_SMALL_BYTES while its frames are small, and less if many are ready. Then gRPC is told
 *    EAGAIN, and the descriptor is armed again: it goes to the end of the kernel's queue.
 *  - A purse (http2_meter.h). A connection of overhead, frames that no call is served for, is not
 *    read until time has filled its purse again; the kernel's flow control slows the client.
 *  - Bounds on what it holds. A stream counts from its headers on, a message from its first byte.
 *    More open streams than were announced, or a header list without end, end the connection; the
 *    sums of all connections are bounded as well, and beyond them the one that holds most is ended.
 *  - An age. A request that is not complete in time ends (inflow_overdue.c).
 *
 * With TLS the frames are seen where gRPC calls the library (tls_calls.c). */
#include "src/rpc/inflow_priv.h"

#include "src/base/clock.h"
#include "src/rpc/guard_peers.h"

#include <errno.h>
#include <stdlib.h>

enum { SMALL_FRAME = 512 /* bytes on average */, MAX_IOVEC = 64 };

/* Options are never changed: a later server of the process, as tests have it, sets new ones beside
 * the connections of an earlier one. */
struct settings {
    struct inflow_options options;
    struct settings *older;
};

static struct settings none;

static _Atomic(struct settings *) settings_now = &none;

struct inflow inflow = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .slow_lines = LOG_BUDGET(3, 10000),
                        .end_lines = LOG_BUDGET(3, 10000)};

static _Thread_local uint64_t current;

void inflow_init(const struct inflow_options *options)
{
    struct settings *settings = malloc(sizeof *settings);

    if (settings == NULL)
        abort();
    settings->options = *options;
    settings->older = atomic_load(&settings_now);
    atomic_store(&settings_now, settings);
}

const struct inflow_options *inflow_options_now(void)
{
    return &atomic_load_explicit(&settings_now, memory_order_acquire)->options;
}

struct inflow_stats inflow_stats(void)
{
    struct inflow_stats stats = {.open_streams = atomic_load(&inflow.open),
                                 .incomplete = atomic_load(&inflow.incomplete),
                                 .part_bytes = atomic_load(&inflow.part_bytes)};

    pthread_mutex_lock(&inflow.lock);
    stats.paused = inflow.paused_count;
    pthread_mutex_unlock(&inflow.lock);
    stats.overdue_streams = atomic_load(&inflow.overdue_streams);
    for (int i = 0; i < METER_EXPENSES; i++)
        stats.slowed[i] = atomic_load(&inflow.slowed[i]);
    for (int i = 0; i < INFLOW_ENDS; i++)
        stats.ended[i] = atomic_load(&inflow.ended[i]);
    return stats;
}

/* ---- what is counted and written ---- */

void inflow_log(struct log_budget *budget, const char *event, const char *why, int fd)
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
    const struct inflow_options *o = inflow_options_now();
    const struct meter *m = &f->meter;

    if (f->open != m->open)
        atomic_fetch_add_explicit(&inflow.open, (uint64_t)m->open - f->open, memory_order_relaxed);
    f->open = m->open;
    if (f->incomplete == m->incomplete && f->part_bytes == m->part_bytes)
        return false;
    atomic_fetch_add_explicit(&inflow.incomplete, (uint64_t)m->incomplete - f->incomplete,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&inflow.part_bytes, m->part_bytes - f->part_bytes,
                              memory_order_relaxed);
    f->incomplete = m->incomplete;
    f->part_bytes = m->part_bytes;
    if (f->incomplete > 0 || f->part_bytes > 0)
        inflow_watch_ages();
    atomic_store_explicit(&f->weight, m->incomplete * (uint64_t)METER_STREAM_BYTES + m->part_bytes,
                          memory_order_relaxed);
    return atomic_load_explicit(&inflow.incomplete, memory_order_relaxed) > o->max_incomplete ||
           (o->max_part_bytes > 0 &&
            atomic_load_explicit(&inflow.part_bytes, memory_order_relaxed) > o->max_part_bytes);
}

void inflow_end(int fd, struct flow *f, enum inflow_end why)
{
    static const char *const names[INFLOW_ENDS] = {
        [INFLOW_TOO_MANY_STREAMS] = "more open streams than limits.max_streams_per_connection",
        [INFLOW_LONG_HEADERS] = "a header list beyond limits.max_metadata_bytes",
        [INFLOW_INCOMPLETE] = "it held most of too many incomplete requests",
        [INFLOW_OVERDUE] = "a request was not complete within limits.request_timeout_ms",
        [INFLOW_UNREAD] = "it took no answer within limits.unread_answer_ms"};

    atomic_fetch_add(&inflow.ended[why], 1);
    inflow_log(&inflow.end_lines, "connection_ended", names[why], fd);
    f->ending = true;
    meter_clear(&f->meter);
    settle(f);
    socket_next.shutdown(fd, SHUT_RDWR);
}

static void end_heaviest(void)
{
    int highest = atomic_load(&inflow.highest), heaviest = -1;
    uint64_t most = 0;

    for (int fd = 0; fd <= highest; fd++) {
        struct flow *f = inflow_flow(fd);
        uint64_t weight = f != NULL ? atomic_load_explicit(&f->weight, memory_order_relaxed) : 0;

        if (weight > most) {
            most = weight;
            heaviest = fd;
        }
    }
    if (heaviest < 0)
        return;

    struct flow *f = inflow_flow(heaviest);

    pthread_mutex_lock(&f->lock);
    if (f->live && !f->ending && atomic_load(&f->weight) >= most) /* not the number's next owner */
        inflow_end(heaviest, f, INFLOW_INCOMPLETE);
    pthread_mutex_unlock(&f->lock);
}

/* After bytes were looked at; the caller holds the lock. True: call end_heaviest without it. */
static bool judge(int fd, struct flow *f)
{
    static const enum inflow_end ends[METER_FAULTS] = {[METER_TOO_MANY_STREAMS] =
                                                           INFLOW_TOO_MANY_STREAMS,
                                                       [METER_LONG_HEADERS] = INFLOW_LONG_HEADERS};

    if (f->meter.fault != METER_SOUND) {
        inflow_end(fd, f, ends[f->meter.fault]);
        return false;
    }
    return settle(f);
}

void inflow_tick(void)
{
    uint64_t now_ns = clock_now_ns();

    inflow_resume(now_ns);
    inflow_end_overdue(now_ns);
}

void inflow_turn(int ready)
{
    atomic_store_explicit(&inflow.ready, ready, memory_order_relaxed);
    atomic_fetch_add_explicit(&inflow.turn, 1, memory_order_relaxed);
}

/* ---- bytes ---- */

static void feed_received(struct meter *meter, const struct msghdr *message, size_t bytes)
{
    for (size_t i = 0; i < message->msg_iovlen && bytes > 0; i++) {
        size_t n = message->msg_iov[i].iov_len < bytes ? message->msg_iov[i].iov_len : bytes;

        meter_received(meter, message->msg_iov[i].iov_base, n);
        bytes -= n;
    }
}

static void feed_sent(struct meter *meter, const struct msghdr *message, size_t bytes)
{
    for (size_t i = 0; i < message->msg_iovlen && bytes > 0; i++) {
        size_t n = message->msg_iov[i].iov_len < bytes ? message->msg_iov[i].iov_len : bytes;

        meter_sent(meter, message->msg_iov[i].iov_base, n);
        bytes -= n;
    }
}

/* Frames that make much work for their bytes: small ones, and header lists, whose bytes may stand
 * for a whole field each. */
static void note_frames(struct flow *f, size_t bytes)
{
    uint64_t frames = f->meter.frames - f->frames, lists = f->meter.list_bytes - f->list_bytes;

    f->small = frames * SMALL_FRAME > bytes || lists > bytes / 2;
    f->frames = f->meter.frames;
    f->list_bytes = f->meter.list_bytes;
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

/* -1: nothing. */
static ssize_t receive_for_overdue(struct flow *f, struct msghdr *message)
{
    size_t n = 0;

    if (message->msg_iovlen > 0)
        n = inflow_frame_for_overdue(f, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    if (n == 0)
        return -1;
    message->msg_controllen = 0;
    message->msg_flags = 0;
    return (ssize_t)n;
}

ssize_t inflow_receive(int fd, struct msghdr *message, int flags)
{
    struct flow *f = inflow_flow(fd);
    bool over = false;
    ssize_t n = -1;
    int error = EAGAIN;

    if ((flags & (MSG_ERRQUEUE | MSG_PEEK)) != 0) /* not the next bytes of the stream */
        return socket_next.recvmsg(fd, message, flags);
    pthread_mutex_lock(&f->lock);

    size_t room = f->ending ? 0 : inflow_room(fd, f);

    if (room > 0 && f->overdue && !inflow_options_now()->encrypted)
        n = receive_for_overdue(f, message);
    if (n < 0 && room > 0) {
        n = receive_within(fd, message, flags, room);
        error = errno;
    } else if (f->ending) { /* also what is in the socket still */
        error = ECONNRESET;
    }
    if (n > 0) {
        f->turn_bytes += (uint32_t)n;
        current = (uint64_t)f->serial << 32 | (uint32_t)fd;
    }
    if (n > 0 && !inflow_options_now()->encrypted) {
        f->meter.mark = inflow_age_mark();
        feed_received(&f->meter, message, (size_t)n);
        note_frames(f, (size_t)n);
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
    struct flow *f = inflow_flow(fd);

    if (inflow_options_now()->encrypted)
        return;
    pthread_mutex_lock(&f->lock);
    if (!f->ending) {
        f->meter.mark = inflow_age_mark();
        feed_sent(&f->meter, message, bytes);
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
    struct flow *f = connection != 0 ? inflow_flow((int)(uint32_t)connection) : NULL;

    if (f == NULL)
        return NULL;
    pthread_mutex_lock(&f->lock);
    if (f->live && !f->ending && f->serial == connection >> 32)
        return f;
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

void inflow_decrypted(uint64_t connection, uint8_t *bytes, size_t len)
{
    struct flow *f = lock_flow(connection);
    bool over;

    if (f == NULL)
        return;
    f->meter.mark = inflow_age_mark();
    meter_received(&f->meter, bytes, len);
    note_frames(f, len);
    over = judge((int)(uint32_t)connection, f);
    pthread_mutex_unlock(&f->lock);
    if (over)
        end_heaviest();
}

size_t inflow_decrypted_for_overdue(uint64_t connection, uint8_t *bytes, size_t room)
{
    struct flow *f = lock_flow(connection);
    size_t n;

    if (f == NULL)
        return 0;
    n = f->overdue ? inflow_frame_for_overdue(f, bytes, room) : 0;
    pthread_mutex_unlock(&f->lock);
    return n;
}

void inflow_encrypting(uint64_t connection, const uint8_t *bytes, size_t len)
{
    struct flow *f = lock_flow(connection);

    if (f == NULL)
        return;
    f->meter.mark = inflow_age_mark();
    meter_sent(&f->meter, bytes, len);
    settle(f);
    pthread_mutex_unlock(&f->lock);
}

/* ---- the life of a connection ---- */

void inflow_adopt(int fd, const struct sockaddr *peer)
{
    struct flow *f = inflow_flow(fd);
    int highest = atomic_load(&inflow.highest);

    if (f == NULL) {
        f = calloc(1, sizeof *f);
        if (f == NULL)
            abort();
        pthread_mutex_init(&f->lock, NULL);
        atomic_store_explicit(&inflow.flows[fd], f, memory_order_release);
    }
    while (fd > highest && !atomic_compare_exchange_weak(&inflow.highest, &highest, fd))
        ;
    pthread_mutex_lock(&f->lock);
    meter_init(&f->meter, &inflow_options_now()->each);
    f->live = f->small = true; /* until its frames are seen */
    f->ending = f->overdue = false;
    f->unread = 0;
    f->frames = f->list_bytes = 0;
    f->serial++;
    atomic_store_explicit(&f->port, peer != NULL ? peers_port(peer) : 0, memory_order_relaxed);
    f->turn_bytes = 0;
    f->filled_ns = clock_now_ns();
    pthread_mutex_unlock(&f->lock);
}

void inflow_left(int fd)
{
    struct flow *f = inflow_flow(fd);

    pthread_mutex_lock(&f->lock);
    f->live = f->paused = false;
    meter_clear(&f->meter);
    settle(f);
    pthread_mutex_unlock(&f->lock);
}
