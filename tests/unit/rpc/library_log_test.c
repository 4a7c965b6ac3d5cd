/* What gRPC has to say arrives as events of ours, in measure, whatever provokes it. */
#include "tests/unit/rpc/rpc_service.h"

#include "src/base/log.h"

#include <fcntl.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <poll.h>
#include <unistd.h>

static int log_fds[2];

/* What was logged since the last call. */
static const char *logged(void)
{
    static char text[1 << 16];
    ssize_t n = read(log_fds[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int count(const char *text, const char *part)
{
    int n = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
}

static int open_log(void **state)
{
    (void)state;
    if (pipe2(log_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    log_configure(LOG_DEBUG, log_fds[1]);
    return 0;
}

static int close_log(void **state)
{
    (void)state;
    log_configure(LOG_INFO, STDERR_FILENO);
    close(log_fds[0]);
    return close(log_fds[1]);
}

/* rpc_server_start finds out by itself that an address is taken; here gRPC has to say it. */
static void fail_to_listen(const char *listen)
{
    grpc_server *server = grpc_server_create(NULL, NULL);
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();

    grpc_server_register_completion_queue(server, queue, NULL);
    assert_int_equal(grpc_server_add_http2_port(server, listen, credentials), 0);
    grpc_server_credentials_release(credentials);
    grpc_server_shutdown_and_notify(server, queue, NULL);
    assert_int_equal(
        grpc_completion_queue_pluck(queue, NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type,
        GRPC_OP_COMPLETE);
    grpc_server_destroy(server);
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue);
}

static void test_the_reason_is_an_event(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    const char *text;

    (void)state;
    start(&f, &options, 1, 64);
    logged();
    fail_to_listen(f.target);
    text = logged();
    assert_non_null(strstr(text, "\"level\":\"warn\",\"event\":\"grpc\",\"message\":\""));
    assert_non_null(strstr(text, "in use"));
    assert_non_null(strstr(text, "\"file\":\""));
    assert_non_null(strstr(text, "\"line\":"));
    stop(&f);
}

static void test_levels(void **state)
{
    const char *text;

    (void)state;
    logged();
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
    gpr_log(GPR_DEBUG, "one \"%d\"", 1);
    gpr_log(GPR_INFO, "two\n");
    gpr_log(GPR_ERROR, "three");
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    text = logged();
    assert_non_null(strstr(text, "\"debug\",\"event\":\"grpc\",\"message\":\"one \\\"1\\\"\""));
    assert_non_null(strstr(text, "\"info\",\"event\":\"grpc\",\"message\":\"two\\n\""));
    assert_non_null(strstr(text, "\"warn\",\"event\":\"grpc\",\"message\":\"three\""));
}

static void test_a_flood(void **state)
{
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;
    struct pollfd tick = {.fd = -1};
    const char *text;

    (void)state;
    logged();
    for (int i = 0; i < 1000; i++)
        gpr_log(GPR_ERROR, "flood");
    assert_in_range(count(logged(), "\n"), 0, 20);

    gpr_log(GPR_ERROR, "assertion failed: %s", "us"); /* as GPR_ASSERT does before it aborts */
    text = logged();
    assert_non_null(
        strstr(text, "\"error\",\"event\":\"grpc\",\"message\":\"assertion failed: us"));

    do { /* the next that may be written tells how many were not */
        assert_true(clock_now_ns() < end);
        poll(&tick, 1, 20);
        gpr_log(GPR_ERROR, "later");
        text = logged();
    } while (*text == '\0');
    assert_non_null(strstr(text, "\"suppressed\":"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reason_is_an_event),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_a_flood),
    };
    int failed;

    unsetenv("GRPC_VERBOSITY");
    grpc_init();
    failed = cmocka_run_group_tests_name("rpc library log", tests, open_log, close_log);
    grpc_shutdown();
    return failed;
}
