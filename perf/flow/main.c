/* See flow.h. */
#include "perf/flow/flow.h"

#include "perf/common/begin.h"
#include "perf/common/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    flow_way *way;
} ways[] = {
    {"publish-prism", flow_publish_prism},
    {"consume-prism", flow_consume_prism},
    {"consume-prism-named", flow_consume_named},
    {"consume-prism-single", flow_consume_single},
    {"consume-prism-key", flow_consume_key},
    {"pass-prism", flow_pass_prism},
    {"pass-echo", flow_pass_echo},
    {"publish-kafka", flow_publish_kafka},
    {"publish-kafka-keys", flow_publish_kafka_keys},
    {"consume-kafka", flow_consume_kafka},
    {"publish-nats", flow_publish_nats},
    {"publish-jetstream", flow_publish_jetstream},
    {"consume-jetstream", flow_consume_jetstream},
    {"publish-redis", flow_publish_redis},
    {"consume-redis", flow_consume_redis},
    {"copy", flow_copy},
    {"pass-single", flow_pass_single},
    {"pass-few", flow_pass_few},
};

void flow_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void begin(struct flow *flow)
{
    begin_measuring();
    flow->begun = true;
    flow->began_ns = clock_now_ns();
    flow->began_cpu_ns = clock_own_cpu_ns();
}

static void end(const struct flow *flow)
{
    double n = (double)(flow->done - flow->warmup);

    printf("messages %.0f seconds %.6f cpu_us_per_message %.4f\n", n,
           (double)(clock_now_ns() - flow->began_ns) / 1e9,
           (double)(clock_own_cpu_ns() - flow->began_cpu_ns) / 1e3 / n);
    fflush(stdout);
}

bool flow_over(const struct flow *flow)
{
    return flow->done >= flow->warmup + flow->count;
}

void flow_done(struct flow *flow, uint64_t n)
{
    bool was_over = flow_over(flow);

    flow->done += n;
    if (!flow->begun && flow->done >= flow->warmup)
        begin(flow);
    if (!was_over && flow_over(flow))
        end(flow);
}

uint64_t flow_room(const struct flow *flow, uint64_t started)
{
    return (flow->begun ? flow->warmup + flow->count : flow->warmup) - started;
}

int main(int argc, char **argv)
{
    struct flow flow = {0};
    size_t i = 0;

    if (argc != 5)
        flow_die("usage: prism-flow WAY ADDRESS TOPIC COUNT");
    flow.address = argv[2];
    flow.topic = argv[3];
    flow.count = strtoull(argv[4], NULL, 10) / FLOW_FRAME * FLOW_FRAME;
    flow.warmup = flow.count / 5 / FLOW_FRAME * FLOW_FRAME;
    while (i < sizeof ways / sizeof ways[0] && strcmp(ways[i].name, argv[1]) != 0)
        i++;
    if (i == sizeof ways / sizeof ways[0] || flow.warmup == 0)
        flow_die("prism-flow: no way %s, or too few messages", argv[1]);
    ways[i].way(&flow);
    return flow_over(&flow) ? 0 : 1;
}
