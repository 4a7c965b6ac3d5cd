/* One slot of a backend that speaks a signed HTTP protocol: its settings, its login, its health.
 *
 * A backend type's settings table begins with AWS_SETTINGS; its store begins with a struct
 * aws_store.
 */
#ifndef PRISM_BACKENDS_AWS_AWS_STORE_H
#define PRISM_BACKENDS_AWS_AWS_STORE_H

#include "backends/backend.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <pthread.h>
#include <stdatomic.h>

struct aws_client;

enum aws_setting {
    AWS_ENDPOINT,
    AWS_REGION,
    AWS_ACCESS_KEY,
    AWS_SECRET_KEY,
    AWS_SESSION_TOKEN,
    AWS_CREDENTIALS_FILE,
    AWS_PROFILE,
    AWS_CA_FILE,
    AWS_CONNECT_TIMEOUT,
    AWS_REQUEST_TIMEOUT,
    AWS_MAX_CONNECTIONS,
    AWS_MAX_IN_FLIGHT,
    AWS_MAX_BUFFER,
    AWS_MAX_ATTEMPTS,
    AWS_SETTING_COUNT
};

#define AWS_SETTINGS(ENDPOINT)                                                                     \
    [AWS_ENDPOINT] = {"endpoint", SETTING_TEXT,                                                    \
                      "",         0,                                                               \
                      0,          "HOST[:PORT] after http:// or https://; empty: " ENDPOINT},      \
    [AWS_REGION] = {"region",                                                                      \
                    SETTING_TEXT,                                                                  \
                    "us-east-1",                                                                   \
                    0,                                                                             \
                    0,                                                                             \
                    "region that requests are signed "                                             \
                    "for"},                                                                        \
    [AWS_ACCESS_KEY] = {"access_key_id",                                                           \
                        SETTING_TEXT,                                                              \
                        "",                                                                        \
                        0,                                                                         \
                        0,                                                                         \
                        "empty: from credentials_file, or from AWS_ACCESS_KEY_ID"},                \
    [AWS_SECRET_KEY] =                                                                             \
        {"secret_access_key", SETTING_SECRET, "", 0, 0, "belongs to access_key_id"},               \
    [AWS_SESSION_TOKEN] =                                                                          \
        {"session_token", SETTING_SECRET, "", 0, 0, "of temporary credentials; empty: none"},      \
    [AWS_CREDENTIALS_FILE] = {"credentials_file",                                                  \
                              SETTING_FILE,                                                        \
                              "",                                                                  \
                              0,                                                                   \
                              0,                                                                   \
                              "file in the form of ~/.aws/credentials, read at start and on "      \
                              "SIGHUP; empty: none"},                                              \
    [AWS_PROFILE] = {"profile", SETTING_TEXT, "default", 0, 0, "section of credentials_file"},     \
    [AWS_CA_FILE] = {"ca_file",                                                                    \
                     SETTING_CERTIFICATES,                                                         \
                     "",                                                                           \
                     0,                                                                            \
                     0,                                                                            \
                     "PEM file of the authorities that sign the server's certificate; empty: the " \
                     "system's"},                                                                  \
    [AWS_CONNECT_TIMEOUT] = {"connect_timeout_ms",                                                 \
                             SETTING_UINT,                                                         \
                             "5000",                                                               \
                             1,                                                                    \
                             600000,                                                               \
                             "to resolve, connect and agree on TLS"},                              \
    [AWS_REQUEST_TIMEOUT] = {"request_timeout_ms",                                                 \
                             SETTING_UINT,                                                         \
                             "30000",                                                              \
                             1,                                                                    \
                             600000,                                                               \
                             "for one request and its answer; a call's deadline may end it "       \
                             "earlier"},                                                           \
    [AWS_MAX_CONNECTIONS] = {"max_connections",                                                    \
                             SETTING_UINT,                                                         \
                             "64",                                                                 \
                             1,                                                                    \
                             4096,                                                                 \
                             "for each worker; requests beyond that wait for one"},                \
    [AWS_MAX_IN_FLIGHT] = {"max_in_flight",                                                        \
                           SETTING_UINT,                                                           \
                           "4096",                                                                 \
                           1,                                                                      \
                           1u << 20,                                                               \
                           "operations without an answer, for each worker; more are refused"},     \
    [AWS_MAX_BUFFER] = {"max_buffer_bytes",                                                        \
                        SETTING_UINT,                                                              \
                        "67108864",                                                                \
                        65536,                                                                     \
                        1ull << 33,                                                                \
                        "bytes of requests and answers in flight, for each worker; more are "      \
                        "refused, except for one operation alone"},                                \
    [AWS_MAX_ATTEMPTS] = {"max_attempts",                                                          \
                          SETTING_UINT,                                                            \
                          "4",                                                                     \
                          1,                                                                       \
                          100,                                                                     \
                          "of one request within the call's deadline, when the server is busy or " \
                          "cannot be reached"}

/* Texts from malloc; secrets are overwritten when they go. */
struct aws_login {
    char *access_key, *secret_key, *session_token; /* session_token NULL: none */
};

struct aws_store {
    struct backend_store base; /* first */
    const char *service;       /* that requests are signed for: "s3"; static */
    bool tls;
    char *origin;           /* "http://127.0.0.1:9000" */
    char *host;             /* "127.0.0.1:9000": as the header Host has it */
    const char *shown_host; /* for the log: nothing that came from ${..} */
    char *region, *ca_file; /* ca_file NULL: the system's */
    uint32_t connect_timeout_ms, request_timeout_ms, max_connections, max_in_flight, max_attempts;
    uint64_t max_buffer_bytes;
    struct log_budget losses;

    _Atomic uint32_t login_version; /* raised when the login has changed */
    pthread_mutex_t lock;           /* of the rest */
    struct aws_login login;
    unsigned states[BACKEND_DOWN + 1];
    const char *texts[BACKEND_DOWN + 1]; /* the latest for each state; static */
};

/* As backend_type.descriptors. */
struct backend_descriptors aws_descriptors(const struct backend_value *values);

/* For a type's own check. */
void aws_settings_check(const struct backend_setting *table, const struct backend_value *values,
                        struct backend_faults *faults);

/* Fills *store, which is zeroed. service is static. default_host: printf format with one %s for the
 * region, used when no endpoint is set. On error nothing is left of it. */
struct err aws_store_init(struct aws_store *store, const struct backend_type *type,
                          const struct backend_options *options, const char *service,
                          const char *default_host);
void aws_store_clear(struct aws_store *store);

/* backend_type.reload. */
void aws_store_reload(struct backend_store *store, const struct backend_value *values);

/* A copy; aws_login_clear ends it. thread: any. */
struct aws_login aws_store_login(struct aws_store *store);
void aws_login_clear(struct aws_login *login);

/* From the settings, the file or the environment, in this order (aws_login.c). values: a table that
 * begins with AWS_SETTINGS. */
struct err aws_login_read(struct aws_login *login, const struct backend_value *values);

/* ---- the tally of the instances' states; thread: any ---- */

void aws_tally(struct aws_store *store, int gone, int come, const char *text);

#endif
