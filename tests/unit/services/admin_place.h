/* An admin endpoint on a free port with a thread that stands for the main loop, and HTTP by hand.
 */
#ifndef PRISM_TESTS_UNIT_SERVICES_ADMIN_PLACE_H
#define PRISM_TESTS_UNIT_SERVICES_ADMIN_PLACE_H

#include "src/services/admin.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWER_BYTES = 1 << 20 };

/* ---- fixture: an endpoint on a free port, and a thread that stands for the main loop ---- */

struct loop {
    struct admin *admin;
    pthread_t thread;
    int stop_fd;
    _Atomic unsigned turns;
};

static inline void *run_loop(void *arg)
{
    struct loop *loop = arg;
    struct pollfd fds[] = {{.fd = admin_fd(loop->admin), .events = POLLIN},
                           {.fd = loop->stop_fd, .events = POLLIN}};

    while (fds[1].revents == 0) {
        int wait_ms = admin_run(loop->admin);

        atomic_fetch_add(&loop->turns, 1);
        poll(fds, 2, wait_ms);
    }
    return NULL;
}

static inline void loop_start(struct loop *loop, struct admin *admin)
{
    loop->admin = admin;
    loop->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&loop->thread, NULL, run_loop, loop), 0);
}

static inline void loop_stop(struct loop *loop)
{
    uint64_t one = 1;

    assert_int_equal(write(loop->stop_fd, &one, sizeof one), sizeof one);
    pthread_join(loop->thread, NULL);
    close(loop->stop_fd);
    admin_stop(loop->admin);
}

struct place {
    struct admin *admin;
    struct loop loop;
    struct metrics_source sources[2];
    _Atomic bool ready;
    _Atomic unsigned scrapes;
    char answer[ANSWER_BYTES];
};

static inline void render_one(void *arg, struct metrics_page *page)
{
    struct place *p = arg;

    metrics_sample_u64(page, "test_scrapes", NULL, atomic_fetch_add(&p->scrapes, 1) + 1);
}

static inline void render_much(void *arg, struct metrics_page *page)
{
    (void)arg;
    for (uint64_t i = 0; i < 3000; i++)
        metrics_sample_u64(page, "test_line", NULL, i);
}

static inline bool is_ready(void *arg, struct readiness *reasons)
{
    struct place *p = arg;

    if (atomic_load(&p->ready))
        return true;
    readiness_add(reasons, "keyvalue/default/primary (redis): no \"connection\"\n\\o/");
    readiness_add(reasons, "the listener is not serving");
    return false;
}

static inline struct admin_options options_of(struct place *p, const char *listen)
{
    return (struct admin_options){.listen = listen,
                                  .sources = p->sources,
                                  .source_count = 2,
                                  .ready = is_ready,
                                  .ready_arg = p};
}

static inline int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct admin_options options;

    if (p == NULL)
        return -1;
    p->sources[0] = (struct metrics_source){render_one, p};
    p->sources[1] = (struct metrics_source){render_much, NULL};
    options = options_of(p, "127.0.0.1:0");
    *state = p;
    if (admin_start(&p->admin, &options).code != ERR_OK)
        return -1;
    loop_start(&p->loop, p->admin);
    return 0;
}

static inline int teardown(void **state)
{
    struct place *p = *state;

    loop_stop(&p->loop);
    free(p);
    return 0;
}

/* ---- helpers: HTTP by hand ---- */

static inline int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static inline void send_all(int fd, const char *text)
{
    /* The endpoint may hang up before it has read all. */
    for (size_t len = strlen(text); len > 0;) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* Until the peer closes. */
static inline const char *read_all(struct place *p, int fd)
{
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, p->answer + len, sizeof p->answer - 1 - len, 0)) > 0)
        len += (size_t)n;
    p->answer[len] = '\0';
    close(fd);
    return p->answer;
}

static inline const char *ask(struct place *p, const char *request)
{
    int fd = connect_to(admin_port(p->admin));

    send_all(fd, request);
    return read_all(p, fd);
}

static inline const char *get(struct place *p, const char *path)
{
    char request[256];

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             path);
    return ask(p, request);
}

static inline void assert_status(const char *answer, int status)
{
    int found = 0;

    if (sscanf(answer, "HTTP/1.%*d %d", &found) != 1 || found != status)
        fail_msg("expected %d, got: %.200s", status, answer);
}

static inline const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

#endif
