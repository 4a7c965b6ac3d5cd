/* A sink that takes nothing: logging neither waits nor fails, the loss is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void test_full_pipe(void **state)
{
    int ends[2];
    char byte[4096];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    memset(byte, 'x', sizeof byte);
    while (write(ends[1], byte, sizeof byte) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0); /* as standard error is: a write would block */
    log_configure(LOG_INFO, ends[1]);
    log_event(LOG_INFO, "lost", LOG_U("n", 1)); /* returns: nobody reads the pipe */
    assert_int_equal(log_lines_lost(), 1);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while ((n = read(ends[0], byte, sizeof byte)) > 0)
        ;
    log_event(LOG_INFO, "kept", LOG_U("n", 2));
    n = read(ends[0], byte, sizeof byte - 1);
    assert_true(n > 0);
    byte[n] = '\0';
    assert_non_null(strstr(byte, "\"event\":\"kept\""));
    assert_int_equal(log_lines_lost(), 1);
    close(ends[0]);
    log_event(LOG_INFO, "gone", LOG_U("n", 3));
    assert_int_equal(log_lines_lost(), 2);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_full_pipe)};

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("log to a full sink", tests, NULL, NULL);
}
