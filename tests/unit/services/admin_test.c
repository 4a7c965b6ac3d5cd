#include "src/services/admin.h"

#include <arpa/inet.h>
#include <dirent.h>
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

static void *run_loop(void *arg)
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

static void loop_start(struct loop *loop, struct admin *admin)
{
    loop->admin = admin;
    loop->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&loop->thread, NULL, run_loop, loop), 0);
}

static void loop_stop(struct loop *loop)
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

static void render_one(void *arg, struct metrics_page *page)
{
    struct place *p = arg;

    metrics_sample_u64(page, "test_scrapes", NULL, atomic_fetch_add(&p->scrapes, 1) + 1);
}

static void render_much(void *arg, struct metrics_page *page)
{
    (void)arg;
    for (uint64_t i = 0; i < 3000; i++)
        metrics_sample_u64(page, "test_line", NULL, i);
}

static bool is_ready(void *arg, struct readiness *reasons)
{
    struct place *p = arg;

    if (atomic_load(&p->ready))
        return true;
    readiness_add(reasons, "keyvalue/default/primary (redis): no \"connection\"\n\\o/");
    readiness_add(reasons, "the listener is not serving");
    return false;
}

static struct admin_options options_of(struct place *p, const char *listen)
{
    return (struct admin_options){.listen = listen,
                                  .sources = p->sources,
                                  .source_count = 2,
                                  .ready = is_ready,
                                  .ready_arg = p};
}

static int setup(void **state)
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

static int teardown(void **state)
{
    struct place *p = *state;

    loop_stop(&p->loop);
    free(p);
    return 0;
}

/* ---- helpers: HTTP by hand ---- */

static int connect_to(int port)
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

static void send_all(int fd, const char *text)
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
static const char *read_all(struct place *p, int fd)
{
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, p->answer + len, sizeof p->answer - 1 - len, 0)) > 0)
        len += (size_t)n;
    p->answer[len] = '\0';
    close(fd);
    return p->answer;
}

static const char *ask(struct place *p, const char *request)
{
    int fd = connect_to(admin_port(p->admin));

    send_all(fd, request);
    return read_all(p, fd);
}

static const char *get(struct place *p, const char *path)
{
    char request[256];

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             path);
    return ask(p, request);
}

static void assert_status(const char *answer, int status)
{
    int found = 0;

    if (sscanf(answer, "HTTP/1.%*d %d", &found) != 1 || found != status)
        fail_msg("expected %d, got: %.200s", status, answer);
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

/* ---- paths ---- */

static void test_healthz(void **state)
{
    const char *answer = get(*state, "/healthz");

    assert_status(answer, 200);
    assert_non_null(strstr(answer, "Content-Type: application/json\r\n"));
    assert_string_equal(body_of(answer), "{\"status\":\"healthy\"}");
}

static void test_readyz(void **state)
{
    struct place *p = *state;
    const char *answer = get(p, "/readyz");

    assert_status(answer, 503);
    assert_string_equal(
        body_of(answer),
        "{\"status\":\"not ready\",\"reasons\":[\"keyvalue/default/primary (redis): "
        "no \\\"connection\\\"\\u000a\\\\o/\",\"the listener is not serving\"]}");
    atomic_store(&p->ready, true);
    answer = get(p, "/readyz?verbose=1");
    assert_status(answer, 200);
    assert_string_equal(body_of(answer), "{\"status\":\"ready\"}");
}

static void test_metrics(void **state)
{
    struct place *p = *state;
    const char *answer = get(p, "/metrics");

    assert_status(answer, 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    const char *page = body_of(answer);

    assert_int_equal(strncmp(page, "test_scrapes 1\n", 15), 0); /* sources in their order */
    assert_string_equal(page + strlen(page) - 15, "test_line 2999\n");
    assert_int_equal(strncmp(body_of(get(p, "/metrics")), "test_scrapes 2\n", 15), 0);
}

static void test_other_paths_and_methods(void **state)
{
    struct place *p = *state;

    assert_status(get(p, "/"), 404);
    assert_status(get(p, "/metrics/"), 404);
    assert_status(get(p, "/../etc/passwd"), 404);
    static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"};

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char request[128];

        snprintf(request, sizeof request,
                 "%s /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", methods[i]);
        const char *answer = ask(p, request);

        assert_status(answer, 405);
        assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
    }
    assert_int_equal(atomic_load(&p->scrapes), 0);
}

static void test_head_has_no_body(void **state)
{
    const char *answer =
        ask(*state, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

    assert_status(answer, 200);
    assert_non_null(strstr(answer, "Content-Length: 20\r\n"));
    assert_string_equal(body_of(answer), "");
}

static void test_connection_is_kept(void **state)
{
    struct place *p = *state;
    const char *answer = ask(p, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                                "GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"
                                "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    size_t answers = 0;

    for (const char *at = answer; (at = strstr(at, "HTTP/1.1 ")) != NULL; at++)
        answers++;
    assert_int_equal(answers, 3);
}

/* ---- hostile clients ---- */

static void test_oversized_requests(void **state)
{
    struct place *p = *state;
    char *request = malloc(400000);

    assert_non_null(request);
    memset(request, 'a', 400000);
    memcpy(request, "GET /", 5);
    snprintf(request + 300000, 1000, " HTTP/1.1\r\nHost: x\r\n\r\n");
    const char *answer = ask(p, request);

    assert_true(answer[0] == '\0' || strncmp(answer, "HTTP/1.1 4", 10) == 0);

    int n = snprintf(request, 1000, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ");

    memset(request + n, 'b', 300000);
    snprintf(request + n + 300000, 1000, "\r\n\r\n");
    answer = ask(p, request);
    assert_true(answer[0] == '\0' || strncmp(answer, "HTTP/1.1 4", 10) == 0);
    assert_status(get(p, "/healthz"), 200);
    free(request);
}

static void test_garbage(void **state)
{
    struct place *p = *state;
    static const char *const texts[] = {
        "\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /healthz HTTP/9.9\r\n\r\n"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int fd = connect_to(admin_port(p->admin));

        send_all(fd, texts[i]);
        close(fd);
        assert_status(get(p, "/healthz"), 200);
    }
}

/* Three times as many clients as there are places, none of which ends its request. */
static void test_probes_are_answered_in_a_crowd(void **state)
{
    enum { CROWD = 200 };
    struct place *p = *state;
    int crowd[CROWD];
    unsigned open_still = 0;

    for (size_t i = 0; i < CROWD; i++) {
        crowd[i] = connect_to(admin_port(p->admin));
        send(crowd[i], "GET /healthz HT", 15, MSG_NOSIGNAL);
        if (i % 20 == 0) {
            assert_status(get(p, "/healthz"), 200);
            assert_status(get(p, "/readyz"), 503);
        }
    }
    for (size_t i = 0; i < CROWD; i++) /* a byte more: still not a request */
        send(crowd[i], "T", 1, MSG_NOSIGNAL);
    assert_status(get(p, "/healthz"), 200);
    for (size_t i = 0; i < CROWD; i++) {
        struct pollfd ended = {.fd = crowd[i], .events = POLLIN};

        open_still += poll(&ended, 1, 0) == 0;
        close(crowd[i]);
    }
    assert_in_range(open_still, 1, 64);
}

/* Runs the endpoint in this thread: while it has something to do, and until fd is readable. */
static void run_until_readable(struct admin *admin, int fd, int patience_ms)
{
    struct pollfd fds[] = {{.fd = admin_fd(admin), .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    while (poll(fds, 2, patience_ms) > 0 && fds[1].revents == 0)
        admin_run(admin);
}

/* A busy machine takes the processor from a probe that has connected and not asked yet, while each
 * of the others has sent a byte that was not read. */
static void test_a_probe_may_ask_late(void **state)
{
    enum { CROWD = 32 };
    struct place *p = *state;
    struct admin_options options = options_of(p, "127.0.0.1:0");
    struct admin *second;
    int crowd[CROWD], probe;

    assert_int_equal(admin_start(&second, &options).code, ERR_OK);
    for (size_t i = 0; i < CROWD; i++)
        crowd[i] = connect_to(admin_port(second));
    run_until_readable(second, -1, 0);
    for (size_t i = 0; i < CROWD; i++)
        send(crowd[i], "G", 1, MSG_NOSIGNAL);
    probe = connect_to(admin_port(second));
    run_until_readable(second, -1, 0);
    send_all(probe, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    run_until_readable(second, probe, 30000);
    admin_stop(second);
    assert_status(read_all(p, probe), 200);
    for (size_t i = 0; i < CROWD; i++)
        close(crowd[i]);
}

static void *scrape(void *arg)
{
    struct place *p = arg;
    char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer[4096];

    for (int i = 0; i < 20; i++) {
        int fd = connect_to(admin_port(p->admin));

        send_all(fd, request);
        while (recv(fd, answer, sizeof answer, 0) > 0)
            ;
        close(fd);
    }
    return NULL;
}

static void test_many_scrapers(void **state)
{
    struct place *p = *state;
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, scrape, p), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&p->scrapes), 80);
}

/* ---- life ---- */

static unsigned thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void test_no_thread_of_its_own(void **state)
{
    struct place *p = *state;
    struct admin_options options = options_of(p, "localhost:0");
    struct admin *second;
    unsigned before = thread_count();

    assert_int_equal(admin_start(&second, &options).code, ERR_OK);
    assert_int_equal(thread_count(), before);
    assert_int_not_equal(admin_port(second), 0);
    assert_int_not_equal(admin_port(second), admin_port(p->admin));
    assert_int_equal(admin_run(second), -1); /* nobody there: nothing to wake up for */
    admin_stop(second);
    admin_stop(NULL);
}

/* The loop sleeps while nobody asks, also after somebody has. */
static void test_idle_is_idle(void **state)
{
    struct place *p = *state;

    assert_status(get(p, "/healthz"), 200);
    unsigned before = atomic_load(&p->loop.turns);
    struct pollfd never = {.fd = p->loop.stop_fd, .events = POLLIN};

    poll(&never, 1, 300);
    assert_true(atomic_load(&p->loop.turns) - before <= 3);
}

static void test_ipv6(void **state)
{
    struct place *p = *state;
    struct admin_options options = options_of(p, "[::1]:0");
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct admin *second;
    struct loop loop = {.admin = NULL};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (fd >= 0)
            close(fd);
        skip(); /* a machine without IPv6 */
    }
    close(fd);
    assert_int_equal(admin_start(&second, &options).code, ERR_OK);
    loop_start(&loop, second);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    address.sin6_port = htons((uint16_t)admin_port(second));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    send_all(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_status(read_all(p, fd), 200);
    loop_stop(&loop);
}

static void test_refused_addresses(void **state)
{
    struct place *p = *state;
    char taken[64];
    const char *const addresses[] = {taken, "192.0.2.1:0", "127.0.0.1", "127.0.0.1:x",
                                     "no such host:1"};

    snprintf(taken, sizeof taken, "127.0.0.1:%d", admin_port(p->admin));
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct admin_options options = options_of(p, addresses[i]);
        struct admin *second = NULL;
        struct err err = admin_start(&second, &options);

        assert_int_equal(err.code, ERR_UNAVAILABLE);
        assert_string_equal(err.subject, "admin");
        assert_non_null(strstr(err.text, addresses[i]));
        assert_non_null(strstr(err.text, i == 0 ? "another process" : ""));
        admin_stop(second);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_healthz),
        TEST(test_readyz),
        TEST(test_metrics),
        TEST(test_other_paths_and_methods),
        TEST(test_head_has_no_body),
        TEST(test_connection_is_kept),
        TEST(test_oversized_requests),
        TEST(test_garbage),
        TEST(test_probes_are_answered_in_a_crowd),
        TEST(test_a_probe_may_ask_late),
        TEST(test_many_scrapers),
        TEST(test_no_thread_of_its_own),
        TEST(test_idle_is_idle),
        TEST(test_ipv6),
        TEST(test_refused_addresses),
    };

    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
