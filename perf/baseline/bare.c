/* Baseline: the least that a gRPC C-core server can do. Unary echo of /prism.bench.Echo/Unary,
 * answered inline: the request's byte buffer is sent back as it came, nothing is decoded, copied or
 * looked up. */
#include "perf/baseline/bare_server.h"
#include "perf/baseline/baseline.h"

#include <grpc/support/time.h>

static void echo(struct bare *bare, struct bare_call *call)
{
    (void)bare;
    bare_answer(call);
}

static void loop(struct bare *bare)
{
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);

    while (bare_step(bare, never) != BARE_OVER)
        ;
}

int main(int argc, char **argv)
{
    struct bare bare = {.method = "/prism.bench.Echo/Unary", .loop = loop, .serve = echo};

    return bare_run(&bare, baseline_port(argc, argv));
}
