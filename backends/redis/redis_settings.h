/* The settings of a slot: their places in the tables of both types of this folder. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_SETTINGS_H
#define PRISM_BACKENDS_REDIS_REDIS_SETTINGS_H

#include "backends/backend.h"
#include "backends/redis/redis_text.h"

enum redis_setting {
    SET_ADDRESS,
    SET_USERNAME,
    SET_PASSWORD,
    SET_DATABASE,
    SET_DB,
    SET_KEY_PREFIX,
    SET_TLS,
    SET_TLS_CA,
    SET_TLS_CERT,
    SET_TLS_KEY,
    SET_TLS_SERVER_NAME,
    SET_TLS_VERIFY,
    SET_SENTINEL_MASTER,
    SET_SENTINEL_USERNAME,
    SET_SENTINEL_PASSWORD,
    SET_CLUSTER,
    SET_CLUSTER_REFRESH,
    SET_DIAL_TIMEOUT,
    SET_COMMAND_TIMEOUT,
    SET_MAX_IN_FLIGHT,
    SET_MAX_BUFFER,
    SET_CONNECTION,                  /* so many are every type's */
    SET_PARTITIONS = SET_CONNECTION, /* of redis */
    SET_CLAIM_IDLE = SET_CONNECTION, /* of redis-stream: this and the rest */
    SET_MAX_LENGTH,
    SET_MAX_AGE,
    SET_TRIM_UNREAD,
    SET_QUEUE_MESSAGES,
    SET_QUEUE_BYTES,
    SET_QUEUE_AGE,
};

extern const struct backend_setting redis_settings[];
extern const struct backend_setting redis_stream_settings[]; /* begins with those */

/* As backend_type.descriptors: of one server, of a cluster, and of streams on one. */
struct backend_descriptors redis_descriptors(const struct backend_value *values);
struct backend_descriptors redis_cluster_descriptors(const struct backend_value *values);
struct backend_descriptors redis_stream_cluster_descriptors(const struct backend_value *values);

/* As backend_type.check. */
void redis_settings_check(const struct backend_value *values, struct backend_faults *faults);
void redis_stream_settings_check(const struct backend_value *values, struct backend_faults *faults);

bool redis_settings_cluster(const struct backend_value *values);

/* The address says rediss://, or `tls` does. */
bool redis_settings_tls(const struct redis_address *address, const struct backend_value *values);

#endif
