/* gRPC's own log lines become ours: one JSON event a line, and not more of them than we want,
 * because clients can provoke them. With GRPC_VERBOSITY set, somebody wants to read them as gRPC
 * writes them. */
#include "src/rpc/rpc_priv.h"

#include "src/base/container.h"
#include "src/base/log.h"

#include <grpc/support/log.h>
#include <stdlib.h>

/* What gRPC calls an error is nearly always about one connection: a handshake that failed, a client
 * that pings too often. To the server as a whole that is a warning. */
static enum log_level level_of(gpr_log_severity severity)
{
    switch (severity) {
    case GPR_LOG_SEVERITY_DEBUG:
        return LOG_DEBUG;
    case GPR_LOG_SEVERITY_INFO:
        return LOG_INFO;
    case GPR_LOG_SEVERITY_ERROR:
        break;
    }
    return LOG_WARN;
}

static bool is_last_word(const char *message)
{
    static const char start[] = "assertion failed";

    return strncmp(message, start, sizeof start - 1) == 0;
}

/* thread: any of gRPC's, or one that called it. */
static void write_line(gpr_log_func_args *args)
{
    static struct log_budget budget = LOG_BUDGET(10, 1000); /* gRPC hands over nothing of ours */
    const struct log_field fields[] = {LOG_S("message", args->message), LOG_S("file", args->file),
                                       LOG_I("line", args->line)};

    if (is_last_word(args->message)) /* why it is going to abort: no budget for that */
        log_write(LOG_ERROR, "grpc", fields, ARRAY_LEN(fields));
    else
        log_limited(&budget, level_of(args->severity), "grpc", fields, ARRAY_LEN(fields));
}

void library_log_open(void)
{
    const char *verbosity = getenv("GRPC_VERBOSITY");

    if (verbosity == NULL || *verbosity == '\0')
        gpr_set_log_function(write_line);
}
