/* The client library's configuration. */
#include "backends/kafka/kafka_priv.h"

#include <stdio.h>

enum { LEAST_SHARE_BYTES = 16 << 10, MOST_FETCH_BYTES = 1 << 20 /* the library's default */ };

/* A member hears that others come or go with its next heartbeat, however long its session is. */
enum { MOST_BEAT_MS = 3000 };

/* Of the library itself, by name. value NULL: the library's default stays. */
struct property {
    const char *name, *value;
};

static bool set_all(struct kafka_store *store, rd_kafka_conf_t *conf,
                    const struct property *properties, size_t n)
{
    char why[256];

    for (size_t i = 0; i < n; i++) {
        if (properties[i].value == NULL ||
            rd_kafka_conf_set(conf, properties[i].name, properties[i].value, why, sizeof why) ==
                RD_KAFKA_CONF_OK)
            continue;

        const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                           LOG_S("slot", store->base.slot),
                                           LOG_S("property", properties[i].name)};

        log_limited(&store->troubles, LOG_ERROR, "kafka_setting_refused", fields,
                    ARRAY_LEN(fields));
        return false;
    }
    return true;
}

struct number {
    char text[24];
};

static struct number number(uint64_t value)
{
    struct number out;

    snprintf(out.text, sizeof out.text, "%llu", (unsigned long long)value);
    return out;
}

/* thread: the library's. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    struct kafka_store *store = rd_kafka_opaque(rk);
    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot), LOG_S("facility", facility),
                                       LOG_S("text", text)};

    log_limited(&store->library, level <= 4 ? LOG_WARN : LOG_INFO, "kafka_library", fields,
                ARRAY_LEN(fields));
}

static bool set_common(struct kafka_store *store, rd_kafka_conf_t *conf)
{
    const struct kafka_config *config = &store->config;
    struct number dial = number(config->dial_timeout_ms);
    const char *protocol = config->tls ? (config->mechanism != NULL ? "SASL_SSL" : "SSL")
                                       : (config->mechanism != NULL ? "SASL_PLAINTEXT" : NULL);
    const struct property properties[] = {
        {"bootstrap.servers", config->brokers},
        {"client.id", "prism"},
        {"security.protocol", protocol},
        {"sasl.mechanisms", config->mechanism},
        {"ssl.ca.location", config->ca},
        {"ssl.certificate.location", config->cert},
        {"ssl.key.location", config->key},
        {"socket.connection.setup.timeout.ms", dial.text},
        {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},
        {"reconnect.backoff.ms", "100"},
        {"reconnect.backoff.max.ms", "2000"},
        {"allow.auto.create.topics", config->auto_create_topics ? "true" : "false"},
        {"topic.metadata.propagation.max.ms", config->auto_create_topics ? "10000" : "0"},
        {"log.connection.close", "false"},
    };
    bool good = set_all(store, conf, properties, ARRAY_LEN(properties));

    pthread_mutex_lock(&store->lock);

    const struct property login[] = {{"sasl.username", store->login.username},
                                     {"sasl.password", store->login.password}};

    good = good && (config->mechanism == NULL || set_all(store, conf, login, ARRAY_LEN(login)));
    pthread_mutex_unlock(&store->lock);
    rd_kafka_conf_set_opaque(conf, store);
    rd_kafka_conf_set_log_cb(conf, on_log);
    return good;
}

static rd_kafka_conf_t *made(rd_kafka_conf_t *conf, bool good)
{
    if (good)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

/* The library counts a message with more than its bytes, so its own bound never comes first. */
rd_kafka_conf_t *kafka_conf_producer(struct kafka_store *store)
{
    const struct kafka_config *config = &store->config;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool all = strcmp(config->acks, "all") == 0;
    struct number linger = number(config->linger_ms);
    struct number timeout = number(config->publish_timeout_ms);
    struct number kbytes = number(config->max_buffer_bytes / 1024 * 2);
    struct number message = number(config->max_message_bytes + 4096);
    struct number socket =
        number(config->publish_timeout_ms < 10000 ? config->publish_timeout_ms : 10000);
    const struct property properties[] = {
        {"enable.idempotence", all ? "true" : "false"},
        {"acks", config->acks},
        {"compression.type", config->compression},
        {"partitioner", config->partitioner},
        {"linger.ms", linger.text},
        {"message.timeout.ms", timeout.text},
        {"socket.timeout.ms", socket.text},
        {"queue.buffering.max.messages", "10000000"},
        {"queue.buffering.max.kbytes", kbytes.text},
        {"message.max.bytes", message.text},
    };
    bool good = set_common(store, conf) && set_all(store, conf, properties, ARRAY_LEN(properties));

    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return made(conf, good);
}

/* While a handle is closed, events are no longer read, and the library calls this instead. */
static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    rd_kafka_error_t *error = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
                                  ? rd_kafka_incremental_assign(rk, partitions)
                                  : rd_kafka_incremental_unassign(rk, partitions);

    (void)opaque;
    if (error != NULL)
        rd_kafka_error_destroy(error);
}

uint64_t kafka_share_bytes(uint64_t bytes, int partitions)
{
    uint64_t share = bytes / (2 * (uint64_t)(partitions > 0 ? partitions : 1));

    return share < LEAST_SHARE_BYTES ? LEAST_SHARE_BYTES : share;
}

/* queued.min.messages: a full queue puts the library's fetcher to sleep for a second, which is no
 * way to hold it back; only bytes bound it. They count for each queue, and each partition has one.
 *
 * fetch.wait.max.ms: a broker answers one fetch at a time, and a partition that was full is not in
 * it. If the others have nothing new, the full one is read empty meanwhile and then waits. */
rd_kafka_conf_t *kafka_conf_consumer(struct kafka_store *store, const char *group, uint64_t share)
{
    const struct kafka_config *config = &store->config;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct number session = number(config->session_timeout_ms);
    uint64_t beat_ms = config->session_timeout_ms / 5;
    struct number heartbeat = number(beat_ms < MOST_BEAT_MS ? beat_ms : MOST_BEAT_MS);
    struct number kbytes = number(share / 1024);
    struct number wait = number(config->fetch_wait_ms);
    struct number fetch = number(share < MOST_FETCH_BYTES ? share : MOST_FETCH_BYTES);
    const struct property properties[] = {
        {"group.id", group},
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"session.timeout.ms", session.text},
        {"heartbeat.interval.ms", heartbeat.text},
        {"queued.min.messages", "10000000"},
        {"queued.max.messages.kbytes", kbytes.text},
        {"max.partition.fetch.bytes", fetch.text},
        {"fetch.wait.max.ms", wait.text},
        {"fetch.error.backoff.ms", "100"},
        {"socket.timeout.ms", "10000"},
    };
    bool good = set_common(store, conf) && set_all(store, conf, properties, ARRAY_LEN(properties));

    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT |
                                       RD_KAFKA_EVENT_ERROR);
    return made(conf, good);
}
