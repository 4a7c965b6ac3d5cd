/* The Kafka broker that the rig has started, as a client of one's own sees it. */
#ifndef PRISM_TESTS_CONTRACT_KAFKA_SERVER_H
#define PRISM_TESTS_CONTRACT_KAFKA_SERVER_H

#include <librdkafka/rdkafka.h>
#include <stdint.h>

/* HOST:PORT; NULL: there is none, and the test is skipped. */
const char *kafka_server(void);

/* A client with the library's defaults, and what is given: name, value, .., NULL. */
rd_kafka_t *kafka_client(rd_kafka_type_t type, const char *const *pairs);

/* Returns when the topic can be used. settings: name, value, .., NULL; may be NULL. */
void kafka_make_topic(const char *name, unsigned partitions, const char *const *settings);
void kafka_delete_topic(const char *name);

/* Removes what is before the offset of partition 0. */
void kafka_drop_before(const char *topic, int64_t offset);

#endif
