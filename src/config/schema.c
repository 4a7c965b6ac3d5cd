/* The keys of the file: which there are and where they go (facts.c: default, bounds, meaning). A
 * key that begins with a dot is ours: it carries what the tree knew and a file cannot say it. */
#include "src/config/config_priv.h"

#include "src/base/container.h"

#include <string.h>

/* ---- closed sets ---- */

static const struct cyaml_strval dispatch_names[] = {
    {"auto", CONFIG_DISPATCH_AUTO},
    {"ring", CONFIG_DISPATCH_RING},
};

static const struct cyaml_strval coalesce_names[] = {
    {"off", CONFIG_COALESCE_OFF},
    {"more", CONFIG_COALESCE_MORE},
    {"buffer", CONFIG_COALESCE_BUFFER},
};

static const struct cyaml_strval level_names[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN},
    {"error", LOG_ERROR}, {"off", LOG_OFF},
};

static const struct cyaml_strval switch_names[] = {
    {"enabled", true},
    {"disabled", false},
};

/* ---- sections; the words behind are those of struct raw_config ---- */

#define UINT(key, type, member) CYAML_FIELD_UINT(key, CYAML_FLAG_DEFAULT, type, member)
#define NAME(key, type, member, names)                                                             \
    CYAML_FIELD_ENUM(key, CYAML_FLAG_STRICT, type, member, names, ARRAY_LEN(names))
#define TEXT(key, flags, type, member)                                                             \
    CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, CONFIG_MAX_SCALAR)
#define MAYBE CYAML_FLAG_OPTIONAL

static const struct cyaml_schema_field limits_fields[] = {
    UINT("max_message_bytes", struct config_limits, max_message_bytes),
    UINT("max_inflight_calls", struct config_limits, max_inflight_calls),
    UINT("connection_share_percent", struct config_limits, connection_share_percent),
    UINT("max_general_streams", struct config_limits, max_general_streams),
    UINT("request_timeout_ms", struct config_limits, request_timeout_ms),
    UINT("unread_answer_ms", struct config_limits, unread_answer_ms),
    UINT("intake_depth", struct config_limits, intake_depth),
    UINT("max_inflight_bytes", struct config_limits, max_inflight_bytes),
    UINT("max_streams_per_connection", struct config_limits, max_streams_per_connection),
    UINT("transport_bytes", struct config_limits, transport_bytes),
    UINT("max_connections", struct config_limits, max_connections),
    UINT("max_connections_per_peer", struct config_limits, max_connections_per_peer),
    UINT("max_metadata_bytes", struct config_limits, max_metadata_bytes),
    CYAML_FIELD_END,
};

static const struct cyaml_schema_field keepalive_fields[] = {
    UINT("interval_ms", struct config_keepalive, interval_ms),
    UINT("timeout_ms", struct config_keepalive, timeout_ms),
    UINT("min_ping_interval_ms", struct config_keepalive, min_ping_interval_ms),
    CYAML_FIELD_END,
};

static const struct cyaml_schema_field connection_fields[] = {
    UINT("max_idle_ms", struct config_connection, max_idle_ms),
    UINT("max_age_ms", struct config_connection, max_age_ms),
    UINT("max_age_grace_ms", struct config_connection, max_age_grace_ms),
    CYAML_FIELD_END,
};

struct raw_log {
    enum log_level level;
};

static const struct cyaml_schema_field log_fields[] = {
    NAME("level", struct raw_log, level, level_names),
    CYAML_FIELD_END,
};

static const struct cyaml_schema_field tls_fields[] = {
    TEXT("cert", MAYBE, struct config_tls, cert),
    TEXT("key", MAYBE, struct config_tls, key),
    TEXT("client_ca", MAYBE, struct config_tls, client_ca),
    CYAML_FIELD_END,
};

/* ---- namespaces ---- */

static const struct cyaml_schema_field pair_fields[] = {
    TEXT(".name", CYAML_FLAG_DEFAULT, struct raw_pair, name),
    CYAML_FIELD_STRING_PTR(".value", CYAML_FLAG_DEFAULT, struct raw_pair, value, 0,
                           CONFIG_MAX_SCALAR),
    CYAML_FIELD_BOOL(".hidden", CYAML_FLAG_DEFAULT, struct raw_pair, hidden),
    CYAML_FIELD_END,
};

const struct cyaml_schema_value config_pair_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_pair, pair_fields),
};

static const struct cyaml_schema_value word_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, CONFIG_MAX_SCALAR),
};

static const struct cyaml_schema_field slot_fields[] = {
    TEXT(".name", CYAML_FLAG_DEFAULT, struct raw_slot, name),
    TEXT("backend", MAYBE, struct raw_slot, backend),
    CYAML_FIELD_SEQUENCE("config", CYAML_FLAG_POINTER | MAYBE, struct raw_slot, config,
                         &config_pair_schema, 0, WORDS_MAX),
    CYAML_FIELD_SEQUENCE("emulate", CYAML_FLAG_POINTER | MAYBE, struct raw_slot, emulate,
                         &word_schema, 0, 16),
    CYAML_FIELD_END,
};

const struct cyaml_schema_value config_slot_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_slot, slot_fields),
};

static const struct cyaml_schema_field namespace_fields[] = {
    UINT(".index", struct raw_namespace, index),
    TEXT("name", MAYBE, struct raw_namespace, name),
    TEXT("description", MAYBE, struct raw_namespace, description),
    TEXT("pattern", MAYBE, struct raw_namespace, pattern),
    CYAML_FIELD_SEQUENCE("slots", CYAML_FLAG_POINTER | MAYBE, struct raw_namespace, slots,
                         &config_slot_schema, 0, 4 * PATTERN_MAX_SLOTS),
    CYAML_FIELD_SEQUENCE("behavior", CYAML_FLAG_POINTER | MAYBE, struct raw_namespace, behavior,
                         &config_pair_schema, 0, WORDS_MAX),
    CYAML_FIELD_END,
};

static const struct cyaml_schema_value namespace_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_namespace, namespace_fields),
};

/* ---- root ---- */

static const struct cyaml_schema_field root_fields[] = {
    TEXT("listen", CYAML_FLAG_DEFAULT, struct raw_config, config.listen),
    TEXT("admin", CYAML_FLAG_DEFAULT, struct raw_config, config.admin),
    UINT("workers", struct raw_config, config.workers),
    NAME("dispatch", struct raw_config, config.dispatch, dispatch_names),
    NAME("coalesce", struct raw_config, config.coalesce, coalesce_names),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_DEFAULT, struct raw_config, config.limits,
                        limits_fields),
    CYAML_FIELD_MAPPING("keepalive", CYAML_FLAG_DEFAULT, struct raw_config, config.keepalive,
                        keepalive_fields),
    CYAML_FIELD_MAPPING("connection", CYAML_FLAG_DEFAULT, struct raw_config, config.connection,
                        connection_fields),
    CYAML_FIELD_MAPPING("log", CYAML_FLAG_DEFAULT, struct raw_config, config.log_level, log_fields),
    CYAML_FIELD_MAPPING("tls", CYAML_FLAG_DEFAULT, struct raw_config, config.tls, tls_fields),
    NAME("deprecated_services", struct raw_config, config.deprecated_services, switch_names),
    NAME("reflection", struct raw_config, config.reflection, switch_names),
    CYAML_FIELD_BOOL("strict_slots", CYAML_FLAG_DEFAULT, struct raw_config, config.strict_slots),
    UINT("drain_timeout_ms", struct raw_config, config.drain_timeout_ms),
    CYAML_FIELD_SEQUENCE("namespaces", CYAML_FLAG_POINTER | MAYBE, struct raw_config, namespaces,
                         &namespace_schema, 0, CONFIG_MAX_NAMESPACES),
    CYAML_FIELD_END,
};

const struct cyaml_schema_value config_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, root_fields),
};

bool schema_is_free_map(const struct cyaml_schema_value *schema)
{
    return schema->type == CYAML_SEQUENCE && (schema->sequence.entry == &config_pair_schema ||
                                              schema->sequence.entry == &config_slot_schema);
}
