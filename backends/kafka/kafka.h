/* The kafka backend: streams on Apache Kafka by librdkafka. */
#ifndef PRISM_BACKENDS_KAFKA_KAFKA_H
#define PRISM_BACKENDS_KAFKA_KAFKA_H

#include "backends/backend.h"

extern const struct backend_type backend_kafka;

#endif
