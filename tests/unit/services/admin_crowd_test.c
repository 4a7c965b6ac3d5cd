/* The admin endpoint among clients that mean no good, and many of them. */
#include "tests/unit/services/admin_place.h"

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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_oversized_requests),
        TEST(test_garbage),
        TEST(test_probes_are_answered_in_a_crowd),
        TEST(test_a_probe_may_ask_late),
        TEST(test_many_scrapers),
    };

    return cmocka_run_group_tests_name("admin, crowds", tests, NULL, NULL);
}
