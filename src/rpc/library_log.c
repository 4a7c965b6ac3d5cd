/* gRPC's own log lines become ours: one JSON event a line, and not more of them than we want,
 * because clients can provoke them. With GRPC_VERBOSITY set somebody wants to read them as they
 * are. */
#include "src/rpc/rpc_priv.h"

#include "src/base/log.h"

#include <grpc/support/log.h>
#include <stdlib.h>

static void write_line(gpr_log_func_args *args)
{
    static struct log_budget budget = LOG_BUDGET(10, 1000);

    log_limited(&budget, LOG_WARN, "grpc",
                (const struct log_field[]){LOG_S("message", args->message),
                                           LOG_S("file", args->file), LOG_I("line", args->line)},
                3);
}

void library_log_open(void)
{
    if (getenv("GRPC_VERBOSITY") == NULL)
        gpr_set_log_function(write_line);
}
