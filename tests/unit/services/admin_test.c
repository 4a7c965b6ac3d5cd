#include "tests/unit/services/admin_place.h"

#include <dirent.h>

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
        TEST(test_no_thread_of_its_own),
        TEST(test_idle_is_idle),
        TEST(test_ipv6),
        TEST(test_refused_addresses),
    };

    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
