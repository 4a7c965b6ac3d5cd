/* librdkafka as its manual recommends it for speed: idempotent, acks=all, batches of 100, reports
 * as events; the consumer takes batches and lets the library commit. Settings are those of prismd's
 * backend, where it has them. */
#include "perf/flow/flow.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

enum { IN_FLIGHT = 10000, TAKE = 1000, WAIT_MS = 60000, KEYS = 8192, KEY_BYTES = 16 };

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        flow_die("%s: %s", name, why);
}

static rd_kafka_t *make(rd_kafka_type_t type, rd_kafka_conf_t *conf, const struct flow *flow)
{
    char why[256];

    set(conf, "bootstrap.servers", flow->address);
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (rk == NULL)
        flow_die("%s", why);
    return rk;
}

/* ---- publish ---- */

/* number: of the first message. Keys take turns. */
static void produce(rd_kafka_topic_t *topic, char *payload, bool keys, uint64_t number)
{
    rd_kafka_message_t messages[FLOW_FRAME];
    char texts[FLOW_FRAME][KEY_BYTES];

    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < FLOW_FRAME; i++) {
        messages[i].payload = payload;
        messages[i].len = FLOW_MESSAGE_BYTES;
        if (!keys)
            continue;
        messages[i].key = texts[i];
        messages[i].key_len =
            (size_t)snprintf(texts[i], sizeof texts[i], "key-%u", (unsigned)((number + i) % KEYS));
    }
    if (rd_kafka_produce_batch(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, messages,
                               FLOW_FRAME) != FLOW_FRAME)
        flow_die("the library refused a message");
}

static void take_reports(struct flow *flow, rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    const rd_kafka_message_t *message;
    uint64_t n = 0;

    if (event == NULL)
        flow_die("no report");
    while (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR &&
           (message = rd_kafka_event_message_next(event)) != NULL) {
        if (message->err)
            flow_die("%s", rd_kafka_err2str(message->err));
        n++;
    }
    rd_kafka_event_destroy(event);
    flow_done(flow, n);
}

static void publish(struct flow *flow, bool keys)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char payload[FLOW_MESSAGE_BYTES];
    uint64_t sent = 0;

    memset(payload, 'p', sizeof payload);
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "5");
    set(conf, "queue.buffering.max.messages", "10000000");
    set(conf, "partitioner", "murmur2_random");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
    rd_kafka_t *rk = make(RD_KAFKA_PRODUCER, conf, flow);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, flow->topic, NULL);
    while (!flow_over(flow)) {
        while (flow_room(flow, sent) >= FLOW_FRAME && sent - flow->done < IN_FLIGHT) {
            produce(topic, payload, keys, sent);
            sent += FLOW_FRAME;
        }
        take_reports(flow, queue);
    }
}

void flow_publish_kafka(struct flow *flow)
{
    publish(flow, false);
}

void flow_publish_kafka_keys(struct flow *flow)
{
    publish(flow, true);
}

/* ---- consume ---- */

void flow_consume_kafka(struct flow *flow)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_message_t *messages[TAKE];
    const char *slash = strchr(flow->topic, '/');
    char topic[256];

    if (slash == NULL)
        flow_die("TOPIC/GROUP");
    snprintf(topic, sizeof topic, "%.*s", (int)(slash - flow->topic), flow->topic);
    set(conf, "group.id", slash + 1);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "auto.commit.interval.ms", "100");
    set(conf, "queued.min.messages", "10000000");
    set(conf, "queued.max.messages.kbytes", "16384");
    rd_kafka_t *rk = make(RD_KAFKA_CONSUMER, conf, flow);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, list))
        flow_die("subscribe");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    while (!flow_over(flow)) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 1000, messages, TAKE);

        for (ssize_t i = 0; i < n; i++) {
            if (messages[i]->err)
                flow_die("%s", rd_kafka_err2str(messages[i]->err));
            rd_kafka_message_destroy(messages[i]);
        }
        flow_done(flow, n > 0 ? (uint64_t)n : 0);
    }
}
