/* Kafka against a real broker: the contract of streams. */
#include "backends/kafka/kafka.h"
#include "tests/contract/kafka_server.h"
#include "tests/contract/nats_fixture.h"

#include <stdio.h>

static void make_topic(struct message_fixture *fixture, const char *name, unsigned partitions)
{
    (void)fixture;
    kafka_make_topic(name, partitions, NULL);
}

static void drop_before(struct message_fixture *fixture, const char *topic, int64_t offset)
{
    (void)fixture;
    kafka_drop_before(topic, offset);
}

static int open_fixture(void **state)
{
    const char *const pairs[] = {"brokers", kafka_server(), NULL};
    struct nats_fixture *fixture = nats_fixture_open(&backend_kafka, pairs);
    static unsigned groups;

    nats_until(fixture, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    fixture->messages.make_topic = make_topic;
    fixture->messages.drop_before = drop_before;
    fixture->messages.patience_ms = 300;
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "g%u-", ++groups);
    *state = fixture;
    return 0;
}

int main(void)
{
    if (kafka_server() == NULL)
        return 77;
    return message_contract("kafka", open_fixture, nats_fixture_close) != 0;
}
