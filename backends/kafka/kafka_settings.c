/* Settings of a slot, and the client library's configuration made from them. */
#include "backends/kafka/kafka_priv.h"
#include "src/base/address.h"
#include "src/base/secret.h"

#include <stdio.h>
#include <stdlib.h>

enum setting {
    SET_BROKERS,
    SET_MECHANISM,
    SET_USERNAME,
    SET_PASSWORD,
    SET_TLS,
    SET_TLS_CA,
    SET_TLS_CERT,
    SET_TLS_KEY,
    SET_ACKS,
    SET_COMPRESSION,
    SET_PARTITIONER,
    SET_LINGER,
    SET_PUBLISH_TIMEOUT,
    SET_DIAL_TIMEOUT,
    SET_MAX_BUFFER,
    SET_MAX_MESSAGE,
    SET_AUTO_CREATE,
    SET_SESSION_TIMEOUT,
    SET_REVOKE_WAIT,
    SET_FETCH_WAIT,
    SET_SUBSCRIPTION_BUFFER,
    SET_MAX_CONSUMERS,
    SET_MAX_FETCHED,
    SET_MAX_SPAN,
};

const struct backend_setting kafka_settings[] = {
    [SET_BROKERS] = {"brokers", SETTING_TEXT, "localhost:9092", 0, 0,
                     "HOST[:PORT], several with commas between them: where to begin; the others "
                     "are learnt from these"},
    [SET_MECHANISM] = {"sasl_mechanism", SETTING_TEXT, "", 0, 0,
                       "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: no login"},
    [SET_USERNAME] = {"sasl_username", SETTING_TEXT, "", 0, 0, "empty: none"},
    [SET_PASSWORD] = {"sasl_password", SETTING_SECRET, "", 0, 0, "empty: none"},
    [SET_TLS] = {"tls", SETTING_BOOL, "false", 0, 0,
                 "brokers must offer TLS, and their certificates are checked"},
    [SET_TLS_CA] = {"tls_ca", SETTING_CERTIFICATES, "", 0, 0,
                    "PEM file of the authorities that brokers' certificates may come from"},
    [SET_TLS_CERT] = {"tls_cert", SETTING_CERTIFICATES, "", 0, 0,
                      "PEM file of the client's own certificate; empty: none"},
    [SET_TLS_KEY] = {"tls_key", SETTING_KEY, "", 0, 0, "PEM file of its key"},
    [SET_ACKS] = {"acks", SETTING_TEXT, "all", 0, 0,
                  "all: the in-sync replicas have it, and retries write nothing twice; 1: the "
                  "leader has it, and retries may"},
    [SET_COMPRESSION] = {"compression", SETTING_TEXT, "none", 0, 0,
                         "none, gzip, snappy, lz4 or zstd"},
    [SET_PARTITIONER] = {"partitioner", SETTING_TEXT, "murmur2_random", 0, 0,
                         "how keys choose partitions: murmur2_random is the Java client's, "
                         "consistent_random librdkafka's, fnv1a_random Sarama's"},
    [SET_LINGER] = {"linger_ms", SETTING_UINT, "5", 0, 1000,
                    "for how long messages are gathered into a request"},
    [SET_PUBLISH_TIMEOUT] = {"publish_timeout_ms", SETTING_UINT, "10000", 1000, 300000,
                             "a message that is not acknowledged by then is given up: its outcome "
                             "is unknown if it was sent"},
    [SET_DIAL_TIMEOUT] = {"dial_timeout_ms", SETTING_UINT, "5000", 1000, 60000,
                          "to connect to one broker and log in"},
    [SET_MAX_BUFFER] = {"max_buffer_bytes", SETTING_UINT, "67108864", 1048576, 1ull << 31,
                        "bytes of messages that wait for brokers; more are refused, and one topic "
                        "alone may fill half"},
    [SET_MAX_MESSAGE] = {"max_message_bytes", SETTING_UINT, "1000000", 1000, 16000000,
                         "the longest message; brokers and topics have limits of their own"},
    [SET_AUTO_CREATE] = {"auto_create_topics", SETTING_BOOL, "false", 0, 0,
                         "lets brokers that are so configured make topics when they are first "
                         "published to"},
    [SET_SESSION_TIMEOUT] = {"session_timeout_ms", SETTING_UINT, "10000", 1000, 300000,
                             "how soon partitions of a Prism that has died go to others"},
    [SET_REVOKE_WAIT] = {"revoke_wait_ms", SETTING_UINT, "500", 0, 10000,
                         "a partition that moves to another process waits so long for its "
                         "messages to be settled"},
    [SET_FETCH_WAIT] = {"fetch_wait_ms", SETTING_UINT, "50", 1, 10000,
                        "for how long a broker may keep a fetch that finds nothing; a partition "
                        "whose share was full when that began waits as long"},
    [SET_SUBSCRIPTION_BUFFER] = {"subscription_buffer_bytes", SETTING_UINT, "67108864", 65536,
                                 1ull << 31,
                                 "bytes that the client library fetches ahead for a topic and "
                                 "group; its partitions share them"},
    [SET_MAX_CONSUMERS] = {"max_consumers", SETTING_UINT, "256", 1, 100000,
                           "topics and groups, and topics listened to, that are read at a time; "
                           "each has four threads of the library. More are refused with "
                           "RESOURCE_EXHAUSTED"},
    [SET_MAX_FETCHED] = {"max_fetched_bytes", SETTING_UINT, "268435456", 65536, 1ull << 40,
                         "bytes that the client library fetches ahead for all topics and groups: "
                         "a new one has at most half of what is left"},
    [SET_MAX_SPAN] = {"max_span", SETTING_UINT, "100000", 1000, 10000000,
                      "messages of a partition between the oldest one that is not settled and the "
                      "newest one delivered; 8 bytes each"},
    {.name = NULL},
};

static char *copy_or_null(const char *text)
{
    char *copy = NULL;

    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        abort();
    return copy;
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
        faults, (struct backend_fault){.setting = kafka_settings[at].name,
                                       .other = at == other ? NULL : kafka_settings[other].name,
                                       .text = text,
                                       .fix = fix});
}

static bool is_one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strcmp(*words, text) != 0)
        words++;
    return *words != NULL;
}

/* Without a name between two commas, none is meant. */
static bool is_broker_list(const char *text)
{
    bool named = false;

    while (*text != '\0') {
        size_t all = strcspn(text, ","), len = all, blank = strspn(text, " ");

        while (len > blank && text[len - 1] == ' ')
            len--;
        if (blank < len && !address_is_server(slice_of(text + blank, len - blank)))
            return false;
        named = named || blank < len;
        text += all + (text[all] == ',');
    }
    return named;
}

static void check_words(const struct backend_value *values, struct backend_faults *faults)
{
    static const char *const mechanisms[] = {"", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", NULL};
    static const char *const acks[] = {"all", "1", NULL};
    static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};
    static const char *const partitioners[] = {"murmur2_random", "consistent_random",
                                               "fnv1a_random", NULL};
    static const struct {
        enum setting at;
        const char *const *words;
        const char *text;
    } all[] = {
        {SET_MECHANISM, mechanisms, "is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"},
        {SET_ACKS, acks, "is neither all nor 1"},
        {SET_COMPRESSION, compressions, "is none of none, gzip, snappy, lz4, zstd"},
        {SET_PARTITIONER, partitioners,
         "is none of murmur2_random, consistent_random, fnv1a_random"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        if (!is_one_of(values[all[i].at].text, all[i].words))
            backend_fault_add(faults,
                              (struct backend_fault){.setting = kafka_settings[all[i].at].name,
                                                     .text = all[i].text,
                                                     .words = all[i].words});
    }
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

void kafka_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    if (!is_broker_list(values[SET_BROKERS].text))
        fault(faults, SET_BROKERS, SET_BROKERS, "is no list of brokers",
              "like localhost:9092 or a:9092,b:9092");
    check_words(values, faults);
    check_tls(values, faults);
    if (is_given(values, SET_MECHANISM) && !is_given(values, SET_USERNAME))
        fault(faults, SET_MECHANISM, SET_USERNAME, "a login without a user", "add `sasl_username`");
    if (is_given(values, SET_USERNAME) && !is_given(values, SET_MECHANISM))
        fault(faults, SET_USERNAME, SET_MECHANISM, "nothing says how to log in",
              "add `sasl_mechanism`");
    if (is_given(values, SET_PASSWORD) && !is_given(values, SET_USERNAME))
        fault(faults, SET_PASSWORD, SET_USERNAME, "a password without a user",
              "add `sasl_username`");
    if (values[SET_MAX_MESSAGE].number > values[SET_MAX_BUFFER].number)
        fault(faults, SET_MAX_MESSAGE, SET_MAX_BUFFER, "one message would not fit", NULL);
}

/* ---- taken ---- */

void kafka_config_take(struct kafka_config *config, const struct backend_value *values)
{
    *config = (struct kafka_config){
        .brokers = copy_or_null(values[SET_BROKERS].text),
        .mechanism = copy_or_null(values[SET_MECHANISM].text),
        .ca = copy_or_null(values[SET_TLS_CA].text),
        .cert = copy_or_null(values[SET_TLS_CERT].text),
        .key = copy_or_null(values[SET_TLS_KEY].text),
        .acks = copy_or_null(values[SET_ACKS].text),
        .compression = copy_or_null(values[SET_COMPRESSION].text),
        .partitioner = copy_or_null(values[SET_PARTITIONER].text),
        .tls = values[SET_TLS].number != 0,
        .auto_create_topics = values[SET_AUTO_CREATE].number != 0,
        .linger_ms = values[SET_LINGER].number,
        .fetch_wait_ms = values[SET_FETCH_WAIT].number,
        .publish_timeout_ms = values[SET_PUBLISH_TIMEOUT].number,
        .dial_timeout_ms = values[SET_DIAL_TIMEOUT].number,
        .max_buffer_bytes = values[SET_MAX_BUFFER].number,
        .max_message_bytes = values[SET_MAX_MESSAGE].number,
        .session_timeout_ms = values[SET_SESSION_TIMEOUT].number,
        .revoke_wait_ms = values[SET_REVOKE_WAIT].number,
        .subscription_bytes = values[SET_SUBSCRIPTION_BUFFER].number,
        .max_consumers = values[SET_MAX_CONSUMERS].number,
        .max_fetched_bytes = values[SET_MAX_FETCHED].number,
        .max_span = values[SET_MAX_SPAN].number,
    };
    config->shown = values[SET_BROKERS].expanded ? "(from ${..})" : config->brokers;
}

void kafka_config_clear(struct kafka_config *config)
{
    free(config->brokers);
    free(config->mechanism);
    free(config->ca);
    free(config->cert);
    free(config->key);
    free(config->acks);
    free(config->compression);
    free(config->partitioner);
}

struct kafka_login kafka_login_take(const struct backend_value *values)
{
    return (struct kafka_login){.username = copy_or_null(values[SET_USERNAME].text),
                                .password = copy_or_null(values[SET_PASSWORD].text)};
}

void kafka_login_clear(struct kafka_login *login)
{
    free(login->username);
    secret_free(login->password);
    *login = (struct kafka_login){0};
}

/* A handle of the library has a connection to each broker and to the group's coordinator, and two
 * files to wake the thread of each. The producer has one, and so has each consumer. */
enum {
    HANDLE_DESCRIPTORS = 16, /* enough for three brokers */
    LIKELY_CONSUMERS = 32 /* few slots read more, and clients' connections pay for what is kept */
};

struct backend_descriptors kafka_descriptors(const struct backend_value *values)
{
    uint64_t consumers = values[SET_MAX_CONSUMERS].number;
    uint32_t handles = 1 + (uint32_t)(consumers < LIKELY_CONSUMERS ? consumers : LIKELY_CONSUMERS);

    return (struct backend_descriptors){.instance = 2, .store = handles * HANDLE_DESCRIPTORS};
}
