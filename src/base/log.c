/* One line is put together in a buffer on the stack and leaves by one write(2): lines of several
 * threads do not mix, and no line can exceed LINE_BYTES. What does not fit is cut at a character
 * and the line says "truncated":true, so that every line is valid JSON whatever a client made us
 * log. */
#include "src/base/log.h"

#include "src/base/clock.h"
#include "src/base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_BYTES = 4096, /* PIPE_BUF: one write to a pipe stays in one piece */
    TAIL_BYTES = 96    /* kept free for "suppressed", "truncated" and the closing brace */
};

struct line {
    char text[LINE_BYTES];
    size_t len;
    size_t room; /* len may grow up to here */
    bool cut;
};

/* The process has one standard error, hence one sink. Atomic because threads read it. */
static struct {
    _Atomic int threshold;
    _Atomic int fd;
    _Atomic uint64_t lost;
} sink = {.threshold = LOG_INFO, .fd = STDERR_FILENO};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void log_configure(enum log_level threshold, int fd)
{
    atomic_store_explicit(&sink.threshold, (int)threshold, memory_order_relaxed);
    atomic_store_explicit(&sink.fd, fd, memory_order_relaxed);
}

bool log_level_parse(struct slice name, enum log_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (slice_equal(name, slice_str(level_names[i]))) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return level < LOG_OFF &&
           (int)level >= atomic_load_explicit(&sink.threshold, memory_order_relaxed);
}

/* All or nothing. */
static bool put(struct line *line, const char *text, size_t len)
{
    if (line->room - line->len < len) {
        line->cut = true;
        return false;
    }
    memcpy(line->text + line->len, text, len);
    line->len += len;
    return true;
}

static bool put_str(struct line *line, const char *text)
{
    return put(line, text, strlen(text));
}

/* One character of a JSON string; `n` bytes, 0 = the first byte is no UTF-8. */
static bool put_char(struct line *line, const uint8_t *p, size_t n)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char escape[8] = {'\\'};

    if (n > 1)
        return put(line, (const char *)p, n);
    if (n == 1 && *p >= 0x20 && *p != '"' && *p != '\\')
        return put(line, (const char *)p, 1);
    for (size_t i = 0; n == 1 && short_forms[i] != '\0'; i += 2) {
        if (*p == (uint8_t)short_forms[i]) {
            escape[1] = short_forms[i + 1];
            return put(line, escape, 2);
        }
    }
    snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*p);
    return put(line, escape, 6);
}

/* Cut text still ends with its quote. */
static void put_text(struct line *line, struct slice text)
{
    if (line->room - line->len < 2) {
        line->cut = true;
        return;
    }
    put(line, "\"", 1);
    line->room--;
    while (text.len > 0) {
        size_t n = utf8_char_bytes(text);
        size_t step = n > 0 ? n : 1;

        if (!put_char(line, text.data, n))
            break;
        text = slice_of(text.data + step, text.len - step);
    }
    line->room++;
    put(line, "\"", 1);
}

static void put_float(struct line *line, double value)
{
    char number[40];

    if (!isfinite(value)) { /* JSON has no such number */
        put_str(line, "null");
        return;
    }
    snprintf(number, sizeof number, "%.15g", value);
    put_str(line, number);
}

static void put_value(struct line *line, const struct log_field *field)
{
    char number[24];

    switch (field->kind) {
    case LOG_TEXT:
        if (field->text == NULL)
            put_str(line, "null");
        else
            put_text(line, slice_str(field->text));
        break;
    case LOG_BYTES:
        put_text(line, field->bytes);
        break;
    case LOG_INT:
        snprintf(number, sizeof number, "%" PRId64, field->i);
        put_str(line, number);
        break;
    case LOG_UINT:
        snprintf(number, sizeof number, "%" PRIu64, field->u);
        put_str(line, number);
        break;
    case LOG_FLOAT:
        put_float(line, field->f);
        break;
    case LOG_BOOL:
        put_str(line, field->b ? "true" : "false");
        break;
    }
}

/* A field that does not fit leaves no trace, except text, which is cut. */
static void put_field(struct line *line, const struct log_field *field)
{
    size_t start = line->len;
    bool was_cut = line->cut;

    line->cut = false;
    put(line, ",", 1);
    put_text(line, slice_str(field->name));
    put(line, ":", 1);
    if (!line->cut) {
        size_t value = line->len;

        put_value(line, field);
        if (line->cut && line->len == value)
            line->len = start;
    } else {
        line->len = start;
    }
    line->cut |= was_cut;
}

static void put_head(struct line *line, enum log_level level, const char *event)
{
    struct timespec now;
    struct tm utc;
    char stamp[80];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    snprintf(stamp, sizeof stamp, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"level\":\"",
             utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
             (int)(now.tv_nsec / 1000000));
    put_str(line, stamp);
    put_str(line, level_names[level]);
    put_str(line, "\",\"event\":");
    put_text(line, slice_str(event));
}

/* A sink that is gone or full loses the line: logging must not stop the service, least of all the
 * poller. A line is at most PIPE_BUF bytes, so a pipe that poll() calls writable takes it whole;
 * one writer at a time keeps that true. A file is always called writable: there a slow disk is
 * waited for, by every thread that logs meanwhile. */
static void write_or_lose(int fd, const char *text, size_t len)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    struct pollfd sink_room = {.fd = fd, .events = POLLOUT};
    int saved = errno;
    ssize_t written = -1;

    pthread_mutex_lock(&turn);
    if (poll(&sink_room, 1, 0) == 1 && (sink_room.revents & POLLOUT) != 0)
        do
            written = write(fd, text, len);
        while (written < 0 && errno == EINTR);
    pthread_mutex_unlock(&turn);
    if (written != (ssize_t)len)
        atomic_fetch_add_explicit(&sink.lost, 1, memory_order_relaxed);
    errno = saved;
}

uint64_t log_lines_lost(void)
{
    return atomic_load_explicit(&sink.lost, memory_order_relaxed);
}

static void write_line(enum log_level level, const char *event, const struct log_field *fields,
                       unsigned n, uint64_t suppressed)
{
    struct line line;

    line.len = 0;
    line.room = LINE_BYTES - TAIL_BYTES;
    line.cut = false;
    put_head(&line, level, event);
    for (unsigned i = 0; i < n; i++)
        put_field(&line, &fields[i]);
    line.room = LINE_BYTES;
    if (suppressed > 0)
        put_field(&line, &LOG_U("suppressed", suppressed));
    if (line.cut)
        put_str(&line, ",\"truncated\":true");
    put_str(&line, "}\n");
    write_or_lose(atomic_load_explicit(&sink.fd, memory_order_relaxed), line.text, line.len);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, unsigned n)
{
    if (log_enabled(level))
        write_line(level, event, fields, n, 0);
}

/* The budget is kept as the time at which it would be whole again: each line moves that time by one
 * interval, and a line may be written while it is at most `burst` intervals ahead of now. */
static bool budget_take(struct log_budget *budget)
{
    uint64_t interval = budget->interval_ms * NS_PER_MS;
    uint64_t burst = budget->burst > 0 ? budget->burst : 1;
    uint64_t now = clock_now_ns();
    uint64_t whole_at = atomic_load_explicit(&budget->tokens_at_ns, memory_order_relaxed);

    for (;;) {
        uint64_t next = (whole_at > now ? whole_at : now) + interval;

        if (next - now > burst * interval)
            return false;
        if (atomic_compare_exchange_weak_explicit(&budget->tokens_at_ns, &whole_at, next,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

bool log_limited(struct log_budget *budget, enum log_level level, const char *event,
                 const struct log_field *fields, unsigned n)
{
    if (!log_enabled(level))
        return false;
    if (!budget_take(budget)) {
        atomic_fetch_add_explicit(&budget->suppressed, 1, memory_order_relaxed);
        return false;
    }
    write_line(level, event, fields, n,
               atomic_exchange_explicit(&budget->suppressed, 0, memory_order_relaxed));
    return true;
}
