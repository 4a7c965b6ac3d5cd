#include "tests/client/breaking_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_HEADER = 9, PREFACE = 24, FRAME_DATA = 0 };

struct breaking_peer {
    int listener;
    pthread_t thread;
    atomic_uint requests;
};

static bool read_all(int fd, uint8_t *to, size_t n)
{
    while (n > 0) {
        ssize_t got = recv(fd, to, n, 0);

        if (got <= 0)
            return false;
        to += got;
        n -= (size_t)got;
    }
    return true;
}

/* Reads frames up to the first that carries data. */
static bool await_request(int fd)
{
    static const uint8_t settings[FRAME_HEADER] = {0, 0, 0, 4};
    uint8_t header[FRAME_HEADER], skipped[1 << 14], preface[PREFACE];

    if (send(fd, settings, sizeof settings, MSG_NOSIGNAL) != sizeof settings ||
        !read_all(fd, preface, PREFACE))
        return false;
    while (read_all(fd, header, FRAME_HEADER)) {
        size_t bytes = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];

        if (bytes > sizeof skipped || !read_all(fd, skipped, bytes))
            return false;
        if (header[3] == FRAME_DATA)
            return true;
    }
    return false;
}

static void *run(void *arg)
{
    struct breaking_peer *peer = arg;
    const struct linger reset = {.l_onoff = 1};
    int fd;

    while ((fd = accept(peer->listener, NULL, NULL)) >= 0) {
        if (await_request(fd))
            atomic_fetch_add(&peer->requests, 1);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    return NULL;
}

struct breaking_peer *breaking_peer_start(int port)
{
    struct breaking_peer *peer = calloc(1, sizeof *peer);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    assert(peer != NULL);
    peer->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert(peer->listener >= 0);
    setsockopt(peer->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(peer->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(peer->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(peer->listener, 16) != 0)
        abort();
    pthread_create(&peer->thread, NULL, run, peer);
    return peer;
}

unsigned breaking_peer_requests(struct breaking_peer *peer)
{
    return atomic_load(&peer->requests);
}

void breaking_peer_stop(struct breaking_peer *peer)
{
    shutdown(peer->listener, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->listener);
    free(peer);
}
