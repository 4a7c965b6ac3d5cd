/* How many connections there may be.
 *
 * gRPC C core 1.51 stops listening for ever when accept4 fails for want of a descriptor, without a
 * sign. So accept4 never fails like that:
 *
 *  - Beyond max_connections, and beyond its share for one peer address, a connection is accepted
 *    and closed at once. Its client learns that it must go elsewhere; the listener stays awake.
 *  - One descriptor is kept in reserve. When the process has none left, it is given up for a moment
 *    to accept and close what waits, so that nothing spins on a listener that stays readable.
 *  - If not even that helps, gRPC is told that nothing waits, and looks again after RETRY_MS or
 *    when a connection ends.
 *  - After ACCEPTS in a row other descriptors have their turn, also with gRPC: a storm of
 *    connections does not stop the calls.
 *
 * max_connections is below the limit of descriptors by what backends, files and the admin port
 * need: who sets it sees to that (src/descriptors.h). */
#include "src/rpc/guard.h"

#include "src/base/log.h"
#include "src/rpc/guard_peers.h"
#include "src/rpc/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { ACCEPTS = 32, RETRY_MS = 100, MAX_LISTENERS = 16 };

static struct {
    struct guard_options options;
    pthread_mutex_t lock; /* of all below but the counters; never held across a call to gRPC */
    struct peers *peers;
    struct peer *peer_of[SOCKETS_MAX_FD]; /* NULL: not counted by its address */
    int spare;                            /* descriptor in reserve; -1: gone */
    int tired[MAX_LISTENERS]; /* 1 + listeners of which gRPC thinks that nothing waits; 0: free */
    unsigned in_a_row;        /* connections since the last real EAGAIN */
    _Atomic bool starved;     /* no descriptors: `tired` holds the listeners */
    _Atomic uint64_t connections, refused[GUARD_REFUSALS];
    struct log_budget refusals;
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER, .spare = -1, .refusals = LOG_BUDGET(3, 10000)};

static const char *const refusal_names[GUARD_REFUSALS] = {
    [GUARD_REFUSED_CONNECTIONS] = "limits.max_connections",
    [GUARD_REFUSED_PEER] = "limits.max_connections_per_peer",
    [GUARD_REFUSED_DESCRIPTORS] = "no descriptors are left"};

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void guard_init(const struct guard_options *options)
{
    pthread_mutex_lock(&guard.lock);
    guard.options = *options;
    if (guard.peers == NULL)
        guard.peers = peers_new();
    if (guard.spare < 0)
        guard.spare = open_spare();
    pthread_mutex_unlock(&guard.lock);
}

bool guard_accepting(void)
{
    uint64_t most = guard.options.max_connections;

    return !atomic_load(&guard.starved) && (most == 0 || atomic_load(&guard.connections) < most);
}

struct guard_stats guard_stats(void)
{
    struct guard_stats stats = {.connections = atomic_load(&guard.connections),
                                .max_connections = guard.options.max_connections};

    for (int i = 0; i < GUARD_REFUSALS; i++)
        stats.refused[i] = atomic_load(&guard.refused[i]);
    return stats;
}

/* ---- refusals ---- */

static void count_refusal(enum guard_refusal why, const struct sockaddr *address)
{
    char peer[PEERS_TEXT];

    peers_name(address, peer);
    atomic_fetch_add(&guard.refused[why], 1);
    log_limited(&guard.refusals, LOG_WARN, "connection_refused",
                (const struct log_field[]){LOG_S("why", refusal_names[why]), LOG_S("peer", peer),
                                           LOG_U("connections", atomic_load(&guard.connections)),
                                           LOG_U("max_connections", guard.options.max_connections)},
                4);
}

/* The caller holds the lock. */
static bool admit(int fd, const struct sockaddr *address, enum guard_refusal *why)
{
    uint64_t most = guard.options.max_connections;
    bool counted = false;

    *why = GUARD_REFUSED_CONNECTIONS;
    if (fd >= SOCKETS_MAX_FD || (most > 0 && atomic_load(&guard.connections) >= most))
        return false;
    *why = GUARD_REFUSED_PEER;
    guard.peer_of[fd] = NULL;
    if (guard.peers != NULL)
        guard.peer_of[fd] =
            peers_enter(guard.peers, address, guard.options.max_connections_per_peer, &counted);
    if (counted && guard.peer_of[fd] == NULL)
        return false;
    atomic_fetch_add(&guard.connections, 1);
    return true;
}

static bool out_of_descriptors(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Accepts one with the descriptor in reserve, and closes it. The caller holds the lock. */
static bool turn_one_away(int listener)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    int fd;

    if (guard.spare < 0)
        return false;
    socket_next.close(guard.spare);
    fd = socket_next.accept4(listener, (struct sockaddr *)&from, &length, SOCK_CLOEXEC);
    if (fd >= 0) {
        count_refusal(GUARD_REFUSED_DESCRIPTORS, (const struct sockaddr *)&from);
        socket_next.close(fd);
    }
    guard.spare = open_spare();
    return fd >= 0;
}

/* ---- listeners that gRPC believes to be silent ---- */

/* The caller holds the lock. */
static void rest(int listener)
{
    atomic_store(&guard.starved, true);
    sockets_run_within(RETRY_MS);
    for (int i = 0; i < MAX_LISTENERS; i++) {
        if (guard.tired[i] == listener + 1)
            return;
        if (guard.tired[i] == 0) {
            guard.tired[i] = listener + 1;
            return;
        }
    }
}

static void wake_listeners(void)
{
    pthread_mutex_lock(&guard.lock);
    atomic_store(&guard.starved, false);
    if (guard.spare < 0)
        guard.spare = open_spare();
    for (int i = 0; i < MAX_LISTENERS; i++) {
        if (guard.tired[i] > 0)
            sockets_rearm(guard.tired[i] - 1);
        guard.tired[i] = 0;
    }
    pthread_mutex_unlock(&guard.lock);
}

void guard_listener_closed(int fd)
{
    pthread_mutex_lock(&guard.lock);
    for (int i = 0; i < MAX_LISTENERS; i++) {
        if (guard.tired[i] == fd + 1)
            guard.tired[i] = 0;
    }
    pthread_mutex_unlock(&guard.lock);
}

void guard_tick(void)
{
    if (atomic_load(&guard.starved))
        wake_listeners();
}

/* ---- accept4 ---- */

/* The caller holds the lock. Returns a connection that is admitted; -1: errno says why. */
/* Errors of the connection that would have been accepted. gRPC's core takes any error that it does
 * not know as the listener's end. */
static bool of_the_connection(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

static int accept_one(int listener, struct sockaddr_storage *from, socklen_t *length, int flags)
{
    while (guard.in_a_row++ < ACCEPTS || !sockets_rearm(listener)) {
        enum guard_refusal why;
        int fd;

        *length = sizeof *from;
        fd = socket_next.accept4(listener, (struct sockaddr *)from, length, flags);
        if (fd < 0 && out_of_descriptors(errno)) {
            if (turn_one_away(listener))
                continue;
            rest(listener);
            break;
        }
        if (fd < 0 && of_the_connection(errno))
            continue;
        if (fd < 0 || admit(fd, (const struct sockaddr *)from, &why))
            return fd;
        count_refusal(why, (const struct sockaddr *)from);
        socket_next.close(fd);
    }
    errno = EAGAIN;
    return -1;
}

int guard_accept(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t from_length;

    pthread_mutex_lock(&guard.lock);

    int fd = accept_one(listener, &from, &from_length, flags), error = errno;

    if (fd < 0)
        guard.in_a_row = 0;
    pthread_mutex_unlock(&guard.lock);
    if (fd >= 0 && address != NULL) {
        memcpy(address, &from, *length < from_length ? *length : from_length);
        *length = from_length;
    }
    errno = error;
    return fd;
}

/* ---- the life of a connection ---- */

void guard_closed(int fd)
{
    pthread_mutex_lock(&guard.lock);
    if (guard.peer_of[fd] != NULL)
        peers_leave(guard.peers, guard.peer_of[fd]);
    guard.peer_of[fd] = NULL;
    pthread_mutex_unlock(&guard.lock);
    atomic_fetch_sub(&guard.connections, 1);
    if (atomic_load(&guard.starved))
        wake_listeners();
}
