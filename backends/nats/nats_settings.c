/* Settings of a slot, and the library's options made from them for each connection anew: so new
 * secrets and new files are used by the next connection. */
#include "backends/nats/nats_priv.h"
#include "src/base/address.h"
#include "src/base/secret.h"

#include <stdio.h>
#include <stdlib.h>

enum { PING_MS = 5000 /* an idle server is left after it owes two answers */ };

enum setting {
    SET_ADDRESS,
    SET_USERNAME,
    SET_PASSWORD,
    SET_TOKEN,
    SET_CREDENTIALS,
    SET_TLS,
    SET_TLS_CA,
    SET_TLS_CERT,
    SET_TLS_KEY,
    SET_DIAL_TIMEOUT,
    SET_ACK_TIMEOUT,
    SET_MAX_BUFFER,
    SET_SUBSCRIPTION_BUFFER,
    SET_JETSTREAM,
    SET_PUBLISH_TIMEOUT, /* from here on of JetStream alone */
    SET_ACK_WAIT,
    SET_CREATE_STREAMS,
    SET_STREAM_STORAGE,
    SET_STREAM_REPLICAS,
    SET_STREAM_MAX_AGE,
    SET_STREAM_MAX_BYTES,
    SET_DEDUP_WINDOW,
    SET_RETURNS_STREAM,
    SET_RETURNS_MAX_AGE,
    SET_RETURNS_MAX_BYTES,
};

const struct backend_setting nats_settings[] = {
    [SET_ADDRESS] = {"address", SETTING_TEXT, "localhost:4222", 0, 0,
                     "HOST[:PORT] or nats://HOST[:PORT], several with commas between them: servers "
                     "of one cluster, tried in turn"},
    [SET_USERNAME] = {"username", SETTING_TEXT, "", 0, 0, "empty: none"},
    [SET_PASSWORD] = {"password", SETTING_SECRET, "", 0, 0, "empty: none"},
    [SET_TOKEN] = {"token", SETTING_SECRET, "", 0, 0, "instead of a user; empty: none"},
    [SET_CREDENTIALS] = {"credentials_file", SETTING_PEM, "", 0, 0,
                         "file with a user's JWT and seed, read for each connection; empty: none"},
    [SET_TLS] = {"tls", SETTING_BOOL, "false", 0, 0,
                 "the server must offer TLS, and its certificate is checked"},
    [SET_TLS_CA] = {"tls_ca", SETTING_CERTIFICATES, "", 0, 0,
                    "PEM file of the authorities that the server's certificate may come from"},
    [SET_TLS_CERT] = {"tls_cert", SETTING_CERTIFICATES, "", 0, 0,
                      "PEM file of the client's own certificate; empty: none"},
    [SET_TLS_KEY] = {"tls_key", SETTING_KEY, "", 0, 0, "PEM file of its key"},
    [SET_DIAL_TIMEOUT] = {"dial_timeout_ms", SETTING_UINT, "2000", 1, 60000,
                          "to connect to one server and log in"},
    [SET_ACK_TIMEOUT] = {"ack_timeout_ms", SETTING_UINT, "2000", 1, 60000,
                         "a server that does not answer for this long while messages wait is left; "
                         "their outcome is unknown"},
    [SET_MAX_BUFFER] = {"max_buffer_bytes", SETTING_UINT, "67108864", 65536, 1ull << 33,
                        "bytes of messages that wait for the server; more are refused, except for "
                        "one operation alone"},
    [SET_SUBSCRIPTION_BUFFER] = {"subscription_buffer_bytes", SETTING_UINT, "1048576", 4096,
                                 1ull << 30,
                                 "bytes that wait for one slow subscriber; beyond them the oldest "
                                 "messages are dropped, counted and told; JetStream drops none"},
    [SET_JETSTREAM] = {"jetstream", SETTING_BOOL, "false", 0, 0,
                       "makes `nats` the backend `jetstream`: streams instead of topics"},
    [SET_PUBLISH_TIMEOUT] = {"publish_timeout_ms", SETTING_UINT, "10000", 100, 60000,
                             "a message that no stream has acknowledged by then is given up: its "
                             "outcome is unknown if it was sent"},
    [SET_ACK_WAIT] = {"ack_wait_ms", SETTING_UINT, "30000", 1000, 600000,
                      "how soon messages of a Prism that has died are delivered to others"},
    [SET_CREATE_STREAMS] = {"create_streams", SETTING_BOOL, "false", 0, 0,
                            "makes a stream for each topic that no stream takes, when it is used"},
    [SET_STREAM_STORAGE] = {"stream_storage", SETTING_TEXT, "file", 0, 0,
                            "of streams that are made: file or memory"},
    [SET_STREAM_REPLICAS] = {"stream_replicas", SETTING_UINT, "1", 1, 5,
                             "of streams that are made: servers that keep them"},
    [SET_STREAM_MAX_AGE] = {"stream_max_age_s", SETTING_UINT, "0", 0, 1ull << 32,
                            "of streams that are made: older messages are removed; 0: none"},
    [SET_STREAM_MAX_BYTES] = {"stream_max_bytes", SETTING_UINT, "0", 0, 1ull << 50,
                              "of streams that are made: a full one refuses messages; 0: no bound"},
    [SET_DEDUP_WINDOW] = {"dedup_window_ms", SETTING_UINT, "120000", 100, 86400000,
                          "of streams that are made: for how long ids are remembered"},
    [SET_RETURNS_STREAM] = {"returns_stream", SETTING_TEXT, "PRISM_RETURNS", 0, 0,
                            "Prism's own stream of what groups gave back, so that it is no "
                            "attempt; made if it is not there; empty: none"},
    [SET_RETURNS_MAX_AGE] = {"returns_max_age_s", SETTING_UINT, "604800", 60, 1ull << 32,
                             "of that stream, when it is made: how long it is remembered"},
    [SET_RETURNS_MAX_BYTES] = {"returns_max_bytes", SETTING_UINT, "33554432", 65536, 1ull << 40,
                               "of that stream, when it is made: the oldest go beyond it"},
    {.name = NULL},
};

static char *copy_or_null(const char *text)
{
    char *copy = NULL;

    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        abort();
    return copy;
}

/* ---- addresses ---- */

/* Calls take (unless it is NULL) with each server; false: the text is no list of them. */
static bool each_server(const char *text, struct nats_config *config)
{
    size_t n = 0;

    for (const char *at = text;; n++) {
        size_t len, all;

        at += strspn(at, " ");
        if (strncmp(at, "nats://", 7) == 0)
            at += 7;
        len = all = strcspn(at, ",");
        while (len > 0 && at[len - 1] == ' ')
            len--;
        if (n == NATS_SERVERS || !address_is_server(slice_of(at, len)))
            return false;
        if (config != NULL &&
            asprintf(&config->servers[config->n_servers++], "nats://%.*s", (int)len, at) < 0)
            abort();
        at += all;
        if (*at == '\0')
            return true;
        at++;
    }
}

/* ---- what the table cannot say ---- */

static bool is_given(const struct backend_value *values, enum setting at)
{
    return values[at].text[0] != '\0';
}

static void fault(struct backend_faults *faults, enum setting at, enum setting other,
                  const char *text, const char *fix)
{
    backend_fault_add(
        faults, (struct backend_fault){.setting = nats_settings[at].name,
                                       .other = at == other ? NULL : nats_settings[other].name,
                                       .text = text,
                                       .fix = fix});
}

static void check_tls(const struct backend_value *values, struct backend_faults *faults)
{
    static const enum setting files[] = {SET_TLS_CA, SET_TLS_CERT, SET_TLS_KEY};

    for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
        if (is_given(values, files[i]) && values[SET_TLS].number == 0)
            fault(faults, files[i], SET_TLS, "TLS is off", "add `tls: true`");
    }
    if (values[SET_TLS].number != 0 && !is_given(values, SET_TLS_CA))
        fault(faults, SET_TLS, SET_TLS_CA, "nothing says whose certificates to trust",
              "add `tls_ca`");
    if (is_given(values, SET_TLS_CERT) && !is_given(values, SET_TLS_KEY))
        fault(faults, SET_TLS_CERT, SET_TLS_KEY, "the certificate's key is missing",
              "add `tls_key`");
    if (is_given(values, SET_TLS_KEY) && !is_given(values, SET_TLS_CERT))
        fault(faults, SET_TLS_KEY, SET_TLS_CERT, "the key's certificate is missing",
              "add `tls_cert`");
}

static bool is_default(const struct backend_value *values, unsigned at)
{
    const struct backend_setting *setting = &nats_settings[at];

    return setting->kind == SETTING_UINT
               ? values[at].number == strtoull(setting->fallback, NULL, 10)
               : strcmp(values[at].text, setting->fallback) == 0;
}

/* A name of NATS that is a token of a subject, too. */
static bool is_stream_name(const char *text)
{
    enum { LONGEST = 200 };

    for (const char *c = text; *c != '\0'; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '-' || *c == '_'))
            return false;
    }
    return strlen(text) <= LONGEST;
}

static void check_jetstream(const struct backend_value *values, struct backend_faults *faults)
{
    static const char *const storages[] = {"file", "memory", NULL};
    const char *storage = values[SET_STREAM_STORAGE].text;

    if (strcmp(storage, storages[0]) != 0 && strcmp(storage, storages[1]) != 0)
        backend_fault_add(faults,
                          (struct backend_fault){.setting = nats_settings[SET_STREAM_STORAGE].name,
                                                 .text = "is neither file nor memory",
                                                 .words = storages});
    if (!is_stream_name(values[SET_RETURNS_STREAM].text))
        fault(faults, SET_RETURNS_STREAM, SET_RETURNS_STREAM, "is no name of a stream",
              "up to 200 of A-Z a-z 0-9 - _");
    if (values[SET_DEDUP_WINDOW].number < values[SET_PUBLISH_TIMEOUT].number)
        fault(faults, SET_DEDUP_WINDOW, SET_PUBLISH_TIMEOUT,
              "a message could be sent again after its id was forgotten", "make it longer");
    for (unsigned i = SET_STREAM_STORAGE; i <= SET_DEDUP_WINDOW; i++) {
        if (values[SET_CREATE_STREAMS].number == 0 && !is_default(values, i))
            fault(faults, (enum setting)i, SET_CREATE_STREAMS, "no streams are made",
                  "add `create_streams: true`");
    }
}

static void refuse_jetstream(const struct backend_value *values, struct backend_faults *faults)
{
    for (unsigned i = SET_PUBLISH_TIMEOUT; i <= SET_RETURNS_MAX_BYTES; i++) {
        if (values[i].given)
            fault(faults, (enum setting)i, (enum setting)i,
                  "only JetStream has it, and this slot uses the topics of NATS",
                  "use `backend: jetstream`, or remove it");
    }
}

static void check_connection(const struct backend_value *values, struct backend_faults *faults)
{
    bool user = is_given(values, SET_USERNAME);

    if (!each_server(values[SET_ADDRESS].text, NULL))
        fault(faults, SET_ADDRESS, SET_ADDRESS, "is no list of up to 16 servers",
              "like localhost:4222 or nats://a:4222,nats://b:4222; users and passwords have "
              "settings of their own");
    if (is_given(values, SET_PASSWORD) && !user)
        fault(faults, SET_PASSWORD, SET_USERNAME, "a password without a user", "add `username`");
    if (is_given(values, SET_TOKEN) && user)
        fault(faults, SET_TOKEN, SET_USERNAME, "a user is given as well", "remove one of the two");
    if (is_given(values, SET_CREDENTIALS) && (user || is_given(values, SET_TOKEN)))
        fault(faults, SET_CREDENTIALS, user ? SET_USERNAME : SET_TOKEN,
              "another login is given as well", "remove one of the two");
    check_tls(values, faults);
}

void nats_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    check_connection(values, faults);
    if (nats_settings_jetstream(values))
        check_jetstream(values, faults);
    else
        refuse_jetstream(values, faults);
}

void jet_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    check_connection(values, faults);
    check_jetstream(values, faults);
}

bool nats_settings_jetstream(const struct backend_value *values)
{
    return values[SET_JETSTREAM].number != 0;
}

/* ---- taken ---- */

void nats_config_take(struct nats_config *config, const struct backend_value *values)
{
    *config = (struct nats_config){
        .credentials = copy_or_null(values[SET_CREDENTIALS].text),
        .ca = copy_or_null(values[SET_TLS_CA].text),
        .cert = copy_or_null(values[SET_TLS_CERT].text),
        .key = copy_or_null(values[SET_TLS_KEY].text),
        .tls = values[SET_TLS].number != 0,
        .dial_timeout_ms = values[SET_DIAL_TIMEOUT].number,
        .ack_timeout_ms = values[SET_ACK_TIMEOUT].number,
        .max_buffer_bytes = values[SET_MAX_BUFFER].number,
        .subscription_bytes = values[SET_SUBSCRIPTION_BUFFER].number,
        .publish_timeout_ms = values[SET_PUBLISH_TIMEOUT].number,
        .ack_wait_ms = values[SET_ACK_WAIT].number,
        .create_streams = values[SET_CREATE_STREAMS].number != 0,
        .stream_memory = strcmp(values[SET_STREAM_STORAGE].text, "memory") == 0,
        .stream_replicas = values[SET_STREAM_REPLICAS].number,
        .stream_max_age_s = values[SET_STREAM_MAX_AGE].number,
        .stream_max_bytes = values[SET_STREAM_MAX_BYTES].number,
        .dedup_window_ms = values[SET_DEDUP_WINDOW].number,
        .returns_stream = copy_or_null(values[SET_RETURNS_STREAM].text),
        .returns_max_age_s = values[SET_RETURNS_MAX_AGE].number,
        .returns_max_bytes = values[SET_RETURNS_MAX_BYTES].number,
    };
    each_server(values[SET_ADDRESS].text, config);
    config->shown_copy = copy_or_null(values[SET_ADDRESS].text);
    config->shown = values[SET_ADDRESS].expanded ? "(from ${..})" : config->shown_copy;
}

void nats_config_clear(struct nats_config *config)
{
    for (size_t i = 0; i < config->n_servers; i++)
        free(config->servers[i]);
    free(config->shown_copy);
    free(config->credentials);
    free(config->ca);
    free(config->cert);
    free(config->key);
    free(config->returns_stream);
}

struct nats_login nats_login_take(const struct backend_value *values)
{
    return (struct nats_login){.username = copy_or_null(values[SET_USERNAME].text),
                               .password = copy_or_null(values[SET_PASSWORD].text),
                               .token = copy_or_null(values[SET_TOKEN].text)};
}

void nats_login_clear(struct nats_login *login)
{
    free(login->username);
    secret_free(login->password);
    secret_free(login->token);
    *login = (struct nats_login){0};
}

/* ---- the library's options ---- */

static natsStatus set_login(natsOptions *options, const struct nats_config *config,
                            const struct nats_login *login)
{
    natsStatus s = NATS_OK;

    if (login->username != NULL)
        s = natsOptions_SetUserInfo(options, login->username,
                                    login->password != NULL ? login->password : "");
    if (s == NATS_OK && login->token != NULL)
        s = natsOptions_SetToken(options, login->token);
    if (s == NATS_OK && config->credentials != NULL)
        s = natsOptions_SetUserCredentialsFromFiles(options, config->credentials, NULL);
    return s;
}

/* "nats://[::1]:4222" has the host "::1". */
static natsStatus expect_host(natsOptions *options, const char *server)
{
    const char *at = strstr(server, "//") + 2;
    size_t len = strcspn(at, ":");
    char host[256];

    if (*at == '[') {
        at++;
        len = strcspn(at, "]");
    }
    if (len >= sizeof host)
        return NATS_INVALID_ARG;
    memcpy(host, at, len);
    host[len] = '\0';
    return natsOptions_SetExpectedHostname(options, host);
}

/* The library checks the name in a certificate only if it is told what to expect. */
static natsStatus set_tls(natsOptions *options, const struct nats_config *config,
                          const char *server)
{
    natsStatus s = NATS_OK;

    if (!config->tls)
        return s;
    s = natsOptions_SetSecure(options, true);
    if (s == NATS_OK)
        s = natsOptions_LoadCATrustedCertificates(options, config->ca);
    if (s == NATS_OK)
        s = expect_host(options, server);
    if (s == NATS_OK && config->cert != NULL)
        s = natsOptions_LoadCertificatesChain(options, config->cert, config->key);
    return s;
}

natsStatus nats_options(natsOptions **out, const struct nats_config *config,
                        const struct nats_login *login, const char *server)
{
    const char *servers[] = {server};
    natsOptions *options;
    natsStatus s = natsOptions_Create(&options);

    if (s != NATS_OK)
        return s;
    s = natsOptions_SetServers(options, servers, 1);
    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(options, false);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(options, (int64_t)config->dial_timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetWriteDeadline(options, NATS_WRITE_DEADLINE_MS);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(options, PING_MS);
    if (s == NATS_OK)
        s = natsOptions_SetName(options, "prism");
    if (s == NATS_OK)
        s = natsOptions_UseGlobalMessageDelivery(options, true);
    if (s == NATS_OK)
        s = set_login(options, config, login);
    if (s == NATS_OK)
        s = set_tls(options, config, server);
    if (s != NATS_OK)
        natsOptions_Destroy(options);
    else
        *out = options;
    return s;
}

/* All instances share the library's connection. */
struct backend_descriptors nats_descriptors(const struct backend_value *values)
{
    (void)values;
    return (struct backend_descriptors){.store = 8};
}
