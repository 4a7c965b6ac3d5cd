#include "src/base/address.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_HOST = 256, BACKLOG = 128 };

struct addrinfo *address_resolve(const char *address)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[MAX_HOST];
    const char *colon = strrchr(address, ':'), *start = address;
    size_t len;

    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return NULL;
    len = (size_t)(colon - address);
    if (len >= 2 && start[0] == '[' && start[len - 1] == ']') {
        start++;
        len -= 2;
    }
    memcpy(host, start, len);
    host[len] = '\0';
    if (getaddrinfo(len > 0 ? host : NULL, colon + 1, &hints, &found) != 0)
        return NULL;
    return found;
}

int address_bind(const struct addrinfo *to)
{
    const int on = 1, off = 0;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (to->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, to->ai_addr, to->ai_addrlen) == 0)
        return fd;

    int error = errno;

    close(fd);
    errno = error;
    return -1;
}

int address_listen(const char *address, const char **why)
{
    struct addrinfo *all = address_resolve(address);
    int fd = -1;

    *why = "the host's name is not known";
    for (const struct addrinfo *a = all; a != NULL && fd < 0; a = a->ai_next) {
        fd = address_bind(a);
        if (fd >= 0 && listen(fd, BACKLOG) != 0) { /* only now is a port of two owners noticed */
            close(fd);
            fd = -1;
        }
        if (fd < 0)
            *why = address_problem(errno);
    }
    if (all != NULL)
        freeaddrinfo(all);
    return fd;
}

static bool is_host(struct slice text)
{
    static const char allowed[] = ".-_:%";

    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!letter && (c == '\0' || strchr(allowed, c) == NULL))
            return false;
    }
    return text.len > 0;
}

/* Begins with the colon. */
static bool is_port(struct slice text)
{
    enum { DIGITS = 5, MOST = 65535 };
    unsigned port = 0;

    for (size_t i = 1; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text.data[i] - '0');
    }
    return text.data[0] == ':' && text.len <= 1 + DIGITS && port >= 1 && port <= MOST;
}

bool address_is_server(struct slice text)
{
    bool bracket = text.len > 0 && text.data[0] == '[';
    const uint8_t *end = text.len > 0 ? memchr(text.data, bracket ? ']' : ':', text.len) : NULL;
    size_t host = end != NULL ? (size_t)(end - text.data) : text.len, rest = host + bracket;

    if (bracket && end == NULL)
        return false;
    return is_host(slice_of(text.data + bracket, host - bracket)) &&
           (rest == text.len || is_port(slice_of(text.data + rest, text.len - rest)));
}

int address_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

const char *address_problem(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "another process uses this address";
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return "this machine has no such address";
    case EACCES:
    case EPERM:
        return "this user may not use this port";
    case EMFILE:
    case ENFILE:
        return "there are no descriptors left";
    default:
        return "the system refuses it";
    }
}
