#include "src/base/log.h"

#include "src/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- fixture: the sink is a pipe; `text` is what came out of it ---- */

struct capture {
    int fds[2];
    char text[1 << 16];
};

static int setup(void **state)
{
    struct capture *c = calloc(1, sizeof *c);

    if (c == NULL || pipe2(c->fds, O_NONBLOCK) != 0)
        return -1;
    log_configure(LOG_INFO, c->fds[1]);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct capture *c = *state;

    log_configure(LOG_INFO, STDERR_FILENO);
    close(c->fds[0]);
    close(c->fds[1]);
    free(c);
    return 0;
}

static const char *captured(struct capture *c)
{
    ssize_t n = read(c->fds[0], c->text, sizeof c->text - 1);

    c->text[n > 0 ? n : 0] = '\0';
    return c->text;
}

/* What follows the time stamp. */
static const char *body(struct capture *c)
{
    const char *text = strstr(captured(c), ",\"level\":");

    assert_non_null(text);
    return text;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);

    return len >= n && memcmp(text + len - n, end, n) == 0;
}

static size_t occurrences(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
}

/* ---- tests ---- */

static void test_line(void **state)
{
    log_event(LOG_WARN, "backend_down", LOG_S("backend", "redis"), LOG_I("delta", -3),
              LOG_U("port", 6379), LOG_F("ratio", 0.5), LOG_T("retry", true), LOG_S("why", NULL),
              LOG_B("key", slice_of("a\0b", 3)));
    assert_string_equal(
        body(*state),
        ",\"level\":\"warn\",\"event\":\"backend_down\",\"backend\":\"redis\",\"delta\":-3,"
        "\"port\":6379,\"ratio\":0.5,\"retry\":true,\"why\":null,\"key\":\"a\\u0000b\"}\n");
}

static void test_no_fields(void **state)
{
    log_write(LOG_ERROR, "stop", NULL, 0);
    assert_string_equal(body(*state), ",\"level\":\"error\",\"event\":\"stop\"}\n");
}

static int64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void test_time_is_now_in_utc(void **state)
{
    int64_t before = unix_ms() - 1;

    log_write(LOG_INFO, "x", NULL, 0);
    int64_t after = unix_ms() + 1;
    struct tm tm = {0};
    int ms = -1;

    assert_int_equal(sscanf(captured(*state), "{\"time\":\"%4d-%2d-%2dT%2d:%2d:%2d.%3dZ\"",
                            &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
                            &tm.tm_sec, &ms),
                     7);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int64_t stamp = (int64_t)timegm(&tm) * 1000 + ms;

    assert_true(stamp >= before && stamp <= after);
}

static void test_escapes(void **state)
{
    log_event(LOG_INFO, "x",
              LOG_S("t", "q\" b\\ n\n r\r t\t \x01 \x1f \x7f \xc3\xbc \xff \xed\xa0\x80"));
    assert_string_equal(
        body(*state),
        ",\"level\":\"info\",\"event\":\"x\",\"t\":\"q\\\" b\\\\ n\\n r\\r t\\t \\u0001 \\u001f "
        "\x7f \xc3\xbc \\u00ff \\u00ed\\u00a0\\u0080\"}\n");
}

static void test_numbers(void **state)
{
    log_event(LOG_INFO, "x", LOG_I("min", INT64_MIN), LOG_U("max", UINT64_MAX),
              LOG_F("nan", __builtin_nan("")), LOG_F("inf", __builtin_inf()), LOG_F("big", 1e300));
    assert_string_equal(body(*state),
                        ",\"level\":\"info\",\"event\":\"x\",\"min\":-9223372036854775808,"
                        "\"max\":18446744073709551615,\"nan\":null,\"inf\":null,\"big\":1e+300}\n");
}

static void test_threshold(void **state)
{
    struct capture *c = *state;

    log_write(LOG_DEBUG, "hidden", NULL, 0);
    assert_string_equal(captured(c), "");
    log_configure(LOG_DEBUG, c->fds[1]);
    log_write(LOG_DEBUG, "shown", NULL, 0);
    assert_non_null(strstr(captured(c), "\"event\":\"shown\""));
    log_configure(LOG_OFF, c->fds[1]);
    log_write(LOG_ERROR, "hidden", NULL, 0);
    log_write(LOG_OFF, "hidden", NULL, 0);
    assert_string_equal(captured(c), "");
    assert_false(log_enabled(LOG_ERROR));
    assert_false(log_enabled(LOG_OFF));
}

static void test_level_names(void **state)
{
    (void)state;
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    enum log_level level;

    for (int i = 0; i < 5; i++) {
        assert_true(log_level_parse(slice_str(names[i]), &level));
        assert_int_equal(level, i);
    }
    level = LOG_WARN;
    assert_false(log_level_parse(slice_str("warning"), &level));
    assert_false(log_level_parse(slice_str(""), &level));
    assert_false(log_level_parse(slice_str("INFO"), &level));
    assert_int_equal(level, LOG_WARN);
}

/* Whatever the field, the line stays one valid object of at most 4096 bytes. Lengths run over the
 * edge byte by byte, with characters of one to four bytes. */
static void test_long_text_is_cut(void **state)
{
    static const struct {
        const char *raw, *shown;
    } chars[] = {
        {"q", "q"},
        {"\n", "\\n"},
        {"\xff", "\\u00ff"},
        {"\xc3\xbc", "\xc3\xbc"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    };
    struct capture *c = *state;
    char text[4200];

    for (size_t k = 0; k < sizeof chars / sizeof chars[0]; k++) {
        for (size_t len = 3850; len < 4100; len++) {
            size_t n = 0, width = strlen(chars[k].raw);

            memset(text, 'x', len % width);
            for (n = len % width; n + width <= len; n += width)
                memcpy(text + n, chars[k].raw, width);
            text[n] = '\0';
            log_event(LOG_INFO, "x", LOG_S("t", text), LOG_U("after", 7));

            const char *line = captured(c);
            size_t bytes = strlen(line);

            assert_true(bytes <= 4096);
            if (occurrences(line, chars[k].shown) < len / width)
                assert_non_null(strstr(line, "\"truncated\":true"));
            if (strstr(line, "truncated") != NULL)
                assert_true(ends_with(line, "\",\"truncated\":true}\n") ||
                            ends_with(line, "\",\"after\":7,\"truncated\":true}\n"));
            else
                assert_true(ends_with(line, "\",\"after\":7}\n"));
        }
    }
}

/* A field that does not fit is missing, a smaller one behind it may fit: the line says so all the
 * same. */
static void test_missing_field_is_told(void **state)
{
    struct capture *c = *state;
    char text[4000];
    size_t only_small = 0;

    for (size_t len = 3800; len < 3950; len++) {
        memset(text, 'q', len);
        text[len] = '\0';
        log_event(LOG_INFO, "x", LOG_S("t", text), LOG_U("large", UINT64_MAX), LOG_U("z", 1));

        const char *line = captured(c);
        bool large = strstr(line, "\"large\":18446744073709551615") != NULL;
        bool small = strstr(line, "\"z\":1") != NULL;

        assert_int_equal(strstr(line, "\"truncated\":true}\n") == NULL, large && small);
        only_small += small && !large;
    }
    assert_true(only_small > 5);
}

static void test_too_long_for_everything(void **state)
{
    char *text = malloc(100001);
    struct log_field fields[200];

    memset(text, 'y', 100000);
    text[100000] = '\0';
    for (size_t i = 0; i < 200; i++)
        fields[i] = LOG_U("number_with_a_rather_long_name", UINT64_MAX);
    log_write(LOG_INFO, text, fields, 200);
    log_write(LOG_INFO, "many", fields, 200);

    char *line = strdup(captured(*state));
    char *second = strchr(line, '\n') + 1;

    assert_true(second - line <= 4096);
    assert_true(strlen(second) <= 4096);
    assert_true(ends_with(second, "18446744073709551615,\"truncated\":true}\n"));
    *second = '\0';
    assert_true(ends_with(line, "yyy\",\"truncated\":true}\n"));
    free(line);
    free(text);
}

static void test_errno_is_kept_and_closed_sink_is_no_harm(void **state)
{
    (void)state;
    log_configure(LOG_INFO, -1);
    errno = 4711;
    log_write(LOG_ERROR, "x", NULL, 0);
    assert_int_equal(errno, 4711);
}

static void test_budget(void **state)
{
    struct capture *c = *state;
    struct log_budget budget = LOG_BUDGET(3, 3600 * 1000);
    int written = 0;

    for (int i = 0; i < 10; i++)
        written += log_limited(&budget, LOG_WARN, "limited", NULL, 0);
    assert_int_equal(written, 3);
    assert_null(strstr(captured(c), "suppressed"));

    /* An hour later, as the budget sees it: one more line, and it says what is missing. */
    budget.tokens_at_ns -= 3600 * NS_PER_S;
    assert_true(log_limited(&budget, LOG_WARN, "limited", NULL, 0));
    assert_false(log_limited(&budget, LOG_WARN, "limited", NULL, 0));
    assert_non_null(strstr(captured(c), ",\"suppressed\":7}\n"));
    assert_int_equal(budget.suppressed, 1);
}

static void test_budget_zero_and_threshold(void **state)
{
    struct log_budget none = LOG_BUDGET(0, 3600 * 1000); /* at least the first line is written */
    struct log_budget free_flow = LOG_BUDGET(1, 0);
    struct log_budget quiet = LOG_BUDGET(1, 3600 * 1000);

    (void)state;
    assert_true(log_limited(&none, LOG_WARN, "x", NULL, 0));
    assert_false(log_limited(&none, LOG_WARN, "x", NULL, 0));
    for (int i = 0; i < 100; i++)
        assert_true(log_limited(&free_flow, LOG_WARN, "x", NULL, 0));
    assert_false(
        log_limited(&quiet, LOG_DEBUG, "x", NULL, 0)); /* below the threshold: costs no budget */
    assert_int_equal(quiet.suppressed, 0);
    assert_true(log_limited(&quiet, LOG_WARN, "x", NULL, 0));
}

enum { THREADS = 4, LINES = 500 };

static struct log_budget shared_budget = LOG_BUDGET(100, 3600 * 1000);

static void *hammer(void *arg)
{
    size_t *written = arg;

    for (int i = 0; i < LINES; i++)
        *written += log_limited(&shared_budget, LOG_INFO, "hammer", &LOG_U("i", (uint64_t)i), 1);
    return NULL;
}

static void test_threads_share_a_budget(void **state)
{
    pthread_t threads[THREADS];
    size_t written[THREADS] = {0}, sum = 0, lines = 0;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &written[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += written[i];
    }
    for (const char *p = captured(*state); (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(sum, 100);
    assert_int_equal(lines, 100);
    assert_int_equal(shared_budget.suppressed, THREADS * LINES - 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_line),
        TEST(test_no_fields),
        TEST(test_time_is_now_in_utc),
        TEST(test_escapes),
        TEST(test_numbers),
        TEST(test_threshold),
        TEST(test_level_names),
        TEST(test_long_text_is_cut),
        TEST(test_missing_field_is_told),
        TEST(test_too_long_for_everything),
        TEST(test_errno_is_kept_and_closed_sink_is_no_harm),
        TEST(test_budget),
        TEST(test_budget_zero_and_threshold),
        TEST(test_threads_share_a_budget),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
