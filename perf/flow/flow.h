/* prism-flow: one flow of messages through prismd or through a broker's own client, for
 * prism-bench.
 *
 *   prism-flow WAY ADDRESS TOPIC COUNT
 *
 * Messages have 128 bytes, publishers send them in frames of 100 where the way has frames. A fifth
 * of COUNT goes first, unmeasured; then "begin" is printed and a line is awaited, COUNT messages
 * go, and one line is printed: messages N seconds S cpu_us_per_message C. Every message is
 * acknowledged before it counts; consumers settle what they read. Exit status 1, with the reason on
 * standard error, when anything is not as it must be. thread: main. */
#ifndef PRISM_PERF_FLOW_FLOW_H
#define PRISM_PERF_FLOW_FLOW_H

#include <stdbool.h>
#include <stdint.h>

enum { FLOW_MESSAGE_BYTES = 128, FLOW_FRAME = 100 };

struct flow {
    const char *address, *topic;
    uint64_t warmup, count; /* messages */
    uint64_t done;          /* acknowledged, or read and settled */
    uint64_t began_ns, began_cpu_ns;
    bool begun;
};

typedef void flow_way(struct flow *flow);

/* n more are done. Prints what is due when the warm-up or everything is over. */
void flow_done(struct flow *flow, uint64_t n);
/* All are done. */
bool flow_over(const struct flow *flow);
/* Messages that may still be started: a publisher stops at the end of the warm-up until all of it
 * is acknowledged. */
uint64_t flow_room(const struct flow *flow, uint64_t started);

__attribute__((format(printf, 1, 2), noreturn)) void flow_die(const char *format, ...);

flow_way flow_publish_prism, flow_consume_prism, flow_pass_prism;
flow_way flow_pass_echo, flow_pass_single, flow_pass_few, flow_copy;
flow_way flow_consume_named, flow_consume_single, flow_consume_key;
flow_way flow_publish_kafka, flow_publish_kafka_keys, flow_consume_kafka;
flow_way flow_publish_nats, flow_publish_jetstream, flow_consume_jetstream;
flow_way flow_publish_redis, flow_consume_redis;

#endif
