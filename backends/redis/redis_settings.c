/* Settings of a slot: the tables, and what they cannot say. */
#include "backends/redis/redis_settings.h"

#include "backends/redis/redis_stream.h"
#include "backends/redis/redis_tags.h"
#include "src/base/container.h"

#include <string.h>

#define TLS_SETTINGS                                                                               \
    [SET_TLS] = {"tls", SETTING_BOOL, "false", 0, 0, "redis must speak TLS"},                      \
    [SET_TLS_CA] = {"tls_ca",                                                                      \
                    SETTING_CERTIFICATES,                                                          \
                    "",                                                                            \
                    0,                                                                             \
                    0,                                                                             \
                    "PEM file of the authorities that the server's certificate may come from; "    \
                    "empty: the system's"},                                                        \
    [SET_TLS_CERT] = {"tls_cert", SETTING_CERTIFICATES,                                            \
                      "",         0,                                                               \
                      0,          "PEM file of the client's own certificate; empty: none"},        \
    [SET_TLS_KEY] = {"tls_key", SETTING_KEY, "", 0, 0, "PEM file of its key"},                     \
    [SET_TLS_SERVER_NAME] = {"tls_server_name",                                                    \
                             SETTING_TEXT,                                                         \
                             "",                                                                   \
                             0,                                                                    \
                             0,                                                                    \
                             "the name that the server's certificate must have; "                  \
                             "empty: the host of the address"},                                    \
    [SET_TLS_VERIFY] = {"tls_verify",                                                              \
                        SETTING_BOOL,                                                              \
                        "true",                                                                    \
                        0,                                                                         \
                        0,                                                                         \
                        "false: any certificate is taken, so who stands between can read along"}

#define SENTINEL_SETTINGS                                                                          \
    [SET_SENTINEL_MASTER] = {"sentinel_master",                                                    \
                             SETTING_TEXT,                                                         \
                             "",                                                                   \
                             0,                                                                    \
                             0,                                                                    \
                             "the servers of address are sentinels (port 26379), "                 \
                             "and this is their name for the primary; empty: none"},               \
    [SET_SENTINEL_USERNAME] = {"sentinel_username",                                                \
                               SETTING_TEXT,                                                       \
                               "",                                                                 \
                               0,                                                                  \
                               0,                                                                  \
                                                                                                   \
                               "of the sentinels; empty: their default user"},                     \
    [SET_SENTINEL_PASSWORD] =                                                                      \
        {"sentinel_password", SETTING_SECRET, "", 0, 0, "of the sentinels; empty: none"},          \
    [SET_CLUSTER] =                                                                                \
        {"cluster",                                                                                \
         SETTING_BOOL,                                                                             \
         "false",                                                                                  \
         0,                                                                                        \
         0,                                                                                        \
         "the servers of address are nodes of a cluster, from which the others are learnt"},       \
    [SET_CLUSTER_REFRESH] = {                                                                      \
        "cluster_refresh_ms",                                                                      \
        SETTING_UINT,                                                                              \
        "30000",                                                                                   \
        100,                                                                                       \
        86400000,                                                                                  \
        "the map of a cluster is asked for again after half to all of this time"}

#define CONNECTION_SETTINGS(PREFIX_DOC)                                                            \
    [SET_ADDRESS] = {"address",                                                                    \
                     SETTING_TEXT,                                                                 \
                     "localhost:6379",                                                             \
                     0,                                                                            \
                     0,                                                                            \
                     "HOST[:PORT], [IPV6]:PORT, redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], "  \
                     "several with commas, rediss://.. for TLS, or unix:PATH"},                    \
    [SET_USERNAME] = {"username", SETTING_TEXT, "", 0, 0, "ACL user; empty: the default user"},    \
    [SET_PASSWORD] = {"password", SETTING_SECRET, "", 0, 0, "empty: none"},                        \
    [SET_DATABASE] = {"database", SETTING_UINT, "0", 0, INT32_MAX, "number of the database"},      \
    [SET_DB] = {"db", SETTING_UINT, "0", 0, INT32_MAX, "another name for database"},               \
    [SET_KEY_PREFIX] = {"key_prefix", SETTING_TEXT, "prism", 0, 0, PREFIX_DOC}, TLS_SETTINGS,      \
    SENTINEL_SETTINGS,                                                                             \
    [SET_DIAL_TIMEOUT] = {"dial_timeout_ms",                                                       \
                          SETTING_UINT,                                                            \
                          "5000",                                                                  \
                          1,                                                                       \
                          600000,                                                                  \
                          "to connect, agree on TLS, authenticate and select the database"},       \
    [SET_COMMAND_TIMEOUT] =                                                                        \
        {"command_timeout_ms",                                                                     \
         SETTING_UINT,                                                                             \
         "5000",                                                                                   \
         1,                                                                                        \
         600000,                                                                                   \
         "for calls without a deadline; a server that is silent for this long "                    \
         "while it owes an answer is disconnected"},                                               \
    [SET_MAX_IN_FLIGHT] = {"max_in_flight",                                                        \
                           SETTING_UINT,                                                           \
                           "16384",                                                                \
                           1,                                                                      \
                           1u << 20,                                                               \
                           "operations without an answer, for each worker; more are refused"},     \
    [SET_MAX_BUFFER] = {"max_buffer_bytes",                                                        \
                        SETTING_UINT,                                                              \
                        "67108864",                                                                \
                        65536,                                                                     \
                        1ull << 33,                                                                \
                        "bytes of commands without an answer, for each worker; more are refused, " \
                        "except for one operation alone"}

const struct backend_setting redis_settings[] = {
    CONNECTION_SETTINGS("keys are stored as <key_prefix>:<namespace>:<key>; 1 to 64 printable "
                        "characters without ':' and '%'"),
    [SET_PARTITIONS] = {"cluster_partitions", SETTING_UINT, "16", 1, REDIS_TAGS,
                        "parts that the registry and the sessions of a namespace have in a "
                        "cluster, spread over its slots; remembered there with the first use"},
    {.name = NULL},
};

const struct backend_setting redis_stream_settings[] = {
    CONNECTION_SETTINGS(
        "of Prism's own keys, <key_prefix>:wake and <key_prefix>:order:..; 1 to 64 printable "
        "characters without ':' and '%'"),
    [SET_CLAIM_IDLE] = {"claim_idle_ms", SETTING_UINT, "20000", 100, 86400000,
                        "what a process that has died had taken is taken over after this time; "
                        "the same for all processes of a group"},
    [SET_MAX_LENGTH] = {"max_length", SETTING_UINT, "0", 0, 1ull << 40,
                        "entries of a stream, about; older ones are trimmed; 0: no bound"},
    [SET_MAX_AGE] = {"max_age_ms", SETTING_UINT, "0", 0, 1ull << 42,
                     "age of entries, about; older ones are trimmed; 0: no bound"},
    [SET_TRIM_UNREAD] = {"trim_unread", SETTING_BOOL, "false", 0, 0,
                         "trim also what a group has not settled; else trimming waits for it"},
    [SET_QUEUE_MESSAGES] = {"queue_max_messages", SETTING_UINT, "0", 0, 1ull << 40,
                            "messages that one queue keeps, waiting and taken; more are refused "
                            "with RESOURCE_EXHAUSTED; 0: no bound"},
    [SET_QUEUE_BYTES] = {"queue_max_bytes", SETTING_UINT, "0", 0, 1ull << 50,
                         "the same in bytes of their fields, names and values; 0: no bound"},
    [SET_QUEUE_AGE] = {"queue_max_age_ms", SETTING_UINT, "0", 0, 1ull << 42,
                       "age of a queue's oldest message at which new ones are refused; 0: any"},
    {.name = NULL},
};

/* ---- what the table cannot say ---- */

static bool is_given(const struct backend_value *value)
{
    return value->text[0] != '\0';
}

static void fault(struct backend_faults *faults, enum redis_setting at, const char *text,
                  const char *fix)
{
    backend_fault_add(faults, (struct backend_fault){
                                  .setting = redis_settings[at].name, .text = text, .fix = fix});
}

static void contradicts(struct backend_faults *faults, enum redis_setting at,
                        enum redis_setting other, const char *text, const char *fix)
{
    backend_fault_add(faults, (struct backend_fault){.setting = redis_settings[at].name,
                                                     .other = redis_settings[other].name,
                                                     .text = text,
                                                     .fix = fix});
}

/* What the address says and a setting too must not be different things. */
static void check_against_address(const struct redis_address *address,
                                  const struct backend_value *values, struct backend_faults *faults)
{
    static const enum redis_setting names[] = {SET_DATABASE, SET_DB};

    if (address->username != NULL && address->username[0] != '\0' &&
        is_given(&values[SET_USERNAME]))
        contradicts(faults, SET_USERNAME, SET_ADDRESS, "the address names a user as well",
                    "remove it, or the user from `address`");
    if (address->password != NULL && is_given(&values[SET_PASSWORD]))
        contradicts(faults, SET_PASSWORD, SET_ADDRESS, "the address holds a password as well",
                    "remove it, or the password from `address`");
    for (unsigned i = 0; address->database >= 0 && i < ARRAY_LEN(names); i++) {
        uint64_t database = values[names[i]].number;

        if (database != 0 && database != (uint64_t)address->database)
            contradicts(faults, names[i], SET_ADDRESS, "the address names another database",
                        "remove it, or the database from `address`");
    }
}

bool redis_settings_cluster(const struct backend_value *values)
{
    return values[SET_CLUSTER].number != 0;
}

bool redis_settings_tls(const struct redis_address *address, const struct backend_value *values)
{
    return address->tls || values[SET_TLS].number != 0;
}

static void check_tls(const struct redis_address *address, const struct backend_value *values,
                      struct backend_faults *faults)
{
    static const enum redis_setting texts[] = {SET_TLS_CA, SET_TLS_CERT, SET_TLS_KEY,
                                               SET_TLS_SERVER_NAME};

    for (unsigned i = 0; i < ARRAY_LEN(texts) && !redis_settings_tls(address, values); i++) {
        if (is_given(&values[texts[i]]))
            contradicts(faults, texts[i], SET_TLS, "TLS is off", "add `tls: true`");
    }
    if (address->unix_socket && values[SET_TLS].number != 0)
        contradicts(faults, SET_TLS, SET_ADDRESS, "redis has no TLS on unix sockets",
                    "remove it, or name a host");
    if (is_given(&values[SET_TLS_CERT]) && !is_given(&values[SET_TLS_KEY]))
        contradicts(faults, SET_TLS_CERT, SET_TLS_KEY, "the certificate's key is missing",
                    "add `tls_key`");
    if (is_given(&values[SET_TLS_KEY]) && !is_given(&values[SET_TLS_CERT]))
        contradicts(faults, SET_TLS_KEY, SET_TLS_CERT, "the key's certificate is missing",
                    "add `tls_cert`");
    if (is_given(&values[SET_TLS_SERVER_NAME]) && values[SET_TLS_VERIFY].number == 0)
        contradicts(faults, SET_TLS_SERVER_NAME, SET_TLS_VERIFY, "nothing is verified",
                    "remove one of the two");
}

static void check_sentinel(const struct redis_address *address, const struct backend_value *values,
                           struct backend_faults *faults)
{
    static const enum redis_setting logins[] = {SET_SENTINEL_USERNAME, SET_SENTINEL_PASSWORD};
    bool sentinel = is_given(&values[SET_SENTINEL_MASTER]);

    for (unsigned i = 0; i < ARRAY_LEN(logins) && !sentinel; i++) {
        if (is_given(&values[logins[i]]))
            contradicts(faults, logins[i], SET_SENTINEL_MASTER, "no sentinel is asked",
                        "add `sentinel_master`");
    }
    if (sentinel && address->unix_socket)
        contradicts(faults, SET_SENTINEL_MASTER, SET_ADDRESS, "sentinels have no unix sockets",
                    "name their hosts");
    if (!sentinel && values[SET_CLUSTER].number == 0 && address->seed_count > 1)
        contradicts(faults, SET_ADDRESS, SET_SENTINEL_MASTER,
                    "these are several servers, and nothing says how they belong together",
                    "name one, or add `sentinel_master` or `cluster: true`");
}

static void check_cluster(const struct redis_address *address, const struct backend_value *values,
                          struct backend_faults *faults)
{
    static const enum redis_setting numbers[] = {SET_DATABASE, SET_DB};

    if (values[SET_CLUSTER].number == 0)
        return;
    if (is_given(&values[SET_SENTINEL_MASTER]))
        contradicts(faults, SET_CLUSTER, SET_SENTINEL_MASTER,
                    "the nodes of a cluster watch each other: no sentinel does",
                    "remove one of the two");
    if (address->unix_socket)
        contradicts(faults, SET_CLUSTER, SET_ADDRESS, "nodes of a cluster are reached by host",
                    "name their hosts");
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        if (values[numbers[i]].number != 0)
            contradicts(faults, numbers[i], SET_CLUSTER, "a cluster has one database, 0",
                        "remove it");
    }
    if (address->database > 0)
        contradicts(faults, SET_ADDRESS, SET_CLUSTER, "a cluster has one database, 0",
                    "remove the database from `address`");
}

void redis_stream_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    static const enum redis_setting bounds[] = {SET_QUEUE_MESSAGES, SET_QUEUE_BYTES, SET_QUEUE_AGE};

    redis_settings_check(values, faults);
    for (unsigned i = 0; i < ARRAY_LEN(bounds); i++) {
        if (values[bounds[i]].number == 0 || values[SET_TRIM_UNREAD].number == 0)
            continue;
        backend_fault_add(faults,
                          (struct backend_fault){
                              .setting = redis_stream_settings[bounds[i]].name,
                              .other = redis_stream_settings[SET_TRIM_UNREAD].name,
                              .text = "refuses what is new, and `trim_unread` removes what waits",
                              .fix = "keep one of the two"});
    }
    if (values[SET_CLUSTER].number != 0 && strchr(values[SET_KEY_PREFIX].text, '{') != NULL)
        contradicts(faults, SET_KEY_PREFIX, SET_CLUSTER,
                    "holds a brace, which says where a cluster keeps a key", "remove it");
}

void redis_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    struct redis_address address;
    struct err e = redis_address_parse(&address, slice_str(values[SET_ADDRESS].text));
    uint64_t database = values[SET_DATABASE].number, db = values[SET_DB].number;

    if (e.code == ERR_OK) {
        check_against_address(&address, values, faults);
        check_tls(&address, values, faults);
        check_sentinel(&address, values, faults);
        check_cluster(&address, values, faults);
    } else {
        fault(
            faults, SET_ADDRESS, e.text,
            "like localhost:6379, [::1]:6379, redis://HOST:PORT/DATABASE or unix:/run/redis.sock");
    }
    redis_address_clear(&address);
    if (database != 0 && db != 0 && database != db)
        contradicts(faults, SET_DB, SET_DATABASE, "`database` says otherwise",
                    "remove one of the two");
    if (!redis_prefix_root_valid(values[SET_KEY_PREFIX].text))
        fault(faults, SET_KEY_PREFIX, "is not 1 to 64 printable characters without ':' and '%'",
              "remove it for the default, prism");
}

/* ---- open files ---- */

enum { CONNECTIONS = 4, PRIMARIES = 64 };

/* Commands have a connection, what waits (topics, streams) another; each may be replaced. */
struct backend_descriptors redis_descriptors(const struct backend_value *values)
{
    (void)values;
    return (struct backend_descriptors){.instance = CONNECTIONS};
}

/* How many primaries there are, only the cluster knows: few have more than these. */
struct backend_descriptors redis_cluster_descriptors(const struct backend_value *values)
{
    (void)values;
    return (struct backend_descriptors){.instance = CONNECTIONS + PRIMARIES};
}

/* Readers that wait have a connection for each tag. */
struct backend_descriptors redis_stream_cluster_descriptors(const struct backend_value *values)
{
    struct backend_descriptors most = redis_cluster_descriptors(values);

    most.instance += REDIS_WATCHES;
    return most;
}
