/* The settings of a slot, checked and taken. A connection string says what settings of their own
 * say as well: one of the two may be given. */
#include "backends/postgres/postgres_store.h"
#include "src/base/clock.h"
#include "src/base/secret.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

enum setting {
    SET_ADDRESS,
    SET_USERNAME,
    SET_PASSWORD,
    SET_DATABASE,
    SET_CONNECTION_STRING,
    SET_SCHEMA,
    SET_SSLMODE,
    SET_SSLROOTCERT,
    SET_SSLCERT,
    SET_SSLKEY,
    SET_CONNECTIONS,
    SET_DIAL_TIMEOUT,
    SET_COMMAND_TIMEOUT,
    SET_MAX_IN_FLIGHT,
    SET_MAX_BUFFER,
    SET_SWEEP,
    SET_OLD_TRANSACTION,
    SET_QUEUE_POLL,
    SET_QUEUE_LEASE,
    SET_QUEUE_MESSAGES,
    SET_QUEUE_BYTES,
    SET_QUEUE_AGE,
};

const struct backend_setting postgres_settings[] = {
    [SET_ADDRESS] =
        {"address", SETTING_TEXT, "localhost:5432", 0, 0,
         "HOST[:PORT], [IPV6]:PORT, or unix:FOLDER[:PORT] for the socket in that folder"},
    [SET_USERNAME] = {"username", SETTING_TEXT, "prism", 0, 0, "role to log in as"},
    [SET_PASSWORD] = {"password", SETTING_SECRET, "", 0, 0, "empty: none"},
    [SET_DATABASE] = {"database", SETTING_TEXT, "prism", 0, 0, "it must exist"},
    [SET_CONNECTION_STRING] = {"connection_string", SETTING_SECRET, "", 0, 0,
                               "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=.. in place "
                               "of the settings before this one"},
    [SET_SCHEMA] = {"schema", SETTING_TEXT, "prism", 0, 0,
                    "holds the tables; made and brought up to date when Prism connects; 1 to 63 of "
                    "a-z, 0-9 and _"},
    [SET_SSLMODE] = {"sslmode", SETTING_TEXT, "prefer", 0, 0,
                     "disable, prefer, require, verify-ca or verify-full"},
    [SET_SSLROOTCERT] = {"sslrootcert", SETTING_CERTIFICATES, "", 0, 0,
                         "file with the certificates to trust, for verify-ca and verify-full"},
    [SET_SSLCERT] = {"sslcert", SETTING_CERTIFICATES, "", 0, 0,
                     "file with a certificate of our own"},
    [SET_SSLKEY] = {"sslkey", SETTING_FILE, "", 0, 0, "file with its key"},
    [SET_CONNECTIONS] = {"connections", SETTING_UINT, "2", 1, POSTGRES_CONNECTIONS,
                         "of each worker; the server's max_connections holds for all of them"},
    [SET_DIAL_TIMEOUT] = {"dial_timeout_ms", SETTING_UINT, "5000", 1, 600000,
                          "to connect and log in; bringing the schema up to date does not count"},
    [SET_COMMAND_TIMEOUT] = {"command_timeout_ms", SETTING_UINT, "5000", 10, 600000,
                             "the server ends a statement after it; a server that stays silent "
                             "longer while it owes an answer is disconnected"},
    [SET_MAX_IN_FLIGHT] = {"max_in_flight", SETTING_UINT, "16384", 1, 1u << 20,
                           "operations without an answer, for each worker; more are refused"},
    [SET_MAX_BUFFER] = {"max_buffer_bytes", SETTING_UINT, "67108864", 65536, 1ull << 33,
                        "bytes of operations without an answer, for each worker; more are refused, "
                        "except for one operation alone"},
    [SET_SWEEP] = {"sweep_interval_ms", SETTING_UINT, "1000", 10, 3600000,
                   "how often rows that have expired are removed"},
    [SET_OLD_TRANSACTION] = {"old_transaction_ms", SETTING_UINT, "300000", 0, 1ull << 42,
                             "age of a transaction of the database that keeps dead rows from being "
                             "removed at which a warning is logged; 0: none"},
    [SET_QUEUE_POLL] = {"queue_poll_ms", SETTING_UINT, "1000", 5, 60000,
                        "how often a queue that was empty is looked at again, at the latest; what "
                        "is pushed is told by NOTIFY and seen at once"},
    [SET_QUEUE_LEASE] = {"queue_lease_ms", SETTING_UINT, "30000", 100, 3600000,
                         "how long a process that has vanished keeps what it has taken from "
                         "others; one that is there renews it every quarter of this"},
    [SET_QUEUE_MESSAGES] = {"queue_max_messages", SETTING_UINT, "0", 0, 100000,
                            "messages that one queue keeps, waiting and taken; more are refused "
                            "with RESOURCE_EXHAUSTED; a push counts up to so many; 0: no bound"},
    [SET_QUEUE_BYTES] = {"queue_max_bytes", SETTING_UINT, "0", 0, 1ull << 50,
                         "the same in bytes of keys, payloads and headers; needs "
                         "queue_max_messages; 0: no bound"},
    [SET_QUEUE_AGE] = {"queue_max_age_ms", SETTING_UINT, "0", 0, 1ull << 42,
                       "for how long a message of a queue has waited when new ones are refused; "
                       "0: any"},
    {.name = NULL},
};

static char *copy(const char *text, size_t len)
{
    char *out = strndup(text, len);

    if (out == NULL)
        abort();
    return out;
}

static char *copy_all(const char *text)
{
    return copy(text, strlen(text));
}

static char *copy_or_null(const char *text)
{
    return text[0] != '\0' ? copy_all(text) : NULL;
}

/* ---- addresses ---- */

struct address {
    const char *host;
    size_t host_len;
    bool unix_socket;
    char port[8];
};

static bool take_port(struct address *address, const char *text)
{
    size_t len = strlen(text);
    long port = len > 0 && len <= 5 ? strtol(text, NULL, 10) : 0;

    if (port < 1 || port > 65535 || strspn(text, "0123456789") != len)
        return false;
    memcpy(address->port, text, len + 1);
    return true;
}

static bool address_parse(const char *text, struct address *address)
{
    const char *colon;

    *address = (struct address){.port = "5432"};
    if (strncmp(text, "unix:", 5) == 0) {
        address->unix_socket = true;
        text += 5;
        if (text[0] != '/')
            return false;
    }
    address->host = text;
    if (text[0] == '[') {
        const char *end = strchr(text, ']');

        if (end == NULL || end == text + 1)
            return false;
        address->host = text + 1;
        address->host_len = (size_t)(end - text - 1);
        return end[1] == '\0' || (end[1] == ':' && take_port(address, end + 2));
    }
    colon = strchr(text, ':');
    address->host_len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (address->host_len == 0 || strcspn(text, " ,@?#") < address->host_len ||
        (!address->unix_socket && strcspn(text, "/") < address->host_len))
        return false;
    return colon == NULL || take_port(address, colon + 1);
}

/* ---- the connection string ---- */

/* libpq's keywords that are taken from it; others would be news to the rest of the settings. */
enum part {
    PART_HOST,
    PART_PORT,
    PART_USER,
    PART_PASSWORD,
    PART_DATABASE,
    PART_SSLMODE,
    PART_SSLROOTCERT,
    PART_SSLCERT,
    PART_SSLKEY,
    PARTS
};

static const char *const part_names[PARTS] = {
    "host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey",
};

/* False: libpq cannot read it, or it says what is not taken. Parts that it lacks stay NULL; the
 * caller frees *options with PQconninfoFree. */
static bool string_parse(const char *text, PQconninfoOption **options, const char *parts[PARTS])
{
    struct address ignored;

    memset(parts, 0, PARTS * sizeof *parts);
    *options = PQconninfoParse(text, NULL);
    if (*options == NULL)
        return false;
    for (const PQconninfoOption *o = *options; o->keyword != NULL; o++) {
        size_t i = 0;

        if (o->val == NULL)
            continue;
        while (i < PARTS && strcmp(part_names[i], o->keyword) != 0)
            i++;
        if (i == PARTS)
            return false;
        parts[i] = o->val;
    }
    return parts[PART_PORT] == NULL || take_port(&ignored, parts[PART_PORT]);
}

/* ---- what the table cannot say ---- */

static bool is_given(const struct backend_value *values, enum setting at)
{
    return values[at].text[0] != '\0' &&
           strcmp(values[at].text, postgres_settings[at].fallback) != 0;
}

static void fault(struct backend_faults *faults, enum setting at, enum setting other,
                  const char *text, const char *fix)
{
    backend_fault_add(
        faults, (struct backend_fault){.setting = postgres_settings[at].name,
                                       .other = at == other ? NULL : postgres_settings[other].name,
                                       .text = text,
                                       .fix = fix});
}

static const char *const sslmodes[] = {"disable",   "prefer",      "require",
                                       "verify-ca", "verify-full", NULL};

static bool sslmode_known(const char *mode)
{
    for (size_t i = 0; sslmodes[i] != NULL; i++) {
        if (strcmp(mode, sslmodes[i]) == 0)
            return true;
    }
    return false;
}

static void check_string(const struct backend_value *values, struct backend_faults *faults)
{
    static const enum setting rivals[] = {SET_ADDRESS, SET_USERNAME, SET_PASSWORD, SET_DATABASE};
    PQconninfoOption *options;
    const char *parts[PARTS];

    if (values[SET_CONNECTION_STRING].text[0] == '\0')
        return;
    if (!string_parse(values[SET_CONNECTION_STRING].text, &options, parts))
        fault(faults, SET_CONNECTION_STRING, SET_CONNECTION_STRING,
              "is no connection string of one host with user, password, dbname and ssl.. alone",
              "like postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full");
    else if (parts[PART_SSLMODE] != NULL && !sslmode_known(parts[PART_SSLMODE]))
        fault(faults, SET_CONNECTION_STRING, SET_CONNECTION_STRING, "names an unknown sslmode",
              "disable, prefer, require, verify-ca or verify-full");
    PQconninfoFree(options);
    for (size_t i = 0; i < ARRAY_LEN(rivals); i++) {
        if (is_given(values, rivals[i]))
            fault(faults, rivals[i], SET_CONNECTION_STRING, "the connection string says it as well",
                  "remove one of the two");
    }
}

static bool schema_valid(const char *name)
{
    size_t len = strlen(name);

    return len >= 1 && len <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len &&
           strncmp(name, "pg_", 3) != 0;
}

void postgres_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    struct address address;

    if (!address_parse(values[SET_ADDRESS].text, &address))
        fault(faults, SET_ADDRESS, SET_ADDRESS, "is no address",
              "like localhost:5432, [::1]:5432 or unix:/run/postgresql");
    if (!schema_valid(values[SET_SCHEMA].text))
        fault(faults, SET_SCHEMA, SET_SCHEMA,
              "is not 1 to 63 of a-z, 0-9 and _, or begins with pg_",
              "remove it for the default, prism");
    if (!sslmode_known(values[SET_SSLMODE].text))
        backend_fault_add(faults,
                          (struct backend_fault){.setting = postgres_settings[SET_SSLMODE].name,
                                                 .text = "is unknown",
                                                 .fix = "disable, prefer, require, verify-ca or "
                                                        "verify-full",
                                                 .words = sslmodes});
    if (is_given(values, SET_SSLCERT) != is_given(values, SET_SSLKEY))
        fault(faults, is_given(values, SET_SSLCERT) ? SET_SSLCERT : SET_SSLKEY,
              is_given(values, SET_SSLCERT) ? SET_SSLKEY : SET_SSLCERT,
              "a certificate and its key go together", "add the other");
    if (strcmp(values[SET_SSLMODE].text, "verify-ca") == 0 ||
        strcmp(values[SET_SSLMODE].text, "verify-full") == 0) {
        if (!is_given(values, SET_SSLROOTCERT))
            fault(faults, SET_SSLMODE, SET_SSLROOTCERT, "nothing says whose certificates to trust",
                  "add `sslrootcert`");
    }
    if (values[SET_QUEUE_BYTES].number > 0 && values[SET_QUEUE_MESSAGES].number == 0)
        fault(faults, SET_QUEUE_BYTES, SET_QUEUE_MESSAGES,
              "a push would have to look at all messages of a queue", "add `queue_max_messages`");
    check_string(values, faults);
}

/* ---- taken ---- */

static void take_address(struct postgres_config *config, const char *text)
{
    struct address address;

    address_parse(text, &address);
    config->host = copy(address.host, address.host_len);
    config->unix_socket = address.unix_socket;
    memcpy(config->port, address.port, sizeof config->port);
}

static void replace(char **at, const char *text)
{
    if (text == NULL)
        return;
    free(*at);
    *at = copy_or_null(text);
}

static void take_string(struct postgres_config *config, const char *text)
{
    PQconninfoOption *options;
    const char *parts[PARTS];

    if (text[0] == '\0')
        return;
    string_parse(text, &options, parts);
    replace(&config->host, parts[PART_HOST]);
    config->unix_socket = config->host[0] == '/';
    if (parts[PART_PORT] != NULL)
        memcpy(config->port, parts[PART_PORT], strlen(parts[PART_PORT]) + 1);
    replace(&config->database, parts[PART_DATABASE]);
    replace(&config->sslmode, parts[PART_SSLMODE]);
    replace(&config->sslrootcert, parts[PART_SSLROOTCERT]);
    replace(&config->sslcert, parts[PART_SSLCERT]);
    replace(&config->sslkey, parts[PART_SSLKEY]);
    PQconninfoFree(options);
}

void postgres_settings_take(struct postgres_store *store, const struct backend_value *values)
{
    struct postgres_config *config = &store->config;

    take_address(config, values[SET_ADDRESS].text);
    config->database = copy_all(values[SET_DATABASE].text);
    config->schema = copy_all(values[SET_SCHEMA].text);
    config->sslmode = copy_all(values[SET_SSLMODE].text);
    config->sslrootcert = copy_or_null(values[SET_SSLROOTCERT].text);
    config->sslcert = copy_or_null(values[SET_SSLCERT].text);
    config->sslkey = copy_or_null(values[SET_SSLKEY].text);
    take_string(config, values[SET_CONNECTION_STRING].text);
    config->shown_host = values[SET_ADDRESS].expanded ? "(from ${..})" : config->host;
    if (values[SET_CONNECTION_STRING].text[0] != '\0')
        config->shown_host = "(of the connection string)";
    else if (!values[SET_ADDRESS].expanded)
        backend_store_place(&store->base, config->host, config->port, false);
    store->connections = (unsigned)values[SET_CONNECTIONS].number;
    store->dial_timeout_ns = values[SET_DIAL_TIMEOUT].number * NS_PER_MS;
    store->command_timeout_ns = values[SET_COMMAND_TIMEOUT].number * NS_PER_MS;
    store->max_in_flight = values[SET_MAX_IN_FLIGHT].number;
    store->max_buffer_bytes = values[SET_MAX_BUFFER].number;
    store->sweep_interval_ns = values[SET_SWEEP].number * NS_PER_MS;
    store->old_transaction_ms = values[SET_OLD_TRANSACTION].number;
    store->queue_poll_ns = values[SET_QUEUE_POLL].number * NS_PER_MS;
    store->queue_lease_ms = values[SET_QUEUE_LEASE].number;
    store->queue_messages = values[SET_QUEUE_MESSAGES].number;
    store->queue_bytes = values[SET_QUEUE_BYTES].number;
    store->queue_age_ms = values[SET_QUEUE_AGE].number;
}

void postgres_config_clear(struct postgres_config *config)
{
    free(config->host);
    free(config->database);
    free(config->schema);
    free(config->sslmode);
    free(config->sslrootcert);
    free(config->sslcert);
    free(config->sslkey);
}

struct postgres_login postgres_login_take(const struct backend_value *values)
{
    struct postgres_login login = {.username = copy_all(values[SET_USERNAME].text),
                                   .password = copy_or_null(values[SET_PASSWORD].text)};
    PQconninfoOption *options;
    const char *parts[PARTS];

    if (values[SET_CONNECTION_STRING].text[0] == '\0')
        return login;
    string_parse(values[SET_CONNECTION_STRING].text, &options, parts);
    replace(&login.username, parts[PART_USER]);
    replace(&login.password, parts[PART_PASSWORD]);
    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        if (o->val != NULL)
            secret_wipe(o->val, strlen(o->val));
    }
    PQconninfoFree(options);
    return login;
}

void postgres_login_clear(struct postgres_login *login)
{
    free(login->username);
    secret_free(login->password);
    *login = (struct postgres_login){0};
}

/* Each connection may be replaced, and while it is made, its name is looked up. One of them listens
 * as well (postgres_wake.c). */
struct backend_descriptors postgres_descriptors(const struct backend_value *values)
{
    return (struct backend_descriptors){.instance = 2 * (uint32_t)values[SET_CONNECTIONS].number};
}
