/* The one list of backends: a new one is a folder and a line here. */
#include "backends/backend.h"
#include "backends/dynamodb/dynamodb.h"
#include "backends/kafka/kafka.h"
#include "backends/memstore/memstore.h"
#include "backends/nats/nats.h"
#include "backends/postgres/postgres.h"
#include "backends/redis/redis.h"
#include "backends/s3/s3.h"

static const struct backend_type *const backends[] = {
    &backend_dynamodb,
    &backend_jetstream,
    &backend_kafka,
    &backend_memstore,
    &backend_minio,
    &backend_nats,
    &backend_postgres,
    &backend_redis,
    &backend_redis_stream,
    &backend_s3,
    NULL,
};

const struct backend_type *const *backend_all(void)
{
    return backends;
}

const struct backend_type *backend_find(struct slice name)
{
    for (const struct backend_type *const *type = backends; *type != NULL; type++) {
        if (slice_equal(slice_str((*type)->name), name))
            return *type;
    }
    return NULL;
}
