/* A server that gets no thread for its poller says so and can be stopped. The linker turns
 * pthread_create in our code into the one below (tests/CMakeLists.txt). */
#include "tests/unit/rpc/rpc_service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

typedef void *thread_main(void *arg);

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, thread_main *run, void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, thread_main *run, void *);

static bool no_threads;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, thread_main *run,
                          void *arg)
{
    return no_threads ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

struct scene {
    struct pool *pool;
    struct rpc_server *server;
};

static void fail_to_start(struct scene *s, const struct rpc_options *options)
{
    const struct service *services[] = {&service, &general};
    struct pool_options pool_options = {.workers = 1, .intake_depth = 64};
    sigset_t before, after;

    assert_int_equal(pool_start(&s->pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&s->server, options, s->pool, services, 2).code, ERR_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    no_threads = true;

    struct err err = rpc_server_start(s->server);

    no_threads = false;
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(err.code, ERR_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "thread"));
    for (int i = 1; i < NSIG; i++)
        assert_int_equal(sigismember(&after, i), sigismember(&before, i));
    assert_false(rpc_server_serving(s->server));
}

static void end(struct scene *s)
{
    rpc_server_stop(s->server);
    pool_stop(s->pool);
    rpc_server_destroy(s->server);
}

static void test_it_stops(void **state)
{
    struct rpc_options options = default_options();
    struct scene s;

    (void)state;
    fail_to_start(&s, &options);
    end(&s);
}

/* As src/server.c does it: drain first, whatever has happened; and slots are closed in between. */
static void count_visit(void *arg)
{
    ++*(int *)arg;
}

static void test_it_drains(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct scene s;
    int visits = 0;

    (void)state;
    fail_to_start(&s, &options);
    rpc_server_drain(s.server, 1000, &report, NULL, NULL);
    assert_int_equal(report.in_flight + report.finished + report.abandoned + report.refused, 0);
    rpc_server_on_poller(s.server, count_visit, &visits);
    assert_int_equal(visits, 1);
    end(&s);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* A client that was quick is let go, and the port is free for the next attempt. */
static void test_it_lets_go_of_its_port(void **state)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct rpc_options options = default_options();
    struct scene s;
    struct fixture f;
    char listen[64], byte;
    int fd, port;

    (void)state;
    fail_to_start(&s, &options);
    port = rpc_server_port(s.server);
    fd = connect_to(port);
    if (fd >= 0)
        assert_int_equal(send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL), sizeof hello - 1);
    end(&s);
    if (fd >= 0) {
        while (recv(fd, &byte, 1, 0) > 0)
            ;
        close(fd);
    }
    assert_int_equal(connect_to(port), -1);

    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    options.listen = listen;
    start(&f, &options, 1, 64);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_stops),
        cmocka_unit_test(test_it_drains),
        cmocka_unit_test(test_it_lets_go_of_its_port),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc without a thread", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
