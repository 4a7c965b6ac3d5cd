#include "backends/redis/redis_link.h"

#include "backends/redis/redis_tls.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { KEEPALIVE_S = 15, KEEPALIVE_AGAIN_S = 5, KEEPALIVE_TIMES = 3 };

union address {
    struct sockaddr any;
    struct sockaddr_in ip4;
    struct sockaddr_in6 ip6;
    struct sockaddr_un path;
};

sds redis_link_buffer(void)
{
    sds s = sdsempty();

    if (s == NULL)
        abort();
    return s;
}

struct redis_link *redis_link_new(struct redis *redis)
{
    struct redis_link *link = calloc(1, sizeof *link);

    if (link == NULL || (link->reader = redisReaderCreate()) == NULL)
        abort();
    link->redis = redis;
    link->fd = -1;
    link->out = redis_link_buffer();
    return link;
}

void redis_link_close(struct redis_link *link)
{
    redis_tls_free(link->tls);
    redisReaderFree(link->reader);
    sdsfree(link->out);
    if (link->fd >= 0)
        close(link->fd);
    link->tls = NULL;
    link->reader = NULL;
    link->out = NULL;
    link->fd = -1;
}

static void note_errno(struct redis_link *link, int error)
{
    char text[64];

    snprintf(link->detail, sizeof link->detail, "%s", strerror_r(error, text, sizeof text));
}

static socklen_t address_of(union address *address, const char *at, uint16_t port)
{
    *address = (union address){.path = {.sun_family = AF_UNIX}};
    if (port == 0) {
        snprintf(address->path.sun_path, sizeof address->path.sun_path, "%s", at);
        return sizeof address->path;
    }
    if (uv_ip4_addr(at, port, &address->ip4) == 0)
        return sizeof address->ip4;
    uv_ip6_addr(at, port, &address->ip6);
    return sizeof address->ip6;
}

/* A server that has gone without a word is noticed also when nothing is asked of it. */
static void set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {{IPPROTO_TCP, TCP_NODELAY, 1},
                   {SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S},
                   {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_AGAIN_S},
                   {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TIMES}};

    for (unsigned i = 0; i < sizeof options / sizeof options[0]; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

bool redis_link_open(struct redis_link *link, const char *at, uint16_t port)
{
    union address address;
    socklen_t len = address_of(&address, at, port);

    link->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) {
        note_errno(link, errno);
        return false;
    }
    if (port != 0)
        set_options(link->fd);
    if (connect(link->fd, &address.any, len) == 0 || errno == EINPROGRESS)
        return true;
    note_errno(link, errno);
    return false;
}

static bool is_connected(struct redis_link *link)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0)
        return true;
    note_errno(link, error);
    return false;
}

static enum redis_link_step shake(struct redis_link *link)
{
    switch (redis_tls_shake(link->tls)) {
    case REDIS_TLS_DONE:
        return REDIS_LINK_UP;
    case REDIS_TLS_READS:
        return REDIS_LINK_READS;
    case REDIS_TLS_WRITES:
        return REDIS_LINK_WRITES;
    case REDIS_TLS_FAILED:
        link->problem = redis_tls_problem(link->tls, link->detail, sizeof link->detail);
        if (link->problem == NULL)
            snprintf(link->detail, sizeof link->detail, "hung up in the TLS handshake");
        break;
    }
    return REDIS_LINK_FAILED;
}

enum redis_link_step redis_link_connect(struct redis_link *link)
{
    if (!link->connected && !is_connected(link))
        return REDIS_LINK_FAILED;
    link->connected = true;
    return link->tls != NULL ? shake(link) : REDIS_LINK_UP;
}

static ssize_t ended(struct redis_link *link)
{
    if (link->tls != NULL)
        link->problem = redis_tls_problem(link->tls, link->detail, sizeof link->detail);
    else if (!link->heard)
        link->problem = "redis hung up before it answered: does it want TLS on this port?";
    if (link->detail[0] == '\0')
        snprintf(link->detail, sizeof link->detail, "the server closed the connection");
    return -1;
}

static ssize_t failed(struct redis_link *link, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK)
        return 0;
    note_errno(link, error);
    return ended(link);
}

ssize_t redis_link_read(struct redis_link *link, char *to, size_t room)
{
    ssize_t n;

    if (link->tls != NULL) {
        n = redis_tls_read(link->tls, to, room);
        return n < 0 ? ended(link) : n;
    }
    do
        n = recv(link->fd, to, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return ended(link);
    if (n < 0)
        return failed(link, errno);
    link->heard = true;
    link->problem = NULL;
    return n;
}

ssize_t redis_link_write(struct redis_link *link, const char *from, size_t bytes)
{
    ssize_t n;

    if (link->tls != NULL) {
        n = redis_tls_write(link->tls, from, bytes);
        return n < 0 ? ended(link) : n;
    }
    do
        n = send(link->fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failed(link, errno) : n;
}
