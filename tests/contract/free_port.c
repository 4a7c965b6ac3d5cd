#include "tests/contract/free_port.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 10000, END = 32768 };

/* The claim is a name of its own, which the kernel frees with the process. -1: it is another's. */
static int claim(uint16_t port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "prism-test-port-%u", port);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        abort();
    if (bind(fd, (struct sockaddr *)&name, len) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;

    if (fd >= 0)
        close(fd);
    return bound;
}

uint16_t free_port(void)
{
    for (;;) {
        uint16_t port;
        int fd;

        if (getrandom(&port, sizeof port, 0) != sizeof port)
            abort();
        port = (uint16_t)(FIRST + port % (END - FIRST));
        fd = claim(port);
        if (fd >= 0 && is_free(port))
            return port;
        if (fd >= 0)
            close(fd);
    }
}
