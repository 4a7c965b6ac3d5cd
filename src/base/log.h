/* One JSON object a line on standard error: {"time":...,"level":"warn","event":"...", fields}. An
 * event is a fixed name in snake_case that can be searched for; what varies goes into fields.
 *
 * thread: any; a line is written by one write(2). Events that a client can provoke use log_limited.
 */
#ifndef PRISM_BASE_LOG_H
#define PRISM_BASE_LOG_H

#include "src/base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* Typed fields; the constructors below make them. Text is escaped, invalid UTF-8 is shown as \u00XX
 * of each byte. */
struct log_field {
    const char *name;
    enum { LOG_TEXT, LOG_BYTES, LOG_INT, LOG_UINT, LOG_FLOAT, LOG_BOOL } kind;
    union {
        const char *text; /* NULL is written as null */
        struct slice bytes;
        int64_t i;
        uint64_t u;
        double f;
        bool b;
    };
};

#define LOG_S(field, value) ((struct log_field){.name = (field), .kind = LOG_TEXT, .text = (value)})
#define LOG_B(field, value)                                                                        \
    ((struct log_field){.name = (field), .kind = LOG_BYTES, .bytes = (value)})
#define LOG_I(field, value) ((struct log_field){.name = (field), .kind = LOG_INT, .i = (value)})
#define LOG_U(field, value) ((struct log_field){.name = (field), .kind = LOG_UINT, .u = (value)})
#define LOG_F(field, value) ((struct log_field){.name = (field), .kind = LOG_FLOAT, .f = (value)})
#define LOG_T(field, value) ((struct log_field){.name = (field), .kind = LOG_BOOL, .b = (value)})

/* Process-wide threshold (default LOG_INFO) and sink (default 2). Set before threads start. */
void log_configure(enum log_level threshold, int fd);

/* "debug" "info" "warn" "error" "off"; false for anything else. */
bool log_level_parse(struct slice name, enum log_level *level);

bool log_enabled(enum log_level level);

/* Lines that the sink did not take: it was full, or gone. Nobody waits for it. */
uint64_t log_lines_lost(void);

void log_write(enum log_level level, const char *event, const struct log_field *fields, unsigned n);

#define log_event(level, event, ...)                                                               \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__},                           \
              (unsigned)(sizeof((struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field)))

/* A budget of lines for one kind of event: `burst` at once, then one more each `interval_ms`. Lines
 * not written are counted; the next one that is written carries the count as "suppressed". */
struct log_budget {
    uint32_t burst, interval_ms;
    _Atomic uint64_t tokens_at_ns; /* private */
    _Atomic uint64_t suppressed;   /* private */
};

#define LOG_BUDGET(burst_, interval_ms_)                                                           \
    {                                                                                              \
        .burst = (burst_), .interval_ms = (interval_ms_)                                           \
    }

/* As log_write, within the budget. Returns whether the line was written. */
bool log_limited(struct log_budget *budget, enum log_level level, const char *event,
                 const struct log_field *fields, unsigned n);

#endif
