#include "tests/contract/kafka_server.h"

#include "tests/contract/kv_contract.h"

#include <stdlib.h>

const char *kafka_server(void)
{
    return getenv("PRISM_TEST_KAFKA");
}

rd_kafka_t *kafka_client(rd_kafka_type_t type, const char *const *pairs)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *client;
    char why[256];

    assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", kafka_server(), why, sizeof why),
                     RD_KAFKA_CONF_OK);
    for (; pairs != NULL && pairs[0] != NULL; pairs += 2)
        assert_int_equal(rd_kafka_conf_set(conf, pairs[0], pairs[1], why, sizeof why),
                         RD_KAFKA_CONF_OK);
    client = rd_kafka_new(type, conf, why, sizeof why);
    assert_non_null(client);
    return client;
}

static bool is_usable(rd_kafka_t *client, const char *name, unsigned partitions)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
    const struct rd_kafka_metadata *metadata;
    bool usable = false;

    if (rd_kafka_metadata(client, 0, topic, &metadata, KV_PATIENCE_MS) ==
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        usable = metadata->topic_cnt == 1 && metadata->topics[0].partition_cnt == (int)partitions;
        for (int i = 0; usable && i < metadata->topics[0].partition_cnt; i++)
            usable = metadata->topics[0].partitions[i].leader >= 0;
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_topic_destroy(topic);
    return usable;
}

static void ask(rd_kafka_t *client, rd_kafka_queue_t *answer)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(answer, KV_PATIENCE_MS);

    (void)client;
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
}

void kafka_make_topic(const char *name, unsigned partitions, const char *const *settings)
{
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, (int)partitions, 1, NULL, 0);
    uint64_t give_up_ms = kv_clock_ms() + KV_PATIENCE_MS;

    for (; settings != NULL && settings[0] != NULL; settings += 2)
        rd_kafka_NewTopic_set_config(topic, settings[0], settings[1]);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, answer);
    ask(client, answer);
    while (!is_usable(client, name, partitions))
        assert_true(kv_clock_ms() < give_up_ms);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(answer);
    rd_kafka_destroy(client);
}

void kafka_delete_topic(const char *name)
{
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);

    rd_kafka_DeleteTopics(client, &topic, 1, NULL, answer);
    ask(client, answer);
    rd_kafka_DeleteTopic_destroy(topic);
    rd_kafka_queue_destroy(answer);
    rd_kafka_destroy(client);
}

void kafka_drop_before(const char *topic, int64_t offset)
{
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(client);
    rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
    rd_kafka_DeleteRecords_t *wanted;

    rd_kafka_topic_partition_list_add(before, topic, 0)->offset = offset;
    wanted = rd_kafka_DeleteRecords_new(before);
    rd_kafka_DeleteRecords(client, &wanted, 1, NULL, answer);
    ask(client, answer);
    rd_kafka_DeleteRecords_destroy(wanted);
    rd_kafka_topic_partition_list_destroy(before);
    rd_kafka_queue_destroy(answer);
    rd_kafka_destroy(client);
}
